"""``thanos data``: data sets that are built."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from thanos.cli.app import Out, app, say

data_app = App(name="data", help="Build data sets: with spurious attributes, with rare subclasses, Waterbirds.")
app.command(data_app)


@data_app.command(
    help_epilogue="""Examples:
  thanos data build dominoes-95
  thanos data build coloured-digits-large --seed 1
  thanos data build waterbirds --cub CUB_200_2011 --masks segmentations --places data_large --out $THANOS_DATA"""
)
def build(
    name: str,
    *,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    root: Path | None = None,
    download: bool = False,
    cub: Path | None = None,
    masks: Path | None = None,
    places: Path | None = None,
    out: Out = None,
) -> None:
    """Build a set and print how many images each group has; --data NAME then takes it in every command.

    dominoes-95, dominoes-99: a digit above a vehicle, mostly its own; coloured-digits-large, -medium, -small: pairs of
    digits, mostly on a colour of their own; patched-cifar10: animals, half with a coloured square; rare-cifar10,
    rare-mnist: one class cut to 5%; waterbirds: birds in front of places.

    Parameters
    ----------
    name
        The set.
    seed
        Of every draw; the same as --split-seed in other commands.
    root
        Where MNIST and CIFAR-10 lie; default: $THANOS_DATA, else ~/.cache/thanos/data.
    download
        Fetch what is missing of them.
    cub
        For waterbirds: the folder CUB_200_2011.
    masks
        For waterbirds: its segmentations.
    places
        For waterbirds: Places365's data_large.
    out
        For waterbirds: the data folder to write to; default: --root.
    """
    from thanos.data.build import build_set

    build_set(name, seed, root, download, (cub, masks, places), out, say)
