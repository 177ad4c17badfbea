"""MaskCon (Feng and Patras, CVPR 2023), a rival: soft labels among the keys of a slow encoder."""

from torch import Generator, Tensor

from thanos.config import TrainConfig
from thanos.encoders.heads import KeyBank
from thanos.encoders.zoo import dimension
from thanos.methods.branch import Branch, StepSettings, Terms, channels_last, classify
from thanos.objective.maskcon import maskcon_loss
from thanos.views import random_views


def add_bank(branch: Branch, config: TrainConfig) -> None:
    """A slow copy of the encoder and the keys it made last."""
    width = config.projector or dimension(branch.encoder)
    branch.bank = KeyBank(branch.encoder, branch.projector, size=config.bank, dim=width, momentum=config.key_momentum)


def maskcon_step(branch: Branch, images: Tensor, superclass: Tensor, settings: StepSettings, rng: Generator) -> Terms:
    """MaskCon: one view asks, the other answers through the slow encoder, among the bank's keys."""
    config, bank = settings.config, branch.bank
    assert isinstance(bank, KeyBank)
    asking, answering = random_views(images, settings.views, rng, count=2, mean=settings.mean, std=settings.std)
    embedding = branch.embed(asking)
    queries = branch.projector(embedding)
    keys = bank.encode(channels_last(answering), branch.encoder, branch.projector)
    loss = maskcon_loss(
        queries,
        keys,
        superclass,
        bank.keys,
        bank.superclass,
        temperature=config.temperature,
        label_temperature=config.label_temperature,
        soft=config.soft,
    )
    bank.keep(keys, superclass)
    return {"maskcon": loss} | classify(branch, embedding[None], superclass, settings) | {"projection": queries[None]}
