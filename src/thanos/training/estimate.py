"""How long a training from pretrained weights will take on this CPU, said before it starts: a few steps are timed."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from thanos.config import TrainConfig
from thanos.data.samples import Samples
from thanos.encoders.features import AT_ONCE
from thanos.encoders.folded import folded
from thanos.errors import ConfigError
from thanos.methods.branch import channels_last
from thanos.training.bench import TrainingStep, is_out_of_memory
from thanos.views import clean_view

TIMED = 2
"""Steps that are timed after a first one."""
PATIENCE = 10.0
"""Seconds after which the first step is all that is timed."""


def expected_time(config: TrainConfig, images: Samples, steps: int) -> str | None:
    """One line: how long so many batches take here, and what would take less; None where memory does not suffice.

    Random states are afterwards as they were, and the trial has weights of its own.
    """
    try:
        with random_state_kept():
            step = TrainingStep(config, images)
            seconds = _seconds_of(step) * steps
            features = _seconds_of_features(step.branches, images) * len(images) * (config.frozen_views + 1)
    except (ConfigError, RuntimeError) as error:
        if not is_out_of_memory(error) and not isinstance(error, ConfigError):
            raise
        return None
    about = "at most" if config.head_first else "about"
    return (
        f"{about} {in_words(seconds)} on this CPU, by a few steps; with `frozen` about {in_words(features)} for "
        f"the features and then a small network on them; a GPU shortens either"
    )


def _seconds_of(step: TrainingStep) -> float:
    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    if first > PATIENCE:
        return first
    started = time.perf_counter()
    for _ in range(TIMED):
        step()
    return (time.perf_counter() - started) / TIMED


def _seconds_of_features(branches: nn.ModuleDict, images: Samples) -> float:
    """For one image, made as the features of a frozen backbone are."""
    encoder = next(iter(branches.values())).encoder
    assert isinstance(encoder, nn.Module)
    rows = images.rows_to_train_on()[:AT_ONCE]
    pixels = torch.from_numpy(np.ascontiguousarray(images.values[rows]))
    plain = (0.5,) * images.channels
    with torch.inference_mode():
        view = channels_last(clean_view(pixels, mean=plain, std=plain))
        quick = folded(encoder.eval(), view[:2]).to(memory_format=torch.channels_last)
        quick(view[:1])
        started = time.perf_counter()
        quick(view)
    return (time.perf_counter() - started) / len(rows)


def in_words(seconds: float) -> str:
    """Of a time: the two largest units at most.

    Example:
        >>> in_words(12_000), in_words(90), in_words(3)
        ('3 h 20 min', '2 min', '3 s')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put every generator of this process's CPU back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
