"""The run directory: who owns it, what a run writes at its start, and what a later command may do with it."""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thanos.config import DataConfig, TrainConfig, read_yaml, save
from thanos.console import plain
from thanos.data.files import manifest
from thanos.data.imageset import ImageSet
from thanos.errors import OutputError
from thanos.names import DATASETS
from thanos.provenance import command, commit, hardware, versions
from thanos.storage import LOCK, SKIPPED, begins, holds, is_part, is_writable, parts_in, write_csv, write_text

if TYPE_CHECKING:
    from torch import nn

State = Literal["new", "unfinished", "finished"]


_IDENTIFIES = holds("name", "counts", "fingerprint")
"""Whether a file is the data.json of a run."""


def check_place(out: Path) -> bool:
    """Whether a run of any kind is there already, as far as that shows without its images.

    Raises:
        OutputError: if ``out`` holds anything else, be it a hidden file, or cannot be written.
    """
    if out.is_symlink() and not out.exists():
        raise OutputError(f"--out takes a folder; {out} is a link to {out.readlink()}, which is not there.")
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out takes a folder; {out} is a file. Name another --out.")
    if not is_writable(out):
        raise OutputError(f"{out} cannot be written. Name another --out.")
    if not out.exists():
        return False
    there = sorted(out.iterdir())
    foreign = [path.name for path in there if not _left_by_a_start(path)]
    if not foreign:
        return False
    if "config.yaml" in foreign and _IDENTIFIES(out / "data.json"):
        return True
    raise OutputError(
        f"--out takes a new or empty folder, or this run's own; {out} holds {', '.join(foreign[:3])}"
        f"{f' and {len(foreign) - 3} more' if len(foreign) > 3 else ''}. Name another --out."
    )


def _left_by_a_start(path: Path) -> bool:
    """Whether it is what a start leaves that was killed before it wrote config.yaml."""
    if path.is_symlink() or not path.is_file():
        return False
    whole = {
        "data.json": _IDENTIFIES,
        "skipped.csv": begins(",".join(SKIPPED)),
        LOCK: lambda file: not file.stat().st_size,
    }
    return whole[path.name](path) if path.name in whole else is_part(path)


class Start:
    """What a command makes on its way to a run directory, so that a failure can take back that and nothing else."""

    WRITTEN = ("config.yaml", "data.json", "skipped.csv", "run.log", "metrics.jsonl", "best.ckpt", LOCK)
    """Files of a run that has not come to its first checkpoint."""
    LOGGERS = ("tensorboard", "wandb")
    """Folders that loggers make in it."""

    def __init__(self, out: Path):
        self._out = out
        self._made = [folder for folder in (out, *out.parents) if not folder.exists()]
        self._begun = False

    def begin(self) -> None:
        """From here on the run writes into the folder, which :func:`check_place` found to hold nothing else."""
        self._begun = True

    def take_back(self) -> None:
        """Remove what was made, as far as that goes; that something stays is not worth hiding why the start failed."""
        if self._begun:
            for file in (*(self._out / name for name in self.WRITTEN), *parts_in(self._out)):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            for name in self.LOGGERS:
                shutil.rmtree(self._out / name, ignore_errors=True)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()


def check_folder(out: Path, config: TrainConfig, images: ImageSet, *, first: bool = True) -> State:
    """Whether ``out`` is free, or holds this very run; ``config`` has its augmentation filled in.

    Of several processes those that are not the ``first`` may see what it is writing just now: they look at settings
    alone, and images are compared between processes.

    Raises:
        OutputError: if it holds anything else; the message shows the difference.
    """
    if not first and not (out / "config.yaml").is_file():
        return "new"
    if not check_place(out):
        return "new"
    usual = type(config).model_construct().model_dump(mode="json")  # a setting that run did not know had its default
    there, here = (
        usual | read_yaml(out / "config.yaml", wanted="the settings of a run"),
        kept_settings(config).model_dump(mode="json"),
    )
    data = set(DataConfig.model_fields)
    fingerprint = json.loads((out / "data.json").read_text("utf-8"))["fingerprint"]
    if first and fingerprint != images.fingerprint:
        shown = _differences(there, here, [key for key in here if key in data])
        raise OutputError(
            f"{out} was trained on other images ({shown or f'fingerprint {fingerprint[:8]} there'}"
            f"{'' if shown else f', {images.fingerprint[:8]} here'}). Name another --out; to go on with that run: "
            f"thanos train --config {out / 'config.yaml'} --out {out}"
        )
    shown = _differences(there, here, [key for key in here if key not in data])
    if shown:
        raise OutputError(f"{out} holds another run ({shown}). Name another --out, or use the same settings to go on.")
    return "finished" if (out / "metrics.json").is_file() else "unfinished"


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


def check_space(out: Path, branches: "nn.Module") -> None:
    """Room for three checkpoints of weights and AdamW's two moments, and for the exported weights.

    Raises:
        OutputError: if there is none; nothing has been written then.
    """
    weights = sum(p.numel() * p.element_size() for p in branches.parameters())
    wanted = weights * 3 * 3 + weights * 2 + 2**20
    parent = next(p for p in (out, *out.resolve().parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if wanted > free:
        raise OutputError(
            f"this run writes up to {wanted / 2**20:,.0f} MB to {out}; {free / 2**20:,.0f} MB are free. Free some "
            f"space, or name an --out on another disk."
        )


def start_folder(out: Path, config: TrainConfig, images: ImageSet) -> None:
    """Write what identifies the run; config.yaml last, as the mark that all is there."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "data.json", manifest(images) + "\n")
    if images.skipped:
        write_skipped(out / "skipped.csv", images)
    save(kept_settings(config), out / "config.yaml")


def note_the_place(out: Path, config: TrainConfig) -> None:
    """Keep where a run's images lie now, if they are gone from where they were."""
    there = str(read_yaml(out / "config.yaml")["data"])
    if there not in DATASETS and not Path(there).exists():
        save(kept_settings(config), out / "config.yaml")


def kept_settings(config: TrainConfig) -> TrainConfig:
    """The settings with whole paths, so that the run can be used from any folder."""
    changes: dict[str, Any] = {}
    if config.data not in DATASETS:
        changes["data"] = str(Path(config.data).resolve())
    for name in ("groups_from", "groups_named", "labels", "pretrained"):
        if isinstance(path := getattr(config, name), Path):
            changes[name] = path.resolve()
    return config.model_copy(update=changes)


def write_skipped(path: Path, images: ImageSet) -> None:
    """The images left out by --skip-bad, with the reason for each."""
    write_csv(path, [SKIPPED, *images.skipped])


def clear_leftovers(out: Path) -> None:
    """Half-written files of a killed run."""
    for leftover in parts_in(out):
        leftover.unlink()


def write_log(path: Path, accelerators: str, images: str) -> None:
    """Append when, by which command, with which versions and on what the run goes on."""
    lines = [
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        f"command: {plain(command())}",
        "versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()),
        f"commit: {commit()}",
        f"hardware: {hardware()}, {accelerators}",
        f"images: {images}",
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
