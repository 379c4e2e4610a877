import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glam.data.batches import batches, one_pass
from glam.data.document import Document
from glam.data.shares import Share
from glam.data.store import pack
from glam.data.tokenizer import ByteTokenizer
from ir.errors import BadArgument

TOKENIZER = ByteTokenizer()
DOCUMENTS = [Document(f"{i:03} " * 9, str(i)) for i in range(40)]


def make(batch=4, length=16, seed=0, source=DOCUMENTS, **rest):
    return batches(source, TOKENIZER, batch, length, seed, prefetch=0, **rest)


def take(made, count):
    return [next(made) for _ in range(count)]


def same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys() == {"inputs", "targets", "segments"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 40), st.integers(0, 5))
def test_resume_gives_the_same_next_batches_at_any_point(before, seed):
    first = make(seed=seed)
    take(first, before)
    state = json.loads(json.dumps(first.get_state()))
    second = make(seed=seed)
    second.set_state(state)
    same(take(first, 3), take(second, 3))
    assert first.get_state() == second.get_state()


def test_reading_ahead_changes_neither_batches_nor_state():
    ahead = batches(DOCUMENTS, TOKENIZER, 4, 16, seed=3, prefetch=4)
    plain = make(seed=3)
    same(take(ahead, 7), take(plain, 7))
    assert ahead.get_state() == plain.get_state()
    ahead.set_state(ahead.get_state())
    same(take(ahead, 3), take(plain, 3))


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_all_hosts_in_turn_make_the_batch_of_one(hosts):
    whole = take(make(batch=8), 6)
    parts = [take(make(batch=8, host=h, hosts=hosts), 6) for h in range(hosts)]
    joined = [
        {key: np.concatenate([part[i][key] for part in parts]) for key in whole[i]}
        for i in range(6)
    ]
    same(whole, joined)


def test_a_run_goes_on_with_another_batch_and_host_count():
    first = make(batch=6)
    take(first, 3)
    state = first.get_state()
    second = [make(batch=4, host=h, hosts=2) for h in range(2)]
    for made in second:
        made.set_state(state)
    expected = take(first, 2)
    got = [next(made) for _ in range(3) for made in second]
    for key in ("inputs", "targets", "segments"):
        np.testing.assert_array_equal(
            np.concatenate([b[key] for b in expected]),
            np.concatenate([b[key] for b in got]),
        )


def test_an_epoch_reads_every_row_once_and_the_next_in_another_order():
    rows = sum(len(b["inputs"]) for b in one_pass(DOCUMENTS, TOKENIZER, 1, 16))
    made = make(batch=1)
    epochs = [[b["targets"].tobytes() for b in take(made, rows)] for _ in range(2)]
    everything = sorted(
        b["targets"].tobytes() for b in one_pass(DOCUMENTS, TOKENIZER, 1, 16)
    )
    assert sorted(epochs[0]) == sorted(epochs[1]) == everything
    assert epochs[0] != epochs[1]
    assert made.epochs() == {"documents": 2.0}


def test_the_seed_makes_the_order():
    one, two = take(make(seed=1), 3), take(make(seed=2), 3)
    assert [b["inputs"].tolist() for b in one] != [b["inputs"].tolist() for b in two]


def test_skip_leaves_batches_out():
    plain, skipping = make(), make()
    same(take(plain, 6)[4:], (skipping.skip(4), take(skipping, 2))[1])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5))
def test_sources_are_mixed_by_weight(weights):
    shares = [
        Share(letter, weight, pack(letter, [Document(letter * 99, letter)], TOKENIZER))
        for letter, weight in zip("abcde", weights, strict=False)
    ]
    made = make(batch=300, length=1, source=shares)
    ids = next(made)["targets"]
    for share in shares:
        wanted = 300 * share.weight / sum(weights)
        letter = TOKENIZER.encode(share.name)[0]
        # Of each 100 rows of a source, one is its </s>.
        assert abs((ids == letter).sum() - 0.99 * wanted) < 0.03 * wanted + 3
    rows = 100
    total = sum(made.epochs().values()) * rows
    assert total == pytest.approx(300)


def test_one_pass_pads_its_last_batch():
    made = list(one_pass(DOCUMENTS[:1], TOKENIZER, 2, 16))
    assert [b["inputs"].shape for b in made] == [(2, 16)] * 2
    real = np.concatenate([b["segments"] for b in made]) > 0
    assert real.sum() == 37
    assert not made[1]["inputs"][1].any()


def test_the_parts_have_no_document_in_common():
    parts = {
        part: {
            TOKENIZER.decode(row)
            for b in one_pass(DOCUMENTS, TOKENIZER, 1, 37, part=part, fraction=0.3)
            for row in b["targets"]
        }
        for part in ("train", "validation")
    }
    assert len(parts["train"]) + len(parts["validation"]) == 40
    assert not parts["train"] & parts["validation"]
    assert 4 <= len(parts["validation"]) <= 20


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 1}, "has seed=0, and the data now have seed=1"),
        ({"length": 17}, "has length=16, and the data now have length=17"),
        ({"source": DOCUMENTS[1:]}, "the data were changed, or are other data"),
    ],
)
def test_a_state_of_other_data_is_refused(change, sentence):
    with pytest.raises(BadArgument, match=sentence):
        make(**change).set_state(make().get_state())


def test_a_damaged_state_is_refused():
    state = make().get_state()
    for rows in (None, -1, "4"):
        with pytest.raises(BadArgument, match="the saved place in the data has rows="):
            make().set_state(state | {"rows": rows})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch": 0}, "a batch of 0 rows"),
        ({"batch": 3, "hosts": 2}, "3 rows cannot be split over 2 hosts"),
        ({"host": 2, "hosts": 2}, "host 2 of 2"),
        ({"seed": -1}, "the seed -1 must lie in"),
        ({"part": "test"}, "no part 'test'; use all, train, validation"),
        ({"part": "train", "fraction": 1.5}, "1.5 must lie between 0 and 1"),
        ({"source": "no/such"}, "the source no/such does not exist"),
        ({"source": []}, "no text to train on"),
        ({"source": ["stdlib"]}, "write several sources into a mixture"),
    ],
)
def test_bad_arguments(change, sentence):
    with pytest.raises(BadArgument, match=sentence):
        make(**change)
