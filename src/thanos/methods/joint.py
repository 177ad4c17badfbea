"""One encoder trained on a contrastive loss and as autoencoder at once: the cheaper variant of two side by side."""

from collections.abc import Callable

from torch import Generator, Tensor

from thanos.methods.autoencoder import reconstruct
from thanos.methods.branch import Branch, StepSettings, Terms, classify
from thanos.methods.contrastive import attract, spread
from thanos.objective.gathered import gather
from thanos.views import random_views


def supcon_cauto_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """One encoder trained on SupCon and as autoencoder at once."""
    return _with_reconstruction(attract, "supcon", branch, images, superclass, settings, rng)


def spread_cauto_step(
    branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator
) -> Terms:
    """One encoder trained on L_spread and as autoencoder at once."""
    return _with_reconstruction(spread, "spread", branch, images, superclass, settings, rng)


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
    rebuilt = reconstruct(branch, embedding, views.flatten(0, 1), superclass.repeat(count), settings)
    told = classify(branch, embedding.unflatten(0, (count, -1)), superclass, settings)
    loss = contrastive(*gather(projection, superclass, even=True), settings)
    return {name: loss} | rebuilt | told | {"projection": projection}
