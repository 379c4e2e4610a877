"""The dialects `moe` and `kernel` on MLIR, their passes and their interpreter."""
