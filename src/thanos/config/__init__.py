"""What each command can be told: one frozen pydantic model each, with ranges and messages. Imports no torch."""

from thanos.config.base import Fraction, Settings, explain, read_yaml, save
from thanos.config.data import (
    OF_IMAGES,
    DataConfig,
    FeatureViewSpec,
    SourceConfig,
    ViewSpec,
    check_data,
    refuse_settings,
)
from thanos.config.evaluate import GROUPED_METHODS, DiscoverConfig, RobustConfig, RobustMethod, Rule, TransferConfig
from thanos.config.reproduce import SEEDS, DemoConfig, LaunchConfig, Table3Config, Table4Config, TableConfig
from thanos.config.train import AutoTrainConfig, RunConfig, SuggestConfig, TrainConfig

__all__ = [
    "GROUPED_METHODS",
    "OF_IMAGES",
    "SEEDS",
    "AutoTrainConfig",
    "DataConfig",
    "DemoConfig",
    "DiscoverConfig",
    "FeatureViewSpec",
    "Fraction",
    "LaunchConfig",
    "RobustConfig",
    "RobustMethod",
    "Rule",
    "RunConfig",
    "Settings",
    "SourceConfig",
    "SuggestConfig",
    "Table3Config",
    "Table4Config",
    "TableConfig",
    "TrainConfig",
    "TransferConfig",
    "ViewSpec",
    "check_data",
    "explain",
    "read_yaml",
    "refuse_settings",
    "save",
]  # fmt: skip
