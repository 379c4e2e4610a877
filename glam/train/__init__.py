"""Training: the optimizer, its learning rate, the guard of a step, checkpoint files."""
