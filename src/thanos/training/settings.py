"""What a configuration leaves to the data: augmentation, normalisation, alpha with its window; and what will not do."""

import math

import numpy as np
import torch
from torch import Generator

from thanos import registry
from thanos.config import TrainConfig, ViewSpec
from thanos.data.batches import BatchOrder, Sampling
from thanos.data.samples import Samples
from thanos.encoders.pretrained import preprocessing
from thanos.errors import ConfigError
from thanos.methods.alpha import AlphaWindow, solve_alpha
from thanos.methods.branch import StepSettings
from thanos.training.groups import TrainingGroups
from thanos.views import random_views


def resolve_settings(
    config: TrainConfig, images: Samples, processes: int = 1
) -> tuple[StepSettings, AlphaWindow | None]:
    """Fill in what depends on the data: augmentation, normalisation, alpha with its window.

    Pretrained weights get images normalised as those were that they learned from. The loss is over the batches of all
    processes, and so is the window.

    Raises:
        ConfigError: if alpha = auto (or follow) has no solution here.
    """
    views = images.views_with(config.views)
    window, alpha = None, 0.0
    if registry.method(config.method).spreads:
        superclasses = len(np.unique(images.superclass[images.rows_to_train_on()]))
        try:
            batch = config.batch * processes
            window = solve_alpha(superclasses, batch, config.temperature, config.within_class_cosine)
        except ValueError as error:
            if isinstance(config.alpha, str):
                raise ConfigError(str(error)) from None
        alpha = window.alpha if isinstance(config.alpha, str) and window else float(config.alpha)
    if config.pretrained and images.size is not None:
        mean, std = preprocessing(config.encoder).normalisation(images.channels)
    else:
        mean, std = images.mean_std
    return StepSettings(config=config, alpha=alpha, views=views, mean=mean, std=std), window


def completed(config: TrainConfig, settings: StepSettings) -> TrainConfig:
    """The configuration with its augmentation filled in; that of vectors stands with them, in data.json."""
    return config.model_copy(update={"views": settings.views}) if isinstance(settings.views, ViewSpec) else config


def describe_alpha(
    settings: StepSettings, window: AlphaWindow | None, images: Samples, processes: int = 1
) -> list[str]:
    """What alpha is and why; a warning where a given alpha lies outside its window."""
    if window is None:
        return []
    config, alpha = settings.config, settings.alpha
    where = (
        f"superclasses collapse below {window.collapse:.3f}, dissolve above {window.dissolve:.3f} (for "
        f"{len(images.superclass_names)} of them, "
        f"batch {config.batch}{f' x {processes} processes' if processes > 1 else ''}, temperature "
        f"{config.temperature:g})"
    )
    how = {"auto": " (auto)", "follow": f" at first, then towards a measured cosine of {config.within_class_cosine:g}"}
    lines = [f"alpha {alpha:.3f}{how.get(str(config.alpha), '')} · {where}"]
    if config.released_loss:
        return [*lines, "these bounds are those of the unclipped loss; the released one does not collapse"]
    if alpha < window.collapse:
        lines.append(f"warning: at alpha {alpha:.3f} superclasses collapse; raise it or use auto.")
    if alpha > window.dissolve:
        lines.append(f"warning: at alpha {alpha:.3f} superclasses dissolve; lower it or use auto.")
    return lines


def batch_order(config: TrainConfig, images: Samples, groups: TrainingGroups | None, world: int = 1) -> BatchOrder:
    """Which images make which batch, over all ``world`` processes.

    Raises:
        ConfigError: if they are larger than the training data.
    """
    rows = images.rows_to_train_on()
    if config.batch * world > len(rows):
        processes = f" for each of {world} processes" if world > 1 else ""
        raise ConfigError(
            f"`batch` takes at most the {len(rows) // world} training {images.kind} of {images.name}{processes}; got "
            f"{config.batch}. Pass `batch={2 ** int(math.log2(max(2, len(rows) // world // 4)))}`."
        )
    label = groups.ids[rows] if groups and config.sampling == "group-balanced" else images.superclass[rows]
    sampling: Sampling = "shuffled" if config.sampling == "shuffled" else "balanced"
    return BatchOrder(label, config.batch * world, config.seed, sampling)


LONELY = 0.2
"""Share of images without another of their superclass in their batch that is worth a warning."""
LOOKED_AT = 20
"""Batches that are counted, and images that are augmented twice."""


def warn_of_batches(settings: StepSettings, images: Samples, order: BatchOrder) -> list[str]:
    """Warnings, each with its remedy: views that are all alike, anchors whose own views are their only positives."""
    config, warnings = settings.config, []
    method = registry.method(config.method)
    if not method.contrasts:
        return []
    rows = images.rows_to_train_on()
    pixels = torch.from_numpy(np.ascontiguousarray(images.values[rows[:LOOKED_AT]]))
    rng = Generator().manual_seed(config.seed)
    views = random_views(pixels, settings.views, rng, count=2, mean=settings.mean, std=settings.std)
    if torch.equal(views[0], views[1]):
        warnings.append(
            f"warning: dead views: the two views of these {images.kind} are the same, so nothing is learned from "
            f"contrasting them; {images.livelier}."
        )
    if method.sees_labels:
        count = min(LOOKED_AT, order.batches_per_epoch)
        kinds = [images.superclass[rows[order.rows(k)]] for k in range(count)]
        lonely = float(np.mean([(np.bincount(kind)[kind] == 1).mean() for kind in kinds]))
        if lonely > LONELY:
            warnings.append(
                f"warning: anchors without positives: {lonely:.0%} of the {images.kind} meet no other of their "
                f"superclass in a batch, so little draws superclasses together; a larger `batch`, or fewer "
                f"superclasses."
            )
    return warnings
