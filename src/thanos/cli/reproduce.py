"""``thanos reproduce``: The paper's tables."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from thanos.cli.app import WHERE, Flat, app, say
from thanos.config import LaunchConfig, Table3Config, Table4Config

reproduce = App(name="reproduce", help="Repeat the paper's experiments: a plan of runs, records, a table.")
app.command(reproduce)


@reproduce.command(
    help_epilogue="""Examples:
  thanos reproduce table3 --dry-run
  thanos reproduce table3 --dataset cifar10 --seeds 1
  thanos reproduce table3 --dataset mnist --method thanos --method supcon --jobs 2
  thanos reproduce table3 --scale paper-fast --dataset cifar10 --jobs 1
  thanos reproduce table3 --scale paper --launcher slurm --hours 48"""
)
def table3(
    *,
    results: Path = Path("results"),
    work: Path = Path("runs/table3"),
    config: Annotated[Table3Config, Flat] = Table3Config(),
    launcher: Annotated[LaunchConfig, Parameter(name="*", group=WHERE)] = LaunchConfig(),
) -> None:
    """Coarse-to-fine transfer: seven methods, five data sets, paired seeds; our table beside the paper's.

    What is finished is not repeated: the same command goes on after any stop. Writes RESULTS/table3.md, its plot, and
    a line of JSON for each row.

    Parameters
    ----------
    results
        Where records (RESULTS/runs/SCALE/DATASET.jsonl) and the table go.
    work
        Where trainings keep their run directories; may be deleted when the table is done.
    """
    _carry_out("table3", config, launcher, results, work)


@reproduce.command(
    help_epilogue="""Examples:
  thanos reproduce table4 --dry-run
  thanos reproduce table4 --jobs 2
  thanos reproduce table4 --dataset dominoes-95 --method thanos --method george --seeds 1"""
)
def table4(
    *,
    results: Path = Path("results"),
    work: Path = Path("runs/table4"),
    config: Annotated[Table4Config, Flat] = Table4Config(),
    launcher: Annotated[LaunchConfig, Parameter(name="*", group=WHERE)] = LaunchConfig(),
) -> None:
    """The paper's Table 4: worst-group accuracy and subclass recovery of George, JTT, SupCon, THANOS and GroupDRO.

    Sets are built from MNIST and CIFAR-10, or are CelebA and ISIC (--scale frozen). Finished rows are records in
    RESULTS/runs; the page is RESULTS/table4.md.

    Parameters
    ----------
    results
        Where records and the table go.
    work
        Where trainings keep their run directories; may be deleted when the table is done.
    """
    _carry_out("table4", config, launcher, results, work)


def _carry_out(
    name: str, config: Table3Config | Table4Config, launcher: LaunchConfig, results: Path, work: Path
) -> None:
    from thanos.reproduce.tables import TABLES

    TABLES[name].planned_blocks(config)  # before torch is imported: names that do not exist show at once
    from thanos.reproduce.command import reproduce as carry_out

    carry_out(name, config, launcher, results, work, say)
