"""A byte model that XLA compiles in a moment, as `glam convert` writes it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from glam.data.tokenizer import ByteTokenizer
from glam.interchange import save
from tests.glam.generate import tiny
from tests.glam.model import small

CONFIG = replace(tiny.CONFIG, vocabulary=ByteTokenizer.vocabulary, sequence=32)


@cache
def params():
    return small.params(CONFIG, 11)


def written(folder: Path) -> Path:
    """The folder, with the model in it."""
    save(CONFIG, params(), folder, ByteTokenizer())
    return folder
