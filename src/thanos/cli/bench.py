"""``thanos bench``: what this machine does."""

from typing import Annotated

from cyclopts import App, Parameter

from thanos.cli.app import RUN, Flat, app, say
from thanos.config import RunConfig, TrainConfig

bench = App(name="bench", help="What this machine does, and what limits it.")
app.command(bench)


@bench.command(
    name="train",
    help_epilogue="""Examples:
  thanos bench train --data cifar10 --method thanos
  thanos bench train --data photos/ --size 224 --encoder resnet50 --batch 64 --precision bf16-mixed
  thanos bench train --config runs/a/config.yaml""",
)
def bench_train(
    *,
    config: Annotated[TrainConfig, Flat] = TrainConfig(),
    run: Annotated[RunConfig, Parameter(name="*", group=RUN)] = RunConfig(),
) -> None:
    """Take some steps of a training: images per second, the time of each part, what limits it. Writes nothing.

    Takes the settings of thanos train. The parts: images read, augmented, embedded, compared, the optimiser's step.
    """
    from thanos.data.load import load_samples

    images = load_samples(config)  # before torch is imported: what is wrong with the data shows at once
    from thanos.training.bench import bench_training
    from thanos.training.of_vectors import suited

    bench_training(*suited(config, images), run, say)
