from glam.train.record import Record, read


def test_lines_come_back_and_nan_is_null(tmp_path):
    record = Record(tmp_path / "run" / "m.jsonl")
    record.write({"step": 1, "loss": float("nan"), "skipped": True})
    record.write({"event": "done", "inf": float("inf")})
    record.close()
    assert read(tmp_path / "run" / "m.jsonl") == [
        {"step": 1, "loss": None, "skipped": True},
        {"event": "done", "inf": None},
    ]


def test_a_record_is_cut_back_to_a_mark(tmp_path):
    path = tmp_path / "m.jsonl"
    record = Record(path)
    record.write({"step": 1})
    mark = record.mark()
    record.write({"step": 2})
    record.close()
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    again = Record(path)
    again.cut(mark)
    again.write({"step": 2, "again": True})
    again.close()
    assert read(path) == [{"step": 1}, {"step": 2, "again": True}]


def test_a_mark_beyond_the_end_cuts_nothing(tmp_path):
    record = Record(tmp_path / "m.jsonl")
    record.write({"step": 1})
    record.cut(10_000)
    record.close()
    assert read(tmp_path / "m.jsonl") == [{"step": 1}]


def test_tensorboard(tmp_path):
    record = Record(tmp_path / "m.jsonl", tensorboard=True)
    record.write({"step": 1, "loss": 2.0})
    record.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()
