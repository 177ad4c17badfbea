"""What training knows of groups: their ids among the training images, and the loss that looks at them."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thanos.config import TrainConfig
from thanos.data.labels import UNKNOWN
from thanos.data.samples import Samples
from thanos.errors import ConfigError, DataError, MissingLabels
from thanos.names import nearest
from thanos.objective.robust import GroupDRO, GroupWeighted


@dataclass(frozen=True)
class TrainingGroups:
    """Groups that have training images, numbered without gaps."""

    ids: NDArray[np.int64]
    """Of every image of the set, shape (n,); UNKNOWN in groups without training images."""
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Training images."""
    loss: nn.Module | None

    def losses(self, branches: nn.ModuleDict) -> nn.ModuleDict | None:
        """One for each branch: two encoders side by side train as each would alone."""
        return None if self.loss is None else nn.ModuleDict({name: copy.deepcopy(self.loss) for name in branches})

    def facts(self, losses: nn.ModuleDict | None) -> dict[str, Any]:
        """For the run's record; GroupDRO's last weights by branch."""
        facts: dict[str, Any] = {"training_images": dict(zip(self.names, self.sizes, strict=True))}
        weights = {
            branch: dict(zip(self.names, loss.weights.tolist(), strict=True))
            for branch, loss in (losses or {}).items()
            if isinstance(loss, GroupDRO)
        }
        return facts | ({"weights": weights} if weights else {})


def training_groups(config: TrainConfig, images: Samples) -> TrainingGroups | None:
    """None where training does not look at groups.

    Raises:
        MissingLabels: if it does and they are not known.
        DataError: if a training image has none, or a group has no validation image and is watched there.
        ConfigError: for a weight of a group that does not exist.
    """
    if not config.looks_at_groups:
        return None
    if images.group is None:
        raise MissingLabels(
            f"`robust`, `sampling=group-balanced` and `select=worst-group` work on groups, and {images.name} has none. "
            f"Add a column group, or find some: thanos discover."
        )
    rows = images.rows_to_train_on()
    mine = images.group[rows]
    if (mine < 0).any():
        raise DataError(
            f"training looks at the group of every image; {int((mine < 0).sum())} of {len(mine)} training images of "
            f"{images.name} have none. Label them, or leave them out."
        )
    kinds, sizes = np.unique(mine, return_counts=True)
    place = np.full(len(images.group_names), UNKNOWN, dtype=np.int64)
    place[kinds] = np.arange(len(kinds))
    ids = np.where(images.group >= 0, place[images.group], UNKNOWN)
    names = tuple(images.group_names[kind] for kind in kinds)
    absent = np.setdiff1d(np.arange(len(kinds)), ids[images.rows("validation")])
    if config.select == "worst-group" and len(absent):
        raise DataError(
            f"`select=worst-group` watches every group on validation images, and {names[absent[0]]!r} has none there. "
            f"Hold out more, merge small groups, or pass `select=worst-class`."
        )
    return TrainingGroups(ids, names, tuple(sizes.tolist()), _loss(config, names, torch.from_numpy(sizes)))


def _loss(config: TrainConfig, names: tuple[str, ...], sizes: torch.Tensor) -> nn.Module | None:
    if config.robust == "groupdro":
        return GroupDRO(sizes, step=config.group_step, adjustment=config.group_adjustment)
    if config.robust == "reweight":
        return GroupWeighted(1 / sizes.double(), sizes)
    if config.robust == "weighted":
        for name in config.group_weight:
            if name not in names:
                raise ConfigError(f"`group_weight` names {name!r}, which is no group{nearest(name, names)}.")
        return GroupWeighted(torch.tensor([config.group_weight.get(n, 1.0) for n in names], dtype=torch.float64), sizes)
    return None
