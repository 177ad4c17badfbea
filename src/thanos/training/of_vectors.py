"""Training on ready-made vectors: what is of images is left out or refused, and what suits vectors is chosen."""

from dataclasses import replace

from thanos.config import AutoTrainConfig, DataConfig, FeatureViewSpec, TrainConfig
from thanos.config.train import OF_FEATURES
from thanos.data.load import load_samples
from thanos.data.samples import Samples
from thanos.data.vectors import VectorSet
from thanos.errors import ConfigError
from thanos.training.auto import Choices, head_settings

ENCODER = "mlp"
"""Of vectors, where none is named."""
FEW_ENOUGH = 50_000
"""Training vectors, at most, whose neighbours are looked for unless that is asked for."""


def suited(config: TrainConfig, images: Samples) -> tuple[TrainConfig, Samples]:
    """The settings and the data as training takes them: an encoder of vectors, and the noise of their views, in both.

    Raises:
        ConfigError: for settings of images where there are vectors, or of vectors where there are images.
    """
    if not isinstance(images, VectorSet):
        odd = [name for name in OF_FEATURES if not config.frozen and getattr(config, name) != _usual(name)]
        if odd:
            raise ConfigError(f"`{odd[0]}` is about features, and {images.name} has images; pass `frozen`, or drop it.")
        return config, images
    for name in ("frozen", "pretrained"):
        if getattr(config, name):
            raise ConfigError(
                f"`{name}` is about a network for images, and {images.name} has vectors, which a small network is "
                f"trained on. Drop it."
            )
    given = config.model_fields_set
    said = {name.removeprefix("feature_"): getattr(config, name) for name in OF_FEATURES if name in given}
    views = FeatureViewSpec(**(images.views.model_dump() | said))
    noted = {f"feature_{name}": value for name, value in views.model_dump().items()}
    noted |= {} if "encoder" in given else {"encoder": ENCODER}
    return config.model_copy(update=noted), images if views == images.views else replace(images, views=views)


def _usual(name: str) -> float:
    return float(TrainConfig.model_fields[name].default)


def load_vectors_suitably(config: DataConfig, given: AutoTrainConfig) -> tuple[VectorSet, Choices]:
    """The vectors, and the head that suits them: the one that is trained on a frozen backbone's features.

    Raises:
        ConfigError: for settings of images.
    """
    vectors = load_samples(config)
    assert isinstance(vectors, VectorSet)
    if given.frozen:
        raise ConfigError(f"`frozen` keeps a network for images, and {config.data} holds vectors. Drop it.")
    choices, settings = Choices(), head_settings(given)
    if given.encoder is None:
        choices.choose("encoder", settings["head"], f"one hidden layer on the {vectors.channels} numbers of a vector")
    if "alpha" not in given.model_fields_set:
        why = "by the spread that is measured; the formula does not know what all vectors have in common"
        choices.choose("alpha", settings["alpha"], why)
    if len(vectors.rows_to_train_on()) <= FEW_ENOUGH:
        neighbours, why = settings["feature_neighbours"], "a view may be of so many nearest vectors of its superclass"
        choices.choose("feature_neighbours", neighbours, why)
    why = "half the numbers are missing from a view, as from those of a frozen backbone's features"
    choices.choose("feature_dropout", settings["feature_dropout"], why)
    if (light := settings.get("classify_weight")) is not None:
        why = "a light cross-entropy, as of heads on frozen features (docs/examples.md)"
        choices.choose("classify_weight", light, why)
    return vectors, choices
