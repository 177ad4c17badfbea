"""Carry out the rows of a table: train what they share once, score each row as soon as its encoders are there.

Rows go in blocks of one data set and one seed, so that a stop leaves whole blocks. What is finished is not repeated:
rows by their records, trainings by their run directories.
"""

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from thanos import registry
from thanos.config import RunConfig, TrainConfig
from thanos.data.load import load
from thanos.errors import DataError, Interrupted, OutputError
from thanos.reproduce.fingerprint import fingerprint
from thanos.reproduce.records import Places, Records, record_file
from thanos.reproduce.rows import Block, Part, Row
from thanos.reproduce.score import score_row
from thanos.runs.provenance import commit
from thanos.runs.run_dir import RunDir
from thanos.storage import begins, write_text
from thanos.training.fit import train
from thanos.workers import Died, Workers

Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """What went wrong; the rest of the plan went on."""

    title: str
    reason: str
    log: Path


@dataclass(frozen=True)
class Training:
    """One encoder's training, and its run directory."""

    config: TrainConfig
    folder: Path

    @property
    def finished(self) -> bool:
        return RunDir(self.folder).is_finished

    @property
    def title(self) -> str:
        return f"{self.config.data}, seed {self.config.seed}: {self.config.method}{_told(self.config)}"


@dataclass(frozen=True)
class _Scoring:
    block: Block
    row: Row
    needs: tuple[Training, ...]

    @property
    def title(self) -> str:
        return f"{self.block.title}: {self.row.name}"


def _told(config: TrainConfig) -> str:
    """What distinguishes a training from others of its method."""
    shown = {
        "alpha": "auto",
        "temperature": 0.5,
        "labels": "superclass",
        "reconstruction_weight": 1.0,
        "encoders": "two",
    }
    return "".join(f", {key} {getattr(config, key)}" for key, usual in shown.items() if getattr(config, key) != usual)


def missing(blocks: Sequence[Block], places: Places) -> list[Block]:
    """The blocks with their unfinished rows only; finished blocks are left out.

    Raises:
        DataError: if a record was edited.
    """
    left, records = [], Records(places.records)
    for block in blocks:
        rows = tuple(row for row in block.rows if records.find(row, block) is None)
        if rows:
            left.append(Block(block.base, rows, block.probe))
    return left


def check_images(blocks: Sequence[Block], left: Sequence[Block], places: Places) -> None:
    """Read each data set that is still needed, once, and compare it with what finished rows were measured on.

    Raises:
        DataError: if a data set is not available, its cache has no room, or its images are others.
    """
    known = Records(places.records)
    for first in {block.base.data: block for block in reversed(left)}.values():
        here = load(first.base).fingerprint
        rows = [row for block in blocks if block.title == first.title for row in block.rows]
        records = [known.find(row, first) for row in rows]
        if {record["images"]["fingerprint"] for record in records if record is not None} - {here}:
            raise DataError(
                f"the images of {first.title} are not those that its finished rows were measured on. Bring those back, "
                f"or delete {record_file(places.records, first.base.data)} to run all its rows on these."
            )


def trainings(blocks: Sequence[Block], places: Places) -> dict[str, "Training"]:
    """Every training that these rows need, each once, by fingerprint; a block's autoencoder, the longest, first."""
    found: dict[str, Training] = {}
    for block in blocks:
        parts = [part for row in block.rows for part in row.parts]
        for part in sorted(parts, key=lambda part: [*registry.method(part.method).steps] != ["autoencoder"]):
            training = _training(part, block.base, places)
            found.setdefault(fingerprint(training.config), training)
    return found


def _training(part: Part, base: TrainConfig, places: Places) -> Training:
    config = part.config(base)
    return Training(config, places.run_folder(config))


def carry_out(
    blocks: Sequence[Block],
    places: Places,
    *,
    run: RunConfig,
    jobs: int,
    command: str,
    say: Say,
    after_block: Callable[[], None] = lambda: None,
) -> list[Failure]:
    """Train and score what is missing.

    Args:
        blocks: The rows wanted, in the order wanted.
        places: Run directories and records.
        run: How each training is carried out.
        jobs: Trainings and scorings side by side, each in a process of its own; one stays in this process.
        command: What to type to repeat it; kept in every record.
        say: Receives a line for each step done.
        after_block: Called whenever all rows of a block have ended.
    Returns:
        What failed; everything that does not need it was done.
    Raises:
        Interrupted: after SIGINT or SIGTERM, with every training's state saved.
    """
    blocks = missing(blocks, places)
    to_train = trainings(blocks, places)
    queue = [training for training in to_train.values() if not training.finished]
    for training in to_train.values():
        if training.finished:
            RunDir(training.folder).clear_lock()
    to_score = [
        _Scoring(block, row, tuple(to_train[fingerprint(p.config(block.base))] for p in row.parts))
        for block in blocks
        for row in block.rows
    ]
    ended = {t.folder: True for t in to_train.values() if t.finished}  # run folder -> whether its training succeeded
    failures: list[Failure] = []
    progress = _Progress(len(queue), jobs, say)
    facts = {"command": command, "threads": run.threads, "jobs": jobs, "commit": commit()}  # of the code loaded now
    workers: Workers[Training | _Scoring, _Outcome] = Workers(_work, jobs)
    with _stopped_by_hand(), workers:
        while True:
            while workers.free and (task := _next(blocks, to_score, queue, ended)) is not None:
                workers.start(task, places, run, facts)
            if not workers.tasks:
                break
            for task, outcome in workers.finished():
                if isinstance(outcome, Died):
                    outcome = _Outcome(error=f"{outcome}, perhaps for lack of memory; fewer `jobs` need less.")
                if outcome.stopped_by is not None:
                    raise Interrupted(_STOPPED, outcome.stopped_by)
                if isinstance(task, Training):
                    ended[task.folder] = outcome.error is None
                if outcome.error is not None:
                    failures.append(_report(task, outcome.error, places, say))
                else:
                    progress.tell(task, outcome)
                if isinstance(task, _Scoring) and not any(
                    isinstance(other, _Scoring) and other.block is task.block for other in (*to_score, *workers.tasks)
                ):
                    after_block()
    return failures


_STOPPED = "stopped, with all states saved; the same command goes on."


@contextmanager
def _stopped_by_hand() -> Iterator[None]:
    """SIGINT and SIGTERM end the plan as Interrupted, after the workers have saved their states."""

    def stop(number: int, frame: Any) -> None:
        raise Interrupted(_STOPPED, number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _next(
    blocks: Sequence[Block], to_score: list[_Scoring], queue: list[Training], ended: dict[Path, bool]
) -> "Training | _Scoring | None":
    """Block by block: a row whose encoders are all there, else a training that the block still needs.

    Rows that lack an encoder for good are dropped.
    """
    to_score[:] = [scoring for scoring in to_score if all(ended.get(t.folder, True) for t in scoring.needs)]
    for block in blocks:
        waiting = [scoring for scoring in to_score if scoring.block is block]
        for scoring in waiting:
            if all(training.folder in ended for training in scoring.needs):
                to_score.remove(scoring)
                return scoring
        needed = [training for training in queue if any(training in scoring.needs for scoring in waiting)]
        if needed:
            queue.remove(needed[0])
            return needed[0]
    return None


@dataclass(frozen=True)
class _Outcome:
    seconds: float = 0.0
    accuracy: float | None = None
    error: str | None = None
    stopped_by: int | None = None
    """The signal that ended it."""


def _work(task: Training | _Scoring, places: Places, run: RunConfig, facts: dict[str, Any]) -> _Outcome:
    """One task, in whatever process; tells how it ended instead of raising."""
    started, accuracy = time.perf_counter(), None
    try:
        if isinstance(task, Training):
            train(task.config, task.folder, run=run, say=lambda line: None)
        else:
            folders = tuple(training.folder for training in task.needs)
            accuracy = score_row(task.row, task.block.base, task.block.probe, folders, places.records, facts)
    except Interrupted as stop:
        return _Outcome(stopped_by=stop.exit_code - 128)
    except Exception:
        return _Outcome(error=traceback.format_exc())
    return _Outcome(time.perf_counter() - started, accuracy)


FAILED = "thanos reproduce: what went wrong"
"""The first line of the log of a failure."""


def _report(task: Training | _Scoring, error: str, places: Places, say: Say) -> Failure:
    named = places.work / "failed" / f"{task.title.replace(': ', '-').replace(', ', '-').replace(' ', '-')}.log"
    numbers = (named.with_stem(f"{named.stem}-{k}") for k in count(2))
    log = next(file for file in chain([named], numbers) if not file.exists() or begins(FAILED)(file))
    with suppress(OutputError):  # a full disk may be why it failed
        write_text(log, f"{FAILED}\n{error}\n")
    reason = error.strip().splitlines()[-1]
    say(f"failed: {task.title}: {reason}")
    return Failure(task.title, reason, log)


class _Progress:
    """A line for each task done, with the time left as the trainings so far let expect."""

    def __init__(self, total: int, jobs: int, say: Say):
        self._total, self._jobs, self._say = total, jobs, say
        self._trained, self._spent = 0, 0.0

    def tell(self, task: Training | _Scoring, outcome: _Outcome) -> None:
        if isinstance(task, _Scoring):
            self._say(f"          {task.title} {outcome.accuracy:.1%}")
            return
        self._trained += 1
        self._spent += outcome.seconds
        left = self._spent / self._trained * (self._total - self._trained) / self._jobs
        ahead = f" · about {duration(left)} left" if left else ""
        self._say(f"{self._trained}/{self._total} {task.title} trained in {duration(outcome.seconds)}{ahead}")


def duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
