"""The demonstration: digits labelled only '< 5' or '>= 5', and which method still knows the ten digits afterwards."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thanos.artefact import Encoder, ModelCard, load_encoder
from thanos.config import DataConfig, DemoConfig, RunConfig, TrainConfig, TransferConfig, save
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.embeddings import Embeddings, embed, side_by_side
from thanos.encoder import build_encoder
from thanos.errors import OutputError
from thanos.evaluate.geometry import geometry
from thanos.evaluate.transfer import transfer
from thanos.report.demo_page import write_demo_page
from thanos.storage import write_json
from thanos.training.fit import commit, hardware, train, versions

METHODS = ("supcon", "spread", "cauto")
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


def settings_for(method: str, seed: int, config: DemoConfig) -> TrainConfig:
    """The settings all methods share; see results/digits_settings.json for how they were chosen."""
    return TrainConfig(
        data="digits",
        method=method,
        encoder="tiny",
        epochs=config.epochs,
        batch=128,
        learning_rate=2e-3,
        temperature=0.5,
        seed=seed,
        split_seed=seed % CONTROL_SEED,
    )


def run_demo(config: DemoConfig, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, evaluate, print the table, write metrics.json and report.html into ``out``.

    Raises:
        OutputError: if ``out`` holds something else.
    """
    _open_folder(config, out)
    done = out / "metrics.json"
    if done.exists() and (out / "report.html").exists():
        say(f"{out} holds this demo, finished; nothing to do. Open {out / 'report.html'}.")
        return json.loads(done.read_text("utf-8"))  # type: ignore[no-any-return]
    started = time.perf_counter()
    run = RunConfig(threads=config.threads, quiet=True)
    scores: dict[str, list[dict[str, Any]]] = {row: [] for row in ROWS}
    for seed in range(config.seeds):
        images = load(DataConfig(data="digits", split_seed=seed))
        embedded = _embed_all(images, seed, config, out, run, say)
        for row, embeddings in embedded.items():
            transferred = transfer(embeddings, TransferConfig())
            scores[row].append(
                {"probe": transferred["probe"], "neighbours": transferred["neighbours"], **geometry(embeddings)}
            )
        if seed == 0:
            shown = embedded, images
    metrics = summarize(scores, config, time.perf_counter() - started)
    for line in table_lines(metrics):
        say(line)
    write_json(out / "metrics.json", metrics)
    write_demo_page(out, metrics, *shown)
    say(f"report: {out / 'report.html'}")
    return metrics


def _open_folder(config: DemoConfig, out: Path) -> None:
    mark = out / "demo.yaml"
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        fresh = DemoConfig.model_validate(_read(mark)) if mark.is_file() else None
        if fresh is None or fresh.model_copy(update={"threads": config.threads}) != config:
            raise OutputError(
                f"--out takes a new or empty folder, or this demo's own; {out} holds "
                f"{'a demo with other settings' if fresh else 'something else'}."
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    save(config, mark)


def _read(path: Path) -> dict[str, Any]:
    from thanos.config import read_yaml

    return read_yaml(path)


def _embed_all(
    images: ImageSet,
    seed: int,
    config: DemoConfig,
    out: Path,
    run: RunConfig,
    say: Callable[[str], None],
) -> dict[str, Embeddings]:
    """The embedding of every row of the table, for one seed."""
    encoders: dict[str, Encoder] = {}
    for row, method, its_seed in [*((m, m, seed) for m in METHODS), ("control", "spread", seed + CONTROL_SEED)]:
        folder = out / "runs" / f"{row}-{seed}"
        begun = time.perf_counter()
        encoders[row] = train(
            settings_for(method, its_seed, config), folder, images=images, run=run, say=lambda line: None
        ).encoder
        say(f"seed {seed + 1} of {config.seeds} · {row} trained in {time.perf_counter() - begun:.0f} s")
    encoders["supcon, best epoch"] = load_encoder(out / "runs" / f"supcon-{seed}" / "best.safetensors")
    encoders["random encoder"] = random_encoder(encoders["supcon"].card, seed)
    embedded = {row: embed(encoder, images, two_views=True) for row, encoder in encoders.items()}
    embedded["raw pixels"] = raw_pixels(images, embedded["supcon"])
    embedded["thanos"] = side_by_side(embedded["spread"], embedded["cauto"])
    embedded["spread + spread"] = side_by_side(embedded["spread"], embedded["control"])
    return {row: embedded[row] for row in ROWS}


def random_encoder(card: ModelCard, seed: int) -> Encoder:
    """The same encoder, untrained."""
    torch.manual_seed(seed)
    module = build_encoder(card.encoders[0], channels=card.channels, size=card.size)
    return Encoder(module.eval(), card)


def raw_pixels(images: ImageSet, like: Embeddings) -> Embeddings:
    """The pixels themselves as embeddings."""
    pixels = images.images[np.arange(len(images))].reshape(len(images), -1).astype(np.float32)
    return replace(like, vectors=pixels, first_view=None, second_view=None)


def summarize(scores: dict[str, list[dict[str, Any]]], config: DemoConfig, seconds: float) -> dict[str, Any]:
    """Mean, standard deviation and n of each number over the seeds, with all that is needed to repeat it."""

    def over_seeds(values: list[float]) -> dict[str, Any]:
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return {"mean": float(np.mean(values)), "sd": spread, "n": len(values), "values": values}

    methods = {
        row: {
            "what": ROWS[row],
            "probe_accuracy": over_seeds([s["probe"]["accuracy"] for s in of_row]),
            "neighbour_accuracy": over_seeds([s["neighbours"]["accuracy"] for s in of_row]),
            "within_class_spread": over_seeds([s["spread"] for s in of_row]),
            "subclass_purity": over_seeds([s["subclass_purity"] for s in of_row]),
        }
        for row, of_row in scores.items()
    }
    gains = {
        name: over_seeds(
            [x["probe"]["accuracy"] - y["probe"]["accuracy"] for x, y in zip(scores[a], scores[b], strict=True)]
        )
        for name, a, b in (
            ("spread - supcon", "spread", "supcon"),
            ("thanos - supcon", "thanos", "supcon"),
            ("thanos - spread + spread (what the autoencoder gives)", "thanos", "spread + spread"),
        )
    }
    return {
        "command": f"thanos demo --seeds {config.seeds} --epochs {config.epochs}",
        "definitions": {
            "probe_accuracy": "share of test images whose digit a logistic regression on the frozen embedding names; "
            "its strength is chosen on validation images",
            "neighbour_accuracy": "the same by a vote of the 20 nearest training images",
            "within_class_spread": "1 - mean cosine between embeddings of different test images of one superclass",
            "subclass_purity": "share of test images whose nearest neighbour in their superclass shows the same digit",
        },
        "test_images": 359,
        "methods": methods,
        "paired_differences": gains,
        "settings": settings_for("supcon", 0, config).model_dump(mode="json", exclude={"method", "seed"}),
        "seconds": round(seconds, 1),
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }


def table_lines(metrics: dict[str, Any]) -> list[str]:
    """The table as it is printed."""

    def cell(number: dict[str, Any], scale: float = 100) -> str:
        return (
            f"{number['mean'] * scale:6.1f} ± {number['sd'] * scale:.1f}"
            if number["sd"] is not None
            else (f"{number['mean'] * scale:6.1f}      ")
        )

    lines = ["", f"{'':<20}{'ten digits, linear probe %':>28}{'20 neighbours %':>18}{'spread x 100':>16}"]
    for row, numbers in metrics["methods"].items():
        lines.append(
            f"{row:<20}{cell(numbers['probe_accuracy']):>28}{cell(numbers['neighbour_accuracy']):>18}"
            f"{cell(numbers['within_class_spread']):>16}"
        )
    n = metrics["methods"]["supcon"]["probe_accuracy"]["n"]
    lines.append(f"mean ± standard deviation of {n} seed{'s' if n > 1 else ''}; training saw only '< 5' and '>= 5'")
    for name, gain in metrics["paired_differences"].items():
        lines.append(f"{name}: {gain['mean'] * 100:+.1f} points")
    return [*lines, ""]
