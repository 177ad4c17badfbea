"""What a training step costs on this machine, part by part, on real images."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor

from thanos.config import RunConfig, TrainConfig
from thanos.console import say
from thanos.data.batches import BatchLoader, resident_on, to_device
from thanos.data.samples import Samples
from thanos.errors import ConfigError
from thanos.methods.branch import Branch, build_branches
from thanos.runs.provenance import hardware, versions
from thanos.training.groups import training_groups
from thanos.training.module import TrainingModule
from thanos.training.settings import batch_order, resolve_settings

PARTS = ("load", "views", "encoder", "heads and loss", "update")
"""Of a step: images read and brought to the device, augmented, embedded (with the way back), compared (with the way
back: projector, classifier, decoder and losses), and the optimiser's step."""
FAR = 2**31
"""Batches of a training whose end, and whose next line of metrics, no step here comes to."""
WARM = 2
"""Steps before the clock starts."""
REMEDY = {
    "load": "reading images limits it: more `workers`, a smaller `size`, or a set small enough to be kept decoded",
    "views": "augmentation limits it: fewer colour operations (`views.jitter`, `views.hue`) or `views_per_image=2`",
    "encoder": "the encoder limits it, as it should; faster are a smaller `encoder` or `size`, `precision`, `compile`",
    "heads and loss": "heads and losses limit it: a decoder, a wide `projector`, or at a large `batch` the loss",
    "update": "the optimiser limits it: a larger `batch`, or `accumulate`, steps less often",
}


class TrainingStep:
    """The very step that training takes, outside the Trainer: batch, views, forward, backward, update.

    Left out: what Lightning adds around it (the scale of 16-bit gradients, the schedule's own step), and accumulation:
    every batch ends in an update.

    Args:
        config: As for training; its batch is cut to the images there are.
        images: Training images are met in the order of training.
    """

    def __init__(self, config: TrainConfig, images: Samples):
        if config.frozen:
            raise ConfigError(
                "a head on frozen features takes milliseconds a step, and is not timed here; drop `frozen`."
            )
        self.device = "cuda" if torch.cuda.is_available() and config.accelerator not in ("cpu", "mps") else "cpu"
        rows = images.rows("train")
        self.batch = min(config.batch, len(rows))
        config = config.model_copy(update={"batch": self.batch, "head_first": 0.0})  # every step is a whole one
        settings, window = resolve_settings(config, images)
        branches = build_branches(
            config, channels=images.channels, size=images.size, superclasses=len(images.superclass_names)
        )
        if config.compile:
            for branch in branches.values():
                branch.encoder.compile()  # type: ignore[union-attr]
        groups = training_groups(config, images)
        self.branches = branches
        self._module = TrainingModule(
            settings,
            branches,
            total_batches=FAR,
            log_every=FAR,
            window=window,
            group_losses=None if groups is None else groups.losses(branches),
        ).to(self.device)
        self._optimizer = self._module.configure_optimizers()["optimizer"]
        self._dtype = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[config.precision]
        ids = None if groups is None else groups.ids
        home = resident_on(torch.device(self.device), images, rows)
        self._loader = BatchLoader(images, rows, batch_order(config, images, groups), FAR, group=ids, resident=home)
        self._number = 0

    def __call__(self, mark: Callable[[str], None] | None = None) -> None:
        """Take one step; ``mark`` hears the name of each part when it ends, possibly several times."""
        tell = mark or (lambda part: None)
        batch = to_device(self._loader.batch(self._number), torch.device(self.device))
        tell("load")
        self._optimizer.zero_grad()
        with ExitStack() as marked:
            for branch in self._module.branches.values() if mark is not None else ():
                assert isinstance(branch, Branch)
                marked.enter_context(_marked(branch, tell))
            with torch.autocast(self.device, dtype=self._dtype, enabled=self._dtype is not None):
                loss = self._module.training_step(batch, self._number)
            tell("heads and loss")
            loss.backward()
        tell("encoder")
        self._optimizer.step()
        tell("update")
        self._number += 1

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@contextmanager
def _marked(branch: Branch, mark: Callable[[str], None]) -> Iterator[None]:
    """Where the parts of a step end.

    Views where embedding begins; on the way back losses where the embedding's gradient is complete, and the encoder
    where its first parameter's is.
    """
    embed = branch.embed

    def marked(view: Tensor) -> Tensor:
        mark("views")
        embedding = embed(view)
        embedding.register_hook(lambda gradient: mark("heads and loss"))
        mark("encoder")
        return embedding

    trained = [each for each in branch.encoder.parameters() if each.requires_grad][:1]
    hooks = [each.register_post_accumulate_grad_hook(lambda parameter: mark("encoder")) for each in trained]
    branch.embed = marked  # type: ignore[method-assign]
    try:
        yield
    finally:
        del branch.embed
        for hook in hooks:
            hook.remove()


def seconds_a_step(config: TrainConfig, images: Samples, steps: int = 5) -> float:
    """Of views, forward, backward and update on this machine's device, for batches of real images."""
    step = TrainingStep(config, images)
    for _ in range(WARM):
        step()
    step.wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    step.wait()
    return (time.perf_counter() - started) / steps


def parts_of_a_step(config: TrainConfig, images: Samples, steps: int = 10) -> dict[str, float]:
    """Median seconds of each of PARTS; the device is waited for at every border."""
    step = TrainingStep(config, images)
    for _ in range(WARM):
        step()
    taken: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(steps):
        spent: dict[str, float] = defaultdict(float)
        step.wait()
        last = time.perf_counter()

        def mark(part: str) -> None:
            nonlocal last
            step.wait()
            now = time.perf_counter()
            spent[part] += now - last  # noqa: B023
            last = now

        step(mark)
        for part in PARTS:
            taken[part].append(spent[part])
    return {part: median(values) for part, values in taken.items()}


def bench_training(
    config: TrainConfig, images: Samples, run: RunConfig, say: Callable[[str], None] = say
) -> dict[str, Any]:
    """Say how fast this training would run here and what limits it; the same as a dictionary.

    Args:
        config: The training that is meant; nothing is written.
        images: Its images.
        run: Its threads.
        say: Receives each line meant for the user.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    batch = min(config.batch, len(images.rows("train")))
    device = "cuda" if torch.cuda.is_available() and config.accelerator not in ("cpu", "mps") else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else hardware()
    say(
        f"{config.method} · {config.encoder} · {images.shown_size} · batch {batch} · precision "
        f"{config.precision}{' · compiled' if config.compile else ''} · {name}"
    )
    try:
        parts = parts_of_a_step(config, images)
        whole = seconds_a_step(config, images)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"`batch={batch}` needs more memory than there is; use a smaller one.") from None
    longest = max(len(part) for part in PARTS)
    for part, seconds in parts.items():
        say(f"  {part:<{longest}} {1000 * seconds:9.2f} ms  {seconds / sum(parts.values()):4.0%}")
    say(f"  {'a step':<{longest}} {1000 * whole:9.2f} ms  {batch / whole:,.0f} {images.kind} per second")
    largest = max(parts, key=lambda part: parts[part])
    say(REMEDY[largest])
    found = {"parts": parts, "seconds_a_step": whole, "images_per_second": batch / whole, "limited_by": largest}
    if config.precision == "32":
        mixed = seconds_a_step(config.model_copy(update={"precision": "bf16-mixed"}), images)
        say(f"`precision=bf16-mixed`: {batch / mixed:,.0f} {images.kind} per second, {whole / mixed:.2f} times as many")
        found["bf16_mixed_images_per_second"] = batch / mixed
    return found | {"batch": batch, "hardware": name, "versions": versions()}


def is_out_of_memory(error: Exception) -> bool:
    """Of a GPU, or of a CPU whose system refuses."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
