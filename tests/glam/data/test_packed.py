import json

import numpy as np
import pytest

from glam.data.batches import batches
from glam.data.document import Document
from glam.data.packed import MANIFEST, open_packed, write_packed
from glam.data.store import pack
from glam.data.tokenizer import ByteTokenizer
from ir.errors import BadArgument

TOKENIZER = ByteTokenizer()
DOCUMENTS = [Document(f"{i:03} " * 9, str(i)) for i in range(40)]


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "packed"
    write_packed(path, DOCUMENTS, TOKENIZER, part="train", about={"sources": ["x"]})
    return path


def test_a_store_on_disk_is_the_one_in_memory(packed):
    store, memory = open_packed(packed, verify=True), pack("m", DOCUMENTS, TOKENIZER)
    np.testing.assert_array_equal(store.ids, memory.ids)
    assert isinstance(store.ids, np.memmap)
    assert store.ids.dtype == np.uint16
    assert (store.documents, store.digest) == (memory.documents, memory.digest)
    assert np.load(packed / "tokens.npy").tolist() == memory.ids.tolist()


def test_the_manifest_says_what_is_inside(packed):
    manifest = json.loads((packed / MANIFEST).read_text())
    assert (manifest["documents"], manifest["tokens"]) == (40, 40 * 37)
    assert (manifest["characters"], manifest["vocabulary"]) == (40 * 36, 259)
    assert (manifest["part"], manifest["about"]) == ("train", {"sources": ["x"]})


def test_batches_are_the_same_from_disk_and_memory(packed):
    left = batches(packed, TOKENIZER, 4, 16, seed=5, prefetch=0)
    right = batches(DOCUMENTS, TOKENIZER, 4, 16, seed=5, prefetch=0)
    left.set_state(right.get_state())
    for _ in range(5):
        np.testing.assert_array_equal(next(left)["targets"], next(right)["targets"])


def test_large_vocabularies_take_four_bytes(tmp_path):
    class Wide(ByteTokenizer):
        vocabulary = 256_000

    write_packed(tmp_path / "wide", DOCUMENTS, Wide())
    assert open_packed(tmp_path / "wide").ids.dtype == np.uint32


def test_a_tokenizer_that_uses_the_ids_of_packing_is_refused(tmp_path):
    class Ends(ByteTokenizer):
        def encode(self, text):
            return [*super().encode(text), 1]

    with pytest.raises(BadArgument, match="text of 0 with the id of </s>"):
        write_packed(tmp_path / "ends", DOCUMENTS, Ends())
    assert not list(tmp_path.iterdir())


def test_nothing_to_pack_leaves_nothing(tmp_path):
    with pytest.raises(BadArgument, match="nothing to pack into"):
        write_packed(tmp_path / "empty", [Document("", "")], TOKENIZER)
    assert not list(tmp_path.iterdir())


def cut(packed):
    data = (packed / "tokens.npy").read_bytes()
    (packed / "tokens.npy").write_bytes(data[:-100])


def alter(packed):
    data = bytearray((packed / "tokens.npy").read_bytes())
    data[-10] ^= 1
    (packed / "tokens.npy").write_bytes(bytes(data))


def lose(packed):
    (packed / "tokens.npy").unlink()


def rewrite(**facts):
    def change(packed):
        manifest = json.loads((packed / MANIFEST).read_text())
        (packed / MANIFEST).write_text(json.dumps(manifest | facts))

    return change


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (cut, "tokens.npy cannot be mapped"),
        (alter, "tokens.npy was altered: its SHA-256 is another"),
        (lose, "tokens.npy cannot be mapped"),
        (
            rewrite(tokens=7),
            r"holds uint16\[1480\], and manifest.json says uint16\[7\]",
        ),
        (rewrite(version=2), "it has version 2, not 1"),
        (rewrite(format="x"), "manifest.json is not one of `glam data pack`"),
        (rewrite(part=None), "manifest.json has no part"),
        (lambda p: (p / MANIFEST).write_text("{"), "manifest.json cannot be read"),
        (lambda p: (p / MANIFEST).unlink(), "is not a packed store: it has no manif"),
    ],
)
def test_a_damaged_store_is_refused(packed, harm, sentence):
    harm(packed)
    with pytest.raises(BadArgument, match=sentence):
        open_packed(packed, verify=True)


def test_another_tokenizer_is_refused(packed):
    class Other(ByteTokenizer):
        fingerprint = "other"

    with pytest.raises(BadArgument, match=r"with another tokenizer \(bytes-259, 259"):
        batches(packed, Other(), 2, 8)


def test_another_part_is_refused(packed):
    batches(packed, TOKENIZER, 2, 8, part="train", prefetch=0)
    with pytest.raises(BadArgument, match="packed as the part 'train', and the part"):
        batches(packed, TOKENIZER, 2, 8, part="validation")
