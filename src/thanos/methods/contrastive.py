"""The contrastive methods, and the superclass cross-entropy alone; losses are over the batches of all processes."""

from torch import Generator, Tensor

from thanos.methods.branch import Branch, StepSettings, Terms, classify, embed_views
from thanos.objective import info_nce_loss, released_spread_loss, spread_loss, supcon_loss
from thanos.objective.gathered import gather
from thanos.views import random_views


def infonce_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """InfoNCE: sees no label, unless a cross-entropy is asked for."""
    embedding, projection = embed_views(branch, images, settings, rng)
    everyone, _ = gather(projection, superclass, even=True)
    return (
        {"infonce": infonce(everyone, settings)}
        | classify(branch, embedding, superclass, settings)
        | {"projection": projection}
    )


def supcon_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """SupCon, which collapses superclasses, and the superclass cross-entropy."""
    embedding, projection = embed_views(branch, images, settings, rng)
    loss = attract(*gather(projection, superclass, even=True), settings)
    return {"supcon": loss} | classify(branch, embedding, superclass, settings) | {"projection": projection}


def supcon_infonce_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """The plain sum of SupCon and InfoNCE (Islam et al. 2021), and the superclass cross-entropy."""
    embedding, projection = embed_views(branch, images, settings, rng)
    everyone, kinds = gather(projection, superclass, even=True)
    terms = {"supcon": attract(everyone, kinds, settings), "infonce": infonce(everyone, settings)}
    return terms | classify(branch, embedding, superclass, settings) | {"projection": projection}


def spread_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """SupCon + class-conditional InfoNCE, the contrastive half of THANOS, and the superclass cross-entropy."""
    embedding, projection = embed_views(branch, images, settings, rng)
    loss = spread(*gather(projection, superclass, even=True), settings)
    return {"spread": loss} | classify(branch, embedding, superclass, settings) | {"projection": projection}


def cross_entropy_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """The superclass cross-entropy alone, on as many views as the contrastive methods see."""
    count = settings.config.views_per_image
    views = random_views(images, settings.views, rng, count=count, mean=settings.mean, std=settings.std)
    return classify(branch, branch.embed(views.flatten(0, 1)).unflatten(0, (count, -1)), superclass, settings)


def infonce(projection: Tensor, settings: StepSettings) -> Tensor:
    """InfoNCE at a training's settings."""
    config = settings.config
    return info_nce_loss(projection, temperature=config.temperature, contrast=config.contrast)


def attract(projection: Tensor, superclass: Tensor, settings: StepSettings) -> Tensor:
    """SupCon at a training's settings."""
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


def spread(projection: Tensor, superclass: Tensor, settings: StepSettings) -> Tensor:
    """L_spread at a training's settings."""
    config = settings.config
    if config.released_loss:
        return released_spread_loss(projection, superclass, alpha=settings.alpha, temperature=config.temperature)
    return spread_loss(
        projection, superclass, alpha=settings.alpha, temperature=config.temperature, contrast=config.contrast
    )
