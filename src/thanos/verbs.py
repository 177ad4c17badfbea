"""What stands between the command line and the library: read a source, evaluate, print, keep the numbers."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from thanos.artefact import Encoder, load_encoder
from thanos.config import DataConfig, LaunchConfig, RunConfig, Table3Config, TransferConfig, read_yaml
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.embeddings import Embeddings, embed, kept_embeddings, read_embeddings, write_embeddings
from thanos.errors import ConfigError, DataError, ThanosError
from thanos.evaluate.geometry import EXACT, geometry
from thanos.evaluate.transfer import transfer
from thanos.reproduce.estimate import training_seconds
from thanos.reproduce.launch import check_launcher, launch
from thanos.reproduce.plan import Training, carry_out, check_images, duration, missing, only_one, trainings
from thanos.reproduce.rows import Block
from thanos.reproduce.scale import SCALES
from thanos.reproduce.table3 import check_records, places_of, planned_blocks, render
from thanos.storage import write_json
from thanos.training.folder import write_skipped

Say = Callable[[str], None]
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


def reproduce_table3(config: Table3Config, where: LaunchConfig, results: Path, work: Path, say: Say) -> None:
    """Carry out what of the table is missing, and write the page after every block.

    Raises:
        ThanosError: before any work starts, if a scale, row or data set is not to be had, a record was edited, or
            another command is at work in the same folder; at the end, if something failed.
    """
    check_launcher(where)
    if config.dry_run:
        config = config.model_copy(update={"download": False})
    blocks, places = planned_blocks(config), places_of(config.scale, results, work)
    scales = [*dict.fromkeys((*SCALES, config.scale))]
    check_records(results, scales)
    left = missing(blocks, places)
    check_images(blocks, left, places)
    cores = os.cpu_count() or 1
    jobs = config.jobs or (1 if torch.cuda.is_available() else min(4, cores))
    run = RunConfig(threads=max(1, cores // jobs), quiet=jobs > 1)
    todo = [t for t in trainings(left, places).values() if not t.finished]
    if config.dry_run:
        _show_plan(blocks, left, todo, run, jobs, say)
        return
    command = _command(config)
    rows, rows_left = (sum(len(block.rows) for block in some) for some in (blocks, left))
    say(f"{rows - rows_left} of {rows} rows finished; {len(todo)} trainings to do")

    def show() -> None:
        render(results, scales)

    with only_one(places.work):
        if where.launcher == "here":
            failures = carry_out(left, places, run=run, jobs=jobs, command=command, say=say, after_block=show)
        else:
            failures = launch(left, places, where, run=run, command=command, say=say, after_block=show)
    say(f"table: {render(results, scales)}")
    for failure in failures:
        say(f"failed: {failure.title}: {failure.reason} (log: {failure.log})")
    if failures:
        still = [f"{block.title}: {row.name}" for block in missing(blocks, places) for row in block.rows]
        raise ThanosError(
            f"{len(failures)} of the plan's steps failed, which leaves open {'; '.join(still)}. Mend what the logs say "
            f"and start the same command again."
        )


def _command(config: Table3Config) -> str:
    """What to type for these rows; where things lie is left out."""
    given = config.model_dump(mode="json", exclude_defaults=True, exclude={"root", "download", "dry_run", "jobs"})
    words = ["thanos", "reproduce", "table3"]
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{name}", shlex.quote(str(each))]
    return " ".join(words)


def _show_plan(
    blocks: list[Block], left: list[Block], todo: list[Training], run: RunConfig, jobs: int, say: Say
) -> None:
    """Every training of the plan, with its time as a few steps on this machine let expect."""
    say(f"measuring a few steps of {len({(t.config.data, t.config.method) for t in todo})} kinds of training ...")
    seconds = training_seconds([t.config for t in todo], run)
    for training, each in zip(todo, seconds, strict=True):
        state = "unfinished" if (training.folder / "last.ckpt").is_file() else "new"
        say(f"{training.title:<60} {state:<11} {duration(each):>8}")
    rows, open_rows = sum(len(b.rows) for b in blocks), sum(len(b.rows) for b in left)
    say(
        f"{rows} rows in {len(blocks)} blocks, {rows - open_rows} finished; {len(todo)} trainings, {jobs} at a time on "
        f"{run.threads} thread(s) each: about {duration(sum(seconds) / jobs * 1.1)}"
    )
