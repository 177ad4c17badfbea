"""``thanos train``: from images to a run directory."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thanos.cli.app import RUN, Flat, app, say
from thanos.config import RunConfig, TrainConfig
from thanos.runs.run_dir import RunDir


@app.command(
    help_epilogue="""Examples:
  thanos train --data cifar10 --method thanos --epochs 100 --out runs/a
  thanos train --data photos/ --size 64 --method spread --out runs/b
  thanos train --data labels.csv --encoder resnet18 --size 224 --out runs/c
  thanos train --data vectors.npy --labels labels.csv --out runs/v
  thanos train --config runs/a/config.yaml --seed 1 --out runs/d"""
)
def train(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    config: Annotated[TrainConfig, Flat] = TrainConfig(),
    run: Annotated[RunConfig, Parameter(name="*", group=RUN)] = RunConfig(),
) -> None:
    """Train an encoder on superclass labels by one of the methods; leaves a run directory.

    The same command again goes on with an unfinished run. Ctrl-C saves first.

    Parameters
    ----------
    out
        The run directory: new or empty, or this run's own.
    """
    from thanos.data.load import load_samples

    first = os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0"
    if first and "data" not in config.model_fields_set:
        say("no --data: the digits that come with scikit-learn")
    if first:
        RunDir(out).check_free()
    images = load_samples(config)  # before torch is imported: what is wrong with the data shows at once
    from thanos.training.fit import train as fit

    fit(config, out, images=images, run=run, say=say)
    if first:
        say(f"next: thanos discover {out}   or: thanos embed {out}")
