"""What watches a run: the metrics file, the progress line, the watch on the spread, the keeping of its state."""

import io
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from tqdm import tqdm

from thanos.config import DataConfig, TrainConfig
from thanos.data.batches import BatchLoader
from thanos.errors import ConfigError, Interrupted, NextBatchLost
from thanos.evaluate.diagnose import State, diagnose
from thanos.registry import MethodSpec
from thanos.storage import append, write_atomically, write_text
from thanos.training.module import TrainingModule

FORMED = 100
"""Steps before which nobody expects superclasses to have formed."""
IN_A_ROW = 5
"""Times that a state must be seen, one after the other, before it is announced."""


class SameRun(Callback):
    """Before the first step, all processes hold their images, labels and settings against the first one's."""

    def __init__(self, fingerprint: str, config: TrainConfig):
        settings = config.model_dump(mode="json", exclude={*DataConfig.model_fields, "groups_from", "groups_named"})
        self._mine = {"images or labels": fingerprint} | {f"`{k}`": v for k, v in settings.items()}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        first = trainer.strategy.broadcast(self._mine)
        differs = [name for name, value in self._mine.items() if first[name] != value]
        if not trainer.strategy.reduce_boolean_decision(not differs, all=True):
            where = f"process {trainer.global_rank} has other {' and '.join(differs)} than the first" if differs else ""
            raise ConfigError(
                f"the processes of this run differ in their images, labels or settings{': ' if where else ''}{where}. "
                f"Give every machine the same command and the same data."
            )


class MetricsFile(Callback):
    """Every logged number as a line of JSON, as it comes; written before a checkpoint could be.

    Checkpoints hold all lines up to theirs: a run that goes on believes them and not the file, which may be cut short,
    or run on beyond the checkpoint.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lines: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        return {"lines": self._lines}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lines = list(state_dict["lines"])

    @property
    def final(self) -> dict[str, float]:
        """The last value of every number."""
        values: dict[str, float] = {}
        for line in self._lines:
            values |= json.loads(line)
        values.pop("step", None)
        return values

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self._write(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(pl_module)

    def _write(self, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if module.latest:
            measured = {name: float(value) for name, value in module.latest.items()}
            values = {name: value for name, value in measured.items() if math.isfinite(value)}  # JSON has no NaN
            self._lines.append(json.dumps({"step": module.batches_done, **values}))
            if module.global_rank == 0:
                append(self._path, self._lines[-1] + "\n")
        module.latest.clear()

    def write_anew(self) -> None:
        """The file as the checkpoint has it, or empty."""
        write_text(self._path, "".join(line + "\n" for line in self._lines))


FORESEEN = 20
"""Steps after which the time that is left can be told."""


class Progress(Callback):
    """One live line on a terminal; elsewhere a plain line after some steps and every eighth of the way."""

    def __init__(self, batch: int):
        self._batch = batch
        self._bar: Any = None
        self._started = self._first = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_rank > 0:
            return
        self._total = int(trainer.num_training_batches)
        self._start_step = self._done(trainer)
        self._started = time.perf_counter()
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total,
                initial=self._start_step,
                dynamic_ncols=True,
                leave=False,
                bar_format="{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}",
            )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_rank > 0:
            return
        done = self._done(trainer) + 1
        if self._bar is not None:
            if time.perf_counter() - self._first > 0.5 or done == self._total:
                self._first = time.perf_counter()
                self._bar.set_postfix_str(self._numbers(trainer, pl_module, done), refresh=False)
                self._bar.update(done - self._bar.n)
        elif done * 8 // self._total > (done - 1) * 8 // self._total or done == self._start_step + FORESEEN:
            spent = time.perf_counter() - self._started
            left = spent / max(1, done - self._start_step) * (self._total - done)
            tqdm.write(
                f"step {done:,}/{self._total:,} · {self._numbers(trainer, pl_module, done)} · {left:,.0f} s left",
                file=sys.stderr,
            )

    def _numbers(self, trainer: pl.Trainer, module: pl.LightningModule, done: int) -> str:
        assert isinstance(module, TrainingModule)
        shown = {
            "train/loss": "loss",
            "spread/within": "cosine within superclasses of a batch",
            "validation/superclass_accuracy": "neighbours' accuracy",
        }
        values = module.newest
        parts = [f"{label} {float(values[name]):.3f}" for name, label in shown.items() if name in values]
        rate = (done - self._start_step) * self._batch * trainer.world_size / (time.perf_counter() - self._started)
        return " · ".join([*parts, f"{rate:,.0f} img/s"])

    @staticmethod
    def _done(trainer: pl.Trainer) -> int:
        return int(trainer.fit_loop.epoch_loop.batch_progress.total.completed)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()


class SpreadWatch(Callback):
    """Says, once, when all embeddings are equal, a superclass has collapsed or the superclasses dissolve.

    Must come before MetricsFile.

    Args:
        corrected: Whether alpha follows the spread, which may take half of the training.
    """

    def __init__(self, method: MethodSpec, say: Callable[[str], None], *, corrected: bool = False):
        self._compares_classes, self._remedy, self._corrected = method.attracts, method.spreads, corrected
        self._say = say
        self.said: dict[str, str] = {}
        """Of each state that was announced, the line."""
        self._in_a_row: dict[str, int] = {"equal": 0, "collapsed": 0, "dissolved": 0}

    @property
    def standing(self) -> list[str]:
        """The lines whose state was there to the last."""
        return [line for state, line in self.said.items() if self._in_a_row[state]]

    def state_dict(self) -> dict[str, Any]:
        return {"said": self.said, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.said, self._in_a_row = state_dict["said"], state_dict["in_a_row"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, TrainingModule)
        measured = pl_module.latest
        if "spread/within" not in measured or trainer.global_rank > 0:
            return
        step, total = pl_module.batches_done, int(trainer.num_training_batches)
        within, between, largest = (
            float(measured[f"spread/{name}"]) for name in ("within", "between", "within_largest")
        )
        states = diagnose(within, between, largest)
        for each, line in self._lines(step, within, between, largest).items():
            # before some way into the training, superclasses have not formed yet
            late = each == "dissolved" or (each == "collapsed" and self._corrected)
            due = step > (max(total / 2, FORMED) if late else total / 10)
            holds = each in states and due and (self._compares_classes or each == "equal")
            self._in_a_row[each] = self._in_a_row[each] + 1 if holds else 0
            if self._in_a_row[each] >= IN_A_ROW and each not in self.said:
                self.said[each] = line
                self._say(line)

    def _lines(self, step: int, within: float, between: float, largest: float) -> dict[State, str]:
        raise_it, lower_it = (
            ("; raise `alpha`", "; lower `alpha`, or train longer") if self._remedy else (" (SupCon does this)", "")
        )
        return {
            "equal": f"all embeddings are equal at step {step:,} (cosine {between:.3f} between superclasses), and the "
            f"loss stays where that puts it; lower `learning_rate`, raise `warmup`, and look at the images",
            "collapsed": f"a superclass has collapsed at step {step:,}: the cosine within it is {largest:.3f}, so its "
            f"subclasses cannot be told apart{raise_it}",
            "dissolved": f"superclasses dissolve at step {step:,}: the cosine within them ({within:.3f}) is hardly "
            f"above that between them ({between:.3f}){lower_it}",
        }


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, whatever file system the run lies on."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        content = io.BytesIO()  # torch.save reports a full disk as it does any fault, a plain write as one
        torch.save(checkpoint, content)
        write_atomically(Path(path), lambda file: file.write(content.getbuffer()))


class KeepState(Checkpoint):
    """Saves the state every few minutes, and on SIGINT or SIGTERM, which end the run; a second one ends it at once.

    A signal that finds the run waiting for its next batch ends it there, and so does the loss of that batch: nothing
    of a step is under way then, so the state is saved as it stands. Else it waits for the end of the step.

    Where a validation follows a batch, saving waits for its end: a run that goes on from there would not repeat it.
    As a Checkpoint it comes after all other callbacks, so what they did at that step is in the state.
    """

    def __init__(self, checkpoint: Path, minutes: float):
        self._checkpoint, self._seconds = checkpoint, minutes * 60
        self._loader: BatchLoader | None = None
        self._saved_at = 0.0
        self._before_this, self._started = 0.0, 0.0
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def seconds(self) -> float:
        """Of training up to now, with those of the runs that this one goes on from."""
        return self._before_this + (time.monotonic() - self._started if self._started else 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before_this = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._saved_at = time.monotonic()
        assert isinstance(pl_module, TrainingModule)
        assert isinstance(trainer.train_dataloader, BatchLoader)
        self._trainer, self._module, self._loader = trainer, pl_module, trainer.train_dataloader
        if threading.current_thread() is threading.main_thread():  # else whoever runs us handles signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self._received = number
        for each, handler in self._before.items():
            signal.signal(each, handler)
        if self._between_steps and self._can_save(self._trainer, self._module):
            raise self._interrupted()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Interrupted | NextBatchLost) and self._between_steps and self._module.batches_done:
            self._save(trainer)

    @property
    def _between_steps(self) -> bool:
        """Whether the next batch is awaited, by the only process: several have to agree on where they stop."""
        return self._loader is not None and self._loader.waiting and self._trainer.world_size == 1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, TrainingModule)
        if pl_module.batches_done % int(trainer.val_check_batch or 1) != 0:
            self._save_if_due(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._save_if_due(trainer, pl_module)

    @staticmethod
    def _can_save(trainer: pl.Trainer, module: TrainingModule) -> bool:
        """Gradients that wait for their step are not part of a checkpoint."""
        done = module.batches_done
        return done % trainer.accumulate_grad_batches == 0 or done == trainer.num_training_batches

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self._checkpoint)
        self._saved_at = time.monotonic()

    def _interrupted(self) -> Interrupted:
        number, kept = self._received or signal.SIGTERM, self._checkpoint.parent
        return Interrupted(
            f"stopped by {signal.Signals(number).name} at step {self._module.batches_done:,}; the same command again "
            f"goes on from there ({kept}).",
            number,
        )

    def _save_if_due(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        done = module.batches_done
        if not self._can_save(trainer, module):
            return
        stop, due = self._received is not None, time.monotonic() - self._saved_at >= self._seconds
        if trainer.world_size > 1:  # all processes must agree, so they ask each other, now and then
            if done % module.log_every != 0:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if not stop and not due:
            return
        self._save(trainer)
        if stop:
            raise self._interrupted()
