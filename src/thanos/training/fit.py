"""Assemble data, model, Trainer and loggers; one run directory out. The same call again goes on where it stopped."""

import re
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import nn

from thanos import registry
from thanos.config import RunConfig, TrainConfig
from thanos.console import say
from thanos.data.batches import BatchLoader, BatchOrder, resident_on
from thanos.data.check import twins
from thanos.data.imageset import ImageSet
from thanos.data.load import check_superclasses, load_samples
from thanos.data.samples import Samples
from thanos.data.splits import watched
from thanos.encoders.pretrained import describe_weights
from thanos.errors import ConfigError, DataError, Interrupted, ThanosError
from thanos.methods.alpha import AlphaWindow
from thanos.methods.branch import StepSettings, build_branches
from thanos.runs.checkpoint import read_checkpoint
from thanos.runs.encoder_io import Encoder, facts_of, load_encoder
from thanos.runs.run_dir import RunDir, Start
from thanos.storage import write_json
from thanos.storage.manifest import read_manifest
from thanos.training.bench import is_out_of_memory
from thanos.training.estimate import expected_time
from thanos.training.finish import card_of, export_all, final_metrics, finished_encoder
from thanos.training.frozen import backbone_of, features_of, of_head
from thanos.training.groups import TrainingGroups, training_groups
from thanos.training.memory import batch_that_fits
from thanos.training.module import DIVERGED, TrainingModule
from thanos.training.monitor import KeepState, MetricsFile, SpreadWatch
from thanos.training.of_vectors import suited
from thanos.training.settings import batch_order, completed, describe_alpha, resolve_settings, warn_of_batches
from thanos.training.trainer import build_trainer, callback_of, set_up_torch, signals_handled

Say = Callable[[str], None]
_LOST = re.compile("gloo|nccl|connection (closed|reset)|timed out", re.IGNORECASE)
"""What torch's collectives say when a process at the other end is gone."""


@dataclass(frozen=True)
class Run:
    """A run directory with what came out of it."""

    folder: Path
    encoder: Encoder = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)


def train(
    config: TrainConfig,
    out: Path | str,
    *,
    images: Samples | None = None,
    run: RunConfig | None = None,
    say: Say = say,
) -> Run:
    """Train one method and leave a run directory: weights, metrics, configuration.

    Args:
        config: Everything that decides the outcome.
        out: The run directory: absent or empty; or of the same unfinished run, which goes on; or of the same finished
            run, which is returned.
        images: Already loaded, or vectors (a :class:`~thanos.data.vectors.VectorSet`, and ``encoder="mlp"``); default:
            what ``config`` names.
        run: How it is carried out.
        say: Receives each line meant for the user.
    Raises:
        ConfigError, DataError: before anything is written; also when the loss stops being a number.
        OutputError: if ``out`` holds something else, or the disk is too full.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    images = load_samples(config) if images is None else images
    place = RunDir(Path(out))
    start = Start(place)
    try:
        with ExitStack() as held:
            return _train(config, place, images, run or RunConfig(), say, held, start)
    except Exception as error:
        if not isinstance(error, Interrupted) and not place.checkpoint.exists():
            start.take_back()  # a failed start leaves nothing behind
        raise


@dataclass
class _Plan:
    """All that a training needs, made before anything is written."""

    settings: StepSettings
    window: AlphaWindow | None
    branches: nn.ModuleDict
    images: Samples
    """What is trained on: images, or their features."""
    backbone: Encoder | None
    """Whose features they are."""
    groups: TrainingGroups | None
    order: BatchOrder
    trainer: pl.Trainer
    place: RunDir
    run: RunConfig
    say: Say
    warnings: list[str]
    weights: str | None = None
    """Which weights it starts from, or keeps; None: none."""

    @property
    def config(self) -> TrainConfig:
        return self.settings.config

    @property
    def first(self) -> bool:
        """Of several processes the first one writes and speaks for all."""
        return self.trainer.global_rank == 0

    @property
    def total(self) -> int:
        """Batches of the whole training."""
        return self.order.batches_per_epoch * self.config.epochs


def _train(
    config: TrainConfig, place: RunDir, images: Samples, run: RunConfig, say: Say, held: ExitStack, start: Start
) -> Run:
    config, images = suited(config, images)
    check_superclasses(images, config.method)
    set_up_torch(run)
    trainer = build_trainer(config, images, place, run, say)
    settings, window = resolve_settings(config, images, trainer.world_size)
    first = trainer.global_rank == 0
    say = say if first else lambda line: None
    say(describe(images))
    config = completed(config, settings)
    state = place.state(config, images, first=first)
    if first and state != "new":
        place.note_the_place(config)
    if state == "finished":
        return _finished(place, say, first=first)
    if state == "new" and registry.dataset(config.data) is None and not images.on_demand and (found := twins(images)):
        what = "pictures" if images.size else "equal vectors"
        say(f"warning: {what} in two splits, or under two superclasses: {len(found)}; thanos check names them")
    samples: Samples = images
    backbone, started = None, time.perf_counter()
    if config.frozen:
        assert isinstance(images, ImageSet)
        backbone = backbone_of(config, images, say)
        samples = features_of(config, images, backbone, say)
        settings, window = resolve_settings(of_head(config), samples, trainer.world_size)
    of_features = time.perf_counter() - started
    plan = _plan(settings, window, samples, backbone, trainer, place, run, say)
    if config.pretrained:
        _say_of_weights(plan, config, new=state == "new")
    del trainer  # the plan alone holds it: what did not fit into memory can be let go of
    place.check_space(plan.branches)
    if first:
        held.enter_context(place.only_one())
        place.clear_leftovers()
        if state == "new":
            start.begin()
            place.write_start(config, images)
    metrics = _carry_out(plan) | ({} if backbone is None else {"features_seconds": round(of_features, 2)})
    if not first:
        return Run(place.path, finished_encoder(settings, plan.branches, samples, backbone), metrics)
    return _finish(plan, metrics)


def _finished(place: RunDir, say: Say, *, first: bool) -> Run:
    """The run as it was left; one that is without a manifest gets one, and the lock of one that was killed goes."""
    if first and not read_manifest(place.path):
        place.seal()
    if first:
        place.clear_lock()
    say(f"{place.path} holds this run, finished: it is not trained again")
    return Run(place.path, load_encoder(place.path), place.metrics())


def _plan(
    settings: StepSettings,
    window: AlphaWindow | None,
    images: Samples,
    backbone: Encoder | None,
    trainer: pl.Trainer,
    place: RunDir,
    run: RunConfig,
    say: Say,
) -> _Plan:
    """Build what is trained, and say what of it is worth knowing."""
    config = settings.config
    for line in describe_alpha(settings, window, images, trainer.world_size):
        say(line)
    branches = build_branches(
        config, channels=images.channels, size=images.size, superclasses=len(images.superclass_names)
    )
    if config.compile:
        for branch in branches.values():
            branch.encoder.compile()  # type: ignore[union-attr]
    groups = training_groups(config, images)
    order = batch_order(config, images, groups, trainer.world_size)
    if order.batches_per_epoch < 5:
        left = len(images.rows_to_train_on()) - order.batches_per_epoch * config.batch * trainer.world_size
        say(
            f"an epoch is {order.batches_per_epoch} steps only, {left} {images.kind} wait for the next; a smaller "
            f"`batch` or more `epochs` train longer"
        )
    warnings = warn_of_batches(settings, images, order)
    for line in warnings:
        say(line)
    return _Plan(settings, window, branches, images, backbone, groups, order, trainer, place, run, say, warnings)


def _say_of_weights(plan: _Plan, config: TrainConfig, *, new: bool) -> None:
    """Which they are, how they are trained, and on a CPU how long that takes; kept frozen they have been named."""
    given = config.pretrained
    plan.weights = describe_weights(config.encoder, given.resolve() if isinstance(given, Path) else True)
    if config.frozen:
        return
    rate = config.learning_rate * config.backbone_rate
    plan.say(f"{plan.weights}; learning at {rate:g}, with their own normalisation and batch norm {config.batch_norm}")
    trainer = plan.trainer
    alone = trainer.world_size == 1 and not config.compile
    if new and alone and not plan.run.quiet and trainer.strategy.root_device.type == "cpu":
        line = expected_time(plan.config, plan.images, plan.total)
        if line is not None:
            plan.say(line)


def _carry_out(plan: _Plan) -> dict[str, Any]:
    """Train; what lack of memory or of another process means is said in words."""
    config, images, world = plan.config, plan.images, plan.trainer.world_size
    try:
        return _fit(plan)
    except Exception as error:
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)
            del plan.trainer, plan.branches, plan.groups  # else there is no room for trying
            raise ConfigError(_too_large(config, images, world)) from None
        if world > 1 and isinstance(error, RuntimeError) and _LOST.search(str(error)):
            raise ThanosError(
                "another process of this run has ended, and this one cannot go on alone; its own log says why. The "
                "same command on all machines goes on from the last checkpoint."
            ) from error
        raise


def _finish(plan: _Plan, metrics: dict[str, Any]) -> Run:
    """Write the weights, and last the numbers, which mark the run as finished."""
    place = plan.place
    export_all(plan.settings, plan.branches, plan.images, place, plan.backbone)
    metrics["alarms"] = [*plan.warnings, *callback_of(plan.trainer, SpreadWatch).standing]
    write_json(place.metrics_file, metrics)
    place.seal()
    shown = {
        "validation/superclass_accuracy": "validation: superclass accuracy of neighbours",
        "validation/within_class_cosine": "cosine within superclasses, of embeddings",
    }
    final = metrics["final"]
    plan.say(" · ".join(f"{label} {final[name]:.3f}" for name, label in shown.items() if final.get(name) is not None))
    return Run(place.path, load_encoder(place.path), metrics)


def describe(images: Samples) -> str:
    """One line: how many images (or vectors) of what, in which splits, and what was done to them."""
    parts = [f"{images.name}: {len(images):,} {images.kind} of {images.shown_size}"]
    count = len(images.superclass_names)
    parts.append(f"{count} superclass{'es' if count > 1 else ''}")
    if images.subclass is not None:
        known = int((images.subclass >= 0).sum())
        some = "" if known == len(images) else f"known of {known:,} {images.kind}, "
        parts.append(f"{len(images.subclass_names)} subclasses ({some}not used in training)")
    parts.append(" / ".join(f"{len(images.rows(s)):,} {s}" for s in ("train", "validation", "test")))
    return " · ".join([*parts, *images.notes])


def _fit(plan: _Plan) -> dict[str, Any]:
    """Train from wherever the run stands to its end; the numbers of metrics.json."""
    trainer, place, total = plan.trainer, plan.place, plan.total
    module = TrainingModule(
        plan.settings,
        plan.branches,
        total_batches=total,
        log_every=max(1, total // 200),
        window=plan.window,
        group_losses=None if plan.groups is None else plan.groups.losses(plan.branches),
        card=facts_of(card_of(plan.settings, plan.branches, plan.images)),
    )
    loader, validation = _loaders(plan)
    trainer.val_check_interval = plan.order.batches_per_epoch
    accelerators = f"{type(trainer.accelerator).__name__} x {trainer.num_devices}"
    moved = place.moved(accelerators) if place.checkpoint.exists() else []
    if plan.first:
        place.write_log(accelerators, describe(plan.images))
    keeper, written = callback_of(trainer, KeepState), callback_of(trainer, MetricsFile)
    resumed = place.checkpoint.exists()
    done = _go_on(plan, module) if resumed else 0
    if moved:
        plan.say(f"bytes may differ from those of a run that stays in one place: {'; '.join(moved)}")
    if plan.first:
        written.write_anew()
    if done < total:
        start = place.checkpoint if resumed else None
        with signals_handled():
            trainer.fit(module, loader, validation, ckpt_path=start, weights_only=True)
        if not all(value.isfinite().all() for value in plan.branches.parameters()):
            raise ConfigError(DIVERGED.format(f"not all weights are finite after step {total:,}"))
        trainer.save_checkpoint(place.checkpoint)
    seen = total * plan.config.batch * trainer.world_size
    found = final_metrics(module, plan.groups, written.final, steps=total, seen=seen, seconds=keeper.seconds)
    found["provenance"] |= {} if plan.weights is None else {"weights": plan.weights}
    return found


def _loaders(plan: _Plan) -> tuple[BatchLoader, BatchLoader]:
    """Of training and of validation."""
    images, device = plan.images, plan.trainer.strategy.root_device
    ids = None if plan.groups is None else plan.groups.ids
    rows, held_out = images.rows_to_train_on(), watched(images.rows("validation"))
    loader = BatchLoader(
        images,
        rows,
        plan.order,
        plan.total,
        rank=plan.trainer.global_rank,
        world=plan.trainer.world_size,
        workers=plan.run.workers if images.on_demand else 0,
        group=ids,
        resident=resident_on(device, images, rows),
        pinned=device.type == "cuda",
    )
    return loader, BatchLoader(images, held_out, _InOrder(len(held_out), 512), -(-len(held_out) // 512), group=ids)


def _go_on(plan: _Plan, module: TrainingModule) -> int:
    """Take up the state of the run; how many batches it has done.

    Raises:
        DataError: if the checkpoint is not this run's.
        ConfigError: if the number of processes is another.
    """
    place, world = plan.place, plan.trainer.world_size
    state = read_checkpoint(place.checkpoint)
    try:
        stood = state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
        done, callbacks = int(stood["position"]), state["callbacks"]
        module.load_state_dict(state["state_dict"])
        if len(state["optimizer_states"][0]["param_groups"]) != len(module.parameter_groups()):
            raise RuntimeError("it has other rates for other parameters: an earlier version began it")
        for each in (callback_of(plan.trainer, KeepState), callback_of(plan.trainer, MetricsFile)):
            each.load_state_dict(callbacks[each.state_key])
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{place.checkpoint} is not the state of this run ({str(error).splitlines()[0]}). Remove it to start anew."
        ) from None
    if stood.get("world", world) != world:
        raise ConfigError(
            f"{place.path} was started on {stood['world']} processes, and their number decides its batches; here "
            f"are {world}. Go on with as many `devices` and `nodes`, or name another `out`."
        )
    plan.say(f"going on with {place.path} at step {done:,} of {plan.total:,}")
    return done


def _too_large(config: TrainConfig, images: Samples, world: int) -> str:
    """Which batch fits is tried out, unless other processes would have to try along."""
    fits = batch_that_fits(config, images) if world == 1 else None
    remedy = f"`batch={fits}` fits" if fits else "use a smaller `batch`"
    return f"`batch={config.batch}` needs more memory than there is; {remedy}, and so may `precision=bf16-mixed`."


class _InOrder(BatchOrder):
    """Every row once, in order, the last batch as short as it comes."""

    def __init__(self, count: int, batch: int):
        self._count, self._size = count, batch

    def rows(self, k: int) -> np.ndarray:
        return np.arange(k * self._size, min((k + 1) * self._size, self._count))
