"""The CPU kernels: ordinary modules, which emission specialises as text."""
