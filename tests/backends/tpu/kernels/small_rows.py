"""A small row space for kernels, and the constants that emission would set for it."""

from backends.tpu.kernels import chunks, fetch, row_blocks, row_plan, rows, sums

EXPERTS, TOKENS, CHOICES, TILE, CHUNK = 3, 20, 2, 32, 16
_CONSTANTS = {
    "EXPERTS": EXPERTS,
    "CHOICES": CHOICES,
    "ROWS": TOKENS * CHOICES,
    "TILE_ROWS": TILE,
    "CHUNK_ROWS": CHUNK,
    "INTERPRET": True,
}


def set_constants(monkeypatch, cores=1):
    """Set them in every kernel's module, until the test is over."""
    for module in (chunks, fetch, row_blocks, row_plan, rows, sums):
        for name, value in (_CONSTANTS | {"CORES": cores}).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
