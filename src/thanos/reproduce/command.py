"""``thanos reproduce``: what is missing, carried out here or by a launcher; the page after every block."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from thanos.config import LaunchConfig, RunConfig, Table3Config, Table4Config
from thanos.errors import ThanosError
from thanos.reproduce import table3, table4
from thanos.reproduce.estimate import training_seconds
from thanos.reproduce.launch import check_launcher, launch
from thanos.reproduce.plan import Training, carry_out, check_images, duration, missing, trainings
from thanos.reproduce.records import convert_old_records
from thanos.reproduce.rows import Block
from thanos.reproduce.scale import SCALES
from thanos.reproduce.table3 import places_of
from thanos.runs.run_dir import RunDir
from thanos.storage import begins, only_one, refuse_foreign

Say = Callable[[str], None]


def reproduce(config: Table3Config | Table4Config, where: LaunchConfig, results: Path, work: Path, say: Say) -> None:
    """Carry out what of the table is missing, and write the page after every block.

    Raises:
        ThanosError: before any work starts, if a scale, row or data set is not to be had, a record was edited, or
            another command is at work in the same folder; at the end, if something failed.
    """
    check_launcher(where)
    if config.dry_run:
        config = config.model_copy(update={"download": False})
    table: Any = table3 if isinstance(config, Table3Config) else table4
    page, picture = results / f"{table.NAME}.md", results / f"{table.NAME}-{Path(config.scale).stem}.png"
    refuse_foreign(page, begins(table.TITLE), f"thanos reproduce {table.NAME}")
    refuse_foreign(picture, lambda _: page.is_file(), f"thanos reproduce {table.NAME}")
    blocks: list[Block] = table.planned_blocks(config)
    places = places_of(config.scale, results, work)
    scales = [*dict.fromkeys((*SCALES, config.scale))]
    if not config.dry_run:
        for scale in scales:
            convert_old_records(places_of(scale, results, work).records, say)
    table.check_records(results, scales)
    left = missing(blocks, places)
    check_images(blocks, left, places)
    cores = os.cpu_count() or 1
    jobs = config.jobs or (1 if torch.cuda.is_available() else min(4, cores))
    run = RunConfig(threads=max(1, cores // jobs), quiet=jobs > 1)
    todo = [t for t in trainings(left, places).values() if not t.finished]
    if config.dry_run:
        stages = [row for block in left for row in block.rows if row.stage is not None and row.stage.network]
        _show_plan(blocks, left, todo, run, jobs, say)
        if stages:
            say(f"not counted: {len(stages)} of the rows train a network of their own, each as long as cross-entropy's")
        return
    command = _command(config)
    rows, rows_left = (sum(len(block.rows) for block in some) for some in (blocks, left))
    say(f"{rows - rows_left} of {rows} rows finished; {len(todo)} trainings to do")

    def show() -> None:
        table.render(results, scales)

    with only_one(places.work, "work"):
        if where.launcher == "here":
            failures = carry_out(left, places, run=run, jobs=jobs, command=command, say=say, after_block=show)
        else:
            failures = launch(left, places, where, run=run, command=command, say=say, after_block=show)
    say(f"table: {table.render(results, scales)}")
    for failure in failures:
        say(f"failed: {failure.title}: {failure.reason} (log: {failure.log})")
    if failures:
        still = [f"{block.title}: {row.name}" for block in missing(blocks, places) for row in block.rows]
        raise ThanosError(
            f"{len(failures)} of the plan's steps failed, which leaves open {'; '.join(still)}. Mend what the logs say "
            f"and start the same command again."
        )


def _command(config: Table3Config | Table4Config) -> str:
    """What to type for these rows; where things lie is left out."""
    given = config.model_dump(mode="json", exclude_defaults=True, exclude={"root", "download", "dry_run", "jobs"})
    words = ["thanos", "reproduce", "table3" if isinstance(config, Table3Config) else "table4"]
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
        state = "unfinished" if RunDir(training.folder).checkpoint.is_file() else "new"
        say(f"{training.title:<60} {state:<11} {duration(each):>8}")
    rows, open_rows = sum(len(b.rows) for b in blocks), sum(len(b.rows) for b in left)
    say(
        f"{rows} rows in {len(blocks)} blocks, {rows - open_rows} finished; {len(todo)} trainings, {jobs} at a time on "
        f"{run.threads} thread(s) each: about {duration(sum(seconds) / jobs * 1.1)}"
    )
