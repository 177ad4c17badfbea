"""Judge one row: embed, concatenate, probe on fine labels or train the last stage, write the record."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thanos.config import DiscoverConfig, TrainConfig, TransferConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.data.samples import Samples
from thanos.embeddings import (
    Embeddings,
    concat_embeddings,
    embed,
    kept_fingerprint,
    labelled,
    read_embeddings,
    write_embeddings,
)
from thanos.encoders.zoo import build_encoder
from thanos.errors import DataError
from thanos.evaluate.geometry import evaluate_geometry
from thanos.evaluate.recovery import recovery_scores
from thanos.evaluate.transfer import evaluate_transfer
from thanos.reproduce.fingerprint import fingerprint, row_fingerprint
from thanos.reproduce.records import add_record
from thanos.reproduce.rows import Part, Row
from thanos.reproduce.score_stage import STAGE_DEFINITIONS, stage_scores
from thanos.runs.encoder_io import Encoder, card_for, join_encoders, load_encoder
from thanos.runs.provenance import hardware, versions
from thanos.runs.run_dir import RunDir
from thanos.subclasses.discovery import discover
from thanos.training.frozen import backbone_of, features_of, of_head, on_backbone

COMPONENTS = 256
"""Raw pixels are cut to as many principal components: as wide as THANOS beside the tiny encoder."""

DEFINITIONS = {
    "probe": "share of test images whose subclass a linear probe on the frozen embedding names; the test images are "
    "used once. kind convex: logistic regression, its strength chosen on validation images; released: a layer trained "
    "on augmented views",
    "neighbours": "the same by a vote of the nearest training images",
    "balanced_accuracy": "mean over subclasses of the share named rightly",
    "frequency_weighted_accuracy": "the same mean, weighted by the subclasses' share of the training images",
    "spread": "1 - mean cosine between embeddings of different test images of one superclass",
    "recovery": "k-means of the test images of a superclass, as many clusters as it has subclasses, against these: "
    "adjusted mutual information, mean over superclasses",
    "subclass_purity": "share of test images whose nearest neighbour in their superclass is of their subclass",
}


def score_row(
    row: Row, base: TrainConfig, probe: TransferConfig, runs: tuple[Path, ...], records: Path, facts: dict[str, Any]
) -> float:
    """Write the record of a row whose encoders are trained; returns its fine or its worst group's accuracy.

    Args:
        row: What is judged.
        base: The settings its trainings share.
        probe: How it is judged.
        runs: Run directories of the row's parts.
        records: The scale's folder of records.
        facts: What else it should carry: the command, the threads, the commit.
    """
    if facts.get("threads"):
        torch.set_num_threads(facts["threads"])
    images = load(base)
    started = time.perf_counter()
    embeddings = row_embeddings(row, base, runs, images)
    if row.stage is not None:
        scores, headline = stage_scores(row.stage, base, runs, images, embeddings)
    else:
        scores = _transfer_scores(row, base, probe, runs, images, embeddings)
        headline = float(scores["probe"]["accuracy"])
    record = {
        "row": row.name,
        "what": row.what,
        "dataset": base.data,
        "seed": base.seed,
        "fingerprint": row_fingerprint(row, base, probe),
        "scores": scores,
        "definitions": DEFINITIONS if row.stage is None else STAGE_DEFINITIONS,
        "width": embeddings.vectors.shape[1],
        "trainings": [_training(part.config(base), run) for part, run in zip(row.parts, runs, strict=True)],
        "settings": base.model_dump(mode="json", exclude={"root", "method"}),
        "probe": probe.model_dump(mode="json"),
        "images": {split: len(images.rows(split)) for split in ("train", "validation", "test")}
        | {"fingerprint": images.fingerprint},
        "scoring_seconds": round(time.perf_counter() - started, 1),
        **facts,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "hardware": hardware(),
    }
    add_record(records, record)
    return headline


def _transfer_scores(
    row: Row,
    base: TrainConfig,
    probe: TransferConfig,
    runs: tuple[Path, ...],
    images: ImageSet,
    embeddings: Embeddings,
) -> dict[str, Any]:
    """Fine accuracy and geometry of a frozen embedding."""
    if row.floor in ("pixels", "features"):  # no encoder that could embed views
        scores = evaluate_transfer(embeddings, probe.model_copy(update={"probe": "convex"}), None, images)
    elif probe.probe == "released":
        encoder = random_encoder(base, images) if row.floor else _joined(runs, row, images)
        scores = evaluate_transfer(embeddings, probe, encoder, images)
    else:
        scores = evaluate_transfer(embeddings, probe, None, images)
    found = {"recovery": recovery_at_the_true_number(embeddings)} if base.frozen else {}
    return scores.to_dict() | {"geometry": evaluate_geometry(embeddings).to_dict()} | found


def recovery_at_the_true_number(embeddings: Embeddings) -> dict[str, float]:
    """Clusters of the test images of each superclass, as many as it has subclasses, against those.

    Returns:
        ``adjusted_mutual_information``, the unweighted mean over superclasses of two subclasses or more.
    """
    test = embeddings.of("test")
    assert test.subclass is not None
    information = []
    for value in np.unique(test.superclass):
        part = test.take(test.superclass == value)
        assert part.subclass is not None
        count = len(np.unique(part.subclass))
        if count > 1:
            found = discover(part, DiscoverConfig(clusters=count), stability=False)
            against = recovery_scores(found.cluster, part.subclass, part.superclass)
            assert against is not None
            information.append(against.adjusted_mutual_information)
    return {"adjusted_mutual_information": float(np.mean(information))}


def row_embeddings(row: Row, base: TrainConfig, runs: tuple[Path, ...], images: ImageSet) -> Embeddings:
    """The embedding that a row stands for, of all images."""
    if row.floor == "pixels":
        return raw_pixels(images)
    if row.floor == "features":
        return embed(_backbone(base, images), images)
    if row.floor == "random":
        return embed(random_encoder(base, images), images)
    parts = [_embedded(run, row, part, images) for run, part in zip(runs, row.parts, strict=True)]
    return parts[0] if len(parts) == 1 else concat_embeddings(*parts)


def _joined(runs: tuple[Path, ...], row: Row, images: ImageSet) -> Encoder:
    encoders = [_encoder(run, row) for run in runs]
    return encoders[0] if len(encoders) == 1 else join_encoders(*encoders, images=images)


def _encoder(run: Path, row: Row) -> Encoder:
    return load_encoder(RunDir(run).weights(row.weights))


def _embedded(run: Path, row: Row, part: Part, images: ImageSet) -> Embeddings:
    """Kept in the run directory: several rows use it.

    Raises:
        DataError: if the run was trained on other images.
    """
    kept = RunDir(run).embeddings(row.weights)
    if kept.is_file():
        known, weights = read_embeddings(kept), RunDir(run).weights(row.weights)
        if (known.fingerprint, known.encoder) == (images.fingerprint, kept_fingerprint(weights)):
            return known
    encoder = _encoder(run, row)
    if "labels" not in part.changes and encoder.card.fingerprint != images.fingerprint:
        raise DataError(f"{run} was trained on other images than are there now. Delete it to train again.")
    embeddings = embed(encoder, images)
    write_embeddings(embeddings, kept)
    return embeddings


def _training(config: TrainConfig, run: Path) -> dict[str, Any]:
    """What a row's reader wants to know of a training it rests on."""
    metrics = RunDir(run).metrics()
    names = ("alpha", "steps", "images_per_second", "seconds", "final", "provenance")
    return {
        "fingerprint": fingerprint(config),
        "differs": {k: v for k, v in config.model_dump(mode="json", exclude_defaults=True).items() if k != "root"},
        **{name: metrics.get(name) for name in names},
    }


def _backbone(base: TrainConfig, images: ImageSet) -> Encoder:
    return backbone_of(base, images, lambda line: None)


def random_encoder(base: TrainConfig, images: ImageSet) -> Encoder:
    """The encoder as a training of this seed finds it; of a frozen backbone the head is what is random."""
    if base.frozen:
        backbone = _backbone(base, images)
        features = features_of(base, images, backbone, lambda line: None)
        return on_backbone(_untrained(of_head(base), features), backbone)
    return _untrained(base, images)


def _untrained(base: TrainConfig, images: Samples) -> Encoder:
    torch.manual_seed(base.seed)
    module = build_encoder(base.encoder, channels=images.channels, size=images.size)
    mean, std = images.mean_std
    return Encoder(module.eval(), card_for(images, (base.encoder,), module, method="none", mean=mean, std=std))


def raw_pixels(images: ImageSet) -> Embeddings:
    """The pixels themselves as embeddings; their COMPONENTS largest principal components where there are more."""
    from sklearn.decomposition import PCA

    pixels = images.images[np.arange(len(images))].reshape(len(images), -1).astype(np.float32)
    train = images.rows("train")
    if pixels.shape[1] > COMPONENTS < len(train):
        pca = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit(pixels[train])
        pixels = np.asarray(pca.transform(pixels), dtype=np.float32)
    return labelled(pixels, images)
