"""Losses as pure functions of tensors, with thin modules beside them."""

from thanos.objective.contrastive import (
    ClassConditionalInfoNCELoss,
    InfoNCELoss,
    SpreadLoss,
    SupConLoss,
    class_conditional_info_nce_loss,
    info_nce_loss,
    spread_loss,
    supcon_loss,
)
from thanos.objective.reconstruction import reconstruction_loss
from thanos.objective.released import released_spread_loss

__all__ = [
    "ClassConditionalInfoNCELoss",
    "InfoNCELoss",
    "SpreadLoss",
    "SupConLoss",
    "class_conditional_info_nce_loss",
    "info_nce_loss",
    "reconstruction_loss",
    "released_spread_loss",
    "spread_loss",
    "supcon_loss",
]
