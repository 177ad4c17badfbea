"""Assemble data, model, Trainer and loggers; one run directory out. The same call again goes on where it stopped."""

import logging
import math
import re
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from thanos import registry
from thanos.config import RunConfig, TrainConfig
from thanos.console import say
from thanos.data.batches import BatchLoader, BatchOrder, Sampling, resident_on
from thanos.data.check import twins
from thanos.data.imageset import ImageSet
from thanos.data.load import check_superclasses, load
from thanos.data.splits import watched
from thanos.errors import ConfigError, DataError, Interrupted, ThanosError
from thanos.methods.alpha import AlphaWindow
from thanos.methods.branch import StepSettings, build_branches, encoder_of
from thanos.robust.head import Head, write_head
from thanos.runs.encoder_io import (
    Encoder,
    ModelCard,
    balance_parts,
    card_for,
    load_encoder,
    read_checkpoint,
    save_encoder,
)
from thanos.runs.provenance import commit, hardware, versions
from thanos.runs.run_dir import RunDir, Start
from thanos.storage import write_json
from thanos.training.bench import is_out_of_memory
from thanos.training.groups import TrainingGroups, training_groups
from thanos.training.memory import batch_that_fits
from thanos.training.module import DIVERGED, TrainingModule
from thanos.training.monitor import AtomicCheckpointIO, KeepState, MetricsFile, Progress, SameRun, SpreadWatch
from thanos.training.settings import describe_alpha, resolve_settings, warn_of_batches

Say = Callable[[str], None]
Kind = TypeVar("Kind")
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
    out: Path,
    *,
    images: ImageSet | None = None,
    run: RunConfig | None = None,
    say: Say = say,
) -> Run:
    """Train one method and leave a run directory: weights, metrics, configuration.

    Args:
        config: Everything that decides the outcome.
        out: The run directory: absent or empty; or of the same unfinished run, which goes on; or of the same finished
            run, which is returned.
        images: Already loaded; default: what ``config`` names.
        run: How it is carried out.
        say: Receives each line meant for the user.
    Raises:
        ConfigError, DataError: before anything is written; also when the loss stops being a number.
        OutputError: if ``out`` holds something else, or the disk is too full.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    images = load(config) if images is None else images
    place = RunDir(Path(out))
    start = Start(place)
    try:
        with ExitStack() as held:
            return _train(config, place, images, run or RunConfig(), say, held, start)
    except Exception as error:
        if not isinstance(error, Interrupted) and not place.checkpoint.exists():
            start.take_back()  # a failed start leaves nothing behind
        raise


def _train(
    config: TrainConfig, place: RunDir, images: ImageSet, run: RunConfig, say: Say, held: ExitStack, start: Start
) -> Run:
    check_superclasses(images)
    _set_up_torch(run)
    trainer = _build_trainer(config, images, place, run, say)
    settings, window = resolve_settings(config, images, trainer.world_size)
    first = trainer.global_rank == 0  # of several processes the first one writes and speaks for all
    say = say if first else lambda line: None
    say(describe(images))
    config = config.model_copy(update={"views": settings.views})
    state = place.state(config, images, first=first)
    if first and state != "new":
        place.note_the_place(config)
    if state == "finished":
        say(f"{place.path} holds this run, finished: it is not trained again")
        return Run(place.path, load_encoder(place.path), place.metrics())
    if state == "new" and registry.dataset(config.data) is None and not images.on_demand and (found := twins(images)):
        say(f"warning: pictures in two splits, or under two superclasses: {len(found)}; thanos check names them")
    for line in describe_alpha(settings, window, images, trainer.world_size):
        say(line)
    branches = build_branches(
        config, channels=images.channels, size=images.size, superclasses=len(images.superclass_names)
    )
    if config.compile:
        for branch in branches.values():
            branch.encoder.compile()  # type: ignore[union-attr]
    groups = training_groups(config, images)
    order = _batch_order(config, images, groups, trainer.world_size)
    if order.batches_per_epoch < 5:
        left = len(images.rows("train")) - order.batches_per_epoch * config.batch * trainer.world_size
        say(
            f"an epoch is {order.batches_per_epoch} steps only, {left} images wait for the next; a smaller --batch or "
            f"more --epochs train longer"
        )
    warnings = warn_of_batches(settings, images, order)
    for line in warnings:
        say(line)
    place.check_space(branches)
    if first:
        held.enter_context(place.only_one())
        place.clear_leftovers()
        if state == "new":
            start.begin()
            place.write_start(config, images)
    world = trainer.world_size
    try:
        metrics = _fit(settings, window, branches, images, groups, order, trainer, place, run, say)
    except Exception as error:
        if is_out_of_memory(error):
            traceback.clear_frames(error.__traceback__)
            del trainer, branches, groups  # else there is no room for trying
            raise ConfigError(_too_large(config, images, world)) from None
        if world > 1 and isinstance(error, RuntimeError) and _LOST.search(str(error)):
            raise ThanosError(
                "another process of this run has ended, and this one cannot go on alone; its own log says why. The "
                "same command on all machines goes on from the last checkpoint."
            ) from error
        raise
    if not first:
        return Run(place.path, _finished_encoder(settings, branches, images), metrics)
    _export_all(settings, branches, images, place)
    metrics["alarms"] = [*warnings, *_callback(trainer, SpreadWatch).said.values()]
    write_json(place.metrics_file, metrics)
    shown = {
        "validation/superclass_accuracy": "validation: superclass accuracy of neighbours",
        "validation/within_class_cosine": "cosine within superclasses, of embeddings",
    }
    final = metrics["final"]
    say(" · ".join(f"{label} {final[name]:.3f}" for name, label in shown.items() if final.get(name) is not None))
    return Run(place.path, load_encoder(place.path), metrics)


def describe(images: ImageSet) -> str:
    """One line: how many images of what, in which splits, and what was done to them."""
    parts = [f"{images.name}: {len(images):,} images of {images.size[0]}x{images.size[1]}"]
    parts.append(f"{len(images.superclass_names)} superclasses")
    if images.subclass is not None:
        known = int((images.subclass >= 0).sum())
        some = "" if known == len(images) else f"known of {known:,} images, "
        parts.append(f"{len(images.subclass_names)} subclasses ({some}not used in training)")
    parts.append(" / ".join(f"{len(images.rows(s)):,} {s}" for s in ("train", "validation", "test")))
    return " · ".join([*parts, *images.notes])


def _batch_order(config: TrainConfig, images: ImageSet, groups: TrainingGroups | None, world: int) -> BatchOrder:
    """Batches over all processes.

    Raises:
        ConfigError: if they are larger than the training data.
    """
    rows = images.rows("train")
    if config.batch * world > len(rows):
        processes = f" for each of {world} processes" if world > 1 else ""
        raise ConfigError(
            f"--batch takes at most the {len(rows) // world} training images of {images.name}{processes}; got "
            f"{config.batch}. Pass --batch {2 ** int(math.log2(max(2, len(rows) // world // 4)))}."
        )
    label = groups.ids[rows] if groups and config.sampling == "group-balanced" else images.superclass[rows]
    sampling: Sampling = "shuffled" if config.sampling == "shuffled" else "balanced"
    return BatchOrder(label, config.batch * world, config.seed, sampling)


def _set_up_torch(run: RunConfig) -> None:
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|lightning_utilities")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _build_trainer(config: TrainConfig, images: ImageSet, place: RunDir, run: RunConfig, say: Say) -> pl.Trainer:
    """Lightning's Trainer with our callbacks; writes nothing yet.

    Raises:
        ConfigError: for a device, precision or logger that is not to be had here.
    """
    best = ModelCheckpoint(
        place.path,
        filename=place.best_checkpoint.stem,
        monitor=MONITORED[config.select],
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    callbacks = [
        SameRun(images.fingerprint, config),
        SpreadWatch(registry.method(config.method), say),
        MetricsFile(place.lines),
        *([] if run.quiet else [Progress(config.batch)]),
        best,
        KeepState(place.checkpoint, run.checkpoint_minutes),
    ]
    try:
        return pl.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            precision=config.precision,
            accumulate_grad_batches=config.accumulate,
            max_epochs=1,
            val_check_interval=1,  # set to an epoch's batches once the number of processes is known
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            logger=_extra_loggers(run, place.path),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            f"--accelerator {config.accelerator} --devices {config.devices} --precision {config.precision} is not to "
            f"be had here ({reason}). Drop them, or choose others."
        ) from None


def _callback(trainer: pl.Trainer, kind: type[Kind]) -> Kind:
    return next(each for each in trainer.callbacks if isinstance(each, kind))  # type: ignore[attr-defined]


def _extra_loggers(run: RunConfig, out: Path) -> list[Any]:
    from pytorch_lightning import loggers

    build: dict[str, Callable[[], Any]] = {
        "tensorboard": lambda: loggers.TensorBoardLogger(out, name="tensorboard"),
        "wandb": lambda: loggers.WandbLogger(save_dir=out, name=out.name),
        "mlflow": lambda: loggers.MLFlowLogger(run_name=out.name),
    }
    made = []
    for name in run.logger:
        try:
            made.append(build[name]())
        except ModuleNotFoundError:
            raise ConfigError(
                f"--logger {name} needs its package; install it with `pip install thanos-repr[{name}]`."
            ) from None
    return made


def _fit(
    settings: StepSettings,
    window: AlphaWindow | None,
    branches: nn.ModuleDict,
    images: ImageSet,
    groups: TrainingGroups | None,
    order: BatchOrder,
    trainer: pl.Trainer,
    place: RunDir,
    run: RunConfig,
    say: Say,
) -> dict[str, Any]:
    config, rank, world = settings.config, trainer.global_rank, trainer.world_size
    total = order.batches_per_epoch * config.epochs
    workers = run.workers if images.on_demand else 0
    ids = None if groups is None else groups.ids
    home = resident_on(trainer.strategy.root_device, images, images.rows("train"))
    loader = BatchLoader(
        images,
        images.rows("train"),
        order,
        total,
        rank=rank,
        world=world,
        workers=workers,
        group=ids,
        resident=home,
        pinned=trainer.strategy.root_device.type == "cuda",
    )
    held_out = watched(images.rows("validation"))
    validation = BatchLoader(images, held_out, _InOrder(len(held_out), 512), -(-len(held_out) // 512), group=ids)
    module = TrainingModule(
        settings,
        branches,
        total_batches=total,
        log_every=max(1, total // 200),
        window=window,
        group_losses=None if groups is None else groups.losses(branches),
        card=_card(settings, branches, images).model_dump_json(),
    )
    trainer.val_check_interval = order.batches_per_epoch
    if rank == 0:
        accelerators = f"{type(trainer.accelerator).__name__} x {trainer.num_devices}"
        place.write_log(accelerators, describe(images))
    keeper, written = _callback(trainer, KeepState), _callback(trainer, MetricsFile)
    checkpoint, done = place.checkpoint, 0
    resumed = checkpoint.exists()
    if resumed:
        state = read_checkpoint(checkpoint)
        try:
            stood = state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
            done, callbacks = stood["position"], state["callbacks"]
            module.load_state_dict(state["state_dict"])
            for each in (keeper, written):
                each.load_state_dict(callbacks[each.state_key])
        except (KeyError, IndexError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{checkpoint} is not the state of this run ({str(error).splitlines()[0]}). Remove it to start anew."
            ) from None
        if stood.get("world", world) != world:
            raise ConfigError(
                f"{place.path} was started on {stood['world']} processes, and their number decides its batches; here "
                f"are {world}. Go on with as many --devices and --nodes, or name another --out."
            )
        say(f"going on with {place.path} at step {done:,} of {total:,}")
    if rank == 0:
        written.write_anew()
    if done < total:
        with _signals_handled():
            trainer.fit(module, loader, validation, ckpt_path=checkpoint if resumed else None, weights_only=True)
        if not all(value.isfinite().all() for value in branches.parameters()):
            raise ConfigError(DIVERGED.format(f"not all weights are finite after step {total:,}"))
        trainer.save_checkpoint(checkpoint)
    return {
        "method": config.method,
        "alpha": _final_alpha(module),
        "steps": total,
        "images_per_second": round(total * config.batch * world / keeper.seconds, 1),
        "seconds": round(keeper.seconds, 2),
        "final": written.final,
        **({} if groups is None else {"groups": groups.facts(module.group_losses)}),
        "provenance": {"commit": commit(), "hardware": hardware(), "versions": versions()},
        "definitions": DEFINITIONS,
    }


def _too_large(config: TrainConfig, images: ImageSet, world: int) -> str:
    """Which batch fits is tried out, unless other processes would have to try along."""
    fits = batch_that_fits(config, images) if world == 1 else None
    remedy = f"--batch {fits} fits" if fits else "use a smaller --batch"
    return f"--batch {config.batch} needs more memory than there is; {remedy}, and so may --precision bf16-mixed."


def _final_alpha(module: TrainingModule) -> float | None:
    if not registry.method(module.settings.config.method).spreads:
        return None
    return float(module.settings.alpha if module.alpha is None else module.alpha)


@contextmanager
def _signals_handled() -> Iterator[None]:
    """Put SIGINT's and SIGTERM's handlers back, whatever is left there, and let a hard stop be an Interrupted."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt: a second Ctrl-C, or one before the first step
        raise Interrupted(
            "stopped at once; the same command again goes on from the last checkpoint.", signal.SIGINT
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


MONITORED = {
    "neighbours": "validation/superclass_accuracy",
    "worst-group": "validation/worst_group_accuracy",
    "worst-class": "validation/worst_class_accuracy",
}
"""The score that decides the best epoch, by --select."""

DEFINITIONS = {
    "train/*": "terms of the loss on the last logged batch, in nats (reconstruct: squared standard deviations)",
    "spread/within": "mean cosine between projections of different images of one superclass in that batch",
    "spread/within_largest": "the same for the superclass where it is largest",
    "spread/between": "mean cosine between projections of different superclasses in that batch",
    "validation/superclass_accuracy": "share of validation images whose 20 nearest others (in small sets "
    "fewer: half of the smallest superclass) vote for their superclass",
    "validation/worst_group_accuracy": "the classifier's accuracy on the group of validation images where it is lowest",
    "validation/worst_class_accuracy": "the same for superclasses",
    "validation/within_class_cosine": "as spread/within, for clean embeddings of the validation images",
    "validation/between_class_cosine": "as spread/between, for clean embeddings of the validation images",
}


class _InOrder(BatchOrder):
    """Every row once, in order, the last batch as short as it comes."""

    def __init__(self, count: int, batch: int):
        self._count, self._size = count, batch

    def rows(self, k: int) -> np.ndarray:
        return np.arange(k * self._size, min((k + 1) * self._size, self._count))


def _export_all(settings: StepSettings, branches: nn.ModuleDict, images: ImageSet, place: RunDir) -> None:
    """The last weights as model.safetensors, then the best ones (which replace them in memory)."""
    last = _finished_encoder(settings, branches, images)
    save_encoder(last, place.weights("last"))
    _export_classifier(branches, images, place.classifier("last"), last.fingerprint)
    kept = place.best_checkpoint
    if kept.exists():
        best = read_checkpoint(kept)["state_dict"]
        of_branches = [name for name in best if name.startswith("branches.")]
        branches.load_state_dict({name.removeprefix("branches."): best[name] for name in of_branches})
        best_one = _finished_encoder(settings, branches, images)
        save_encoder(best_one, place.weights("best"))
        _export_classifier(branches, images, place.classifier("best"), best_one.fingerprint)
        kept.unlink()


def _export_classifier(branches: nn.ModuleDict, images: ImageSet, file: Path, encoder: str) -> None:
    """The superclass classifier on the embedding; a run of two encoders has none on its concatenation.

    Args:
        branches, images: What was trained, and on what.
        file: The .npz.
        encoder: The fingerprint of the encoder whose embeddings it is for.
    """
    branch = next(iter(branches.values()))
    if len(branches) == 1 and hasattr(branch, "classifier"):
        layer = branch.classifier
        assert isinstance(layer, nn.Linear)
        weight, bias = (p.detach().cpu().double().numpy() for p in (layer.weight, layer.bias))
        plain = np.zeros(weight.shape[1]), np.ones(weight.shape[1])
        write_head(Head(weight, bias, *plain, encoder=encoder), images.superclass_names, file)


def _finished_encoder(settings: StepSettings, branches: nn.ModuleDict, images: ImageSet) -> Encoder:
    encoder = Encoder(encoder_of(branches).cpu().eval(), _card(settings, branches, images))
    balance_parts(encoder, images)
    return encoder


def _card(settings: StepSettings, branches: nn.ModuleDict, images: ImageSet) -> ModelCard:
    names = (settings.config.encoder,) * len(branches)
    facts: dict[str, Any] = {"method": settings.config.method, "mean": settings.mean, "std": settings.std}
    return card_for(images, names, encoder_of(branches), views=settings.views, **facts)
