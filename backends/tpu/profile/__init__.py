"""TPU cycles without a TPU: a simulator of the bundles that libtpu schedules.

All figures that come out of this package are estimates made ahead of time.
"""
