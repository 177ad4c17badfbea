"""``thanos demo``: what survives coarse labels, shown on digits."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thanos.cli.app import Flat, app, say
from thanos.config import DemoConfig


@app.command(
    help_epilogue="""Examples:
  thanos demo
  thanos demo --out DIR --seeds 3"""
)
def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/demo"),
    config: Annotated[DemoConfig, Flat] = DemoConfig(),
) -> None:
    """Train SupCon, L_spread and the autoencoder on digits labelled only '< 5' or '>= 5'; show what survives.

    Writes metrics.json and report.html. Takes a few minutes on two cores; needs no data and no network.

    Parameters
    ----------
    out
        Folder for the runs, metrics.json and report.html. An interrupted demo goes on where it stopped.
    """
    from thanos.workers import start_importing

    if config.jobs != 1:
        start_importing()
    from thanos.reproduce.demo import run_demo

    run_demo(config, out, say)
