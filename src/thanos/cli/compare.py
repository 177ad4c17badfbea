"""``thanos compare``: runs side by side."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thanos.cli.app import app, say
from thanos.cli.lines import kept_lines
from thanos.errors import ConfigError


@app.command(
    help_epilogue="""Examples:
  thanos compare runs/a runs/b
  thanos compare runs/* --out comparison.html"""
)
def compare(
    *runs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("compare.html"),
) -> None:
    """Put finished runs side by side: a table here, a page and a CSV with intervals and the command of every number.

    Takes what thanos train, transfer, discover and robust left in the runs; measures nothing. What is no finished run
    is left out, and said. Of runs on the same data it says which start (scratch, frozen, fine-tuned) and method keeps
    hidden subclasses best, and the minutes each took.

    Parameters
    ----------
    runs
        Run directories.
    out
        The page; a .csv goes beside it.
    """
    if not runs:
        raise ConfigError("thanos compare takes run directories; none was named. For example: thanos compare runs/*")
    if out.suffix != ".html":
        raise ConfigError(f"--out names a .html page; got {out}.")
    from thanos.compare import COLUMNS, kept_by, write_comparison
    from thanos.compare import compare as put_together

    left_out: list[str] = []
    lines = put_together(runs, left_out.append)
    write_comparison(lines, out, left_out)
    longest = max(len(line.name) for line in lines)
    say(f"{'run':<{longest}}" + "".join(f"{name:>{max(9, len(name)) + 2}}" for name in COLUMNS))
    for line in lines:
        cells = "".join(f"{cell.text:>{max(9, len(name)) + 2}}" for name, cell in line.cells.items())
        say(f"{line.name:<{longest}}{cells}")
    for said in kept_lines(kept_by(lines)):
        say(said)
    for why in left_out:
        say(f"left out: {why}")
    say(f"with intervals and commands: {out}, {out.with_suffix('.csv')}")
