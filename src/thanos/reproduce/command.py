"""``thanos reproduce``: what is missing, carried out here or by a launcher; the page after every block."""

import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from thanos.config import LaunchConfig, RunConfig
from thanos.errors import ThanosError
from thanos.reproduce.estimate import training_seconds
from thanos.reproduce.launch import check_launcher, launch
from thanos.reproduce.plan import Failure, Training, carry_out, check_images, duration, missing, trainings
from thanos.reproduce.records import convert_old_records
from thanos.reproduce.rows import Block
from thanos.reproduce.scale import SCALES
from thanos.reproduce.table import Table, TableConfig, places_of
from thanos.reproduce.tables import TABLES
from thanos.runs.run_dir import RunDir
from thanos.storage import begins, refuse_foreign
from thanos.storage.locks import only_one

Say = Callable[[str], None]


def reproduce(name: str, config: TableConfig, where: LaunchConfig, results: Path, work: Path, say: Say) -> None:
    """Carry out what of a table is missing, and write its page after every block.

    Raises:
        ThanosError: before any work starts, if a scale, row or data set is not available, a record was edited, or
            another command is at work in the same folder; at the end, if something failed.
    """
    check_launcher(where)
    if config.dry_run:
        config = config.model_copy(update={"download": False})
    table, scales = TABLES[name], [*dict.fromkeys((*SCALES, config.scale))]
    _refuse_foreign_pages(table, results, scales)
    blocks, places = table.planned_blocks(config), places_of(config.scale, results, work)
    for scale in () if config.dry_run else scales:
        convert_old_records(places_of(scale, results, work).records, say)
    table.finished(results, scales)  # refuses records that were edited
    left = missing(blocks, places)
    check_images(blocks, left, places)
    jobs, run = _divided_cores(config.jobs)
    todo = [t for t in trainings(left, places).values() if not t.finished]
    if config.dry_run:
        _show_plan(blocks, left, todo, run, jobs, say)
        return
    say(f"{_count(blocks) - _count(left)} of {_count(blocks)} rows finished; {len(todo)} trainings to do")
    here = where.launcher == "here"
    start = partial(carry_out, jobs=jobs) if here else partial(launch, config=where)
    with only_one(places.work, "work"):
        failures = start(
            left, places, run=run, command=_command(name, config), say=say,
            after_block=lambda: table.render(results, scales),
        )  # fmt: skip
    say(f"table: {table.render(results, scales)}")
    _report_failures(failures, missing(blocks, places), say)


def _refuse_foreign_pages(table: Table, results: Path, scales: list[str]) -> None:
    """What was not written by this command is not written over."""
    page, command = table.page_file(results), f"thanos reproduce {table.name}"
    refuse_foreign(page, begins(table.title), command)
    for scale in scales if table.picture else ():
        refuse_foreign(table.picture_file(results, scale), lambda _: page.is_file(), command)


def _divided_cores(wanted: int | None) -> tuple[int, RunConfig]:
    """How many jobs at a time, and how each is run."""
    cores = os.cpu_count() or 1
    jobs = wanted or (1 if torch.cuda.is_available() else min(4, cores))
    return jobs, RunConfig(threads=max(1, cores // jobs), quiet=jobs > 1)


def _count(blocks: list[Block]) -> int:
    return sum(len(block.rows) for block in blocks)


def _report_failures(failures: list[Failure], left: list[Block], say: Say) -> None:
    """Raise ThanosError if there are any, with the rows that they leave open."""
    for failure in failures:
        say(f"failed: {failure.title}: {failure.reason} (log: {failure.log})")
    if failures:
        still = [f"{block.title}: {row.name}" for block in left for row in block.rows]
        raise ThanosError(
            f"{len(failures)} of the plan's steps failed, which leaves open {'; '.join(still)}. Mend what the logs say "
            f"and start the same command again."
        )


def _command(name: str, config: TableConfig) -> str:
    """What to type for these rows; where things lie is left out."""
    given = config.model_dump(mode="json", exclude_defaults=True, exclude={"root", "download", "dry_run", "jobs"})
    words = ["thanos", "reproduce", name]
    for setting, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{setting}", shlex.quote(str(each))]
    return " ".join(words)


def _show_plan(
    blocks: list[Block], left: list[Block], todo: list[Training], run: RunConfig, jobs: int, say: Say
) -> None:
    """Every training of the plan, with its time as a few steps on this machine let expect."""
    kinds = {(t.config.data, t.config.method) for t in todo if not t.config.frozen}
    if kinds:
        say(f"measuring a few steps of {len(kinds)} kinds of training ...")
    seconds = training_seconds([t.config for t in todo], run)
    for training, each in zip(todo, seconds, strict=True):
        state = "unfinished" if RunDir(training.folder).checkpoint.is_file() else "new"
        say(f"{training.title:<60} {state:<11} {'' if each is None else duration(each):>8}".rstrip())
    total = sum(each for each in seconds if each is not None) / jobs * 1.1
    say(
        f"{_count(blocks)} rows in {len(blocks)} blocks, {_count(blocks) - _count(left)} finished; {len(todo)} "
        f"trainings, {jobs} at a time on {run.threads} thread(s) each: about {duration(total)}"
    )
    if heads := sum(each is None for each in seconds):
        say(f"not counted: {heads} heads on frozen features, seconds to minutes each, and the features themselves")
    networks = [row for block in left for row in block.rows if row.stage is not None and row.stage.network]
    if networks:
        say(f"not counted: {len(networks)} of the rows train a network of their own, each as long as cross-entropy's")
