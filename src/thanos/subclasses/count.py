"""How many clusters: one place where every way to choose the number is called, and its facts are named."""

from typing import Any

import numpy as np

from thanos.config import DiscoverConfig
from thanos.subclasses.fitted import Rows
from thanos.subclasses.merging import choose_by_merging
from thanos.subclasses.models import FittedModel, fit_clusters
from thanos.subclasses.silhouette import Sampled, choose_by_silhouette


def choose_number(
    fitted: Rows, sampled: Sampled | None, config: DiscoverConfig, rng: np.random.Generator
) -> tuple[FittedModel | None, dict[str, Any]]:
    """The clustering with the number that the data ask for, None for one; and what it rests on.

    Args:
        fitted: Training rows of a superclass, reduced, (n, dim).
        sampled: Of these, the rows that silhouettes are taken of; the silhouette needs them.
        config: Which way, and its bounds.
        rng: Of samples and null clouds.
    """
    if config.number == "silhouette":
        assert sampled is not None
        return choose_by_silhouette(fitted, sampled, config, rng)
    chosen = choose_by_merging(fitted, rng, least=config.least, most=config.largest)
    evidence = chosen.evidence
    facts: dict[str, Any] = {"p": evidence.p, "excess": evidence.excess, "valley": evidence.valley}
    if chosen.model is None:
        return None, facts
    facts |= {"scores": chosen.scores, "again": list(chosen.again), "one_again": evidence.one_again}
    mixed = config.method == "mixture"
    return fit_clusters(chosen.model.count, fitted, config) if mixed else chosen.model, facts
