"""A run directory: the one place that knows which files a run has, what they hold, and who may write there."""

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import ValidationError

from thanos import registry
from thanos.config import DataConfig, RobustMethod, TrainConfig, explain, read_yaml, save
from thanos.console import command, plain
from thanos.errors import ConfigError, OutputError
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import (
    SKIPPED,
    append,
    has_columns,
    holds,
    is_part,
    is_writable,
    parts_in,
    read_json,
    read_json_lines,
    write_csv,
    write_json,
    write_text,
)
from thanos.storage.locks import LOCK, alone, only_one
from thanos.storage.manifest import FOLDER, seal
from thanos.storage.schemas import LoggedLine, RunData, RunMetrics

if TYPE_CHECKING:
    from torch import nn

    from thanos.data.samples import Samples

State = Literal["new", "unfinished", "finished"]
Weights = Literal["last", "best"]

_IDENTIFIES = holds("name", "images", "size", "channels", "counts", "subclasses", "groups", "fingerprint", "skipped")
"""Whether a file is the data.json of a run."""


ROBUST = tuple(f"robust-{method}" for method in ("portfolio", *get_args(RobustMethod)))
"""What thanos robust calls its classifiers."""


def newest_first(files: Iterable[Path]) -> list[Path]:
    """Those that are there."""
    return sorted((file for file in files if file.is_file()), key=lambda file: -file.stat().st_mtime_ns)


@dataclass(frozen=True)
class RunDir:
    """The files of a run, what they say, and the state that it is in."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """Every setting, as YAML that ``--config`` takes; written last at the start, as the mark that all is there."""
        return self.path / "config.yaml"

    @property
    def data_file(self) -> Path:
        """Counts, names and the fingerprint of the images."""
        return self.path / "data.json"

    @property
    def skipped(self) -> Path:
        """The images that were left out, with the reason for each."""
        return self.path / "skipped.csv"

    @property
    def log(self) -> Path:
        """When, by which command, with which versions and on what the run went on."""
        return self.path / "run.log"

    @property
    def lines(self) -> Path:
        """Every logged number, a line of JSON each, as it trains."""
        return self.path / "metrics.jsonl"

    @property
    def metrics_file(self) -> Path:
        """Final numbers with definitions; where it is there, the run is finished."""
        return self.path / "metrics.json"

    @property
    def checkpoint(self) -> Path:
        """The state of the training, to go on from."""
        return self.path / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the best epoch, until the run is finished."""
        return self.path / "best.ckpt"

    def weights(self, which: Weights = "last") -> Path:
        """The encoder's weights of the last epoch, or of the best one."""
        return self.path / ("model.safetensors" if which == "last" else "best.safetensors")

    def facts(self, which: Weights = "last") -> Path:
        """The facts beside those weights."""
        return self.weights(which).with_suffix(".json")

    def classifier(self, which: Weights = "last") -> Path:
        """The superclass classifier on those weights' embeddings, where one encoder has one."""
        return self.path / ("classifier.npz" if which == "last" else "best-classifier.npz")

    def classifiers(self, which: Weights = "last") -> list[Path]:
        """Those that thanos robust made of the run, the newest first; else the one that training left, if it did."""
        own = [self.classifier(which)]
        return newest_first(self.outcome(name, ".npz", which) for name in ROBUST) or [f for f in own if f.is_file()]

    def outcome(self, name: str, suffix: str, which: Weights = "last") -> Path:
        """What is made of the run's own images and of those weights: embeddings.npz, subclasses-best.csv, ..."""
        return self.path / f"{name}{'' if which == 'last' else '-best'}{suffix}"

    def embeddings(self, which: Weights = "last") -> Path:
        """The embeddings of the run's own images."""
        return self.outcome("embeddings", ".npz", which)

    @property
    def is_run(self) -> bool:
        """Whether a run was begun here."""
        return self.settings_file.is_file() and _IDENTIFIES(self.data_file)

    @property
    def has_weights(self) -> bool:
        """Whether there is something to embed with."""
        return self.weights("last").is_file() or self.weights("best").is_file()

    @property
    def is_finished(self) -> bool:
        """Whether its training came to its end."""
        return self.metrics_file.is_file()

    def settings(self) -> dict[str, Any]:
        """What config.yaml says; a setting that is no longer one is let through.

        Raises:
            ConfigError: if it is missing, no YAML, or says what cannot be meant.
        """
        content = read_yaml(self.settings_file, wanted="the settings of a run")
        try:
            TrainConfig.model_validate({key: each for key, each in content.items() if key in TrainConfig.model_fields})
        except ValidationError as error:
            raise ConfigError(f"{self.settings_file}: {explain(error)}") from None
        return content

    def data(self) -> dict[str, Any]:
        """What data.json says; empty where it is missing.

        Raises:
            DataError: if it is damaged.
        """
        return read_json(self.data_file, RunData) if self.data_file.is_file() else {}

    def metrics(self) -> dict[str, Any]:
        """What metrics.json says; empty where the run is not finished.

        Raises:
            DataError: if it is damaged.
        """
        return read_json(self.metrics_file, RunMetrics) if self.metrics_file.is_file() else {}

    def logged(self) -> list[dict[str, float]]:
        """Every logged number: a ``step`` and numbers each.

        Raises:
            DataError: if metrics.jsonl is missing, or damaged.
        """
        return read_json_lines(self.lines, LoggedLine)

    def add_metrics(self, more: dict[str, Any]) -> bool:
        """Add numbers to those of a finished run, if there is one; whether the folder lets them be kept."""
        if not is_writable(self.path):
            return False
        if self.is_finished:
            with alone(self.metrics_file):  # another command may add its own
                write_json(self.metrics_file, self.metrics() | more)
        return True

    def command(self) -> str:
        """The command that it was started by, as its log has it."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines() if self.log.is_file() else []
        typed = [line.removeprefix("command: ") for line in lines if line.startswith("command: thanos ")]
        return typed[0] if typed else f"thanos train --config {self.settings_file} --out {self.path}"

    def seal(self) -> None:
        """Write down how the files are that training left: from here on one that is otherwise is not believed."""
        ways: tuple[Weights, ...] = ("last", "best")
        files = [self.settings_file, self.data_file, self.skipped, self.log, self.lines, self.metrics_file]
        files += [self.checkpoint, *(f(which) for f in (self.weights, self.facts, self.classifier) for which in ways)]
        seal(self.path, files, f"thanos train --config {FOLDER}/config.yaml --out NEW", write_text)

    def only_one(self) -> AbstractContextManager[None]:
        """Keep other commands out while one trains here.

        Raises:
            OutputError: if another is at work here.
        """
        return only_one(self.path, "out")

    def clear_lock(self) -> None:
        """Remove the lock that a killed command left; one that is held stays."""
        if (self.path / LOCK).exists():
            with suppress(OutputError), self.only_one():
                pass

    def check_free(self) -> bool:
        """Whether a run of any kind is here already, as far as that shows without its images.

        Raises:
            OutputError: if the folder holds anything else, be it a hidden file, or cannot be written.
        """
        out = self.path
        if out.is_symlink() and not out.exists():
            raise OutputError(f"`out` takes a folder; {out} is a link to {out.readlink()}, which is not there.")
        if out.exists() and not out.is_dir():
            raise OutputError(f"`out` takes a folder; {out} is a file. Name another `out`.")
        if not is_writable(out):
            raise OutputError(f"{out} cannot be written. Name another `out`.")
        if not out.exists():
            return False
        foreign = [path.name for path in sorted(out.iterdir()) if not _left_by_a_start(path)]
        if not foreign:
            return False
        if self.is_run:
            return True
        raise OutputError(
            f"`out` takes a new or empty folder, or this run's own; {out} holds {', '.join(foreign[:3])}"
            f"{f' and {len(foreign) - 3} more' if len(foreign) > 3 else ''}. Name another `out`."
        )

    def state(self, config: TrainConfig, images: "Samples", *, first: bool = True) -> State:
        """Whether it is free, or holds this very run; ``config`` has its augmentation filled in.

        Of several processes those that are not the ``first`` may see what it is writing just now: they look at
        settings alone, and images are compared between processes.

        Raises:
            OutputError: if it holds anything else; the message shows the difference.
        """
        if (not first and not self.settings_file.is_file()) or not self.check_free():
            return "new"
        usual = type(config).model_construct().model_dump(mode="json")  # what that run did not know had its default
        there, here = usual | self.settings(), kept_settings(config).model_dump(mode="json")
        data = set(DataConfig.model_fields)
        known, drawn = self.data(), images.view_settings
        there, here = there | {key: known.get(key) for key in drawn}, here | drawn
        fingerprint = known["fingerprint"]
        if first and fingerprint != images.fingerprint:
            shown = _differences(there, here, [key for key in here if key in data])
            raise OutputError(
                f"{self.path} was trained on other images ({shown or f'fingerprint {fingerprint[:8]} there'}"
                f"{'' if shown else f', {images.fingerprint[:8]} here'}). Name another `out`; to go on with that run: "
                f"thanos train --config {self.settings_file} --out {self.path}"
            )
        shown = _differences(there, here, [key for key in here if key not in data])
        if shown:
            raise OutputError(
                f"{self.path} holds another run ({shown}). Name another `out`, or use the same settings to go on."
            )
        return "finished" if self.is_finished else "unfinished"

    def check_space(self, branches: "nn.Module") -> None:
        """Room for three checkpoints of weights and AdamW's two moments, and for the exported weights.

        Raises:
            OutputError: if there is none; nothing has been written then.
        """
        weights = sum(p.numel() * p.element_size() for p in branches.parameters())
        wanted = weights * 3 * 3 + weights * 2 + 2**20
        parent = next(p for p in (self.path, *self.path.resolve().parents) if p.exists())
        free = shutil.disk_usage(parent).free
        if wanted > free:
            raise OutputError(
                f"this run writes up to {wanted / 2**20:,.0f} MB to {self.path}; {free / 2**20:,.0f} MB are free. Free "
                f"some space, or name an `out` on another disk."
            )

    def write_start(self, config: TrainConfig, images: "Samples") -> None:
        """Write what identifies the run."""
        from thanos.data.files import manifest

        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.data_file, manifest(images) + "\n")
        if images.skipped:
            write_csv(self.skipped, [SKIPPED, *images.skipped])
        save(kept_settings(config), self.settings_file)

    def note_the_place(self, config: TrainConfig) -> None:
        """Keep where the run's images lie now, if they are gone from where they were."""
        there = str(self.settings()["data"])
        if registry.dataset(there) is None and not Path(there).exists():
            save(kept_settings(config), self.settings_file)

    def clear_leftovers(self) -> None:
        """Remove the half-written files of a killed run."""
        for leftover in parts_in(self.path):
            leftover.unlink()

    def write_log(self, accelerators: str, images: str) -> None:
        """Append when, by which command, with which versions and on what the run goes on."""
        lines = [
            time.strftime("%Y-%m-%d %H:%M:%S %z"),
            f"command: {plain(command())}",
            *(f"{key}: {value}" for key, value in _exactness(accelerators).items()),
            f"commit: {commit()}",
            f"images: {images}",
        ]
        append(self.log, "\n".join(lines) + "\n")

    def moved(self, accelerators: str) -> list[str]:
        """What the bytes of a training depend on and that is otherwise here than where it last went on, in words."""
        text = self.log.read_text("utf-8", errors="replace") if self.log.is_file() else ""
        there = dict(line.partition(": ")[::2] for line in text.splitlines())  # of each the last
        here = _exactness(accelerators)
        return [f"{there[key]} then, {here[key]} now" for key in here if there.get(key, here[key]) != here[key]]


def _exactness(accelerators: str) -> dict[str, str]:
    """What decides the last bits of a training, beside its settings and images."""
    named = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {"versions": named, "hardware": f"{hardware()}, {accelerators}"}


def _left_by_a_start(path: Path) -> bool:
    """Whether it is what a start leaves that was killed before it wrote config.yaml."""
    if path.is_symlink() or not path.is_file():
        return False
    whole: dict[str, Callable[[Path], bool]] = {
        "data.json": _IDENTIFIES,
        "skipped.csv": has_columns(SKIPPED),
        LOCK: lambda file: not file.stat().st_size,
    }
    return whole[path.name](path) if path.name in whole else is_part(path)


def _differences(there: dict[str, Any], here: dict[str, Any], keys: list[str]) -> str:
    """The first three settings that differ, nested ones by their full name."""
    found = []
    for key in keys:
        before, now = there.get(key), here[key]
        if isinstance(before, dict) and isinstance(now, dict):
            found += [f"{key}.{k} {before.get(k)!r} there, {now[k]!r} here" for k in now if before.get(k) != now[k]]
        elif before != now:
            found.append(f"{key} {before!r} there, {now!r} here")
    return ", ".join(found[:3])


def kept_settings(config: TrainConfig) -> TrainConfig:
    """The settings with whole paths, so that the run can be used from any folder."""
    changes: dict[str, Any] = {}
    if registry.dataset(config.data) is None:
        changes["data"] = str(Path(config.data).resolve())
    for name in ("groups_from", "groups_named", "labels", "pretrained"):
        if isinstance(path := getattr(config, name), Path):
            changes[name] = path.resolve()
    return config.model_copy(update=changes)


class Start:
    """What a command makes on its way to a run directory, so that a failure can take back that and nothing else."""

    LOGGERS = ("tensorboard", "wandb")
    """Folders that loggers make in it."""

    def __init__(self, run: RunDir):
        self._run = run
        self._made = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
        self._begun = False

    def begin(self) -> None:
        """From here on the run writes into the folder, which :meth:`RunDir.check_free` found to hold nothing else."""
        self._begun = True

    def take_back(self) -> None:
        """Remove what was made, as far as that goes; that something stays is not worth hiding why the start failed."""
        run = self._run
        if self._begun:  # the files of a run that has not come to its first checkpoint
            written = (run.settings_file, run.data_file, run.skipped, run.log, run.lines, run.best_checkpoint)
            for file in (*written, run.path / LOCK, *parts_in(run.path)):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            for name in self.LOGGERS:
                shutil.rmtree(run.path / name, ignore_errors=True)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()
