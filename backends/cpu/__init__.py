"""The CPU backend: XLA code whose FLOPs are those of the routed rows."""
