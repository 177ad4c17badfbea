"""Lightning's Trainer with our callbacks, quiet, and with its signals in order."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from thanos import registry
from thanos.config import RunConfig, TrainConfig
from thanos.data.samples import Samples
from thanos.errors import ConfigError, Interrupted, Terminated
from thanos.runs.run_dir import RunDir
from thanos.training.monitor import AtomicCheckpointIO, KeepState, MetricsFile, Progress, SameRun, SpreadWatch

Kind = TypeVar("Kind")

MONITORED = {
    "neighbours": "validation/superclass_accuracy",
    "worst-group": "validation/worst_group_accuracy",
    "worst-class": "validation/worst_class_accuracy",
}
"""The score that decides the best epoch, by ``select``."""


def set_up_torch(run: RunConfig) -> None:
    """Threads, and no advertisement of Lightning's."""
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|lightning_utilities")
    warnings.filterwarnings("ignore", category=FutureWarning)


def build_trainer(
    config: TrainConfig, images: Samples, place: RunDir, run: RunConfig, say: Callable[[str], None]
) -> pl.Trainer:
    """Lightning's Trainer with our callbacks; writes nothing yet.

    Raises:
        ConfigError: for a device, precision or logger that is not available here.
    """
    loggers, callbacks = _extra_loggers(run, place.path), _callbacks(config, images, place, run, say)
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
            logger=loggers,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            f"`accelerator={config.accelerator}` `devices={config.devices}` `precision={config.precision}` is not "
            f"available here ({reason}). Drop them, or choose others."
        ) from None


def _callbacks(
    config: TrainConfig, images: Samples, place: RunDir, run: RunConfig, say: Callable[[str], None]
) -> list[Callback]:
    best = ModelCheckpoint(
        place.path,
        filename=place.best_checkpoint.stem,
        monitor=MONITORED[config.select],
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    return [
        SameRun(images.fingerprint, config),
        SpreadWatch(registry.method(config.method), say, corrected=config.alpha == "follow"),
        MetricsFile(place.lines),
        *([] if run.quiet else [Progress(config.batch)]),
        best,
        KeepState(place.checkpoint, run.checkpoint_minutes),
    ]


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
                f"`logger={name}` needs its package; install it with `pip install thanos-repr[{name}]`."
            ) from None
    return made


def callback_of(trainer: pl.Trainer, kind: type[Kind]) -> Kind:
    """The trainer's callback of this kind."""
    return next(each for each in trainer.callbacks if isinstance(each, kind))  # type: ignore[attr-defined]


@contextmanager
def signals_handled() -> Iterator[None]:
    """Put SIGINT's and SIGTERM's handlers back, whatever is left there, and let a hard stop be an Interrupted."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit as end:  # how Lightning answers KeyboardInterrupt: a second signal, or one before the first step
        number = signal.SIGTERM if isinstance(end.__context__, Terminated) else signal.SIGINT
        raise Interrupted("stopped at once; the same command again goes on from the last checkpoint.", number) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
