from dataclasses import dataclass

import pytest

from glam.train.toml_table import check_names, override, read_toml, section
from ir.errors import BadArgument


@dataclass(frozen=True)
class Part:
    steps: int
    rate: float = 0.5
    deep: bool = False
    name: str = "x"
    most: int | None = None


def test_a_section():
    made = section(Part, {"steps": 3, "rate": 2, "most": 4}, "part", "a.toml")
    assert made == Part(3, 2.0, most=4)
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"step": 3}, r"\[part\] has no 'step'; it has .*; did you mean 'steps'\?"),
        ({}, r"\[part\] needs steps: add what is missing"),
        ({"steps": 3.5}, r"part\.steps = 3\.5 must be a whole number"),
        ({"steps": True}, r"part\.steps = True must be a whole number"),
        ({"steps": 1, "rate": "1"}, r"part\.rate = '1' must be a number"),
        ({"steps": 1, "deep": 1}, r"part\.deep = 1 must be true or false"),
        ({"steps": 1, "name": 1}, r"part\.name = 1 must be a text in quotes"),
        (3, r"\[part\] must be a section, not 3"),
    ],
)
def test_a_section_that_is_wrong(table, sentence):
    with pytest.raises(BadArgument, match=sentence) as refused:
        section(Part, table, "part", "a.toml")
    assert str(refused.value).startswith("a.toml: ")


def test_overrides_are_toml_or_text():
    told = ["a.n=1", "a.x=1.5", "b.on=true", 'b.t="q"', "b.path=runs/x"]
    before = {"a": {"n": 0, "m": 2}}
    made = override(before, told)
    assert made["a"] == {"n": 1, "m": 2, "x": 1.5}
    assert made["b"] == {"on": True, "t": "q", "path": "runs/x"}
    assert before == {"a": {"n": 0, "m": 2}}


@pytest.mark.parametrize("told", ["a", "a=1", "a.b", ".b=1", "a.=1"])
def test_an_override_that_is_none(told):
    with pytest.raises(BadArgument, match=r"write SECTION\.KEY=VALUE"):
        override({}, [told])


def test_a_file_that_is_not_toml(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("a = 1\nb = = 2")
    with pytest.raises(BadArgument, match=r"a\.toml is not TOML: .*line 2"):
        read_toml(path)
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(BadArgument, match=r"a\.toml is not UTF-8 text: byte 5"):
        read_toml(path)
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "b.toml")


def test_the_nearest_name():
    with pytest.raises(BadArgument, match=r"a has no 'trian'; .*mean 'train'\?"):
        check_names("a", ["trian"], ["train", "data"])
