import pytest

from glam.train.checksums import NAME, Damaged, seal, verify


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "arrays").mkdir()
    (tmp_path / "arrays" / "a").write_bytes(bytes(range(256)))
    (tmp_path / "run.json").write_text("{}")
    seal(tmp_path)
    verify(tmp_path)
    return tmp_path


def test_a_bit_that_fell_over(folder):
    path = folder / "arrays" / "a"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"its file arrays/a is not what was written"):
        verify(folder)


def test_a_file_cut_short(folder):
    (folder / "arrays" / "a").write_bytes(bytes(range(255)))
    with pytest.raises(Damaged, match=r"arrays/a is not what was written"):
        verify(folder)


def test_a_file_too_few_and_one_too_many(folder):
    (folder / "arrays" / "a").rename(folder / "arrays" / "b")
    with pytest.raises(Damaged, match=r"its file arrays/a is missing"):
        verify(folder)
    (folder / "arrays" / "a").write_bytes(bytes(range(256)))
    with pytest.raises(Damaged, match=r"its file arrays/b was added"):
        verify(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": {}}'])
def test_sums_that_cannot_be_read(folder, text):
    (folder / NAME).write_text(text)
    with pytest.raises(Damaged, match=r"its file checksums\.json cannot be read"):
        verify(folder)


def test_sums_that_were_altered(folder):
    path = folder / NAME
    path.write_text(path.read_text().replace("run.json", "run.jsom"))
    with pytest.raises(Damaged, match=r"checksums\.json was altered"):
        verify(folder)


def test_no_sums(folder):
    (folder / NAME).unlink()
    with pytest.raises(Damaged, match=r"checksums\.json is missing"):
        verify(folder)
