"""What stands between the command line and the library: read a source, evaluate, print, keep the numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Generator

from thanos.artefact import Encoder, load_encoder
from thanos.config import DataConfig, TransferConfig, read_yaml
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.embeddings import Embeddings, embed, kept_embeddings, read_embeddings, write_embeddings
from thanos.errors import ConfigError, DataError
from thanos.evaluate.geometry import EXACT, geometry
from thanos.evaluate.transfer import transfer
from thanos.storage import write_json
from thanos.training.folder import write_skipped

WEIGHTS = {"last": "model.safetensors", "best": "best.safetensors"}


def embed_run(source: Path, out: Path, weights: str, data: DataConfig | None) -> Embeddings:
    encoder, images = _encoder_and_images(source, weights, data)
    embeddings = embed(encoder, images)
    write_embeddings(embeddings, out)
    if images.skipped:
        write_skipped(out.with_name("skipped.csv"), images)
    print(f"{len(embeddings):,} embeddings of {encoder.card.dim} dimensions in {out}")
    return embeddings


def transfer_source(source: Path, weights: str, data: DataConfig | None, config: TransferConfig) -> dict[str, Any]:
    embeddings, encoder, images = _embeddings(source, weights, data)
    scores = transfer(embeddings, config, encoder, images)
    for reader, numbers in scores.items():
        low, high = numbers["interval"]
        print(
            f"{reader:<10} fine accuracy {numbers['accuracy']:.1%} (95% {low:.1%} to {high:.1%}, "
            f"n = {numbers['n']:,}) · balanced {numbers['balanced_accuracy']:.1%} · weighted by training frequency "
            f"{numbers['frequency_weighted_accuracy']:.1%}"
        )
    _keep(source, f"transfer/{weights}", scores, data)
    return scores


def geometry_source(source: Path, weights: str, data: DataConfig | None) -> dict[str, Any]:
    embeddings, encoder, images = _embeddings(source, weights, data)
    views = None
    if encoder is not None and images is not None:
        rows = images.rows("test") if len(images.rows("test")) else np.arange(len(images))
        some = images.take(rows[:: max(1, -(-len(rows) // EXACT))])
        rng = Generator().manual_seed(0)
        views = encoder.embed_view(some, rng), encoder.embed_view(some, rng)
    scores = geometry(embeddings, views)
    for name, value in scores.items():
        print(f"{name:<36} {value:.4f}" if isinstance(value, float) else f"{name:<36} {_plain(value)}")
    _keep(source, f"geometry/{weights}", scores, data)
    return scores


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:.3f}" for k, v in value.items())
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _embeddings(
    source: Path, weights: str, data: DataConfig | None
) -> tuple[Embeddings, Encoder | None, ImageSet | None]:
    if source.suffix == ".npz":
        return read_embeddings(source), None, None
    encoder, images = _encoder_and_images(source, weights, data)
    kept = kept_embeddings(source, weights)
    if data is None and kept.is_file():
        return read_embeddings(kept), encoder, images
    return embed(encoder, images), encoder, images


def _encoder_and_images(source: Path, weights: str, data: DataConfig | None) -> tuple[Encoder, ImageSet]:
    encoder = load_encoder(source / WEIGHTS[weights] if source.is_dir() else source)
    if data is not None:
        images = load(data)
        for note in images.notes:
            print(note)
        return encoder, images
    settings = source / "config.yaml"
    if not settings.is_file():
        raise ConfigError(f"{source} does not say which images to take; say it with --data.")
    known = {k: v for k, v in read_yaml(settings).items() if k in DataConfig.model_fields}
    images = load(DataConfig(**known))
    if images.fingerprint != encoder.card.fingerprint:
        raise DataError(
            f"the images of {source} have changed since training (fingerprint {encoder.card.fingerprint[:8]} then, "
            f"{images.fingerprint[:8]} now). Say with --data which to take."
        )
    return encoder, images


def _keep(source: Path, name: str, scores: dict[str, Any], data: DataConfig | None) -> None:
    """Add scores of a run's own images to its metrics.json."""
    file = source / "metrics.json"
    if data is None and source.is_dir() and file.is_file():
        write_json(file, json.loads(file.read_text("utf-8")) | {name: scores})
