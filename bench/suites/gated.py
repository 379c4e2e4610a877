"""Gated experts against `transformers`' Mixtral block on PyTorch."""

from collections.abc import Iterator

from bench.result import Bar, Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, forward, prepare
from bench.timing import clock, take_turns
from bench.torch_peer import FORMS, TorchPeer

TITLE = "mixtral, forward, against transformers' Mixtral block in a process of its own"
BARS = {"float32": Bar(1.2), "bfloat16": Bar(1.0, "<")}


def run(setting: Setting) -> Iterator[Row]:
    """A row for each form of the block; the bar is for the faster one, so for both."""
    with TorchPeer(setting.torch_python) as peer:
        for dtype in setting.dtypes:
            peer.build(setting.sizes, dtype)
            op = compiled("mixtral", setting, dtype)
            subject = prepare(op)
            clocks = {"ours": clock(forward(op), subject.params, subject.x)} | {
                form: peer.clock(form, setting.tokens) for form in FORMS
            }
            times = take_turns(clocks, setting.effort)
            for form in FORMS:
                yield Row(
                    f"mixtral / {form}",
                    dtype,
                    milliseconds(times["ours"]),
                    milliseconds(times[form]),
                    BARS.get(dtype),
                    against=f"transformers {form}",
                    facts=subject.facts | peer.versions,
                )
