"""Kernels whose times were published, written anew: what accuracy is held against."""
