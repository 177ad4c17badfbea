"""A plan over many machines, by submitit: one job for each data set and seed, on a file system that all of them see."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from thanos.config import LaunchConfig, RunConfig
from thanos.console import say
from thanos.errors import ConfigError
from thanos.reproduce.plan import Failure, Say, carry_out
from thanos.reproduce.records import Places
from thanos.reproduce.rows import Block


def check_launcher(config: LaunchConfig) -> None:
    """Raise ConfigError where submitit is wanted and missing."""
    if config.launcher == "here":
        return
    try:
        importlib.import_module("submitit")
    except ModuleNotFoundError:
        raise ConfigError(
            f"`launcher={config.launcher}` hands jobs to submitit; install it with `pip install thanos-repr[submitit]`."
        ) from None


def launch(
    blocks: Sequence[Block],
    places: Places,
    config: LaunchConfig,
    *,
    run: RunConfig,
    command: str,
    say: Say,
    after_block: Callable[[], None],
) -> list[Failure]:
    """As :func:`carry_out`, each data set and seed in a job of its own; waits for all of them.

    A job that ends early (time, memory, a lost machine) is a failure; the same command again goes on with it.
    """
    import submitit

    places = Places(places.work.resolve(), places.records.resolve())  # jobs may start in another folder

    executor = submitit.AutoExecutor(folder=places.work / "jobs", cluster=config.launcher)
    more: dict[str, Any] = {"slurm_partition": config.partition} if config.partition else {}
    executor.update_parameters(
        name="thanos", timeout_min=round(60 * config.hours), cpus_per_task=run.threads or 1, **more
    )
    if config.launcher == "slurm":
        executor.update_parameters(slurm_gpus_per_node=config.gpus)
    wholes = by_images(blocks)
    jobs = [executor.submit(_carry_out_alone, whole, places, run, command) for whole in wholes]
    say(f"{len(jobs)} jobs submitted; their logs are in {places.work / 'jobs'}")
    failures: list[Failure] = []
    for whole, job in zip(wholes, jobs, strict=True):
        try:
            ended: list[Failure] = job.result()
        except Exception as error:  # whatever a cluster does to a job
            ended = [Failure(whole.title, str(error).strip().splitlines()[-1], job.paths.stderr)]
        failures += ended
        say(f"{whole.title}: {'failed' if ended else 'done'}")
        after_block()
    return failures


def by_images(blocks: Sequence[Block]) -> list[Block]:
    """One block for each data set and seed: two jobs never share a training."""
    merged: dict[str, Block] = {}
    for block in blocks:
        known = merged.setdefault(block.title, replace(block, rows=()))
        merged[block.title] = replace(known, rows=known.rows + block.rows)
    return list(merged.values())


def _carry_out_alone(block: Block, places: Places, run: RunConfig, command: str) -> list[Failure]:
    return carry_out([block], places, run=run, jobs=1, command=command, say=say)
