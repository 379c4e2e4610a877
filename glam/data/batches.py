"""Batches in a seeded order that resumes anywhere, on any number of hosts.

Grain shuffles the rows anew in every epoch and mixes sources by weight, both by
arithmetic on the index of a row. So the whole state is the number of rows read, and a
run may go on with another batch size or host count and see the same rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from glam.data.rows import Arrays, Rows
from glam.data.shares import Share, Source, shares_of
from glam.data.tokenizer import Tokenizer
from ir.errors import BadArgument

_GUARD = ("source", "seed", "length")


class Batches(Iterator[Arrays]):
    """Endless batches of packed rows; see `batches`."""

    def __init__(
        self,
        shares: Sequence[Share],
        batch: int,
        length: int,
        seed: int,
        host: int = 0,
        hosts: int = 1,
        prefetch: int = 2,
    ) -> None:
        _check_batch(batch, host, hosts)
        if not 0 <= seed < 2**32:
            raise BadArgument(reason=f"the seed {seed} must lie in 0..4294967295")
        self._shares, self._batch, self._length = shares, batch, length
        self._host, self._hosts = host, hosts
        self._identity = dict(zip(_GUARD, (_digest(shares), seed, length), strict=True))
        self._rows = [len(Rows(share.store, length)) for share in shares]
        self._mixed = _mixed(shares, length, seed)
        self._prefetch = prefetch
        self._read = 0
        self._iterator = self._from(0)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Arrays:
        """The next batch, each of its arrays int32 [batch / hosts, length]."""
        made: Arrays = next(self._iterator)
        self._read += self._batch
        return made

    def get_state(self) -> dict[str, Any]:
        """Where the next batch begins; JSON-able."""
        return {"rows": self._read, **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state; BadArgument where it is of other data."""
        for name, own in self._identity.items():
            if state.get(name) != own:
                raise BadArgument(reason=_mismatch(name, state.get(name), own))
        rows = state.get("rows")
        if not isinstance(rows, int) or rows < 0:
            raise BadArgument(reason=f"the saved place in the data has rows={rows!r}")
        self._read = rows
        self._iterator = self._from(self._read)

    def skip(self, count: int) -> None:
        """Leave out the next `count` batches, after a spike for instance."""
        self._read += count * self._batch
        self._iterator = self._from(self._read)

    def epochs(self) -> dict[str, float]:
        """How often each source has been read so far, by name."""
        weights = [share.weight for share in self._shares]
        return {
            share.name: self._read * weight / sum(weights) / rows
            for share, weight, rows in zip(
                self._shares, weights, self._rows, strict=True
            )
        }

    def _from(self, first: int) -> Iterator[Arrays]:
        import grain

        share = self._batch // self._hosts
        own = self._host * share
        batches = _BatchesFrom(self._mixed, first + own, self._batch, share)
        options = grain.ReadOptions(
            num_threads=min(self._prefetch, 1), prefetch_buffer_size=self._prefetch
        )
        lazily = grain.MapDataset.source(batches).to_iter_dataset(options)
        return iter(lazily)


class _BatchesFrom:
    """Batches by index: `share` rows from `first` on, then every `stride` rows."""

    def __init__(self, rows: Any, first: int, stride: int, share: int) -> None:
        self._rows, self._first = rows, first
        self._stride, self._share = stride, share

    def __len__(self) -> int:
        return (2**62 - self._first) // self._stride

    def __getitem__(self, index: int) -> Arrays:
        first = self._first + index * self._stride
        rows = [self._rows[i] for i in range(first, first + self._share)]
        return _stack(rows)


def batches(
    source: Source,
    tokenizer: Tokenizer,
    batch: int,
    length: int,
    seed: int = 0,
    *,
    part: str = "all",
    fraction: float = 0.05,
    host: int = 0,
    hosts: int = 1,
    prefetch: int = 2,
) -> Batches:
    """Endless batches {"inputs", "targets", "segments"}, each int32 [batch, length].

    `source` is the name of a source (`stdlib`), a path (a text, JSONL or Parquet file
    or a folder of them, a packed store, a mixture's .json), a TokenStore, shares of a
    mixture, or documents. Documents are packed one after another, each read from </s>
    to </s>; segment ids count from 1 in each row and 0 is padding (`glam.data.rows`).

    `part` is "all", or "train" or "validation": all documents but `fraction` of them,
    or that fraction, by a hash of the text (of a single document, its end). A packed
    store was parted when it was made.
    With `hosts`, host h gets the rows [h * batch/hosts, (h+1) * batch/hosts) of each
    global batch: all hosts' rows in turn are the batch of a single host.

    Raises BadArgument for a source that is missing, unreadable or empty, or packed with
    another tokenizer, and for a batch that does not divide over the hosts.
    """
    shares = shares_of(source, tokenizer, part, fraction)
    return Batches(shares, batch, length, seed, host, hosts, prefetch)


def one_pass(
    source: Source,
    tokenizer: Tokenizer,
    batch: int,
    length: int,
    *,
    part: str = "all",
    fraction: float = 0.05,
) -> Iterator[Arrays]:
    """Every row once and in order, for validation; a last batch has rows of padding."""
    for share in shares_of(source, tokenizer, part, fraction):
        rows = Rows(share.store, length)
        blank = {name: np.zeros_like(row) for name, row in rows[0].items()}
        for first in range(0, len(rows), batch):
            held = [rows[i] for i in range(first, min(first + batch, len(rows)))]
            yield _stack(held + [blank] * (batch - len(held)))


def _stack(rows: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _mixed(shares: Sequence[Share], length: int, seed: int) -> Any:
    """All rows in the order of training, by index, without end."""
    import grain

    shuffled = [
        grain.MapDataset.source(Rows(share.store, length))
        .shuffle(_seed_of(seed, number))
        .repeat()
        for number, share in enumerate(shares)
    ]
    if len(shuffled) == 1:
        return shuffled[0]
    return grain.MapDataset.mix(shuffled, [share.weight for share in shares])


def _seed_of(seed: int, number: int) -> int:
    """Grain adds the epoch to its seed; these lie apart, so no two orders meet."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _digest(shares: Sequence[Share]) -> str:
    facts = [(share.store.digest, share.weight) for share in shares]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _check_batch(batch: int, host: int, hosts: int) -> None:
    if batch < 1:
        raise BadArgument(reason=f"a batch of {batch} rows: use at least 1")
    if not 0 <= host < hosts:
        raise BadArgument(reason=f"host {host} of {hosts}: hosts count from 0")
    if batch % hosts:
        raise BadArgument(
            reason=f"a batch of {batch} rows cannot be split over {hosts} hosts; use a "
            f"multiple of {hosts}"
        )


def _mismatch(name: str, saved: Any, own: Any) -> str:
    why = {
        "source": "the data were changed, or are other data",
        "seed": "another order",
        "length": "rows of another length",
    }
    return (
        f"the saved place in the data has {name}={saved}, and the data now have "
        f"{name}={own} ({why[name]}): resume with what the run began with, or begin "
        "a new run"
    )
