"""Image representations that keep the classes nobody labelled. The table of contents; names load when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any
from warnings import warn

if TYPE_CHECKING:
    from thanos.config import (
        DataConfig,
        DiscoverConfig,
        FeatureViewSpec,
        RobustConfig,
        RunConfig,
        TrainConfig,
        TransferConfig,
        ViewSpec,
    )
    from thanos.data.arrays import from_arrays, from_dataset
    from thanos.data.imageset import ImageSet
    from thanos.data.load import load
    from thanos.data.load_vectors import load_vectors
    from thanos.data.vectors import VectorSet
    from thanos.embeddings import Embeddings, concat_embeddings, embed, read_embeddings, write_embeddings
    from thanos.errors import ConfigError, DataError, Interrupted, MissingLabels, OutputError, ThanosError
    from thanos.estimators.group_robust_classifier import GroupRobustClassifier
    from thanos.estimators.spread_encoder import SpreadEncoder
    from thanos.estimators.subclass_discovery import SubclassDiscovery
    from thanos.evaluate.geometry import Geometry, evaluate_geometry
    from thanos.evaluate.recovery import Recovery, recovery_scores
    from thanos.evaluate.robustness import GroupScores, group_scores
    from thanos.evaluate.transfer import Transfer, evaluate_transfer
    from thanos.methods.alpha import solve_alpha
    from thanos.objective import (
        ClassConditionalInfoNCELoss,
        InfoNCELoss,
        SpreadLoss,
        SupConLoss,
        class_conditional_info_nce_loss,
        info_nce_loss,
        reconstruction_loss,
        released_spread_loss,
        spread_loss,
        supcon_loss,
    )
    from thanos.objective.maskcon import maskcon_loss
    from thanos.objective.robust import GroupDRO, GroupWeighted
    from thanos.registry import DatasetSpec, EncoderSpec, MethodSpec, register
    from thanos.robust.head import Head, read_head, write_head
    from thanos.robust.stage import Outcome, RobustScores, make_robust
    from thanos.runs.encoder_io import Encoder, join_encoders, load_encoder, save_encoder
    from thanos.subclasses.discovery import discover
    from thanos.subclasses.fitted import Discovered
    from thanos.training.fit import Run, train
    from thanos.views import random_views

_HOME = {
    "Encoder": "runs.encoder_io",
    "join_encoders": "runs.encoder_io",
    "load_encoder": "runs.encoder_io",
    "save_encoder": "runs.encoder_io",
    "DataConfig": "config",
    "DiscoverConfig": "config",
    "RobustConfig": "config",
    "RunConfig": "config",
    "TrainConfig": "config",
    "TransferConfig": "config",
    "ViewSpec": "config",
    "FeatureViewSpec": "config",
    "from_arrays": "data.arrays",
    "from_dataset": "data.arrays",
    "ImageSet": "data.imageset",
    "load": "data.load",
    "load_vectors": "data.load_vectors",
    "VectorSet": "data.vectors",
    "Discovered": "subclasses.fitted",
    "discover": "subclasses.discovery",
    "Embeddings": "embeddings",
    "embed": "embeddings",
    "read_embeddings": "embeddings",
    "concat_embeddings": "embeddings",
    "write_embeddings": "embeddings",
    "ConfigError": "errors",
    "DataError": "errors",
    "Interrupted": "errors",
    "MissingLabels": "errors",
    "OutputError": "errors",
    "ThanosError": "errors",
    "GroupRobustClassifier": "estimators.group_robust_classifier",
    "SpreadEncoder": "estimators.spread_encoder",
    "SubclassDiscovery": "estimators.subclass_discovery",
    "Geometry": "evaluate.geometry",
    "evaluate_geometry": "evaluate.geometry",
    "Recovery": "evaluate.recovery",
    "recovery_scores": "evaluate.recovery",
    "GroupScores": "evaluate.robustness",
    "group_scores": "evaluate.robustness",
    "Transfer": "evaluate.transfer",
    "evaluate_transfer": "evaluate.transfer",
    "ClassConditionalInfoNCELoss": "objective",
    "InfoNCELoss": "objective",
    "SpreadLoss": "objective",
    "SupConLoss": "objective",
    "class_conditional_info_nce_loss": "objective",
    "info_nce_loss": "objective",
    "reconstruction_loss": "objective",
    "released_spread_loss": "objective",
    "spread_loss": "objective",
    "supcon_loss": "objective",
    "maskcon_loss": "objective.maskcon",
    "DatasetSpec": "registry",
    "EncoderSpec": "registry",
    "MethodSpec": "registry",
    "register": "registry",
    "GroupDRO": "objective.robust",
    "GroupWeighted": "objective.robust",
    "Head": "robust.head",
    "read_head": "robust.head",
    "write_head": "robust.head",
    "Outcome": "robust.stage",
    "RobustScores": "robust.stage",
    "make_robust": "robust.stage",
    "solve_alpha": "methods.alpha",
    "Run": "training.fit",
    "train": "training.fit",
    "random_views": "views",
}

_EARLIER = {
    "geometry": "evaluate_geometry",
    "recovery": "recovery_scores",
    "side_by_side": "concat_embeddings",
    "transfer": "evaluate_transfer",
}
"""Names of version 0.1, which go with 0.3."""

__version__ = "0.2.0"
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _EARLIER:
        warn(f"thanos.{name} is called thanos.{_EARLIER[name]} now", DeprecationWarning, stacklevel=2)
        name = _EARLIER[name]
    if name not in _HOME:
        raise AttributeError(f"module 'thanos' has no attribute {name!r}")
    return getattr(import_module(f"thanos.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
