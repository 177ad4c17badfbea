"""SupCon, L_spread, the autoencoder and THANOS on the same images, seed by seed, each with the control that fits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import RunConfig, TrainConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.reproduce.plan import carry_out
from thanos.reproduce.records import Places, Record, Records
from thanos.reproduce.rows import ROWS, Block, Row
from thanos.reproduce.score import DEFINITIONS, row_embeddings
from thanos.runs.provenance import commit, hardware, versions
from thanos.runs.run_dir import RunDir

SHOWN = (
    "raw pixels",
    "random encoder",
    "supcon",
    "supcon (best epoch)",
    "spread",
    "cauto",
    "thanos",
    "spread + spread",
)
PICTURED = ("supcon", "spread", "cauto", "thanos")
"""Rows whose embeddings the page shows."""
DIFFERENCES = {
    "spread - supcon": ("spread", "supcon"),
    "thanos - supcon": ("thanos", "supcon"),
    "thanos - spread": ("thanos", "spread"),
    "thanos - control (what the autoencoder gives)": ("thanos", "spread + spread"),
}
NUMBERS: dict[str, Callable[[Record], float]] = {
    "probe_accuracy": lambda record: float(record["scores"]["probe"]["accuracy"]),
    "neighbour_accuracy": lambda record: float(record["scores"]["neighbours"]["accuracy"]),
    "within_class_spread": lambda record: float(record["scores"]["geometry"]["spread"]),
    "subclass_purity": lambda record: float(record["scores"]["geometry"]["subclass_purity"]),
}
"""What is taken from each record; defined in thanos.reproduce.score."""


@dataclass(frozen=True)
class Comparison:
    """All numbers, and the first seed's images, embeddings and training curves to look at."""

    metrics: dict[str, Any]
    images: ImageSet
    embedded: dict[str, Embeddings]
    curves: dict[str, list[dict[str, float]]]
    """What the trainings logged."""


def compare(
    base: TrainConfig, seeds: int, out: Path, *, run: RunConfig, jobs: int, command: str, say: Callable[[str], None]
) -> Comparison:
    """Train every row for every seed (split, initialisation, order and views all follow the seed) and evaluate.

    Args:
        base: The settings all methods share.
        seeds: Paired repetitions, 0 to seeds - 1.
        out: Run directories go to ``out/runs``, records to ``out/rows``; finished ones are not repeated.
        run: How each run is carried out.
        jobs: Runs side by side, each in a process of its own.
        command: What to type to repeat it; kept with the numbers.
        say: Receives a line for each step done.
    Raises:
        DataError: if a training failed.
    """
    started = time.perf_counter()
    rows = tuple(ROWS[name] for name in SHOWN)
    blocks = [Block(base.model_copy(update={"seed": seed, "split_seed": seed}), rows) for seed in range(seeds)]
    places = Places(out / "runs", out / "rows")
    failures = carry_out(blocks, places, run=run, jobs=jobs, command=command, say=say)
    if failures:
        raise DataError(f"{failures[0].title} failed: {failures[0].reason} The whole story is in {failures[0].log}.")
    known = Records(places.records)
    records = {row.name: [_finished(known, row, block) for block in blocks] for row in rows}
    images = load(blocks[0].base)
    folders = {row.name: tuple(places.run_folder(part.config(blocks[0].base)) for part in row.parts) for row in rows}
    metrics = (
        {"command": command}
        | summarize(records)
        | {
            "test_images": len(images.rows("test")),
            "settings": base.model_dump(mode="json", exclude={"method", "seed", "split_seed"}),
            "jobs": jobs,
            "threads_each": run.threads,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
            "hardware": hardware(),
            "commit": commit(),
        }
    )
    return Comparison(
        metrics,
        images,
        {name: row_embeddings(ROWS[name], blocks[0].base, folders[name], images) for name in PICTURED},
        {name: RunDir(folders[name][0]).logged() for name in ("supcon", "spread")},
    )


def _finished(known: Records, row: Row, block: Block) -> Record:
    record = known.find(row, block)
    assert record is not None
    return record


def training_seconds(record: Record) -> float | None:
    """Of all encoders of a row; None where one was interrupted."""
    seconds = [training["seconds"] for training in record["trainings"]]
    return None if None in seconds else float(sum(seconds))


def summarize(records: dict[str, list[Record]]) -> dict[str, Any]:
    """Mean, standard deviation and n of each number over the seeds; differences are paired by seed."""
    seconds = {row: [training_seconds(record) for record in of_row] for row, of_row in records.items()}
    methods = {
        row: {
            "what": of_row[0]["what"],
            "width": of_row[0]["width"],
            "training_seconds": over_seeds([s for s in seconds[row] if s is not None]),
        }
        | {name: over_seeds([number(record) for record in of_row]) for name, number in NUMBERS.items()}
        for row, of_row in records.items()
    }
    probe = {row: numbers["probe_accuracy"]["values"] for row, numbers in methods.items()}
    differences = {
        name: over_seeds([x - y for x, y in zip(probe[a], probe[b], strict=True)])
        for name, (a, b) in DIFFERENCES.items()
    }
    return {"definitions": DEFINITIONS, "methods": methods, "paired_differences": differences}


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (of two or more), n and the values themselves."""
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
