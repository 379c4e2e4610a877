"""A few tokens at a time against `transformers`' Mixtral block on PyTorch."""

from collections.abc import Iterator
from dataclasses import replace

from bench.result import Bar, Row, milliseconds
from bench.setting import Setting
from bench.subject import compiled, forward, prepare
from bench.timing import clock, take_turns
from bench.torch_peer import FORMS, TorchPeer

TITLE = "mixtral at few tokens, against transformers' Mixtral block"
BAR = Bar(2.5)


def run(setting: Setting) -> Iterator[Row]:
    """A row for each form of the block; the bar is for the faster one, so for both."""
    effort = replace(setting.effort, most=10 * setting.effort.most, warm=3)
    with TorchPeer(setting.torch_python) as peer:
        for dtype in setting.dtypes:
            peer.build(setting.sizes, dtype)
            params = None
            for tokens in setting.decode_tokens:
                sizes = {"tokens": tokens, "out_first": False}
                op = compiled("mixtral", setting, dtype, **sizes)
                subject = prepare(op, params=params)
                params = subject.params
                clocks = {"ours": clock(forward(op), params, subject.x)} | {
                    form: peer.clock(form, tokens) for form in FORMS
                }
                times = take_turns(clocks, effort)
                for form in FORMS:
                    yield Row(
                        f"T = {tokens} / {form}",
                        dtype,
                        milliseconds(times["ours"]),
                        milliseconds(times[form]),
                        BAR,
                        against=f"transformers {form}",
                        facts=subject.facts | peer.versions,
                    )
