"""Emission writes the bytes of the goldens, on every Python and JAX that we support."""

import json

import pytest

from tests.golden import renew

RENEW = "if this is meant, run: python -m tests.golden.renew"


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return renew.emitted(tmp_path_factory.mktemp("cache"))


@pytest.mark.smoke
@pytest.mark.parametrize("name", renew.TEXTS)
def test_glam_is_emitted_as_the_golden_text(name, modules):
    golden = renew.TEXTS[name].read_text(encoding="utf-8")
    assert modules[name].text.split("\n") == golden.split("\n"), RENEW


@pytest.mark.smoke
def test_every_layer_is_emitted_as_its_golden_hash(modules):
    golden = json.loads(renew.HASHES.read_text(encoding="utf-8"))
    assert renew.digests(modules) == golden, RENEW
