"""Data for training: sources, quality, packing and batches (Du et al. 2021, 3)."""
