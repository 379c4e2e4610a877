"""What every test needs before jax is imported."""

import os

# The default install brings libtpu: without this, jax would look for a TPU first,
# and results would differ between machines with and without an accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
