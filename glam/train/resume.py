"""What is kept of a run: checkpoints with its place, and the record beside them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jax.sharding import Mesh

from glam.train.checkpoint import Checkpoint, Store, read_checkpoint, restore
from glam.train.parallel import from_first
from glam.train.record import Record
from glam.train.state import State, abstract, flat, unflat
from ir.errors import BadArgument


@dataclass(frozen=True)
class Place:
    """What a checkpoint keeps of a run besides its arrays; all of it is plain JSON.

    `data` is where the next batch begins, `watch` the spike rule's memory; `mark` is
    the end of the record.
    """

    step: int
    data: Mapping[str, Any]
    watch: Mapping[str, Any]
    skipped: int = 0
    rollbacks: int = 0
    tokens: int = 0
    mark: int = 0


class Keeper:
    """Saves and loads a run of the model `identity`, under the `settings` given.

    All processes make the same calls; only the primary one has a record.
    """

    def __init__(
        self,
        store: Store,
        record: Record | None,
        identity: Mapping[str, Any],
        settings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._store, self._record, self._say = store, record, say
        self._identity, self._settings = dict(identity), dict(settings)

    def newest(self, before: int | None = None) -> Checkpoint | None:
        """The newest sound checkpoint, of at most `before` steps."""
        step = self._store.newest(before, self._say) if self._record else None
        step = from_first(step)
        return None if step is None else read_checkpoint(self._store.folder, step)

    def load(self, found: Checkpoint, like: Any, mesh: Mesh) -> tuple[Place, State]:
        """Place and state of a checkpoint, on the devices of `mesh`.

        Raises `BadArgument` for a checkpoint of another model.
        """
        check_identity(found, self._identity)
        wanted = abstract(like, mesh)
        arrays = restore(found, flat(wanted))
        return Place(**found.record["place"]), unflat(arrays, wanted)

    def save(self, place: Place, state: State) -> None:
        """Start to write a checkpoint."""
        mark = self._record.mark() if self._record else 0
        document = {
            "identity": self._identity,
            "settings": self._settings,
            "place": {**asdict(place), "mark": mark},
        }
        self._store.save(place.step, flat(state), document)

    def wait(self) -> None:
        """Until what was saved is on the disk."""
        self._store.wait()

    def forget_after(self, place: Place) -> None:
        """Take from the record what came after a checkpoint."""
        if self._record:
            self._record.cut(place.mark)

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints after a step."""
        self._store.drop_after(step)

    def record(self, facts: Mapping[str, Any]) -> None:
        """One step's line."""
        if self._record:
            self._record.write(facts)

    def note(self, event: str, **facts: Any) -> None:
        """A line that is no step."""
        self.record({"event": event, **facts})


def check_identity(found: Checkpoint, identity: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another model, with the first sizes that differ."""
    there = found.record["identity"]
    differ = [
        f"{name} is {there.get(name)!r} there and {identity.get(name)!r} here"
        for name in sorted(there.keys() | identity.keys())
        if there.get(name) != identity.get(name)
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise BadArgument(
            reason=f"the checkpoint {found.path} is of another model: "
            f"{'; '.join(differ[:3])}{more}; train this model in another folder (--out)"
        )
