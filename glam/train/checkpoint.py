"""Checkpoints of a run: written in the background, complete or absent, checked if read.

A checkpoint is a folder named by its step: `arrays/`, which Orbax writes, `run.json`,
and the sums of both. It is made under another name and renamed when all of it is on the
disk, so whatever stops a run, each folder with a bare number is a whole checkpoint.
"""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from glam.train.checksums import Damaged, seal, sync_folder, verify
from ir.errors import BadArgument

Arrays = Mapping[str, Any]
Tell = Callable[[str], None]

_ARRAYS, _RECORD = "arrays", "run.json"
_UNFINISHED, _REFUSED = ".unfinished", ".refused"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: the steps done, its folder, and what `run.json` says."""

    step: int
    path: Path
    record: Mapping[str, Any]


class Store:
    """The checkpoints in one folder, of which the newest `keep` are kept.

    In a run of many processes all share the folder and all make the same calls;
    `primary` is true in the one that does what only one can.
    """

    def __init__(self, folder: Path, keep: int, primary: bool = True) -> None:
        self.folder, self._keep, self._primary = folder.resolve(), keep, primary
        self._writer = _writer()
        self._thread: threading.Thread | None = None
        self._failure: tuple[Path, int, Exception] | None = None

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, oldest first."""
        return steps_in(self.folder)

    def path(self, step: int) -> Path:
        return path_of(self.folder, step)

    def save(self, step: int, arrays: Arrays, record: Mapping[str, Any]) -> None:
        """Start to write a checkpoint; returns when `arrays` may be given away.

        Waits for the one before. Raises `BadArgument` if that or this could not be
        written, for want of room above all; older checkpoints are as they were.
        """
        self.wait()
        final = self.path(step)
        making = final.with_name(final.name + _UNFINISHED)
        needed = sum(array.nbytes for array in arrays.values())
        try:
            if self._primary:
                self._make_room(making, needed)
            self._writer.save(making / _ARRAYS, args=ocp.args.PyTreeSave(dict(arrays)))
        except Exception as error:
            raise self._unwritten(making, needed, error) from error
        document = {**record, "step": step, "arrays": described(arrays)}
        commit = threading.Thread(
            target=self._commit, args=(making, document, needed), name="checkpoint"
        )
        self._thread = commit
        commit.start()

    def wait(self) -> None:
        """Until the checkpoint that is being written is complete; raises as `save`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            (making, needed, error), self._failure = self._failure, None
            raise self._unwritten(making, needed, error) from error

    def close(self) -> None:
        """Wait, and end Orbax's threads."""
        try:
            self.wait()
        finally:
            self._writer.close()

    def newest(self, before: int | None, tell: Tell) -> int | None:
        """The step of the newest sound checkpoint of at most `before` steps.

        Each damaged one that it meets is told by name and put aside as NAME.refused.
        """
        self.wait()

        def refuse(path: Path, damage: Damaged) -> None:
            aside = self._put_aside(path)
            tell(
                f"the checkpoint {path} is refused: {damage}; it is now {aside.name}, "
                "and the one before it is used"
            )

        return newest_sound(self.folder, before, refuse)

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints that are newer than `step`."""
        self.wait()
        if self._primary:
            for later in self.steps():
                if later > step:
                    self._delete(later)

    def _make_room(self, making: Path, needed: int) -> None:
        """An empty folder to write in, on a disk with room for `needed` bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(left)
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        making.mkdir()

    def _commit(self, making: Path, document: Mapping[str, Any], needed: int) -> None:
        final = self.path(int(document["step"]))
        try:
            self._writer.wait_until_finished()
            if not self._primary:
                return
            text = json.dumps(document, indent=1)
            (making / _RECORD).write_text(text, encoding="utf-8")
            seal(making)
            making.rename(final)
            sync_folder(self.folder)
            for step in self.steps()[: -self._keep]:
                self._delete(step)
        except Exception as error:
            self._failure = making, needed, error

    def _unwritten(self, making: Path, needed: int, error: Exception) -> Exception:
        """The sentence for a checkpoint that could not be written; its rest is gone."""
        # Ends the writer's threads. After a failure it would only tell it again.
        with suppress(Exception):
            self._writer.close()
        self._writer = _writer()
        reason = _no_room(error)
        if reason is None and not isinstance(error, OSError):
            return error
        if self._primary:
            shutil.rmtree(making, ignore_errors=True)
        free = shutil.disk_usage(self.folder.parent).free
        steps = self.steps()
        kept = f"that of step {steps[-1]} is whole" if steps else "there is none before"
        return BadArgument(
            reason=f"the checkpoint {making.with_suffix('')} could not be written: "
            f"{reason or error}; it takes about {needed / 1e6:.1f} MB, and "
            f"{free / 1e6:.1f} MB are free; {kept}: make room and give the same "
            "command again"
        )

    def _delete(self, step: int) -> None:
        """Away from the complete ones first: deleting a folder takes many steps."""
        path = self.path(step)
        going = path.with_name(path.name + _UNFINISHED)
        path.rename(going)
        shutil.rmtree(going)

    def _put_aside(self, path: Path) -> Path:
        aside = path.with_name(path.name + _REFUSED)
        if self._primary:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        return aside


def _writer() -> Any:
    return ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())


def steps_in(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"{step:08d}"


def newest_sound(
    folder: Path, before: int | None, refuse: Callable[[Path, Damaged], None]
) -> int | None:
    """The newest step, of at most `before`, whose checkpoint is as it was written.

    Calls `refuse` for each damaged one that it meets.
    """
    for step in reversed(steps_in(folder)):
        if before is not None and step > before:
            continue
        path = path_of(folder, step)
        try:
            verify(path)
        except Damaged as damage:
            refuse(path, damage)
            continue
        return step
    return None


def read_checkpoint(folder: Path, step: int) -> Checkpoint:
    """What is told of a checkpoint, without its arrays."""
    path = path_of(folder, step)
    record = json.loads((path / _RECORD).read_text(encoding="utf-8"))
    return Checkpoint(step, path, record)


def restore(checkpoint: Checkpoint, like: Arrays, part: bool = False) -> dict[str, Any]:
    """Its arrays with the shapes, dtypes and shardings of `like`, by name.

    The devices may be others than those that saved. With `part` the checkpoint may
    hold more arrays. Raises `BadArgument` where the arrays are not those of `like`.
    """
    there, here = checkpoint.record["arrays"], described(like)
    names = here.keys() if part else there.keys() | here.keys()
    for name in sorted(names):
        if there.get(name) != here.get(name):
            was, now = (_told(facts.get(name)) for facts in (there, here))
            raise BadArgument(
                reason=f"the checkpoint {checkpoint.path} does not fit: {name} is "
                f"{was} in it and {now} in this run; use the model and the optimizer "
                "it was made with, or another folder"
            )
    like = dict(like)
    arguments = ocp.args.PyTreeRestore(
        item=like,
        restore_args=ocp.checkpoint_utils.construct_restore_args(like),
        partial_restore=part,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found: dict[str, Any] = reader.restore(checkpoint.path / _ARRAYS, arguments)
    return found


def described(arrays: Arrays) -> dict[str, list[Any]]:
    """Shape and dtype of each array, as JSON."""
    return {
        name: [list(array.shape), jax.numpy.dtype(array.dtype).name]
        for name, array in arrays.items()
    }


def _told(fact: list[Any] | None) -> str:
    return "absent" if fact is None else f"{fact[1]}{fact[0]}"


def _no_room(error: Exception) -> str | None:
    """The system's words if a disk or a quota is full, also through tensorstore."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return os.strerror(error.errno)
    words = (os.strerror(number) for number in _NO_ROOM)
    return next((told for told in words if told in str(error)), None)
