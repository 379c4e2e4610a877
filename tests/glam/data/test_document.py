from glam.data.document import held_out, unit_hash

TEXTS = [f"text {i}" for i in range(4000)]


def test_hashes_are_spread_evenly_and_never_at_the_ends():
    values = [unit_hash(text, "test") for text in TEXTS]
    assert all(0 < value < 1 for value in values)
    assert len(set(values)) == len(values)
    for tenth in range(10):
        count = sum(tenth <= 10 * value < tenth + 1 for value in values)
        assert 330 < count < 470


def test_purposes_draw_apart():
    low = [text for text in TEXTS if unit_hash(text, "one") < 0.5]
    both = [text for text in low if unit_hash(text, "two") < 0.5]
    assert 0.45 < len(both) / len(low) < 0.55


def test_a_value_that_must_not_change_from_version_to_version():
    assert unit_hash("GLaM", "held out") == 0.8747856726071853


def test_the_held_out_part_is_the_same_at_a_larger_fraction_and_more():
    small = {text for text in TEXTS if held_out(text, 0.05)}
    large = {text for text in TEXTS if held_out(text, 0.1)}
    assert small < large
    assert 150 < len(small) < 250
