import gzip
import json

import pytest

from glam.data.document import Document
from glam.data.records import record_file
from glam.data.sources import documents
from ir.errors import BadArgument

DOCUMENTS = [
    Document("ä", "a.txt"),
    Document("b", "b.jsonl:1", {"text": "b", "id": "\ud800"}),
]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_records_keep_their_fields_and_can_be_read_again(tmp_path, name):
    path = tmp_path / name
    with record_file(path) as writer:
        for document in DOCUMENTS:
            writer.write(document, quality=0.5)
    data = path.read_bytes()
    text = gzip.decompress(data) if name.endswith(".gz") else data
    assert [json.loads(line) for line in text.splitlines()] == [
        {"text": "ä", "origin": "a.txt", "quality": 0.5},
        {"text": "b", "id": "?", "quality": 0.5},
    ]
    assert [d.text for d in documents(str(path))] == ["ä", "b"]


def test_gzipped_records_are_the_same_bytes_twice(tmp_path):
    paths = [tmp_path / f"{n}.jsonl.gz" for n in "ab"]
    for path in paths:
        with record_file(path) as writer:
            writer.write(DOCUMENTS[0])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(BadArgument, match=r"must end with .jsonl or .jsonl.gz"):
        record_file(tmp_path / "out.parquet").__enter__()
