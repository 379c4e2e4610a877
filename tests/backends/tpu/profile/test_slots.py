"""Results of multiplies and transposes, where a kernel mixes several kinds of them."""

from collections import Counter

from backends.tpu.profile.slots import _shares


def test_packed_multiplies_alone_take_what_is_popped() -> None:
    assert _shares(Counter(multiply=10, result=20), usual=2) == {"multiply": 2}


def test_half_of_the_rows_gives_half_of_the_results() -> None:
    held = Counter(multiply=192, multiply_half=64, result=448)
    assert _shares(held, usual=2) == {"multiply": 2, "multiply_half": 1}


def test_float32_beside_packed_ones() -> None:
    held = Counter(multiply=8, multiply_f32=8, result=48)
    assert _shares(held, usual=4) == {"multiply": 4, "multiply_f32": 2}
