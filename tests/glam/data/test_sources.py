import abc
import gzip
import inspect
import json
from itertools import islice
from pathlib import Path

import pytest

from glam.data.readers import Reading
from glam.data.sources import documents
from ir.errors import BadArgument

RECORDS = [{"text": "one\ntwo", "id": 7}, {"text": "drei \u00e4\u00f6", "id": 8}]


def jsonl(records=RECORDS):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def read(path, **reading):
    return list(documents(str(path), Reading(**reading)))


def test_text_files_by_file_paragraph_and_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n\n\nthree\n \nfour")
    assert [d.text for d in read(path)] == ["one\ntwo\n\n\nthree\n \nfour"]
    paragraphs = read(path, split="paragraph")
    assert [d.text for d in paragraphs] == ["one\ntwo\n", "three\n", "four"]
    assert [d.origin for d in paragraphs] == [f"{path}:{n}" for n in (1, 5, 7)]
    lines = read(path, split="line")
    assert [d.text for d in lines] == ["one\n", "two\n", "three\n", "four"]
    assert [d.origin for d in lines] == [f"{path}:{n}" for n in (1, 2, 5, 7)]


def test_jsonl_keeps_the_other_fields(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl() + b"\n" + jsonl([{"text": None, "id": 9}]))
    found = read(path)
    assert [d.text for d in found] == ["one\ntwo", "drei äö", ""]
    assert [d.record["id"] for d in found] == [7, 8, 9]
    assert [d.origin for d in found] == [f"{path}:{n}" for n in (1, 2, 4)]


def test_half_a_surrogate_pair_in_json_is_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a\\ud800b"}\n')
    assert read(path)[0].text == "a?b"


def test_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    found = read(path)
    assert [(d.text, d.record["id"]) for d in found] == [
        (r["text"], r["id"]) for r in RECORDS
    ]


def test_gzipped(tmp_path):
    for name, data in (("a.txt.gz", b"text"), ("b.jsonl.gz", jsonl())):
        (tmp_path / name).write_bytes(gzip.compress(data))
    texts = [d.text for d in read(tmp_path)]
    assert texts == ["text", *(r["text"] for r in RECORDS)]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    for name in ("b/z.txt", "b/a.md", "a.txt", ".hidden.txt", "b/c.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    assert [d.text for d in read(tmp_path)] == ["a.txt", "b/a.md", "b/z.txt"]


@pytest.mark.parametrize(
    ("name", "data", "reading", "sentence"),
    [
        ("a.txt", b"", {}, "a.txt is empty: 1 file read, no text"),
        ("a.txt", b" \n ", {"split": "line"}, "a.txt is empty: 1 file read"),
        ("a.txt", b"a\nb\xffc", {}, "byte 0xff at offset 3, line 2 .invalid start"),
        ("a.txt", b"abc\xc3", {}, "ends within a character|byte 0xc3 at offset 3"),
        ("a.txt", b"text", {"encoding": "x"}, "there is no encoding 'x'"),
        ("a.txt", b"text", {"split": "word"}, "no split 'word'; use file, paragraph"),
        ("a.jsonl", b'{"text": "a"}\n{"te', {}, "a.jsonl:2 is not JSON"),
        ("a.jsonl", b'"text"\n', {}, "a.jsonl:1 is str, and each row must be"),
        ("a.jsonl", b'{"body": 1}\n', {}, "no field 'text', only body; name the"),
        ("a.jsonl", b'{"text": 1}\n', {}, "field 'text' of .*a.jsonl:1 is int"),
        ("a.jsonl", b'{"text": "\xe4"}\n', {}, "byte 0xe4 at offset 10, line 1"),
        ("a.txt.gz", b"text", {}, "a.txt.gz is not a whole gzip file: Not a gzip"),
        (
            "a.txt.gz",
            gzip.compress(b"a" * 999, mtime=0)[:-9],
            {},
            "not a whole gzip file",
        ),
        ("a.parquet", b"text", {}, "a.parquet cannot be read as Parquet after row 0"),
        ("a.json", b"{}", {}, "is one JSON document, not a source"),
        ("a.bin/b", b"", {}, "holds no file of a known kind; these are .txt"),
    ],
)
def test_bad_files(tmp_path, name, data, reading, sentence):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(BadArgument, match=sentence):
        read(tmp_path / Path(name).parts[0], **reading)


def test_other_encodings(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("äö".encode("latin-1"))
    assert read(path, encoding="latin-1")[0].text == "äö"


def test_the_place_of_a_bad_byte_in_a_long_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456\n" * 300_000 + b"\xff")
    with pytest.raises(BadArgument, match="offset 2,400,000, line 300,001"):
        read(path)


def test_unreadable_and_missing(tmp_path):
    with pytest.raises(BadArgument, match=r"the source stdlid does not exist.*stdlib'"):
        documents("stdlid")


def test_the_standard_library_is_the_same_twice_and_ours_alone():
    first, second = list(documents("stdlib")), list(documents("stdlib"))
    assert first == second
    origins = [d.origin for d in first]
    assert len(set(origins)) == len(origins) > 200
    assert {"stdlib/ast.py", "stdlib/json/decoder.py"} < set(origins)
    assert not [o for o in origins if "site-packages" in o or "/test/" in o]
    by_path = sorted(origins, key=lambda o: o.removeprefix("stdlib/"))
    assert origins == by_path


def test_the_prose_of_the_standard_library():
    texts = documents("stdlib-docs")
    first = next(d for d in texts if d.origin.startswith("stdlib/abc.py:"))
    assert first.text == inspect.cleandoc(abc.abstractmethod.__doc__)
    assert all(len(d.text) >= 80 for d in islice(texts, 20))
