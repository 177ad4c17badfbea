"""Assemble data, model, Trainer and loggers; one run directory out. The same call again goes on where it stopped."""

import csv
import io
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import nn

from thanos.artefact import Encoder, ModelCard, balance_parts, load_encoder, save_encoder
from thanos.config import RunConfig, TrainConfig, ViewSpec, save
from thanos.data.batches import BatchLoader, BatchOrder
from thanos.data.files import manifest
from thanos.data.imageset import ImageSet
from thanos.encoder import dimension
from thanos.errors import ConfigError, Interrupted, OutputError
from thanos.methods import StepSettings, build_branches, encoder_of
from thanos.storage import write_json, write_text
from thanos.theory.spread import AlphaWindow, solve_alpha
from thanos.training.module import TrainingModule
from thanos.training.monitor import AtomicCheckpointIO, KeepState, MetricsFile, Progress, SpreadWatch

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A run directory with what came out of it."""

    folder: Path
    encoder: Encoder
    metrics: dict[str, Any]


def train(
    config: TrainConfig,
    out: Path,
    *,
    images: ImageSet | None = None,
    run: RunConfig | None = None,
    say: Callable[[str], None] = print,
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
        ConfigError, DataError: before anything is written.
        OutputError: if ``out`` holds something else, or the disk is too full.
        Interrupted: after SIGINT or SIGTERM, with the state saved.
    """
    from thanos.data.load import load

    run = run or RunConfig()
    first = _world(config)[1] == 0  # of several processes the first one writes and speaks for all
    say = say if first else lambda line: None
    images = load(config) if images is None else images
    say(_describe(images))
    settings, window = resolve_settings(config, images)
    state = _check_folder(out, config, images)
    if state == "finished":
        say(f"{out} holds this run, finished; nothing to do.")
        return Run(out, load_encoder(out), json.loads((out / "metrics.json").read_text("utf-8")))
    for line in describe_alpha(settings, window, images):
        say(line)
    _set_up_torch(run)
    branches = build_branches(
        config, channels=images.channels, size=images.size, superclasses=len(images.superclass_names)
    )
    _check_space(out, branches)
    for leftover in out.glob(".*.*") if first else ():  # half-written files of a killed run
        leftover.unlink()
    if state == "new" and first:
        _start_folder(out, config.model_copy(update={"views": settings.views}), images)
    try:
        metrics = _fit(settings, branches, images, out, run, say)
    except Exception as error:
        if state == "new" and not isinstance(error, Interrupted) and not (out / "last.ckpt").exists():
            shutil.rmtree(out)  # a failed start leaves nothing behind
        raise
    if not first:
        return Run(out, _finished_encoder(settings, branches, images), metrics)
    _export(settings, branches, images, out / "model.safetensors")
    if (out / "best.ckpt").exists():
        best = torch.load(out / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        branches.load_state_dict({name.removeprefix("branches."): value for name, value in best.items()})
        _export(settings, branches, images, out / "best.safetensors")
        (out / "best.ckpt").unlink()
    write_json(out / "metrics.json", metrics)
    shown = {
        "validation/superclass_accuracy": "superclass accuracy of neighbours",
        "validation/within_class_cosine": "cosine within superclasses",
    }
    say(" · ".join(f"{label} {metrics['final'][name]:.3f}" for name, label in shown.items()))
    return Run(out, load_encoder(out), metrics)


def resolve_settings(config: TrainConfig, images: ImageSet) -> tuple[StepSettings, AlphaWindow | None]:
    """Fill in what depends on the data: augmentation, normalisation, alpha with its window.

    Raises:
        ConfigError: if a batch is larger than the training data, or alpha = auto has no solution here.
    """
    count = len(images.rows("train"))
    if config.batch > count:
        raise ConfigError(f"--batch takes at most the {count} training images of {images.name}; got {config.batch}.")
    views = images.views
    if config.views is not None:
        views = ViewSpec(**(views.model_dump() | config.views.model_dump(exclude_unset=True)))
    window, alpha = None, 0.0
    if config.method in ("spread", "thanos"):
        superclasses = len(np.unique(images.superclass[images.rows("train")]))
        try:
            window = solve_alpha(superclasses, config.batch, config.temperature, config.within_class_cosine)
        except ValueError as error:
            if config.alpha == "auto":
                raise ConfigError(str(error)) from None
        alpha = window.alpha if config.alpha == "auto" and window else float(config.alpha)
    mean, std = images.mean_std
    return StepSettings(config=config, alpha=alpha, views=views, mean=mean, std=std), window


def describe_alpha(settings: StepSettings, window: AlphaWindow | None, images: ImageSet) -> list[str]:
    """What alpha is and why; a warning where a given alpha lies outside its window."""
    if window is None:
        return []
    config, alpha = settings.config, settings.alpha
    where = (
        f"window {window.collapse:.3f} to {window.dissolve:.3f} for {len(images.superclass_names)} superclasses, "
        f"batch {config.batch}, temperature {config.temperature:g}"
    )
    lines = [f"alpha {alpha:.3f}{' (auto)' if config.alpha == 'auto' else ''} · {where}"]
    if alpha < window.collapse:
        lines.append(f"warning: at alpha {alpha:.3f}, below its window, superclasses collapse; raise it or use auto.")
    if alpha > window.dissolve:
        lines.append(f"warning: at alpha {alpha:.3f}, above its window, superclasses dissolve; lower it or use auto.")
    return lines


def _describe(images: ImageSet) -> str:
    parts = [f"{images.name}: {len(images):,} images of {images.size}x{images.size}"]
    parts.append(f"{len(images.superclass_names)} superclasses")
    if images.subclass is not None:
        parts.append(f"{len(images.subclass_names)} subclasses (not used in training)")
    parts.append(" / ".join(f"{len(images.rows(s)):,} {s}" for s in ("train", "validation", "test")))
    return " · ".join([*parts, *images.notes])


def _check_folder(out: Path, config: TrainConfig, images: ImageSet) -> str:
    """ "new", "unfinished" or "finished"; anything else is refused with the difference."""
    begun = {"data.json", "skipped.csv"}  # written before config.yaml: alone they are a start that was killed
    if not out.exists() or (out.is_dir() and all(p.name in begun or p.name.startswith(".") for p in out.iterdir())):
        return "new"
    if not (out / "config.yaml").is_file() or not (out / "data.json").is_file():
        raise OutputError(f"--out takes a new or empty folder, or this run's own; {out} holds something else.")
    import yaml

    before = yaml.safe_load((out / "config.yaml").read_text("utf-8"))
    now = config.model_dump(mode="json")
    differing = [key for key in now if key != "views" and before.get(key) != now[key]]
    given = now["views"] or {}
    views_before = before.get("views") or {}
    differing += [
        f"views.{key}"
        for key in (config.views.model_fields_set if config.views else ())
        if given[key] != views_before.get(key)
    ]
    if differing:
        shown = ", ".join(f"{key} {_at(before, key)!r} there, {_at(now, key)!r} here" for key in differing[:3])
        raise OutputError(f"{out} holds another run ({shown}). Name another --out, or use the same settings to go on.")
    there = json.loads((out / "data.json").read_text("utf-8"))["fingerprint"]
    if there != images.fingerprint:
        raise OutputError(
            f"{out} was trained on other images (fingerprint {there[:8]}, here {images.fingerprint[:8]}). "
            f"Name another --out."
        )
    return "finished" if (out / "metrics.json").is_file() else "unfinished"


def _at(settings: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        settings = (settings or {}).get(part)  # type: ignore[assignment]
    return settings


def _set_up_torch(run: RunConfig) -> None:
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|lightning_utilities")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _check_space(out: Path, branches: nn.Module) -> None:
    """Three checkpoints of weights and AdamW's two moments, and the exported weights."""
    weights = sum(p.numel() * p.element_size() for p in branches.parameters())
    wanted = weights * 3 * 3 + weights * 2 + 2**20
    parent = next(p for p in (out, *out.resolve().parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if wanted > free:
        raise OutputError(
            f"this run writes up to {wanted / 2**20:,.0f} MB to {out}; {free / 2**20:,.0f} MB are free. Free some "
            f"space, or name an --out on another disk."
        )


def _start_folder(out: Path, config: TrainConfig, images: ImageSet) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "data.json", manifest(images) + "\n")
    if images.skipped:
        table = io.StringIO(newline="")
        csv.writer(table).writerows([("image", "reason"), *images.skipped])
        write_text(out / "skipped.csv", table.getvalue())
    save(config, out / "config.yaml")


def _fit(
    settings: StepSettings,
    branches: nn.ModuleDict,
    images: ImageSet,
    out: Path,
    run: RunConfig,
    say: Callable[[str], None],
) -> dict[str, Any]:
    config = settings.config
    rows = images.rows("train")
    world, rank = _world(config)
    order = BatchOrder(images.superclass[rows], config.batch * world, config.seed, config.sampling)
    total = order.batches_per_epoch * config.epochs
    from_files = not isinstance(images.images[np.arange(1)], np.memmap) and hasattr(images.images, "_paths")
    workers = run.workers if from_files else 0
    loader = BatchLoader(images, rows, order, total, rank=rank, world=world, workers=workers)
    held_out = images.rows("validation")[:5000]
    validation = BatchLoader(images, held_out, _InOrder(len(held_out), 512), -(-len(held_out) // 512), workers=0)
    log_every = max(1, total // 200)
    module = TrainingModule(settings, branches, total_batches=total, log_every=log_every)
    checkpoint = out / "last.ckpt"
    metrics_file = MetricsFile(out / "metrics.jsonl")
    callbacks: list[Callback] = [
        metrics_file,
        SpreadWatch(config.method, settings.alpha, say),
        ModelCheckpoint(
            out,
            filename="best",
            monitor="validation/superclass_accuracy",
            mode="max",
            save_weights_only=True,
            enable_version_counter=False,
        ),
        KeepState(checkpoint, run.checkpoint_minutes),
    ]
    if not run.quiet and rank == 0:
        callbacks.append(Progress(config.batch * world))
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        precision=config.precision,
        accumulate_grad_batches=config.accumulate,
        max_epochs=1,
        val_check_interval=order.batches_per_epoch,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=_extra_loggers(run, out),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if rank == 0:
        _write_log(out / "run.log", images, trainer)
    resumed, done = checkpoint.exists(), 0
    if resumed:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["loops"]["fit_loop"]["state_dict"]
        done = state["combined_loader"][0]["position"]
        say(f"going on with {out} at step {done:,} of {total:,}")
    if rank == 0:
        metrics_file.forget_after(done)
    started = time.perf_counter()
    with _handlers_kept():
        trainer.fit(module, loader, validation, ckpt_path=checkpoint if resumed else None, weights_only=True)
    seconds = time.perf_counter() - started
    trainer.save_checkpoint(checkpoint)
    final = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {
        "method": config.method,
        "alpha": settings.alpha if config.method in ("spread", "thanos") else None,
        "steps": total,
        "images_per_second": None if resumed else round(total * config.batch * world / seconds, 1),
        "seconds": None if resumed else round(seconds, 2),
        "final": final,
        "definitions": DEFINITIONS,
    }


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put SIGINT's and SIGTERM's handlers back, whatever Lightning and the run left there."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


DEFINITIONS = {
    "train/*": "terms of the loss on the last logged batch, in nats (reconstruct: squared standard deviations)",
    "spread/within": "mean cosine between projections of different images of one superclass in that batch",
    "spread/between": "mean cosine between projections of different superclasses in that batch",
    "validation/superclass_accuracy": "share of validation images whose 20 nearest others vote for their superclass",
    "validation/within_class_cosine": "as spread/within, for clean embeddings of the validation images",
    "validation/between_class_cosine": "as spread/between, for clean embeddings of the validation images",
}


class _InOrder(BatchOrder):
    """Every row once, in order, the last batch as short as it comes."""

    def __init__(self, count: int, batch: int):
        self._count, self._size = count, batch

    def rows(self, k: int) -> np.ndarray:
        return np.arange(k * self._size, min((k + 1) * self._size, self._count))


def _world(config: TrainConfig) -> tuple[int, int]:
    """(processes, this one's rank), as Lightning and torchrun hand them on."""
    devices = config.devices if isinstance(config.devices, int) else max(1, torch.cuda.device_count())
    node, local = int(os.environ.get("NODE_RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
    return devices * config.nodes, node * devices + local


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


def _export(settings: StepSettings, branches: nn.ModuleDict, images: ImageSet, weights: Path) -> None:
    save_encoder(_finished_encoder(settings, branches, images), weights)


def _finished_encoder(settings: StepSettings, branches: nn.ModuleDict, images: ImageSet) -> Encoder:
    module = encoder_of(branches)
    card = ModelCard(
        encoders=(settings.config.encoder,) * len(branches),
        channels=images.channels,
        size=images.size,
        mean=settings.mean,
        std=settings.std,
        dim=dimension(module),
        views=settings.views,
        method=settings.config.method,
        superclasses=images.superclass_names,
        fingerprint=images.fingerprint,
    )
    encoder = Encoder(module.cpu().eval(), card)
    balance_parts(encoder, images)
    return encoder


def versions() -> dict[str, str]:
    """Of Python and the packages that decide numbers."""
    names = ("torch", "torchvision", "timm", "pytorch-lightning", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def hardware() -> str:
    """Processor, cores, threads in use, and accelerators."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = next((line.split(": ")[1] for line in cpuinfo.read_text().splitlines() if "model name" in line), model)
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads" + "".join(f", {name}" for name in cuda)


def commit() -> str | None:
    """The commit this package's source stands at, with + for uncommitted changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "-C", here, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(["git", "-C", here, "status", "--porcelain", "."], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None


def _write_log(path: Path, images: ImageSet, trainer: pl.Trainer) -> None:
    lines = [
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command: " + " ".join(sys.argv),
        "versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()),
        f"commit: {commit()}",
        f"hardware: {hardware()}, {type(trainer.accelerator).__name__} x {trainer.num_devices}",
        f"images: {_describe(images)}",
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
