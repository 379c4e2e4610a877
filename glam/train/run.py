"""A training run: steps, checkpoints, going back, going on where it was.

What a run is between two steps is its state (on the devices) and its place (plain
JSON). A checkpoint holds both, so a run that was killed goes on as if it had not been,
bit for bit.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax

from glam.train.adafactor import adafactor
from glam.train.checkpoint import Checkpoint
from glam.train.facts import Facts, Speed, told_metrics
from glam.train.learner import Batch, Learner
from glam.train.parallel import all_devices, flags, place
from glam.train.plan import Plan
from glam.train.resume import Keeper, Place
from glam.train.spike import SpikeWatch
from glam.train.state import State, first_state
from glam.train.step import Step, train_step
from glam.train.stop import StopRequest
from ir.errors import BadArgument


class Batches(Protocol):
    """Endless batches of this process' rows, whose place is plain JSON."""

    def __next__(self) -> Batch: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


class Screen(Protocol):
    """Who is told what happens."""

    def say(self, sentence: str) -> None: ...
    def step(self, facts: Facts) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "done", "stopped" by a signal, or "diverged" for a reason."""

    ended: str
    step: int
    reason: str = ""


class Run:
    """One run; all its processes do the same.

    `begin` is called once the run is known to be able to go on; `validate`, if given,
    takes parameters to the facts of held-out data.
    """

    def __init__(
        self,
        plan: Plan,
        learner: Learner,
        batches: Batches,
        keeper: Keeper,
        screen: Screen,
        speed: Speed,
        begin: Callable[[], None],
        validate: Callable[[Any], Facts] | None = None,
    ) -> None:
        self.plan, self.learner, self.batches = plan, learner, batches
        self.keeper, self.screen, self.speed = keeper, screen, speed
        self.begin, self.validate = begin, validate
        self.mesh = all_devices()
        plan.check_devices(self.mesh.size)
        self.optimizer = adafactor(
            plan.optimizer.schedule, learner.stacked, plan.optimizer.least_factored
        )
        self.watch = SpikeWatch(plan.rollback)
        self.place = Place(0, batches.get_state(), self.watch.get_state())

    def go(self, stop: StopRequest) -> Outcome:
        """Train to the last step, from the newest checkpoint if there is one.

        Raises `BadArgument` for a checkpoint of another model or of more steps, and for
        one that cannot be written.
        """
        state = self._start()
        last = self.plan.train.steps
        if self.place.step >= last:
            # What the folder holds made this model: nothing of it is written anew.
            return Outcome("done", self.place.step)
        self.begin()
        batch = self._next()
        step = self._compiled(state, batch)
        while self.place.step < last:
            begun = time.perf_counter()
            state, metrics = step(state, batch, flags(stop.asked, self.mesh))
            data = self.batches.get_state()
            # The host reads the next batch while the devices work on this one.
            batch = self._next()
            told = jax.device_get(metrics)
            back = self._see(told, data, time.perf_counter() - begun)
            if back is not None:
                healthy = self._go_back(back)
                if healthy is None:
                    return Outcome("diverged", self.place.step, back)
                state = healthy
                continue
            self._after(state, bool(told["stop"]))
            if told["stop"]:
                break
        self.keeper.wait()
        done = self.place.step >= last
        return Outcome("done" if done else "stopped", self.place.step)

    def _start(self) -> State:
        """The newest checkpoint's state, or the first."""
        found = self.keeper.newest()
        if found is None:
            # What an earlier start did before its first checkpoint is done again.
            self.keeper.forget_after(self.place)
            seed = self.plan.train.seed
            return first_state(self.learner, self.optimizer, seed, self.mesh)
        self._refuse_fewer(found)
        place, state = self.keeper.load(found, self._like(), self.mesh)
        self._stand_at(place)
        self.batches.set_state(dict(place.data))
        self.keeper.forget_after(place)
        self.screen.say(f"going on after step {place.step} of {found.path}")
        return state

    def _refuse_fewer(self, found: Checkpoint) -> None:
        """Refuse to go on after more steps than are asked for."""
        steps = self.plan.train.steps
        if found.step > steps:
            raise BadArgument(
                reason=f"{found.path} is after {found.step:,} steps, and train.steps="
                f"{steps:,} asks for fewer: raise train.steps to go on, or train in "
                "another folder (--out)"
            )

    def _like(self) -> Any:
        seed = self.plan.train.seed
        return jax.eval_shape(
            lambda: first_state(self.learner, self.optimizer, seed, self.mesh)
        )

    def _next(self) -> Batch:
        return place(next(self.batches), self.plan.train.accumulate, self.mesh)

    def _compiled(self, state: State, batch: Batch) -> Step:
        begun = time.perf_counter()
        seed = self.plan.train.seed
        step = train_step(
            self.learner, self.optimizer, self.plan.optimizer.schedule, self.mesh, seed
        )
        made: Step = step.lower(state, batch, flags(False, self.mesh)).compile()
        seconds = time.perf_counter() - begun
        self.keeper.note("compiled", seconds=seconds)
        self.screen.say(f"compiled the step in {seconds:.1f} s")
        return made

    def _see(
        self, told: Mapping[str, Any], data: Mapping[str, Any], seconds: float
    ) -> str | None:
        """Take in a step's metrics; the reason to go back, if there is one."""
        skipped, loss = bool(told["skipped"]), float(told["loss"])
        reason = self.watch.see(loss, skipped, bool(told["finite"]))
        at = self.place
        self.place = replace(
            at,
            step=at.step + 1,
            data=data,
            watch=self.watch.get_state(),
            skipped=at.skipped + skipped,
            tokens=at.tokens + self.speed.tokens,
        )
        facts = {
            "step": self.place.step,
            "tokens": self.place.tokens,
            **told_metrics(told),
            "skipped_in_all": self.place.skipped,
            **self.speed.of(seconds),
        }
        self.keeper.record(facts)
        self.screen.step(facts)
        return reason

    def _go_back(self, reason: str) -> State | None:
        """A healthy checkpoint's state, with the data going on; None if there is none.

        See `SpikeRule` for which one.
        """
        rule, at = self.plan.rollback, self.place
        found = None
        if at.rollbacks < rule.most:
            found = self.keeper.newest(at.step - self.watch.bad - rule.margin)
        if found is None:
            self.keeper.note("diverged", step=at.step, reason=reason)
            return None
        before, state = self.keeper.load(found, self._like(), self.mesh)
        self._stand_at(
            replace(before, data=at.data, tokens=at.tokens, rollbacks=at.rollbacks + 1)
        )
        self.keeper.drop_after(found.step)
        self.keeper.note("rollback", step=at.step, to=found.step, reason=reason)
        self.screen.say(
            f"step {at.step}: {reason}; back to step {found.step}, and on with the "
            "data after this step"
        )
        return state

    def _stand_at(self, place: Place) -> None:
        self.place = place
        self.watch.set_state(place.watch)

    def _after(self, state: State, stopping: bool) -> None:
        """Validate and save where it is time."""
        train, step = self.plan.train, self.place.step
        last = step >= train.steps
        if self.validate and (last or (train.validate and step % train.validate == 0)):
            facts = self.validate(state.params)
            self.keeper.note("validation", step=step, **facts)
            self.screen.say(f"step {step}: held-out loss {facts['loss']:.4f}")
        # A step in a bad streak is no place to come back to.
        due = step % self.plan.checkpoint.every == 0 and self.watch.bad == 0
        if due or last or stopping:
            self.keeper.save(self.place, state)
