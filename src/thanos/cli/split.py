"""``thanos split``: which classes hide others."""

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from thanos.cli.app import Embedded, Of, app, say
from thanos.cli.lines import split_lines
from thanos.cli.shared import measured
from thanos.config import DiscoverConfig, SourceConfig
from thanos.errors import DataError
from thanos.inputs import Source

if TYPE_CHECKING:
    from thanos.embeddings import Embeddings
    from thanos.subclasses.fitted import Discovered

TYPICAL = 5


@app.command(
    help_epilogue="""Examples:
  thanos split vectors.npy --labels labels.csv
  thanos split runs/a
  thanos split runs/a --without brightness"""
)
def split(
    source: Embedded,
    *,
    part: Annotated[
        Literal["auto", "whole", "features", "head"],
        Parameter(help="Of embeddings of two parts: which are looked at."),
    ] = "auto",
    without: Annotated[str | None, Parameter(help="Properties or columns to take out first, split by commas.")] = None,
    seed: Annotated[int, Parameter(help="Of clusterings and samples.")] = 0,
    of: Of = SourceConfig(),
) -> None:
    """Say which superclasses are more than one class: by evidence, with typical images of each side. Writes nothing.

    Each superclass is held against clouds of one piece that are made from its own vectors. The probability that one
    would look so split is corrected for the number of superclasses (Holm); each side says how probably a fresh draw of
    images has it too. thanos discover writes the subclasses down: --number merging finds the same.
    """
    from_ = Source(source, of, say)
    from thanos.subclasses.discovery import discover

    embeddings = from_.embeddings
    properties = None if without is None else measured(from_)
    config = DiscoverConfig(number="merging", part=part, without=without, seed=seed)
    found = discover(embeddings, config, properties=properties)
    for line in split_lines(found, typical(embeddings, found)):
        say(line)
    if (kept := from_.own("subclasses", ".csv")) is not None and differs(kept, embeddings, found):
        say(
            f"{kept} has other subclasses, counted otherwise, perhaps in other features; to put "
            f"these in their place: thanos discover {from_.again(None)} --number merging; names in "
            f"{kept.with_suffix('.yaml').name} beside it go with their images"
        )


def differs(table: Path, embeddings: "Embeddings", found: "Discovered") -> bool:
    """Whether a table of discovered subclasses is there, and puts other images together."""
    from thanos.data.group_table import read_table

    try:
        listed = read_table(table)
        pairs = {
            (listed[name].subclass, cluster) for name, cluster in zip(embeddings.names, found.cluster, strict=True)
        }
    except (DataError, KeyError):  # none that can be read, or of other images
        return False
    return not len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def typical(embeddings: "Embeddings", found: "Discovered") -> dict[str, list[str]]:
    """Of each discovered subclass the names of the images nearest to its centre."""
    names = embeddings.names
    return {
        name: ["/".join(PurePath(names[i]).parts[-2:]) for i in found.typical(number, TYPICAL)]
        for number, name in enumerate(found.names)
    }
