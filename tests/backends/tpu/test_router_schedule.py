"""The router's default schedule: legal blocks at every shape, on every chip."""

import pytest

from backends.chips import CHIPS
from backends.tpu.router_schedule import candidates, router_blocks, runs_of, seconds
from backends.tpu.schedule import cores, vmem_limit
from ir.router_sizes import LANES, RouterSizes

TPUS = [chip for chip in CHIPS.values() if chip.kind == "tpu"]
TOKENS = [1, 16, 127, 128, 129, 1000, 1024, 1025, 8192]


def forward(tokens, width, experts, groups=1, size=2):
    columns = (experts, 8, 8, 1)
    weights = ((experts, width, 4),)
    return RouterSizes(tokens, groups, ((width, size),), columns, weights, (), False)


def backward(tokens, width, experts, groups=1, size=2):
    rows = ((width, size), (width, 4), (width, size))
    matrices = ((experts, width, 4),)
    columns = (experts, 8, 8, 1)
    cuts = width % LANES == 0
    return RouterSizes(tokens, groups, rows, columns, matrices, matrices, cuts)


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("of", [forward, backward])
def test_blocks_fit_whatever_the_pass_lets_through(chip, tokens, groups, of):
    for width in (24, 768, 2048, 2880, 7168):
        for experts in (1, 8, 257):
            for size in (2, 4):
                sizes = of(tokens * groups, width, experts, groups, size)
                blocks = router_blocks(sizes, chip)
                if sizes.least_bytes() <= vmem_limit(chip):
                    held = sizes.vmem_bytes(blocks.tile_tokens, blocks.piece)
                    assert held <= vmem_limit(chip)
                run = sizes.tokens // blocks.runs
                assert sizes.tokens % blocks.runs == 0
                assert blocks.runs % groups == 0
                whole = blocks.tile_tokens == run
                assert whole or blocks.tile_tokens % LANES == 0
                assert blocks.tile_tokens <= run
                assert width % blocks.piece == 0
                assert blocks.piece == width or blocks.piece % LANES == 0


@pytest.mark.parametrize("chip", TPUS, ids=lambda chip: chip.name)
def test_two_cores_have_a_run_each(chip):
    sizes = forward(8192, 2048, 128)
    assert runs_of(sizes, chip) % cores(chip) == 0
    assert runs_of(forward(4096, 768, 64, groups=4), chip) == 4


def test_nothing_that_fits_is_faster():
    chip = CHIPS["tpu-v4"]
    sizes = backward(4096, 7168, 256)
    best = router_blocks(sizes, chip)
    assert best.piece < 7168  # two matrices of 7 MiB do not fit in 16
    for other in candidates(sizes, best.runs):
        if sizes.vmem_bytes(other.tile_tokens, other.piece) <= vmem_limit(chip):
            assert seconds(sizes, best, chip) <= seconds(sizes, other, chip)
