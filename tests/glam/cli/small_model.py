"""A byte model that XLA compiles in a moment, as `glam convert` writes it."""

from functools import cache
from pathlib import Path

from glam.data.tokenizer import ByteTokenizer
from glam.interchange import save
from glam.model import Config
from tests.glam.model import small

CONFIG = Config(
    layers=1,
    model=8,
    hidden=8,
    heads=1,
    head=8,
    vocabulary=259,
    sequence=32,
    activation_dtype="float32",
)


@cache
def params():
    return small.params(CONFIG, 11)


def written(folder: Path) -> Path:
    """The folder, with the model in it."""
    save(CONFIG, params(), folder, ByteTokenizer())
    return folder
