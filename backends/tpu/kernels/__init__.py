"""TPU kernels: Pallas modules that run as they stand, and that emission specialises."""
