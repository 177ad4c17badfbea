"""SupCon, L_spread, the autoencoder and THANOS on the same images, seed by seed, each with the control that fits."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thanos.artefact import Encoder, ModelCard, load_encoder
from thanos.config import RunConfig, TrainConfig, TransferConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.embeddings import Embeddings, embed, side_by_side
from thanos.encoder import build_encoder
from thanos.evaluate.geometry import geometry
from thanos.evaluate.transfer import transfer
from thanos.provenance import commit, hardware, versions
from thanos.training.fit import train

CONTROL_SEED = 1000
"""Added to a seed to draw the control's second encoder."""

ROWS = {
    "raw pixels": "floor: no encoder",
    "random encoder": "floor: the untrained encoder",
    "supcon": "SupCon: attracts each superclass",
    "supcon, best epoch": "SupCon at its best epoch by validation superclass accuracy",
    "spread": "SupCon + class-conditional InfoNCE",
    "cauto": "class-conditional autoencoder",
    "thanos": "spread and cauto side by side",
    "spread + spread": "control for thanos: two spread encoders of different seeds side by side",
}
DIFFERENCES = {
    "spread - supcon": ("spread", "supcon"),
    "thanos - supcon": ("thanos", "supcon"),
    "thanos - spread": ("thanos", "spread"),
    "thanos - control (what the autoencoder gives)": ("thanos", "spread + spread"),
}
DEFINITIONS = {
    "probe_accuracy": "share of test images whose subclass a logistic regression on the frozen embedding names; its "
    "strength is chosen on validation images",
    "neighbour_accuracy": "the same by a vote of the 20 nearest training images",
    "within_class_spread": "1 - mean cosine between embeddings of different test images of one superclass",
    "subclass_purity": "share of test images whose nearest neighbour in their superclass is of their subclass",
}


@dataclass(frozen=True)
class Comparison:
    """All numbers, and the first seed's images and embeddings to look at."""

    metrics: dict[str, Any]
    images: ImageSet
    embedded: dict[str, Embeddings]


@dataclass(frozen=True)
class Training:
    """One run of a comparison."""

    seed: int
    name: str
    config: TrainConfig
    folder: Path


def compare(
    base: TrainConfig, seeds: int, out: Path, *, run: RunConfig, jobs: int, command: str, say: Callable[[str], None]
) -> Comparison:
    """Train every row for every seed (split, initialisation, order and views all follow the seed) and evaluate.

    Args:
        base: The settings all methods share.
        seeds: Paired repetitions, 0 to seeds - 1.
        out: Run directories go to ``out/runs``; finished ones are not repeated, unfinished ones go on.
        run: How each run is carried out.
        jobs: Runs side by side, each in a process of its own.
        command: What to type to repeat it; kept with the numbers.
        say: Receives a line for each finished training.
    """
    started = time.perf_counter()
    plan = [training for seed in range(seeds) for training in _trainings(base, seed, out)]
    seconds = dict(_carry_out(plan, run, jobs, say))
    scores: dict[str, list[dict[str, Any]]] = {row: [] for row in ROWS}
    shown: tuple[ImageSet, dict[str, Embeddings]] | None = None
    for seed in range(seeds):
        images = load(base.model_copy(update={"split_seed": seed}))
        spent = {t.name: seconds[t.folder] for t in plan if t.seed == seed}
        embedded = _embed_all({t.name: t.folder for t in plan if t.seed == seed}, images, seed)
        for row, embeddings in embedded.items():
            scores[row].append(transfer(embeddings, TransferConfig()) | geometry(embeddings))
            scores[row][-1]["seconds"] = _training_seconds(row, spent)
            scores[row][-1]["width"] = embeddings.vectors.shape[1]
        shown = shown or (images, embedded)
    assert shown is not None
    metrics = (
        {"command": command}
        | summarize(scores)
        | {
            "test_images": len(shown[0].rows("test")),
            "settings": base.model_dump(mode="json", exclude={"method", "seed", "split_seed"}),
            "jobs": jobs,
            "threads_each": run.threads,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
            "hardware": hardware(),
            "commit": commit(),
        }
    )
    return Comparison(metrics, *shown)


def _trainings(base: TrainConfig, seed: int, out: Path) -> list[Training]:
    """What one seed trains; the control's second encoder differs from the first by its seed alone."""
    runs = (
        ("supcon", "supcon", 0),
        ("spread", "spread", 0),
        ("cauto", "cauto", 0),
        ("second spread", "spread", CONTROL_SEED),
    )
    return [
        Training(
            seed,
            name,
            base.model_copy(update={"method": method, "seed": seed + offset, "split_seed": seed}),
            out / "runs" / f"{name.replace(' ', '-')}-{seed}",
        )
        for name, method, offset in runs
    ]


def _carry_out(
    plan: list[Training], run: RunConfig, jobs: int, say: Callable[[str], None]
) -> Iterator[tuple[Path, float | None]]:
    """Each run's folder and seconds (None where it was interrupted), as they finish; the longest start first."""
    plan = sorted(plan, key=lambda t: (t.seed, t.name != "cauto"))
    if jobs == 1:
        results: Iterator[float | None] = (_train_one(training, run) for training in plan)
        pool = None
    else:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with, initargs=(os.getpid(),))
        results = pool.map(_train_one, plan, [run] * len(plan))
    try:
        for number, (training, seconds) in enumerate(zip(plan, results, strict=True), start=1):
            spent = "" if seconds is None else f" in {seconds:.0f} s"
            say(f"{number}/{len(plan)} trained: {training.name}, seed {training.seed}{spent}")
            yield training.folder, seconds
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed ends too, instead of training on unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _train_one(training: Training, run: RunConfig) -> float | None:
    metrics = train(training.config, training.folder, run=run, say=lambda line: None).metrics
    seconds: float | None = metrics["seconds"]
    return seconds


def _embed_all(folders: dict[str, Path], images: ImageSet, seed: int) -> dict[str, Embeddings]:
    """The embedding of every row of the table."""
    encoders = {name: load_encoder(folder) for name, folder in folders.items()}
    encoders["supcon, best epoch"] = load_encoder(folders["supcon"] / "best.safetensors")
    encoders["random encoder"] = random_encoder(encoders["supcon"].card, seed)
    embedded = {row: embed(encoder, images) for row, encoder in encoders.items()}
    embedded["raw pixels"] = raw_pixels(images, embedded["supcon"])
    embedded["thanos"] = side_by_side(embedded["spread"], embedded["cauto"])
    embedded["spread + spread"] = side_by_side(embedded["spread"], embedded["second spread"])
    return {row: embedded[row] for row in ROWS}


def _training_seconds(row: str, seconds: dict[str, float | None]) -> float | None:
    parts = {
        "raw pixels": (),
        "random encoder": (),
        "supcon, best epoch": ("supcon",),
        "thanos": ("spread", "cauto"),
        "spread + spread": ("spread", "second spread"),
    }.get(row, (row,))
    spent = [seconds[part] for part in parts]
    return None if None in spent else float(sum(s for s in spent if s is not None))


def random_encoder(card: ModelCard, seed: int) -> Encoder:
    """The same encoder, untrained."""
    torch.manual_seed(seed)
    module = build_encoder(card.encoders[0], channels=card.channels, size=card.size)
    return Encoder(module.eval(), card)


def raw_pixels(images: ImageSet, like: Embeddings) -> Embeddings:
    """The pixels themselves as embeddings."""
    pixels = images.images[np.arange(len(images))].reshape(len(images), -1).astype(np.float32)
    return replace(like, vectors=pixels)


def summarize(scores: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean, standard deviation and n of each number over the seeds; differences are paired by seed."""
    methods = {
        row: {
            "what": ROWS[row],
            "width": of_row[0]["width"],
            "training_seconds": _over_seeds([s["seconds"] for s in of_row if s["seconds"] is not None]),
            "probe_accuracy": _over_seeds([s["probe"]["accuracy"] for s in of_row]),
            "neighbour_accuracy": _over_seeds([s["neighbours"]["accuracy"] for s in of_row]),
            "within_class_spread": _over_seeds([s["spread"] for s in of_row]),
            "subclass_purity": _over_seeds([s["subclass_purity"] for s in of_row]),
        }
        for row, of_row in scores.items()
    }
    differences = {
        name: _over_seeds(
            [x["probe"]["accuracy"] - y["probe"]["accuracy"] for x, y in zip(scores[a], scores[b], strict=True)]
        )
        for name, (a, b) in DIFFERENCES.items()
    }
    return {"definitions": DEFINITIONS, "methods": methods, "paired_differences": differences}


def _over_seeds(values: list[float]) -> dict[str, Any]:
    if not values:
        return {"mean": None, "sd": None, "n": 0, "values": []}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": deviation, "n": len(values), "values": values}


def table_lines(metrics: dict[str, Any]) -> list[str]:
    """The table as it is printed."""

    def cell(number: dict[str, Any]) -> str:
        deviation = "" if number["sd"] is None else f" ± {number['sd'] * 100:.1f}"
        return f"{number['mean'] * 100:.1f}{deviation}"

    lines = [
        "",
        f"{'':<20}{'fine, linear probe %':>21}{'20 neighbours %':>18}{'spread x 100':>15}{'width':>7}{'train s':>9}",
    ]
    for row, numbers in metrics["methods"].items():
        seconds = numbers["training_seconds"]["mean"]
        lines.append(
            f"{row:<20}{cell(numbers['probe_accuracy']):>21}{cell(numbers['neighbour_accuracy']):>18}"
            f"{cell(numbers['within_class_spread']):>15}{numbers['width']:>7}"
            f"{'' if seconds is None else f'{seconds:.0f}':>9}"
        )
    n = metrics["methods"]["supcon"]["probe_accuracy"]["n"]
    lines.append(f"mean ± standard deviation of {n} seed{'s' if n > 1 else ''}; {metrics['test_images']:,} test images")
    lines += [
        f"{name}: {gain['mean'] * 100:+.1f} points (by seed: {', '.join(f'{v * 100:+.1f}' for v in gain['values'])})"
        for name, gain in metrics["paired_differences"].items()
    ]
    return [*lines, ""]
