"""What every method's step takes and returns: a branch (one encoder with its heads), its settings, named terms.

A step takes a branch, a batch of uint8 images (or of vectors), their superclass, the settings and a generator, and
returns named terms.
Methods that train two encoders have a step for each; which ones a name stands for is in :mod:`thanos.registry`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from thanos import registry
from thanos.config import FeatureViewSpec, TrainConfig, ViewSpec
from thanos.encoders.heads import build_decoder, build_projector
from thanos.encoders.zoo import SideBySide, build_encoder, dimension
from thanos.errors import ConfigError
from thanos.views import random_views

Terms = dict[str, Tensor]
"""Named scalars that add up to the loss, and under ``projection`` what a contrastive loss saw (views, batch, dim)."""


@dataclass(frozen=True)
class StepSettings:
    """What a step needs to know: the configuration with this run's data and alpha filled in."""

    config: TrainConfig
    alpha: float | Tensor
    views: ViewSpec | FeatureViewSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weigh: Callable[[Tensor], Tensor] | None = None
    """From the cross-entropy of each image of a batch, (batch,), to one number; None: their mean."""


class Branch(nn.Module):
    """One encoder with the heads that its steps need."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        channels: int,
        size: tuple[int, int] | None,
        superclasses: int,
        contrast: bool,
        decode: bool,
    ):
        super().__init__()
        self.encoder = build_encoder(config.encoder, channels=channels, size=size, pretrained=config.pretrained)
        dim = dimension(self.encoder)
        if contrast:
            self.projector = build_projector(dim, config.projector)
        told = decode and not contrast and config.superclass_into == "decoder"
        if config.classify > 0 and not told:
            self.classifier = nn.Linear(dim, superclasses)
        spec = registry.method(config.method)
        if spec.add_heads is not None:
            registry.resolve(spec.add_heads, spec)(self, config)
        if decode:
            classes = superclasses if config.superclass_into == "decoder" else 0
            self.decoder = build_decoder(config.encoder, dim, channels=channels, size=size, classes=classes)
        self.to(memory_format=torch.channels_last)

    def embed(self, view: Tensor) -> Tensor:
        """Embeddings (batch, dim) of normalised images (batch, channel, height, width) or vectors (batch, feature)."""
        embedding: Tensor = self.encoder(channels_last(view))
        return embedding


def channels_last(view: Tensor) -> Tensor:
    """Images in the memory layout that convolutions are a quarter faster on, on a CPU; vectors as they are."""
    return view.contiguous(memory_format=torch.channels_last) if view.ndim == 4 else view


Step = Callable[[Branch, Tensor, Tensor, StepSettings, Generator], Terms]


def steps_of(config: TrainConfig) -> dict[str, Step]:
    """The branches that this configuration trains, by role, with their steps."""
    spec = registry.method(config.method)
    named = spec.one_encoder if config.encoders == "one" and spec.one_encoder else spec.steps
    return {role: registry.resolve(step, spec) for role, step in named.items()}


def build_branches(
    config: TrainConfig, *, channels: int, size: tuple[int, int] | None, superclasses: int
) -> nn.ModuleDict:
    """A fresh branch for every step of the method, each drawn from the run's seed alone.

    So THANOS starts its two encoders exactly as ``spread`` and ``cauto`` of the same seed start theirs.
    """
    branches = {}
    for name in steps_of(config):
        torch.manual_seed(config.seed)
        branches[name] = Branch(
            config,
            channels=channels,
            size=size,
            superclasses=superclasses,
            contrast=name in ("contrastive", "joint"),
            decode=name in ("autoencoder", "joint"),
        )
    return nn.ModuleDict(branches)


def encoder_of(branches: nn.ModuleDict) -> nn.Module:
    """What a trained method leaves: its encoder, or its two encoders side by side."""
    encoders: list[nn.Module] = [branch.encoder for branch in branches.values()]  # type: ignore[misc]
    return encoders[0] if len(encoders) == 1 else SideBySide(encoders)


def embed_views(branch: Branch, images: Tensor, settings: StepSettings, rng: Generator) -> tuple[Tensor, Tensor]:
    """Embeddings and projections of all views, each (views, batch, dim)."""
    count = settings.config.views_per_image
    views = random_views(images, settings.views, rng, count=count, mean=settings.mean, std=settings.std)
    embedding = branch.embed(views.flatten(0, 1))
    return embedding.unflatten(0, (count, -1)), branch.projector(embedding).unflatten(0, (count, -1))


def classify(branch: Branch, embedding: Tensor, superclass: Tensor, settings: StepSettings) -> Terms:
    """Cross-entropy on the superclass from the embeddings of all views; nothing where the branch has no classifier."""
    weight = settings.config.classify
    if not hasattr(branch, "classifier"):
        return {}
    logits = branch.classifier(embedding.flatten(0, 1)).float()
    if settings.weigh is None:
        return {"classify": weight * cross_entropy(logits, superclass.repeat(len(embedding)))}
    losses = cross_entropy(logits, superclass.repeat(len(embedding)), reduction="none")
    return {"classify": weight * settings.weigh(losses.unflatten(0, (len(embedding), -1)).mean(dim=0))}


def total(terms: Terms, method: str) -> Tensor:
    """The sum of a step's losses.

    Raises:
        ConfigError: if a method's step returned none; the message names the file that added the method.
    """
    losses = [value for name, value in terms.items() if name != "projection"] if isinstance(terms, dict) else []
    if not losses or not all(isinstance(value, Tensor) and value.ndim == 0 for value in losses):
        home = registry.home_of(registry.method(method))
        raise ConfigError(
            f"a step returns named scalars that add up to the loss; that of {method!r}, added by {home}, returned "
            f"{type(terms).__name__ if not isinstance(terms, dict) else [*terms]}."
        )
    return torch.stack(losses).sum()
