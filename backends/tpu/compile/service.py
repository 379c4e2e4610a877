"""Many jobs, compiled side by side in child processes, each at most once."""

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backends.emitted import Emitted, read_emitted
from backends.tpu.compile.job import SOURCE, TOPOLOGIES, Job, Outcome
from backends.tpu.compile.store import Store, keeps, key_of
from backends.tpu.compile.worker import Worker, environment
from ir.errors import BadArgument, NoTpuCompiler, UnknownChip, UnreadableSource


@dataclass(frozen=True)
class _Task:
    """A job with what its file holds, read once, and its key."""

    job: Job
    source: Emitted
    key: str


def compile_one(
    job: Job, *, limit_s: float = 60.0, cache: Path | None = None
) -> Outcome:
    """The outcome of one job; as `compile_many`."""
    return compile_many([job], workers=1, limit_s=limit_s, cache=cache)[0]


def compile_many(
    jobs: Iterable[Job],
    *,
    workers: int = 2,
    limit_s: float = 60.0,
    cache: Path | None = None,
) -> list[Outcome]:
    """The outcomes of the jobs, in their order; equal jobs are compiled once.

    `limit_s` is in seconds, for each job. `cache` is a folder of outcomes; crashes and
    jobs that took too long are not kept in it. A job that fails, crashes or hangs is
    an outcome. Raises `NoTpuCompiler`, `UnknownChip`, `UnreadableSource`,
    `UnwritableFolder`, or `BadArgument`, before anything is compiled where possible.
    """
    if workers < 1 or limit_s <= 0:
        reason = f"workers={workers} and limit_s={limit_s:g} must be positive"
        raise BadArgument(reason=reason)
    tasks = _tasks(list(jobs))
    store = Store(cache) if cache else None
    held = {task.key: store.get(task.key) for task in tasks} if store else {}
    done = {key: outcome for key, outcome in held.items() if outcome}
    pending = {task.key: task for task in tasks if task.key not in done}
    done |= _Run(pending.values(), limit_s, store).finish(workers)
    return [_named(done[task.key], task.job) for task in tasks]


def installed() -> dict[str, str]:
    """Versions of jax, jaxlib and libtpu; raises `NoTpuCompiler` if one is missing."""
    try:
        return {name: version(name) for name in ("jax", "jaxlib", "libtpu")}
    except PackageNotFoundError as error:
        reason = f"the package {error.name} is not installed for {sys.executable}"
        raise NoTpuCompiler(reason=reason, hint="") from None


def _tasks(jobs: Sequence[Job]) -> list[_Task]:
    versions, flags = installed(), environment()
    found = []
    for job in jobs:
        if job.chip not in TOPOLOGIES:
            raise UnknownChip(chip=job.chip, chips=", ".join(TOPOLOGIES))
        source = _read(Path(job.file))
        found.append(_Task(job, source, key_of(job, source, versions, flags)))
    return found


def _read(file: Path) -> Emitted:
    try:
        return read_emitted(file)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableSource(path=file, reason=reason) from None


def _named(outcome: Outcome, job: Job) -> Outcome:
    reason = outcome.reason.replace(SOURCE, Path(job.file).name)
    return replace(outcome, reason=reason)


class _Run:
    """The jobs of one call, shared by as many threads as there are workers."""

    def __init__(
        self, tasks: Iterable[_Task], limit_s: float, store: Store | None
    ) -> None:
        self._pending = deque(tasks)
        self._limit_s = limit_s
        self._store = store
        self._done: dict[str, Outcome] = {}
        self._live: set[Worker] = set()

    def finish(self, workers: int) -> dict[str, Outcome]:
        """The outcome of each key."""
        slots = min(workers, len(self._pending))
        if not slots:
            return {}
        with ThreadPoolExecutor(slots) as pool:
            futures = [pool.submit(self._slot) for _ in range(slots)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop()
                raise
        return self._done

    def _stop(self) -> None:
        """Let the threads run out of work, so that an error is not kept waiting."""
        self._pending.clear()
        for worker in list(self._live):
            worker.kill()

    def _slot(self) -> None:
        worker: Worker | None = None
        try:
            while task := self._next():
                worker = worker or self._hire()
                self._settle(task, worker)
                worker = self._keep_or_dismiss(worker)
        finally:
            if worker:
                self._dismiss(worker)

    def _next(self) -> _Task | None:
        try:
            return self._pending.popleft()
        except IndexError:
            return None

    def _settle(self, task: _Task, worker: Worker) -> None:
        request = task.job.data() | {"source": asdict(task.source)}
        outcome = worker.ask(request, self._limit_s)
        self._done[task.key] = outcome
        if self._store and keeps(outcome):
            self._store.put(task.key, outcome)

    def _hire(self) -> Worker:
        worker = Worker()
        self._live.add(worker)
        return worker

    def _keep_or_dismiss(self, worker: Worker) -> Worker | None:
        if worker.usable:
            return worker
        self._dismiss(worker)
        return None

    def _dismiss(self, worker: Worker) -> None:
        self._live.discard(worker)
        worker.close()
