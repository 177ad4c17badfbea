"""The settings of a training that its user left open, each with a reason that is printed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from thanos.config import AutoTrainConfig, DataConfig, TrainConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load, load_together

STEPS = 1500
"""About so many steps, and no fewer or more epochs than these."""
FEWEST, MOST = 20, 200
LARGEST = {"cpu": 64, "cuda": 224}
"""Pixels a side beyond which images are scaled down, by device."""


@dataclass
class Choices:
    """Settings with their reasons."""

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def choose(self, name: str, value: Any, reason: str) -> None:
        self.settings[name] = value
        self.reasons.append(f"`{name}={value}`: {reason}")


def load_suitably(config: DataConfig) -> tuple[ImageSet, Choices]:
    """The images, at a size that this machine trains on in reasonable time, in one mode."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    largest, choices = LARGEST[device], Choices()
    where = "a GPU" if device == "cuda" else "a CPU"
    images, changes = load_together(config)
    if "size" in changes:
        side = min(images.size[0], largest)
        choices.choose("size", side, f"images of several sizes; their median shorter side, at most {largest}")
    elif config.size is None and max(images.size) > largest:
        choices.choose("size", largest, f"images of {images.size[0]}x{images.size[1]} are slow on {where}")
    if "convert" in changes:
        choices.settings["convert"] = True
        choices.reasons.append("`convert`: images of several modes")
    size = choices.settings.get("size")
    if size is not None and images.size != (size, size):
        images = load(config.model_copy(update=choices.settings))
    return images, choices


def settle(
    given: AutoTrainConfig,
    data: DataConfig,
    images: ImageSet,
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
    if method is None:
        method = "thanos"
        choices.reasons.append("`train_method=thanos`: keeps what a superclass's images differ in, by two encoders")
    if "encoder" not in asked:
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
        why = "the paper's" if batch == 128 else f"{train // max(1, batch)} steps an epoch on {train:,} training images"
        choices.choose("batch", batch, why)
    batch = asked.get("batch", choices.settings.get("batch", 128))
    if "epochs" not in asked:
        epochs = max(FEWEST, min(MOST, round(STEPS / max(1, train // batch))))
        choices.choose("epochs", epochs, f"{epochs * max(1, train // batch):,} steps over {train:,} training images")
    settings = data.model_dump(exclude_unset=True) | choices.settings | asked | {"pretrained": pretrained}
    return TrainConfig(**settings, method=method, seed=seed)
