"""Judge the last stage of a robust method: a head on the frozen embedding, or a whole network, scored by groups."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import RunConfig, TrainConfig
from thanos.data.imageset import ImageSet
from thanos.embeddings import Embeddings, embed
from thanos.reproduce.fingerprint import digest, fingerprint
from thanos.reproduce.rows import Stage
from thanos.robust.head import read_head
from thanos.robust.select import watch
from thanos.robust.stage import find_groups, make_robust, score_test_images
from thanos.runs.encoder_io import load_encoder
from thanos.runs.run_dir import RunDir
from thanos.subclasses.fitted import Discovered
from thanos.training.fit import train

STAGE_DEFINITIONS = {
    "groups": "accuracy on the test images of each group; worst_group, group_mean (unweighted), train_weighted_mean "
    "(weighted by the groups' share of the training images), sample_mean; intervals: 95%, exact for the number of "
    "images (thanos.evaluate.intervals), of the worst group that of the lowest true accuracy, whichever group has it",
    "worst_class": "the lowest accuracy of a superclass",
    "auroc": "of the second superclass, over all test images and between subclasses",
    "recovery": "discovered against true groups inside each superclass; F1 of a group is that of its best cluster; "
    "one_cluster: what one cluster a superclass scores; shuffled: what the same clusters score with a superclass's "
    "images drawn into them at random",
    "selection": "the rule by which validation chose among a method's settings, and the validation images behind it",
    "discovered_groups": "as groups, for the discovered ones",
}
UPWEIGHT = 20.0
"""How much an error of the first network weighs in JTT's second one."""


def stage_scores(
    stage: Stage, base: TrainConfig, runs: tuple[Path, ...], images: ImageSet, embeddings: Embeddings
) -> tuple[dict[str, Any], float]:
    """All scores, and the one to print: the worst group's accuracy, or the worst class's where no groups are known."""
    if stage.network:
        scores = _network_scores(stage, base, runs, images, embeddings)
    else:
        outcome = make_robust(embeddings, stage.config, clusters=stage.clusters)
        scores = outcome.scores.to_dict() | {
            "selection": outcome.robust.selection,
            "settings": outcome.robust.settings,
            "clusters": _found(outcome.discovered),
        }
    worst = scores["groups"]["worst_group"] if "groups" in scores else scores["worst_class"]
    return scores, float(worst["accuracy"])


def _found(discovered: Discovered | None) -> dict[str, Any]:
    if discovered is None:
        return {}
    return {name: {"sizes": facts["sizes"]} for name, facts in discovered.superclasses.items()}


def _network_scores(
    stage: Stage, base: TrainConfig, runs: tuple[Path, ...], images: ImageSet, embeddings: Embeddings
) -> dict[str, Any]:
    """Train a network anew with the method, as long as the first one was, and score its best epoch by the rule.

    True groups are taken away before training, unless the method asks for them.
    """
    method, rule = stage.config.method, stage.config.rule
    blind = images if stage.config.sees_groups else images.without_hidden()
    discovered: Discovered | None = None
    if stage.config.groups == "discovered":
        seen = embeddings if stage.config.sees_groups else embeddings.without_hidden()
        assert stage.clusters is not None
        discovered = find_groups(seen, stage.clusters)
        blind = replace(blind, group=discovered.cluster, group_names=discovered.names)
    changes: dict[str, Any] = {
        "method": "cross-entropy",
        "select": "worst-class" if rule == "worst-class" else "worst-group",
    }
    if method == "groupdro":
        changes |= {"robust": "groupdro", "sampling": "group-balanced", "group_adjustment": 0.0}
    elif method == "jtt":
        blind = _with_errors(blind, runs[0], embeddings)
        assert blind.group is not None
        if blind.group[blind.rows("train")].any():  # a network without an error is trained again as it was
            changes |= {"robust": "weighted", "group_weight": {"wrong": UPWEIGHT}}
    return _trained(base.model_copy(update=changes), blind, images, stage, discovered, runs[0].parent)


def _with_errors(images: ImageSet, first: Path, embeddings: Embeddings) -> ImageSet:
    """Groups: whether the first network is right on an image."""
    head, _ = read_head(RunDir(first).classifier())
    wrong = head.predict(embeddings.vectors) != embeddings.superclass
    return replace(images, group=wrong.astype(np.int64), group_names=("right", "wrong"))


def _trained(
    config: TrainConfig,
    seen: ImageSet,
    images: ImageSet,
    stage: Stage,
    discovered: Discovered | None,
    work: Path,
) -> dict[str, Any]:
    """One network's test scores; its run directory is kept, so that a stop loses nothing."""
    groups = "none" if seen.group is None else digest([seen.group.tolist(), list(seen.group_names)])
    folder = work / f"{config.data}-robust-{config.seed}-{digest([fingerprint(config), groups])}"
    run = train(config, folder, images=seen, run=RunConfig(quiet=True), say=lambda line: None)
    best = RunDir(folder)
    encoder, head = load_encoder(best.weights("best")), read_head(best.classifier("best"))[0]
    embeddings = embed(encoder, images)
    looked_at = watch(
        stage.config.rule,
        embeddings,
        discovered=None if discovered is None else discovered.cluster,
        names=() if discovered is None else discovered.names,
    )
    held_out = embeddings.rows("validation")
    accuracy, _ = looked_at.score(head.predict(embeddings.vectors[held_out]) == embeddings.superclass[held_out])
    return score_test_images(embeddings, head, discovered).to_dict() | {
        "selection": looked_at.facts() | {"accuracy": accuracy, "chosen": "best epoch"},
        "settings": {"robust": config.robust, "sampling": config.sampling, "group_weight": config.group_weight},
        "network": {"seconds": run.metrics["seconds"], "groups": run.metrics.get("groups")},
        "clusters": _found(discovered),
    }
