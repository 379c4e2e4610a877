"""What a user sets of a schedule: the text, and the kernels that it means."""

import pytest

from backends.schedule_choices import (
    chosen_fields,
    read_choice,
    read_choices,
    require_choices,
    unused_choices,
    write_choices,
)
from ir.errors import BadArgument

KERNEL = "forward.grouped_rows.1"
FIELDS = ("tile_rows", "fetches")


def test_text_and_back():
    choices = {"grouped_rows.tile_rows": 256, "fetches": False}
    text = "grouped_rows.tile_rows=256;fetches=false"
    assert write_choices(choices) == text
    assert read_choices(text) == choices
    assert read_choices("") == {}


@pytest.mark.parametrize(
    "text", ["tile_rows", "=3", "tile_rows=", "tile_rows=-1", "a=b"]
)
def test_what_is_no_choice(text):
    with pytest.raises(BadArgument, match="FIELD=VALUE"):
        read_choice(text)


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("tile_rows", True),
        ("grouped_rows.tile_rows", True),
        ("forward.tile_rows", True),
        ("grouped_rows.1.tile_rows", True),
        ("forward.grouped_rows.1.tile_rows", True),
        ("grouped_rows.0.tile_rows", False),
        ("forward_residuals.tile_rows", False),
        ("1.grouped_rows.tile_rows", False),
        ("grouped_rows.step_tokens", False),
    ],
)
def test_which_kernels_a_choice_means(name, follows):
    assert chosen_fields(KERNEL, FIELDS, {name: 8}) == (
        {"tile_rows": 8} if follows else {}
    )
    assert unused_choices({KERNEL: FIELDS}, {name: 8}) == ([] if follows else [name])


def test_the_choice_with_more_parts_counts():
    choices = {
        "forward.grouped_rows.tile_rows": 1,
        "tile_rows": 2,
        "forward.tile_rows": 3,
    }
    assert chosen_fields(KERNEL, FIELDS, choices) == {"tile_rows": 1}


@pytest.mark.parametrize("wrong", [[1], {"tile_rows": "64"}, {3: 64}])
def test_what_holds_no_choices(wrong):
    with pytest.raises(BadArgument, match="schedule takes fields by name"):
        require_choices(wrong)
