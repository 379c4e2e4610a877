"""Routings: they add up, follow their shares, and are the same every time."""

from pathlib import Path

import numpy as np
import pytest

from backends.tpu.profile.routing import KINDS, Routing, read_routing
from ir.errors import BadArgument


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tokens", "k", "experts"), [(512, 2, 8), (7, 3, 5), (64, 8, 8)]
)
def test_no_token_chooses_an_expert_twice(
    kind: str, tokens: int, k: int, experts: int
) -> None:
    found = Routing(kind).choices(tokens, k, experts)
    assert found.shape == (tokens, k)
    assert found.dtype == np.int32
    assert all(len(set(row)) == k for row in found.tolist())
    assert 0 <= found.min() <= found.max() < experts
    assert np.array_equal(found, Routing(kind).choices(tokens, k, experts))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_add_up_to_the_rows(kind: str) -> None:
    for rows in (0, 1, 100, 65_536):
        assert Routing(kind).sizes(rows, 7).sum() == rows


def test_shares_are_those_that_the_kind_names() -> None:
    assert set(Routing("balanced").sizes(800, 8)) == {100}
    assert Routing("one").sizes(100, 4).tolist() == [100, 0, 0, 0]
    skewed = np.sort(Routing("zipf").sizes(100_000, 64))[::-1]
    assert 0.18 < skewed[0] / 100_000 < 0.24  # 1 / (1 + 1/2 + ... + 1/64) = 0.211
    assert 0.4 < skewed[1] / skewed[0] < 0.6


def test_a_recorded_histogram_is_scaled(tmp_path: Path) -> None:
    file = tmp_path / "seen.json"
    file.write_text("[10, 30, 60, 0]")
    assert read_routing(str(file)).sizes(50, 4).tolist() == [5, 15, 30, 0]
    counts = np.bincount(
        read_routing(str(file)).choices(20_000, 1, 4).ravel(), minlength=4
    )
    assert np.allclose(counts / 20_000, [0.1, 0.3, 0.6, 0], atol=0.02)


def test_bad_routings_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="--routing takes balanced, uniform, zipf"):
        read_routing("zipff")
    with pytest.raises(BadArgument, match="did you mean 'zipf'"):
        read_routing("zpf")
    with pytest.raises(BadArgument, match=r"none.json cannot be read: No such file"):
        read_routing(str(tmp_path / "none.json"))
    file = tmp_path / "seen.json"
    for text, said in (
        ("{}", "must hold a list"),
        ("[1, -2]", "from 0 on, and has -2 for expert 1"),
        ("[true, 1]", "from 0 on, and has True for expert 0"),
        ("[1, 1e400]", "from 0 on, and has inf for expert 1"),
        ("[1, NaN]", "from 0 on, and has nan for expert 1"),
        ("[0, 0]", "and no expert has any"),
        ("[]", "and no expert has any"),
        ("[1, 2", "is not a JSON file: .* line 1 column"),
    ):
        file.write_text(text)
        with pytest.raises(BadArgument, match=said):
            read_routing(str(file))
    file.write_text("[1, 2, 3]")
    with pytest.raises(BadArgument, match="has 3 experts and the function has 8"):
        read_routing(str(file)).choices(4, 2, 8)
