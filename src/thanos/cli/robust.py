"""``thanos robust``: a classifier that is fair to groups."""

from pathlib import Path
from typing import Annotated

from thanos.cli.app import Flat, Judged, Of, Out, app
from thanos.config import RobustConfig, SourceConfig
from thanos.errors import ConfigError
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos robust runs/a
  thanos robust runs/a --table runs/a/subclasses.csv --names names.yaml
  thanos robust runs/a --method groupdro --groups given
  thanos robust runs/a --method jtt --groups none
  thanos robust embeddings.npz --method dfr --groups given --out fair.npz"""
)
def robust(
    source: Judged,
    *,
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    config: Annotated[RobustConfig, Flat] = RobustConfig(),
    of: Of = SourceConfig(),
) -> None:
    """Train a classifier on embeddings that serves every group well, known or discovered; seconds.

    Prints each group's test accuracy beside that of a plain classifier. The .npz holds weight, bias, mean and scale:
    logits = (vectors - mean) / scale @ weight.T + bias.

    Parameters
    ----------
    out
        The classifier (.npz); its scores go beside it as .json. Default: robust-METHOD.npz in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz, else discover now.
    names
        A YAML file 'discovered subclass: your name' for that table, equal names merge; default: the one beside the
        table.
    """
    from_, asked = Source(source, of), table is not None
    if (table or names) is not None and config.groups != "discovered":
        option = "--table holds" if names is None else "--names names"
        raise ConfigError(f"{option} discovered groups; drop it, or drop --groups {config.groups}.")
    if config.groups == "discovered":
        table, names = from_.discovered(table, names)
    where = from_.out(out, f"robust-{config.method}", suffix=".npz")
    from thanos.verbs import robust_source

    robust_source(from_, where, config, table, names, asked=asked)
