"""Training on the features of a backbone that is not trained: features in, and afterwards backbone and head in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from thanos.config import FeatureViewSpec, TrainConfig
from thanos.data.features import FeatureSet
from thanos.data.imageset import ImageSet
from thanos.encoders.features import Pass, frozen_features
from thanos.encoders.frozen import Frozen
from thanos.runs.encoder_io import Encoder, timm_encoder


def backbone_of(config: TrainConfig, images: ImageSet, say: Callable[[str], None]) -> Encoder:
    """The timm model that stays as it is, with its own normalisation; which weights it has is said.

    Raises:
        ConfigError, DataError, OutputError: if it, or its weights, cannot be had for images of this size.
    """
    weights: Literal[True] | Path = config.pretrained if isinstance(config.pretrained, Path) else True
    return timm_encoder(config.encoder, weights, images, say, grid=config.frozen_grid)


def features_of(config: TrainConfig, images: ImageSet, backbone: Encoder, say: Callable[[str], None]) -> FeatureSet:
    """The images' features under the backbone, with those of their augmented views; made once, kept in the cache.

    Raises:
        DataError, OutputError: if the cache has no room, or cannot be written.
    """
    card, views = backbone.card, images.views_with(config.views)
    wanted = Pass(backbone.module, card.mean, card.std, views, config.frozen_views)
    stack = frozen_features(wanted, images, say)
    noise = FeatureViewSpec(
        noise=config.feature_noise, dropout=config.feature_dropout, neighbours=config.feature_neighbours
    )
    return FeatureSet(
        name=images.name,
        vectors=stack[:, 0],
        stack=stack,
        made_of=images.fingerprint,
        views=noise,
        notes=images.notes,
        skipped=images.skipped,
        **images.labels(),
    )


def of_head(config: TrainConfig) -> TrainConfig:
    """The settings by which the head is trained on the features."""
    return config.model_copy(update={"encoder": config.head, "pretrained": False, "frozen": False})


def on_backbone(head: Encoder, backbone: Encoder) -> Encoder:
    """Backbone and trained head as one encoder of images."""
    card = backbone.card.model_copy(
        update={
            "backbone": backbone.card.encoders[0],
            "encoders": head.card.encoders,
            "dim": head.card.dim,
            "method": head.card.method,
        }
    )
    module = Frozen(backbone.module.cpu(), head.module, head.card.mean, head.card.std)
    return Encoder(module.eval(), card)
