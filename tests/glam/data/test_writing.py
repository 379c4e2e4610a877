import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glam.data.writing import atomic_file, atomic_folder
from ir.errors import BadArgument


def write(path, error):
    with atomic_file(path, overwrite=True) as file:
        file.write(b"new")
        raise error


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_file(path) as file:
        file.write(b"text")
        assert not path.exists()
    assert path.read_bytes() == b"text"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write(path, error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(BadArgument, match="exists already"), atomic_file(path):
        raise AssertionError("the block must not run")
    assert path.read_bytes() == b"old"


def test_a_file_takes_the_place_of_nothing_but_a_file(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder, Path(os.devnull)):
        with pytest.raises(BadArgument, match="is not a file: name another output"):
            atomic_file(path, overwrite=True).__enter__()
    assert folder.is_dir()


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("file")
    with atomic_file(link, overwrite=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_folder_takes_the_place_of_its_like_only(tmp_path):
    path = tmp_path / "store"
    for text in ("old", "new"):
        with atomic_folder(path, "marker", overwrite=True) as folder:
            (folder / "marker").write_text(text)
    assert (path / "marker").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    (path / "marker").rename(path / "other")
    with (
        pytest.raises(BadArgument, match="holds no marker, so it is left as it is"),
        atomic_folder(path, "marker", overwrite=True),
    ):
        raise AssertionError("the block must not run")
    assert (path / "other").read_text() == "new"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(BadArgument, match=r"does not fit: No space.*MiB free there"):
        write(path, OSError(errno.ENOSPC, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_the_limit_of_a_real_file_size(tmp_path):
    """A limit that the system enforces stands in for a full disk."""
    pytest.importorskip("resource")
    program = """
import resource, sys
from pathlib import Path
from glam.data.writing import atomic_file
from ir.errors import BadArgument
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with atomic_file(Path(sys.argv[1])) as file:
        for _ in range(100):
            file.write(bytes(1000))
except BadArgument as error:
    print(error)
"""
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "does not fit: File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_pass(tmp_path):
    with (
        pytest.raises(FileNotFoundError),
        atomic_file(tmp_path / "file"),
    ):
        (tmp_path / "missing").read_bytes()


def test_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "below" / "it"
    with pytest.raises(BadArgument, match=r"it cannot be written: Not a dir"):
        atomic_file(path).__enter__()
