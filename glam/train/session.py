"""One process' share of `glam train`: settings in, a trained model in a folder out."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from glam.data.batches import Batches, batches, one_pass
from glam.data.shares import shares_of
from glam.data.tokenizer import Tokenizer, check_vocabulary, load_tokenizer
from glam.model.feed_forward import unservable
from glam.train.checkpoint import Store
from glam.train.efficiency import FORMULA, Peak, peak_of_devices
from glam.train.facts import Facts, Speed
from glam.train.folder import CHECKPOINTS, RECORD, SETTINGS, TOKENIZER
from glam.train.language_model import language_model, parameters
from glam.train.learner import Batch, Learner
from glam.train.live import LiveScreen, QuietScreen
from glam.train.lock import locked
from glam.train.parallel import all_devices
from glam.train.record import Record
from glam.train.resume import Keeper
from glam.train.run import Outcome, Run, Screen
from glam.train.settings import Settings
from glam.train.stop import StopRequest
from glam.train.validation import validation


def train(settings: Settings, stop: StopRequest) -> Outcome:
    """Train, or go on, in `settings.out`; every process of the run calls this.

    Raises `BadArgument` for settings, data or a checkpoint that do not fit.
    """
    plan, model = settings.plan, settings.model
    plan.check_devices(jax.device_count())
    tokenizer = load_tokenizer(settings.data.tokenizer)
    check_vocabulary(tokenizer, model.vocabulary)
    learner = language_model(model, plan.train.accumulate * jax.device_count())
    data = _training_data(settings, tokenizer)
    validate = _validation(settings, tokenizer, learner)
    peak = peak_of_devices(settings.metrics.peak)
    speed = Speed(plan.train.batch * model.sequence, learner.flops, peak)
    with ExitStack() as stack:
        keeper, screen = _keeper(settings, learner, stack)
        why = unservable(model)
        if why:
            screen.say(f"note: {why}")

        def begin() -> None:
            if jax.process_index() == 0:
                _write_settings(settings)
            keeper.note("start", **_provenance(settings, learner, peak))

        run = Run(plan, learner, data, keeper, screen, speed, begin, validate)
        return run.go(stop)


def _keeper(
    settings: Settings, learner: Learner, stack: ExitStack
) -> tuple[Keeper, Screen]:
    """What this process writes to, closed with `stack`."""
    folder, plan = settings.out, settings.plan
    primary = jax.process_index() == 0
    record: Record | None = None
    screen: Screen = QuietScreen()
    if primary:
        stack.enter_context(locked(folder))
        live = LiveScreen(plan.train.steps)
        screen = stack.enter_context(live)
        record = Record(folder / RECORD, settings.metrics.tensorboard)
        stack.callback(record.close)
    store = Store(folder / CHECKPOINTS, plan.checkpoint.keep, primary)
    stack.callback(store.close)
    keeper = Keeper(store, record, learner.identity, settings.to_json(), screen.say)
    return keeper, screen


def _training_data(settings: Settings, tokenizer: Tokenizer) -> Batches:
    data, train = settings.data, settings.plan.train
    return batches(
        data.source,
        tokenizer,
        train.batch,
        settings.model.sequence,
        train.seed,
        part=data.part,
        fraction=data.fraction,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )


def _validation(
    settings: Settings, tokenizer: Tokenizer, learner: Learner
) -> Callable[[Any], Facts] | None:
    """The loss of held-out data as a function of parameters, if it is asked for."""
    data, train = settings.data, settings.plan.train
    if not train.validate:
        return None
    share = train.batch // jax.process_count()
    own = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    source = data.held_out or data.source
    # Read before the first step: a source that holds out nothing is refused here.
    shares = shares_of(source, tokenizer, "validation", data.fraction)

    def held_out() -> Iterator[Batch]:
        length = settings.model.sequence
        for batch in one_pass(shares, tokenizer, train.batch, length):
            yield {name: rows[own] for name, rows in batch.items()}

    most, parts = train.validation_batches, train.accumulate
    return validation(learner, held_out, most, parts, all_devices())


def _write_settings(settings: Settings) -> None:
    """The settings, and the tokenizer, so that the folder is all that is needed."""
    text = json.dumps(settings.to_json(), indent=1)
    (settings.out / SETTINGS).write_text(text + "\n", encoding="utf-8")
    tokenizer = Path(settings.data.tokenizer)
    if tokenizer.is_file():
        shutil.copyfile(tokenizer, settings.out / TOKENIZER)


def _provenance(settings: Settings, learner: Learner, peak: Peak) -> Facts:
    """What the figures of the record rest on."""
    total, activated = parameters(settings.model)
    names = ("jax", "jaxlib", "optax", "orbax-checkpoint", "moegen")
    return {
        "parameters": total,
        "activated": activated,
        "flops_per_token": learner.flops,
        "mfu_formula": FORMULA,
        "peak_flops": peak.flops,
        "peak_source": peak.source,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "versions": {name: version(name) for name in names},
    }
