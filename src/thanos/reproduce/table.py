"""A table of the paper: what it declares, and from that its plan, its finished rows and its page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos.config import SEEDS, Table3Config, Table4Config
from thanos.errors import DataError
from thanos.reproduce.records import Places, Record, Records, record_file
from thanos.reproduce.rows import Block, Row, check_rows
from thanos.reproduce.scale import SCALES, Scale, load_scale
from thanos.storage import write_atomically, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TableConfig = Table3Config | Table4Config


@dataclass(frozen=True)
class Phase:
    """Rows that are run together: a block for each data set, then the next seed."""

    holds: Callable[[Row], bool]
    seeds: int = SEEDS
    """At most so many of those asked for."""


@dataclass(frozen=True)
class Table:
    """What makes a table; two of them share everything else."""

    name: str
    title: str
    introduction: str
    sets: Mapping[str, str]
    """Title of each data set, in the order of the page."""
    rows: Callable[[], dict[str, Row]]
    """Every row that it may have, by name."""
    usual: Sequence[str]
    """The rows that are run if none are named."""
    phases: Sequence[Phase]
    headline: Callable[[str], tuple[str, ...]]
    """Where in a record's scores the number stands by which rows of a data set are compared."""
    sections: Sequence[Callable[["Finished"], Iterable[str]]]
    """Its page at one scale: paragraphs and tables."""
    row_on: Callable[[str, Row], Row | None] = lambda dataset, row: row
    """A row as it is on a data set; None where the set has no such row."""
    more_sets: Callable[[], Iterable[str]] = tuple
    """Data sets that are shown once one of their rows is finished."""
    picture: Callable[["Finished"], "Figure"] | None = None

    def rows_on(self, dataset: str) -> dict[str, Row]:
        """The rows that a data set has, by name."""
        rows = ((name, self.row_on(dataset, row)) for name, row in self.rows().items())
        return {name: row for name, row in rows if row is not None}

    def planned_blocks(self, config: TableConfig) -> list[Block]:
        """Phase after phase, blocks of one data set and one seed, all data sets before the next seed.

        Raises:
            ConfigError: for a scale or a row that does not exist.
        """
        scale, known = load_scale(config.scale), self.rows()
        check_rows(config.method, known)
        chosen = set(config.method or self.usual)
        chosen |= {row.control for row in known.values() if row.name in chosen and row.control}
        blocks = []
        for phase in self.phases:
            for seed in range(min(config.seeds, phase.seeds)):
                for dataset in config.dataset:
                    base = scale.base(dataset, seed, config.root).model_copy(update={"download": config.download})
                    wanted = (row for row in self.rows_on(dataset).values() if row.name in chosen)
                    if rows := tuple(row for row in wanted if phase.holds(row) and row.suits(base)):
                        blocks.append(Block(base, rows, scale.transfer))
        return blocks

    def page_file(self, results: Path) -> Path:
        return results / f"{self.name}.md"

    def picture_file(self, results: Path, scale: str) -> Path:
        return results / f"{self.name}-{Path(scale).stem}.png"

    def finished(self, results: Path, scales: Sequence[str] = SCALES) -> list["Finished"]:
        """What is finished at each scale.

        Raises:
            DataError: if a record was edited, or rows that are paired were measured on different images.
        """
        return [Finished(self, load_scale(name), places_of(name, results, Path()).records) for name in scales]

    def render(self, results: Path, scales: Sequence[str] = SCALES) -> Path:
        """Write the page, and a picture for each scale with a finished row; returns the page.

        Raises:
            DataError: if a record was edited, or rows that are paired were measured on different images.
        """
        shown = [finished for finished in self.finished(results, scales) if finished.sets]
        for finished in shown if self.picture else ():
            assert self.picture is not None
            figure = self.picture(finished)
            file = self.picture_file(results, finished.scale.name)
            write_atomically(file, lambda opened, figure=figure: figure.savefig(opened, format="png"))  # type: ignore[misc]
        parts = [self.title, self.introduction]
        for finished in shown:
            about = [finished.scale.about] if finished.scale.about else []
            sections = chain(*(section(finished) for section in self.sections))
            parts += [f"## Scale `{finished.scale.name}`", *about, *sections]
        write_text(self.page_file(results), "\n\n".join(parts) + "\n")
        return self.page_file(results)


class Finished:
    """The finished rows of a table at one scale: records by row, data set and seed.

    Raises:
        DataError: if a record was edited, or rows that are paired were measured on different images.
    """

    def __init__(self, table: Table, scale: Scale, folder: Path):
        self.table, self.scale = table, scale
        self._known: dict[tuple[str, str], dict[int, Record]] = {}
        records = Records(folder)
        for dataset in (*table.sets, *table.more_sets()):
            self._find(dataset, records)
        found = {dataset for _, dataset in self._known}
        self.sets = [dataset for dataset in (*table.sets, *table.more_sets()) if dataset in found]
        """With a finished row."""
        for dataset in self.sets:
            self._check_images(dataset, record_file(folder, dataset))

    def _find(self, dataset: str, records: Records) -> None:
        rows = self.table.rows_on(dataset).values()
        for seed in (seed for seed in records.seeds(dataset) if seed < SEEDS):
            base = self.scale.base(dataset, seed)
            for row in rows:
                record = records.find(row, Block(base, (row,), self.scale.transfer))
                if record is not None:
                    self._known.setdefault((row.name, dataset), {})[seed] = record

    def _check_images(self, dataset: str, file: Path) -> None:
        """Rows are paired by seed: one split of the same images."""
        seen: dict[int, str] = {}
        for row in self.table.rows_on(dataset):
            for seed, record in self.of(row, dataset).items():
                here = record["images"]["fingerprint"]
                if seen.setdefault(seed, here) != here:
                    raise DataError(
                        f"the rows of {dataset}, seed {seed}, at scale {self.scale.name} were measured on different "
                        f"images; {row} is one of them. Delete the odd ones' lines in {file} to run them again."
                    )

    def of(self, row: str, dataset: str) -> dict[int, Record]:
        """A row's records by seed."""
        return self._known.get((row, dataset), {})

    def records(self) -> list[Record]:
        """All of them."""
        return [
            record for row in self.table.rows() for dataset in self.sets for record in self.of(row, dataset).values()
        ]

    def values(self, row: str, dataset: str, *path: str) -> dict[int, float]:
        """A score in % by seed, found along ``path``; seeds without it are left out."""
        found = {}
        for seed, record in self.of(row, dataset).items():
            value: Any = record["scores"]
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            if value is not None:
                found[seed] = 100 * float(value)
        return found

    def headline(self, row: str, dataset: str) -> dict[int, float]:
        """The number by which rows are compared, in % by seed."""
        return self.values(row, dataset, *self.table.headline(dataset))

    def difference(self, a: str, b: str, dataset: str) -> dict[int, float]:
        """Of that number, in points by seed."""
        return paired(self.headline(a, dataset), self.headline(b, dataset))


def paired(x: Mapping[int, float], y: Mapping[int, float]) -> dict[int, float]:
    """``x - y`` by seed, where both are finished."""
    return {seed: x[seed] - y[seed] for seed in x if seed in y}


def places_of(scale: str, results: Path, work: Path) -> Places:
    """Records of a scale in RESULTS/runs/SCALE, its trainings in WORK/SCALE."""
    name = load_scale(scale).name
    return Places(work / name, results / "runs" / name)
