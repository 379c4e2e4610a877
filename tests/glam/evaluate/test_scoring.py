"""Scores of a model with experts: as if each text were alone and nothing dropped."""

from dataclasses import replace

import numpy as np
import pytest

from glam.evaluate.scoring import Span, score
from glam.generate.prompts import served
from ir.errors import BadArgument
from tests.glam.model import oracle, small

ROOMY = replace(small.CONFIG, capacity_factor=8.0, groups=1)


def truth(span):
    """The oracle's log-likelihood, with room for every choice of every token."""
    row = np.array([span.ids])
    inputs, targets = row[:, :-1], row[:, 1:]
    tree = small.for_oracle(ROOMY, small.params())
    sizes = small.oracle_sizes(ROOMY)
    _, logits, *_ = oracle.model(sizes, tree, inputs, targets, np.ones_like(inputs))
    ours = logits[0, -span.scored :]
    spoken = ours - np.log(np.exp(ours).sum(axis=-1, keepdims=True))
    return sum(spoken[range(span.scored), span.ids[-span.scored :]])


def test_experts_have_room_for_all():
    random = np.random.default_rng(7)
    spans = [
        Span(random.integers(1, 40, length).tolist(), scored)
        for length, scored in ((30, 4), (5, 4), (64, 1), (2, 1))
    ]
    together = score(small.CONFIG, small.params(), spans, 4)
    alone = score(small.CONFIG, small.params(), spans, 1)
    for span, one, other in zip(spans, together, alone, strict=True):
        assert one.log_likelihood == pytest.approx(truth(span), abs=1e-4)
        assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=2e-5)


OWN = """\
from moegen.lang import *


def layer(x=tensor("tokens model"), *, tokens, model, hidden, experts, places):
    scores = softmax(matmul(x, param("router", "model experts")))
    choice = assign(top_k(scores, 1), places)
    rows = expert_matmul(dispatch(x, choice), param("w", "experts model model"))
    return combine(rows, take(scores, choice))
"""


def test_a_capacity_that_serving_cannot_lift_is_refused(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    name, most = f"{tmp_path}/own.py:layer", small.CONFIG.sequence
    config = replace(small.CONFIG, layer=name, layer_options={"places": most})
    assert served(config) == config.serving()
    config = replace(config, layer_options={"places": most - 1})
    told = f"there an expert takes {most - 1} of {most} tokens, and which those are dep"
    with pytest.raises(BadArgument, match=told):
        served(config)


def test_experts_that_look_ahead_are_refused():
    config = replace(small.CONFIG, layer="expert_choice")
    with pytest.raises(BadArgument, match="'expert_choice' cannot generate or score"):
        score(config, {}, [Span([1, 2], 1)], 1)
