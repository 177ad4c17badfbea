"""The seven methods of the paper's Table 3, cross-entropy alone and MaskCon: a table from name to training step.

A step takes a branch (one encoder with its heads), a batch of uint8 images, their superclass, the settings and a
generator, and returns named terms. Methods with "+ cauto" train two branches side by side, or one branch on both.
Contrastive losses are over the batches of all processes, which are of one size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from thanos.config import TrainConfig, ViewSpec
from thanos.encoders.heads import Decoder, KeyBank, build_projector, decoder_scale
from thanos.encoders.zoo import SideBySide, build_encoder, dimension
from thanos.objective import (
    info_nce_loss,
    reconstruction_loss,
    released_spread_loss,
    spread_loss,
    supcon_loss,
)
from thanos.objective.gathered import gather
from thanos.objective.maskcon import maskcon_loss
from thanos.views import random_views

Terms = dict[str, Tensor]
"""Named scalars that add up to the loss, and under ``projection`` what a contrastive loss saw (views, batch, dim)."""


@dataclass(frozen=True)
class StepSettings:
    """What a step needs to know: the configuration with this run's data and alpha filled in."""

    config: TrainConfig
    alpha: float | Tensor
    views: ViewSpec
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
        size: tuple[int, int],
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
        if config.method == "maskcon":
            width = config.projector or dim
            self.bank = KeyBank(self.encoder, self.projector, size=config.bank, dim=width, momentum=config.key_momentum)
        if decode:
            width, blocks = decoder_scale(config.encoder)
            classes = superclasses if config.superclass_into == "decoder" else 0
            self.decoder = Decoder(dim, channels=channels, size=size, width=width, blocks=blocks, classes=classes)
        self.to(memory_format=torch.channels_last)

    def embed(self, view: Tensor) -> Tensor:
        """Embeddings (batch, dim) of normalised images (batch, channel, height, width)."""
        embedding: Tensor = self.encoder(view.contiguous(memory_format=torch.channels_last))  # a quarter faster on CPU
        return embedding


Step = Callable[[Branch, Tensor, Tensor, StepSettings, Generator], Terms]


def infonce_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """InfoNCE: sees no label, unless a cross-entropy is asked for."""
    embedding, projection = _embed_views(branch, images, settings, rng)
    everyone, _ = gather(projection, superclass, even=True)
    return (
        {"infonce": _infonce(everyone, settings)}
        | _classify(branch, embedding, superclass, settings)
        | {"projection": projection}
    )


def supcon_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """SupCon, which collapses superclasses, and the superclass cross-entropy."""
    embedding, projection = _embed_views(branch, images, settings, rng)
    loss = _supcon(*gather(projection, superclass, even=True), settings)
    return {"supcon": loss} | _classify(branch, embedding, superclass, settings) | {"projection": projection}


def supcon_infonce_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """The plain sum of SupCon and InfoNCE (Islam et al. 2021), and the superclass cross-entropy."""
    embedding, projection = _embed_views(branch, images, settings, rng)
    everyone, kinds = gather(projection, superclass, even=True)
    terms = {"supcon": _supcon(everyone, kinds, settings), "infonce": _infonce(everyone, settings)}
    return terms | _classify(branch, embedding, superclass, settings) | {"projection": projection}


def spread_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """SupCon + class-conditional InfoNCE, the contrastive half of THANOS, and the superclass cross-entropy."""
    embedding, projection = _embed_views(branch, images, settings, rng)
    loss = _spread(*gather(projection, superclass, even=True), settings)
    return {"spread": loss} | _classify(branch, embedding, superclass, settings) | {"projection": projection}


def cauto_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """The class-conditional autoencoder on one view of each image."""
    (view,) = random_views(images, settings.views, rng, count=1, mean=settings.mean, std=settings.std)
    embedding = branch.embed(view)
    return _reconstruct(branch, embedding, view, superclass, settings) | _classify(
        branch, embedding[None], superclass, settings
    )


def cross_entropy_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """The superclass cross-entropy alone, on as many views as the contrastive methods see."""
    count = settings.config.views_per_image
    views = random_views(images, settings.views, rng, count=count, mean=settings.mean, std=settings.std)
    return _classify(branch, branch.embed(views.flatten(0, 1)).unflatten(0, (count, -1)), superclass, settings)


def maskcon_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """MaskCon: one view asks, the other answers through the slow encoder, among the bank's keys."""
    config = settings.config
    asking, answering = random_views(images, settings.views, rng, count=2, mean=settings.mean, std=settings.std)
    embedding = branch.embed(asking)
    queries = branch.projector(embedding)
    keys = branch.bank.encode(answering.contiguous(memory_format=torch.channels_last), branch.encoder, branch.projector)
    loss = maskcon_loss(
        queries,
        keys,
        superclass,
        branch.bank.keys,
        branch.bank.superclass,
        temperature=config.temperature,
        label_temperature=config.label_temperature,
        soft=config.soft,
    )
    branch.bank.keep(keys, superclass)
    return {"maskcon": loss} | _classify(branch, embedding[None], superclass, settings) | {"projection": queries[None]}


def supcon_cauto_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """One encoder trained on SupCon and as autoencoder at once."""
    return _with_reconstruction(_supcon, "supcon", branch, images, superclass, settings, rng)


def thanos_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """One encoder trained on L_spread and as autoencoder at once."""
    return _with_reconstruction(_spread, "spread", branch, images, superclass, settings, rng)


METHODS: dict[str, dict[str, Step]] = {
    "infonce": {"contrastive": infonce_step},
    "supcon": {"contrastive": supcon_step},
    "supcon+infonce": {"contrastive": supcon_infonce_step},
    "cauto": {"autoencoder": cauto_step},
    "spread": {"contrastive": spread_step},
    "supcon+cauto": {"contrastive": supcon_step, "autoencoder": cauto_step},
    "thanos": {"contrastive": spread_step, "autoencoder": cauto_step},
    "cross-entropy": {"classifier": cross_entropy_step},
    "maskcon": {"contrastive": maskcon_step},
}
"""For each encoder of the method, its step."""

ONE_ENCODER: dict[str, dict[str, Step]] = {
    "supcon+cauto": {"joint": supcon_cauto_step},
    "thanos": {"joint": thanos_step},
}
"""The cheaper variant of the rows that train two encoders."""


def steps_of(config: TrainConfig) -> dict[str, Step]:
    """The branches that this configuration trains, by name, with their steps."""
    return (
        ONE_ENCODER.get(config.method, METHODS[config.method]) if config.encoders == "one" else METHODS[config.method]
    )


def build_branches(config: TrainConfig, *, channels: int, size: tuple[int, int], superclasses: int) -> nn.ModuleDict:
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


def _embed_views(branch: Branch, images: Tensor, settings: StepSettings, rng: Generator) -> tuple[Tensor, Tensor]:
    """Embeddings and projections of all views, each (views, batch, dim)."""
    count = settings.config.views_per_image
    views = random_views(images, settings.views, rng, count=count, mean=settings.mean, std=settings.std)
    embedding = branch.embed(views.flatten(0, 1))
    return embedding.unflatten(0, (count, -1)), branch.projector(embedding).unflatten(0, (count, -1))


def _infonce(projection: Tensor, settings: StepSettings) -> Tensor:
    config = settings.config
    return info_nce_loss(projection, temperature=config.temperature, contrast=config.contrast)


def _supcon(projection: Tensor, superclass: Tensor, settings: StepSettings) -> Tensor:
    config = settings.config
    if config.released_loss:
        return released_spread_loss(projection, superclass, alpha=0, temperature=config.temperature)
    return supcon_loss(
        projection,
        superclass,
        temperature=config.temperature,
        contrast=config.contrast,
        denominator=config.denominator,
    )


def _spread(projection: Tensor, superclass: Tensor, settings: StepSettings) -> Tensor:
    config = settings.config
    if config.released_loss:
        return released_spread_loss(projection, superclass, alpha=settings.alpha, temperature=config.temperature)
    return spread_loss(
        projection, superclass, alpha=settings.alpha, temperature=config.temperature, contrast=config.contrast
    )


def _classify(branch: Branch, embedding: Tensor, superclass: Tensor, settings: StepSettings) -> Terms:
    """Cross-entropy on the superclass from the embeddings of all views; nothing where the branch has no classifier."""
    weight = settings.config.classify
    if not hasattr(branch, "classifier"):
        return {}
    logits = branch.classifier(embedding.flatten(0, 1)).float()
    if settings.weigh is None:
        return {"classify": weight * cross_entropy(logits, superclass.repeat(len(embedding)))}
    losses = cross_entropy(logits, superclass.repeat(len(embedding)), reduction="none")
    return {"classify": weight * settings.weigh(losses.unflatten(0, (len(embedding), -1)).mean(dim=0))}


def _reconstruct(branch: Branch, embedding: Tensor, view: Tensor, superclass: Tensor, settings: StepSettings) -> Terms:
    loss = reconstruction_loss(branch.decoder(embedding, superclass), view)
    return {"reconstruct": settings.config.reconstruction_weight * loss}


def _with_reconstruction(
    contrastive: Callable[[Tensor, Tensor, StepSettings], Tensor],
    name: str,
    branch: Branch,
    images: Tensor,
    superclass: Tensor,
    settings: StepSettings,
    rng: Generator,
) -> Terms:
    count = settings.config.views_per_image
    views = random_views(images, settings.views, rng, count=count, mean=settings.mean, std=settings.std)
    embedding = branch.embed(views.flatten(0, 1))
    projection = branch.projector(embedding).unflatten(0, (count, -1))
    reconstruct = _reconstruct(branch, embedding, views.flatten(0, 1), superclass.repeat(count), settings)
    classify = _classify(branch, embedding.unflatten(0, (count, -1)), superclass, settings)
    loss = contrastive(*gather(projection, superclass, even=True), settings)
    return {name: loss} | reconstruct | classify | {"projection": projection}


def total(terms: Terms) -> Tensor:
    """The sum of a step's losses."""
    return torch.stack([value for name, value in terms.items() if name != "projection"]).sum()
