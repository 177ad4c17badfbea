"""The class-conditional autoencoder."""

from torch import Generator, Tensor

from thanos.methods.branch import Branch, StepSettings, Terms, classify
from thanos.objective import reconstruction_loss
from thanos.views import random_views


def cauto_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """The class-conditional autoencoder on one view of each image."""
    (view,) = random_views(images, settings.views, rng, count=1, mean=settings.mean, std=settings.std)
    embedding = branch.embed(view)
    return reconstruct(branch, embedding, view, superclass, settings) | classify(
        branch, embedding[None], superclass, settings
    )


def reconstruct(branch: Branch, embedding: Tensor, view: Tensor, superclass: Tensor, settings: StepSettings) -> Terms:
    """The squared error of the view that the decoder makes of an embedding."""
    loss = reconstruction_loss(branch.decoder(embedding, superclass), view)
    return {"reconstruct": settings.config.reconstruction_weight * loss}
