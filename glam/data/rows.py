"""Rows for training, cut from a token store.

The ids of a store are the targets of one endless line; its inputs are the same line
one place earlier. So every document is read from </s>, its start, and predicts each of
its ids and its closing </s> exactly once, also where a row ends within it:

    store      a b c 1 d e 1            row of 4      inputs    1 a b c | 1 d e 0
    documents  a b c    d e                           targets   a b c 1 | d e 1 0
                                                      segments  1 1 1 1 | 1 1 1 0
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from glam.data.store import TokenStore
from glam.data.tokenizer import END
from ir.errors import BadArgument

Arrays: TypeAlias = dict[str, NDArray[np.int32]]


class Rows:
    """The rows of `length` tokens of a store, by index; only the last is padded.

    A row is {"inputs", "targets", "segments"}, each int32 [length]. Segments count
    from 1 in each row; 0 is padding, where inputs and targets are 0 too.
    """

    def __init__(self, store: TokenStore, length: int) -> None:
        if length < 1:
            raise BadArgument(reason=f"a row of {length} tokens: use at least 1")
        self.store, self.length = store, length

    def __len__(self) -> int:
        return -(-self.store.tokens // self.length)

    def __getitem__(self, index: int) -> Arrays:
        start, length = index * self.length, self.length
        if not 0 <= start < self.store.tokens:
            raise IndexError(index)
        before = self.store.ids[start - 1 : start] if start else [END]
        line = np.concatenate([before, self.store.ids[start : start + length]])
        line = line.astype(np.int32)
        segments = np.cumsum(line[:-1] == END, dtype=np.int32)
        # A document that began in an earlier row has no </s> in this one to count.
        segments += line[0] != END
        arrays = {"inputs": line[:-1], "targets": line[1:], "segments": segments}
        missing = length - len(segments)
        if not missing:
            return arrays
        return {name: np.pad(row, (0, missing)) for name, row in arrays.items()}

    def __repr__(self) -> str:
        return f"Rows({self.store.name}, {len(self)} x {self.length})"
