"""Carry out the rows of a table: train what they share once, score each row as soon as its encoders are there.

Rows go in blocks of one data set and one seed, so that a stop leaves whole blocks. What is finished is not repeated:
rows by their records, trainings by their run directories.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thanos.config import RunConfig, TrainConfig
from thanos.errors import Interrupted
from thanos.provenance import commit
from thanos.reproduce.record import Places, fingerprint, read_record
from thanos.reproduce.rows import Block, Part, Row
from thanos.reproduce.score import score_row
from thanos.storage import write_text
from thanos.training.fit import train

Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """What went wrong; the rest of the plan went on."""

    title: str
    reason: str
    log: Path


@dataclass(frozen=True)
class _Training:
    config: TrainConfig
    folder: Path

    @property
    def finished(self) -> bool:
        return (self.folder / "metrics.json").is_file()

    @property
    def title(self) -> str:
        return f"{self.config.data}, seed {self.config.seed}: {self.config.method}{_told(self.config)}"


@dataclass(frozen=True)
class _Scoring:
    block: Block
    row: Row
    needs: tuple[_Training, ...]

    @property
    def title(self) -> str:
        return f"{self.block.title}: {self.row.name}"


def _told(config: TrainConfig) -> str:
    """What distinguishes a training from others of its method."""
    shown = {"alpha": "auto", "temperature": 0.5, "labels": "superclass", "reconstruction_weight": 1.0}
    return "".join(f", {key} {getattr(config, key)}" for key, usual in shown.items() if getattr(config, key) != usual)


def missing(blocks: Sequence[Block], places: Places) -> list[Block]:
    """The blocks with their unfinished rows only; finished blocks are left out.

    Raises:
        DataError: if a record was edited.
    """
    left = []
    for block in blocks:
        rows = tuple(row for row in block.rows if read_record(places.record_file(row, block)) is None)
        if rows:
            left.append(Block(block.base, rows, block.probe))
    return left


def trainings(blocks: Sequence[Block], places: Places) -> dict[str, "_Training"]:
    """Every training that these rows need, each once, by fingerprint; within a block the longest first."""
    found: dict[str, _Training] = {}
    for block in blocks:
        parts = [part for row in block.rows for part in row.parts]
        for part in sorted(parts, key=lambda part: part.method != "cauto"):
            training = _training(part, block.base, places)
            found.setdefault(fingerprint(training.config), training)
    return found


def _training(part: Part, base: TrainConfig, places: Places) -> _Training:
    config = part.config(base)
    return _Training(config, places.run_folder(config))


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
        Interrupted: after SIGINT, with every training's state saved.
    """
    blocks = missing(blocks, places)
    to_train = trainings(blocks, places)
    queue = [training for training in to_train.values() if not training.finished]
    to_score = [
        _Scoring(block, row, tuple(to_train[fingerprint(p.config(block.base))] for p in row.parts))
        for block in blocks
        for row in block.rows
    ]
    ended = {t.folder: True for t in to_train.values() if t.finished}  # run folder -> whether its training succeeded
    failures: list[Failure] = []
    progress = _Progress(len(queue), jobs, say)
    facts = {"command": command, "threads": run.threads, "jobs": jobs, "commit": commit()}  # of the code loaded now
    with _stopped_by_hand(), _Workers(jobs) as workers:
        running: dict[Future[_Outcome], _Training | _Scoring] = {}
        while True:
            while len(running) < jobs and (task := _next(blocks, to_score, queue, ended)) is not None:
                running[workers.submit(_work, task, places, run, facts)] = task
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                done, _ = wait(running)  # a process died: the pool ends all others too
                workers.renew()
            for future in done:
                task, outcome = running.pop(future), _outcome_of(future)
                if outcome.interrupted:
                    raise KeyboardInterrupt
                if isinstance(task, _Training):
                    ended[task.folder] = outcome.error is None
                if outcome.error is not None:
                    failures.append(_report(task, outcome.error, places, say))
                else:
                    progress.tell(task, outcome)
                if isinstance(task, _Scoring) and not any(s.block is task.block for s in _open(to_score, running)):
                    after_block()
    return failures


@contextmanager
def _stopped_by_hand() -> Iterator[None]:
    """Ctrl-C reaches the workers too, which save their states before this goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped, with all states saved; the same command goes on.", signal.SIGINT) from None


def _next(
    blocks: Sequence[Block], to_score: list[_Scoring], queue: list[_Training], ended: dict[Path, bool]
) -> "_Training | _Scoring | None":
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


def _open(to_score: list[_Scoring], running: dict[Any, Any]) -> Iterator[_Scoring]:
    yield from to_score
    yield from (task for task in running.values() if isinstance(task, _Scoring))


@dataclass(frozen=True)
class _Outcome:
    seconds: float = 0.0
    accuracy: float | None = None
    error: str | None = None
    interrupted: bool = False


def _work(task: _Training | _Scoring, places: Places, run: RunConfig, facts: dict[str, Any]) -> _Outcome:
    """One task, in whatever process; tells how it ended instead of raising."""
    started, accuracy = time.perf_counter(), None
    try:
        if isinstance(task, _Training):
            train(task.config, task.folder, run=run, say=lambda line: None)
        else:
            folders = tuple(training.folder for training in task.needs)
            file = places.record_file(task.row, task.block)
            accuracy = score_row(task.row, task.block.base, task.block.probe, folders, file, facts)
    except (Interrupted, KeyboardInterrupt):
        return _Outcome(interrupted=True)
    except Exception:
        return _Outcome(error=traceback.format_exc())
    return _Outcome(time.perf_counter() - started, accuracy)


def _outcome_of(future: "Future[_Outcome]") -> _Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        return _Outcome(error="its process died, perhaps for lack of memory; fewer --jobs need less.")


def _report(task: _Training | _Scoring, error: str, places: Places, say: Say) -> Failure:
    log = places.work / "failed" / f"{task.title.replace(': ', '-').replace(', ', '-').replace(' ', '-')}.log"
    write_text(log, error + "\n")
    reason = error.strip().splitlines()[-1]
    say(f"failed: {task.title}: {reason}")
    return Failure(task.title, reason, log)


class _Progress:
    """A line for each task done, with the time left as the trainings so far let expect."""

    def __init__(self, total: int, jobs: int, say: Say):
        self._total, self._jobs, self._say = total, jobs, say
        self._trained, self._spent = 0, 0.0

    def tell(self, task: _Training | _Scoring, outcome: _Outcome) -> None:
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


class _Workers:
    """Processes that take tasks; a single one is this process itself."""

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._pool: Executor | None = None

    def __enter__(self) -> "_Workers":
        self.renew()
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def renew(self) -> None:
        """A fresh pool; one that lost a process takes no more tasks."""
        if self._jobs > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._jobs, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)
            )

    def submit(self, function: Callable[..., _Outcome], *arguments: Any) -> "Future[_Outcome]":
        if self._pool is not None:
            return self._pool.submit(function, *arguments)
        future: Future[_Outcome] = Future()
        future.set_result(function(*arguments))
        return future


def _end_with(parent: int) -> None:
    """A worker whose parent was killed ends too, instead of training on unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
