"""The demonstration: digits labelled only '< 5' or '>= 5', and which method still knows the ten digits afterwards."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thanos.config import DemoConfig, RunConfig, TrainConfig, read_yaml, save
from thanos.errors import OutputError
from thanos.evaluate.knn import nearest_to_examples
from thanos.report.demo_page import TITLE, write_demo_page
from thanos.reproduce.comparison import compare, table_lines
from thanos.storage import holds, read_json, refuse_foreign, says, write_json
from thanos.storage.schemas import Demonstration


def demo_settings(config: DemoConfig) -> TrainConfig:
    """What all methods share (crops stand with the data set); results/digits_settings.json shows how it was chosen."""
    return TrainConfig(
        data="digits",
        method="supcon",
        encoder="tiny",
        epochs=config.epochs,
        batch=128,
        learning_rate=1e-3,
        temperature=0.5,
    )


def run_demo(config: DemoConfig, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, evaluate, print the table, write metrics.json and report.html into ``out``.

    Raises:
        OutputError: if ``out`` holds something else.
    """
    _open_folder(config, out)
    page, numbers = out / "report.html", out / "metrics.json"
    refuse_foreign(page, says(TITLE), "thanos demo")
    refuse_foreign(numbers, holds("methods", "paired_differences"), "thanos demo")
    if page.exists() and numbers.exists():
        say(f"{out} holds this demo, finished; nothing to do. Open {page}.")
        return read_json(numbers, Demonstration)
    command = f"thanos demo --seeds {config.seeds} --epochs {config.epochs}"
    cores = os.cpu_count() or 1
    jobs = config.jobs or min(4, cores)
    run = RunConfig(threads=max(1, cores // jobs), quiet=True)
    say(f"training {4 * config.seeds} encoders on 1,294 digits each, {jobs} at a time; this takes a few minutes")
    result = compare(demo_settings(config), config.seeds, out, run=run, jobs=jobs, command=command, say=say)
    for line in table_lines(result.metrics):
        say(line)
    write_json(numbers, result.metrics)
    write_demo_page(
        page,
        metrics=result.metrics,
        images=result.images,
        embedded=result.embedded,
        logged=result.curves,
        neighbours={name: nearest_to_examples(result.embedded[name].of("test"), 7) for name in ("supcon", "thanos")},
    )
    say(f"report: {page}")
    return result.metrics


def _open_folder(config: DemoConfig, out: Path) -> None:
    mark = out / "demo.yaml"
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        out.mkdir(parents=True, exist_ok=True)
        save(config, mark)
        return
    if not mark.is_file():
        raise OutputError(f"`out` takes a new or empty folder, or this demo's own; {out} holds something else.")
    there = DemoConfig.model_validate(read_yaml(mark))
    if (there.seeds, there.epochs) != (config.seeds, config.epochs):
        raise OutputError(
            f"{out} holds a demo of {there.seeds} seeds and {there.epochs} epochs, not {config.seeds} and "
            f"{config.epochs}. Name another `out`."
        )
