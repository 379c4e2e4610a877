import numpy as np
import pytest

from glam.data.document import Document
from glam.data.noise import noise_from
from glam.data.quality import Features, QualityClassifier
from glam.data.training_quality import train_classifier
from ir.errors import BadArgument

GOOD = [
    Document(f"the {a} of the {b} is a {c}, and so is the {b} of number {i}", str(i))
    for i in range(40)
    for a, b, c in [("king", "land", "man"), ("end", "day", "night")]
]
BAD = [Document(" ".join(reversed(d.text.split())), d.origin) for d in GOOD]
SMALL = Features(2**10, 500)


@pytest.fixture(scope="module")
def trained():
    return train_classifier(GOOD, BAD, features=SMALL)


def test_it_tells_good_from_bad_and_says_how_well(trained):
    assert (trained.positives, trained.negatives) == (80, 80)
    held = trained.held
    assert held.examples > 4
    assert held.accuracy == held.auc == 1.0
    assert held.positive_score > 0.8 > 0.2 > held.negative_score


def test_scores_are_the_logistic_function_of_hashed_counts(trained):
    made = trained.classifier
    texts = [GOOD[0].text, BAD[0].text, ""]
    rows = SMALL.of(texts).toarray()
    logits = rows @ made.weights.astype(np.float64) + made.intercept
    np.testing.assert_allclose(made.scores(texts), 1 / (1 + np.exp(-logits)))
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 1, 0])
    assert made.scores([]).shape == (0,)


def test_only_the_beginning_of_a_text_is_read(trained):
    text = "the king of the land " * 50
    left, right = trained.classifier.scores([text, text[:500] + "\x00 !" * 900])
    assert left == right


def test_the_order_of_examples_does_not_matter(trained):
    other = train_classifier(GOOD[::-1], BAD[::-1], features=SMALL)
    np.testing.assert_array_equal(other.classifier.weights, trained.classifier.weights)


def test_examples_are_limited_by_hash_and_counted_once():
    made = train_classifier(GOOD * 2, BAD, features=SMALL, limit=30)
    assert made.positives <= 30
    assert made.negatives == 30


def test_saved_and_loaded_again(trained, tmp_path):
    path = tmp_path / "quality.safetensors"
    trained.classifier.save(path)
    loaded = QualityClassifier.load(path)
    assert loaded.features == SMALL
    texts = [d.text for d in GOOD]
    np.testing.assert_array_equal(
        loaded.scores(texts), trained.classifier.scores(texts)
    )


def test_too_few_examples_to_measure():
    made = train_classifier(GOOD[:1], BAD[:1], features=SMALL)
    assert made.held is None


@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_a_kind_without_examples(kind):
    sets = {"positive": GOOD, "negative": BAD} | {kind: [Document(" ", "a")]}
    with pytest.raises(BadArgument, match=f"no {kind} example with text"):
        train_classifier(sets["positive"], sets["negative"])


def test_what_is_no_classifier_is_refused(tmp_path, trained):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(BadArgument, match="there is no classifier"):
        QualityClassifier.load(path)
    path.write_bytes(b"text")
    with pytest.raises(BadArgument, match="is not a classifier of"):
        QualityClassifier.load(path)
    save_file({"weights": np.zeros(3, np.float32)}, path)
    with pytest.raises(BadArgument, match="its format is unknown"):
        QualityClassifier.load(path)
    data = tmp_path / "cut.safetensors"
    trained.classifier.save(data)
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(BadArgument, match="is not a classifier of"):
        QualityClassifier.load(data)


def test_features_need_a_size():
    with pytest.raises(BadArgument, match="1 features of 5 characters"):
        Features(1, 5)


def test_noise_scores_lower(trained):
    noise = [noise_from(d, number=i).text for i, d in enumerate(GOOD)]
    good = trained.classifier.scores([d.text for d in GOOD])
    assert np.median(trained.classifier.scores(noise)) < np.median(good)
