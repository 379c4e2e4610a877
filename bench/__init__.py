"""Benchmarks: suites, baselines, statistics and reports. See `moegen bench --help`."""
