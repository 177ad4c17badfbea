"""How long trainings will take on this machine, from a few steps of each kind."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator

from thanos.config import RunConfig, TrainConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.methods import build_branches, steps_of, total
from thanos.training.fit import resolve_settings

WARM, TIMED = 2, 5
"""Steps before the clock starts, and steps under the clock."""


def training_seconds(configs: Sequence[TrainConfig], run: RunConfig) -> list[float]:
    """Seconds of each training, were it alone on its threads; each kind of step is timed once.

    Leaves out validation and probes, which add about a tenth, and what torch.compile takes at the start.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    images: dict[str, ImageSet] = {}
    a_step: dict[tuple, float] = {}
    seconds = []
    for config in configs:
        if config.data not in images:
            images[config.data] = load(config)
        known = images[config.data]
        kind = (config.data, config.method, config.encoder, config.batch, config.precision, config.labels)
        if kind not in a_step:
            a_step[kind] = seconds_a_step(config, known)
        seconds.append(a_step[kind] * (len(known.rows("train")) // config.batch) * config.epochs)
    return seconds


def seconds_a_step(config: TrainConfig, images: ImageSet) -> float:
    """Of views, forward, backward and update on this machine's device, for one batch of real images."""
    device = "cuda" if torch.cuda.is_available() and config.accelerator != "cpu" else "cpu"
    settings, _ = resolve_settings(config, images)
    superclasses = len(images.superclass_names)
    branches = build_branches(config, channels=images.channels, size=images.size, superclasses=superclasses).to(device)
    if config.compile:
        for branch in branches.values():
            branch.encoder.compile()  # type: ignore[union-attr]
    optimizer = torch.optim.AdamW(branches.parameters(), lr=1e-6)
    rows = images.rows("train")[: config.batch]
    pixels = torch.from_numpy(np.ascontiguousarray(images.images[rows])).to(device)
    superclass = torch.from_numpy(images.superclass[rows]).to(device)
    dtype = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[config.precision]
    for step in range(WARM + TIMED):
        if step == WARM:
            _wait(device)
            started = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            parts = [
                total(work(branches[name], pixels, superclass, settings, Generator().manual_seed(step)))  # type: ignore[arg-type]
                for name, work in steps_of(config).items()
            ]
        torch.stack(parts).sum().backward()
        optimizer.step()
    _wait(device)
    return (time.perf_counter() - started) / TIMED


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
