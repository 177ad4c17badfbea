"""Tasks side by side, each in a fresh process: what ends one of them, memory too, ends no other."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
PATIENCE = 60
"""Seconds a task has to save its state when it is asked to stop."""

IMPORTS = (
    "thanos.reproduce.plan",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.neighbors",
    "sklearn.datasets",
)
"""What tasks import, at their start or as they go."""


def start_importing() -> None:
    """Let the server that tasks are forked from begin its imports, while this process does something else."""
    if _FORKS:
        forkserver.set_forkserver_preload([*IMPORTS])
        forkserver.ensure_running()


_FORKS = "forkserver" in multiprocessing.get_all_start_methods()


class Died(Exception):
    """A task's process ended without a result."""


class Workers(Generic[Task, Result]):
    """At most ``jobs`` tasks at a time; with one job they run in this process.

    Where the system can, processes are forked from a server that has imported the package once.

    Args:
        work: What is done with a task; importable by name, like its arguments and result.
        jobs: How many at a time.
    """

    def __init__(self, work: Callable[..., Result], jobs: int):
        self._work, self._jobs = work, jobs
        self._running: dict[Connection, tuple[BaseProcess, Task]] = {}
        self._here: list[tuple[Task, Result]] = []
        self._context = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
        if jobs > 1:
            start_importing()

    def __enter__(self) -> "Workers[Task, Result]":
        return self

    def __exit__(self, *error: object) -> None:
        """Ask what still runs to stop, and wait until it has saved its state."""
        for process, _ in self._running.values():
            process.terminate()
        for process, _ in self._running.values():
            process.join(PATIENCE)
            process.kill()

    @property
    def free(self) -> bool:
        return len(self._running) + len(self._here) < self._jobs

    @property
    def tasks(self) -> list[Task]:
        """What is under way."""
        return [task for _, task in self._running.values()] + [task for task, _ in self._here]

    def start(self, task: Task, *arguments: object) -> None:
        if self._jobs == 1:
            self._here.append((task, self._work(task, *arguments)))
            return
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_in_child, args=(theirs, self._work, task, *arguments))  # type: ignore[attr-defined]
        process.start()
        theirs.close()  # else the end of the child would not end the pipe
        self._running[ours] = (process, task)

    def finished(self) -> list[tuple[Task, Result | Died]]:
        """Wait for one or more tasks; each with its result, or with how its process died."""
        ended: list[tuple[Task, Result | Died]] = [*self._here]
        self._here.clear()
        for connection in wait(list(self._running)) if not ended else ():
            assert isinstance(connection, Connection)
            process, task = self._running[connection]
            try:
                ended.append((task, connection.recv()))
            except EOFError:
                process.join()
                ended.append((task, Died(f"its process ended with code {process.exitcode}")))
            process.join()
            del self._running[connection]
        return ended


def _in_child(connection: Connection, work: Callable[..., object], *arguments: object) -> None:
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the parent alone, which asks each child once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection.send(work(*arguments))


def _end_with_parent() -> None:
    """A worker whose parent was killed ends too, instead of training on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
