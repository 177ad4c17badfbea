"""The demo and the paper's tables: what is run, and where."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from thanos import registry
from thanos.config.base import Settings
from thanos.names import nearest

SEEDS = 100
"""The most paired repetitions of a table."""


class DemoConfig(Settings):
    """The demonstration on scikit-learn's digits."""

    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Paired repetitions."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """Trainings side by side, the cores divided between them; default: one for each core, at most four."""
    epochs: Annotated[int, Field(ge=1)] = 60
    """Passes over the training images."""


class TableConfig(Settings):
    """What the paper's tables have in common."""

    method: tuple[str, ...] = ()
    """Rows; repeat for several. Default: all, with floors, controls and ceilings; a row brings its control."""
    seeds: Annotated[int, Field(ge=1, le=SEEDS)] = 3
    """Paired repetitions; split, images, initialisation and views follow the seed."""
    scale: str = "cpu"
    """cpu, frozen, paper-fast, resnet18, paper, or a .yaml file of the same form."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """Trainings side by side, the cores divided between them; default: one for each core, at most four; on a GPU 1."""
    root: Path | None = None
    """Where the published data sets lie; default: $THANOS_DATA, else ~/.cache/thanos/data."""
    download: bool = False
    """Fetch a published data set that is not there."""
    dry_run: bool = False
    """Print what would be run and how long the trainings take, measured on a few steps; run nothing."""


class Table3Config(TableConfig):
    """The paper's coarse-to-fine transfer experiment."""

    dataset: tuple[str, ...] = ("mnist", "cifar10", "cifar100", "cifar100-u", "tiny-imagenet")
    """Data sets, the paper's five or others by name; repeat for several."""

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if registry.dataset(name) is None:
                close = nearest(name, registry.datasets())
                raise ValueError(f"`dataset` takes a data set's name; got {name!r}{close}{registry.broken()}.")
        return names


class Table4Config(TableConfig):
    """The paper's robustness experiment, on sets anyone can build, and on CelebA and ISIC at scale frozen."""

    dataset: tuple[
        Literal[
            "dominoes-95",
            "dominoes-99",
            "coloured-digits-large",
            "coloured-digits-medium",
            "coloured-digits-small",
            "patched-cifar10",
            "rare-cifar10",
            "rare-mnist",
            "celeba",
            "isic",
        ],
        ...,
    ] = ("dominoes-95", "coloured-digits-medium", "rare-mnist", "rare-cifar10")
    """Sets; repeat for several."""


class LaunchConfig(Settings):
    """Where a plan's trainings happen."""

    launcher: Literal["here", "slurm", "local"] = "here"
    """here: on this machine, --jobs at a time. slurm: a job for each data set and seed, by submitit, on a file system
    that all machines see. local: submitit's own trial of that on this machine."""
    hours: Annotated[float, Field(gt=0)] = 24
    """Time limit of a job."""
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of a Slurm job."""
    partition: str | None = None
    """Slurm's partition."""
