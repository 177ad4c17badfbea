"""How long trainings will take on this machine, from a few steps of each kind."""

from collections.abc import Sequence
from typing import Any

import torch

from thanos.config import RunConfig, TrainConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.training.bench import seconds_a_step


def training_seconds(configs: Sequence[TrainConfig], run: RunConfig) -> list[float | None]:
    """Seconds of each training, were it alone on its threads; each kind of step is timed once.

    None: a head on frozen features, whose steps are not timed by themselves. Leaves out validation and probes, which
    add about a tenth, and what torch.compile takes at the start.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    images: dict[str, ImageSet] = {}
    a_step: dict[tuple[Any, ...], float] = {}
    seconds: list[float | None] = []
    for config in configs:
        if config.frozen:
            seconds.append(None)
            continue
        if config.data not in images:
            images[config.data] = load(config)
        known = images[config.data]
        kind = (config.data, config.method, config.encoder, config.batch, config.precision, config.labels)
        if kind not in a_step:
            a_step[kind] = seconds_a_step(config, known)
        seconds.append(a_step[kind] * (len(known.rows("train")) // config.batch) * config.epochs)
    return seconds
