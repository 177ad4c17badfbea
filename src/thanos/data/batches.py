"""The order in which images are met: batch k is a pure function of (seed, k), so a run can go on from anywhere."""

import signal
import threading
from collections.abc import Iterator
from functools import lru_cache
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from thanos.data.samples import Samples
from thanos.errors import NextBatchLost, ThanosError

Sampling = Literal["shuffled", "balanced"]


UNREADABLE = (OSError, SyntaxError, ValueError)
"""What reading an image file raises that has gone, or was cut short, since it was checked."""


CHILD_ENDED = getattr(signal, "SIGCHLD", 0)
"""The signal that a process of ours has ended; 0 where there is none (Windows)."""
_GONE = "an image can no longer be read: {}. Bring it back; the same command then goes on."


class Batch(NamedTuple):
    """What a training step meets."""

    images: Tensor  # uint8 (batch, height, width, channel), or vectors: float32 (batch, dim)
    superclass: Tensor  # (batch,)
    number: int  # k, counted from the start of training
    group: Tensor | None = None  # (batch,)


class BatchOrder:
    """Rows of batch k, for any k. Every epoch is a fresh order; images that fill no whole batch wait for the next.

    Args:
        label: Superclass (or group) of each image, shape (n,).
        batch: Images in a batch, over all processes, <= n.
        seed: Equal seeds give equal orders.
        sampling: "shuffled" meets every image once an epoch; "balanced" draws every label equally often (small ones
            repeat).
    """

    def __init__(self, label: NDArray[np.int64], batch: int, seed: int, sampling: Sampling = "shuffled"):
        self._label, self._batch, self._seed, self._sampling = label, batch, seed, sampling
        self.batches_per_epoch = len(label) // batch
        self._epoch = lru_cache(maxsize=2)(self._order_of_epoch)

    def rows(self, k: int) -> NDArray[np.int64]:
        epoch, place = divmod(k, self.batches_per_epoch)
        return self._epoch(epoch)[place * self._batch : (place + 1) * self._batch]

    def _order_of_epoch(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self._seed, epoch))
        if self._sampling == "shuffled":
            return rng.permutation(len(self._label))
        return balanced(self._label, self.batches_per_epoch * self._batch, rng)


def balanced(label: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` rows, each label equally often to within one; a label's images come round in turn, freshly shuffled."""
    classes = np.unique(label)
    drawn = np.empty(count, dtype=np.int64)
    turn = np.concatenate([rng.permutation(len(classes)) for _ in range(-(-count // len(classes)))])[:count]
    for c, value in enumerate(classes):
        places, members = np.flatnonzero(turn == c), np.flatnonzero(label == value)
        rounds = [rng.permutation(members) for _ in range(-(-len(places) // len(members)))]
        if rounds:
            drawn[places] = np.concatenate(rounds)[: len(places)]
    return drawn


class BatchLoader:
    """All batches of a run, in order, from wherever it stands; Lightning keeps its position in checkpoints.

    Images in memory are gathered here, those of a resident set on its device; files are decoded by ``workers``
    processes, which hand them over through pipes: shared memory, of which containers have little, is not used.

    Args:
        images: The whole set; only ``rows`` of it are met.
        rows: The training images.
        order: Which of ``rows`` come when.
        total: Batches in the run.
        rank, world: This process's share of every batch.
        workers: Decoding processes for images that are files.
        group: Of every image of the set, where training looks at groups.
        resident: Keep all of ``rows`` on this device, once and for all.
        pinned: Hand decoded batches over in page-locked memory, from which a GPU copies by itself.
    """

    def __init__(
        self,
        images: Samples,
        rows: NDArray[np.int64],
        order: BatchOrder,
        total: int,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        group: NDArray[np.int64] | None = None,
        resident: torch.device | None = None,
        pinned: bool = False,
    ):
        self._images, self._rows, self._order, self._total = images, rows, order, total
        self._rank, self._world, self._workers, self._group, self._pinned = rank, world, workers, group, pinned
        self._resident: Batch | None = None if resident is None else to_device(self._read(rows, 0), resident)
        self._start = self._position = 0
        self.waiting = False
        """Whether the next batch is awaited: nothing of a step is under way then."""

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Batch]:
        start, self._start = self._start, 0
        batches = self._from(start)
        for k in range(start, self._total):
            self.waiting = True
            batch = next(batches)
            self.waiting = False
            self._position = k + 1  # before the step: a checkpoint after it goes on with the next one
            yield batch

    def _from(self, start: int) -> Iterator[Batch]:
        """Batches from ``start`` on.

        Raises:
            NextBatchLost: if an image can no longer be read, or a process that decodes has ended.
        """
        if self._workers == 0:
            for k in range(start, self._total):
                try:
                    batch = self.batch(k)
                except UNREADABLE as error:
                    raise NextBatchLost(_GONE.format(error)) from None
                yield batch
            return
        others, before = set(active_children()), signal.getsignal(CHILD_ENDED) if CHILD_ENDED else None
        decoded = iter(
            DataLoader(
                _Batches(self),
                sampler=range(start, self._total),
                batch_size=None,
                num_workers=self._workers,
                prefetch_factor=4,
                pin_memory=self._pinned,
                worker_init_fn=_leave_signals_alone,
            )
        )
        processes = set(active_children()) - others
        watched = self._watch(processes)
        try:
            yield from self._handed_over(decoded, processes)
        finally:
            ours = list(processes)
            processes.clear()  # their end is wanted now
            for process in ours:
                process.terminate()
            for process in ours:
                process.join()
            if watched:
                signal.signal(CHILD_ENDED, before)

    def _watch(self, processes: set[BaseProcess]) -> bool:
        """Let the end of a process end the wait for the next batch.

        One that dies as it hands over half a batch leaves this one reading for the rest. (torch's own handler would
        raise in the middle of a step, which cannot be saved.)

        Returns:
            Whether it is watched: signals come to the main thread alone, and not on Windows.
        """
        if not CHILD_ENDED or threading.current_thread() is not threading.main_thread():
            return False

        def ended(number: int, frame: Any) -> None:
            if self.waiting:
                _check_alive(processes)

        signal.signal(CHILD_ENDED, ended)
        return True

    @staticmethod
    def _handed_over(decoded: "Iterator[_Decoded | str]", processes: set[BaseProcess]) -> Iterator[Batch]:
        while True:
            _check_alive(processes)
            try:
                batch = next(decoded)
            except StopIteration:
                return
            except RuntimeError as error:  # DataLoader's own, when a process of it ended
                raise error.__cause__ if isinstance(error.__cause__, ThanosError) else _lost() from None
            if isinstance(batch, str):
                raise NextBatchLost(_GONE.format(batch))
            yield batch.batch()

    def batch(self, k: int) -> Batch:
        """This process's part of batch k."""
        rows = self._order.rows(k)[self._rank :: self._world]
        kept = self._resident
        if kept is None:
            return self._read(self._rows[rows], k)
        device = kept.images.device
        chosen = torch.from_numpy(rows)
        chosen = chosen.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else chosen.to(device)
        return Batch(
            kept.images[chosen], kept.superclass[chosen], k, None if kept.group is None else kept.group[chosen]
        )

    def _read(self, rows: NDArray[np.int64], k: int) -> Batch:
        return Batch(
            torch.from_numpy(np.ascontiguousarray(self._images.values[rows])),
            torch.from_numpy(self._images.superclass[rows]),
            k,
            None if self._group is None else torch.from_numpy(self._group[rows]),
        )

    def state_dict(self) -> dict[str, int]:
        return {"position": self._position, "world": self._world}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._start = self._position = state["position"]


def resident_on(device: torch.device, images: Samples, rows: NDArray[np.int64]) -> torch.device | None:
    """A GPU whose free memory these rows fit in twice keeps them; None: they stay where they are."""
    if device.type != "cuda" or images.on_demand:
        return None
    wanted = len(rows) * images.values[rows[:1]].nbytes
    return device if 2 * wanted <= torch.cuda.mem_get_info(device)[0] else None


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch, its tensors there."""
    group = None if batch.group is None else batch.group.to(device)
    return Batch(batch.images.to(device), batch.superclass.to(device), batch.number, group)


def _check_alive(processes: set[BaseProcess]) -> None:
    if not all(process.is_alive() for process in processes):
        raise _lost()


def _lost() -> NextBatchLost:
    return NextBatchLost(
        "a process that decodes images has ended, mostly for lack of memory. Pass fewer `workers` (0: this process "
        "decodes), or free memory; the same command then goes on."
    )


class _Batches(Dataset["_Decoded | str"]):
    """What a process that decodes hands over: a batch, or why there is none."""

    def __init__(self, loader: BatchLoader):
        self._loader = loader

    def __getitem__(self, k: int) -> "_Decoded | str":
        try:
            return _Decoded(self._loader.batch(k))
        except UNREADABLE as error:
            return str(error)


class _Decoded:
    """A batch as arrays: a tensor would cross between processes in shared memory."""

    def __init__(self, batch: Batch):
        self._arrays = [
            None if each is None else each.numpy() for each in (batch.images, batch.superclass, batch.group)
        ]
        self._number, self._pinned = batch.number, False

    def pin_memory(self) -> "_Decoded":
        """Called by the DataLoader's own thread."""
        self._pinned = True
        self._tensors = self._as_tensors()
        return self

    def _as_tensors(self) -> list[Tensor | None]:
        tensors = [None if each is None else torch.from_numpy(each) for each in self._arrays]
        return [each if each is None or not self._pinned else each.pin_memory() for each in tensors]

    def batch(self) -> Batch:
        images, superclass, group = self._tensors if self._pinned else self._as_tensors()
        assert images is not None
        assert superclass is not None
        return Batch(images, superclass, self._number, group)


def _leave_signals_alone(worker: int) -> None:
    """A terminal's Ctrl-C reaches all processes; the one that trains answers it, and ends these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
