"""``thanos report``: the page of a run or of embeddings."""

from pathlib import Path

from thanos.cli.app import Judged, Of, Out, app
from thanos.config import SourceConfig
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos report runs/a
  thanos report runs/a --table runs/a/subclasses.csv --names names.yaml --out named.html
  thanos report runs/a/last.ckpt --out so-far.html
  thanos report resnet18 --pretrained resnet18.safetensors --data photos/ --size 96 --out resnet18.html"""
)
def report(
    source: Judged,
    *,
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    of: Of = SourceConfig(),
) -> None:
    """Measure all that the labels allow and write one page: numbers, map, discovered subclasses under your names.

    Parameters
    ----------
    out
        The page; default: report.html in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz, else discover now.
    names
        A YAML file 'discovered subclass: your name' for that table; default: the one beside it.
    """
    from_, asked = Source(source, of), table is not None
    where = from_.out(out, "report", suffix=".html")
    table, names = from_.discovered(table, names)
    from thanos.verbs import report_source

    report_source(from_, where, table, names, asked=asked)
