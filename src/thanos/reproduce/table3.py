"""The paper's Table 3: seven methods on five data sets; which rows, in which order, and how the result is shown."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thanos import registry
from thanos.config import SEEDS, Table3Config
from thanos.errors import DataError
from thanos.evaluate.intervals import mean_interval
from thanos.reproduce.records import Places, Record, Records, record_file
from thanos.reproduce.rows import ROWS, Block, Row, check_rows, known_rows
from thanos.reproduce.scale import SCALES, Scale, load_scale
from thanos.storage import write_atomically, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATASETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar100-u": "CIFAR-100-U",
    "tiny-imagenet": "Tiny ImageNet",
}
METHODS = tuple(name for name, row in ROWS.items() if row.kind == "method")
PAPER = {
    "infonce": (98.4, 77.6, 60.5, 56.4, 44.9),
    "supcon": (95.4, 51.8, 56.1, 49.8, 43.9),
    "supcon+infonce": (98.6, 77.6, 55.7, 48.0, 46.1),
    "cauto": (98.7, 71.4, 62.9, 58.7, 47.1),
    "spread": (98.5, 77.1, 58.7, 53.5, 45.8),
    "supcon+cauto": (98.7, 71.7, 63.8, 59.8, 49.3),
    "thanos": (99.0, 79.1, 65.0, 59.7, 49.6),
}
"""Fine accuracy in %, in the order of DATASETS. Source: Chen et al., ICML 2022, Table 3."""
PAPER_LIFT = 11.1
LATER = ("cross-entropy", "spread (alpha 0.5)", "thanos (alpha 0.5)", "thanos (one encoder)", "fine labels")
"""Rows beside the paper's that wait until every block of it is done."""


def planned_blocks(config: Table3Config) -> list[Block]:
    """Blocks of one data set and one seed, all data sets before the next seed, the rows of LATER at the end.

    Raises:
        ConfigError: for a scale or a row that does not exist.
    """
    scale = load_scale(config.scale)
    known = known_rows()
    check_rows(config.method, known)
    chosen = set(config.method or ROWS)
    chosen |= {row.control for row in known.values() if row.name in chosen and row.control}
    blocks = []
    for later in (False, True):
        rows = tuple(row for name, row in known.items() if name in chosen and (name in LATER) == later)
        for seed in range(config.seeds if rows else 0):
            for dataset in config.dataset:
                base = scale.base(dataset, seed, config.root).model_copy(update={"download": config.download})
                blocks.append(Block(base, rows, scale.transfer))
    return blocks


def places_of(scale: str, results: Path, work: Path) -> Places:
    """Records of a scale in RESULTS/runs/SCALE, its trainings in WORK/SCALE."""
    name = load_scale(scale).name
    return Places(work / name, results / "runs" / name)


@dataclass(frozen=True)
class Cell:
    """The finished records of one row on one data set, by seed."""

    row: Row
    dataset: str
    records: dict[int, Record]

    def values(self, kind: str = "accuracy") -> dict[int, float]:
        """Fine accuracy in % by seed. On CIFAR-100-U the headline is weighted by training frequency, as the paper's."""
        if kind == "accuracy" and self.dataset == "cifar100-u":
            kind = "frequency_weighted_accuracy"
        return {seed: 100 * record["scores"]["probe"][kind] for seed, record in self.records.items()}

    @property
    def paper(self) -> float | None:
        if self.row.name not in PAPER or self.dataset not in DATASETS:
            return None
        return PAPER[self.row.name][list(DATASETS).index(self.dataset)]


class Finished:
    """All finished rows of a scale.

    Raises:
        DataError: if rows that should be paired were measured on different images.
    """

    def __init__(self, scale: Scale, places: Places):
        self.scale = scale
        self.rows = known_rows()
        self.folder = places.records
        others = sorted({*registry.datasets()} - {*DATASETS})
        records = Records(places.records)
        self.cells = {
            (row.name, dataset): _cell(scale, records, row, dataset)
            for row in self.rows.values()
            for dataset in (*DATASETS, *others)
        }
        finished = [name for name in others if any(self.cells[row, name].records for row in self.rows)]
        self.sets = DATASETS | {name: name for name in finished}
        """Title of each data set: the paper's five, and others with a finished row."""
        for dataset in self.sets:
            self._check_images(dataset)

    def _check_images(self, dataset: str) -> None:
        seen: dict[int, str] = {}
        for cell in self.of(dataset):
            for seed, record in cell.records.items():
                here = record["images"]["fingerprint"]
                if seen.setdefault(seed, here) != here:
                    raise DataError(
                        f"the rows of {dataset}, seed {seed}, at scale {self.scale.name} were measured on different "
                        f"images; {cell.row.name} is one of them. Delete the odd ones' lines in "
                        f"{record_file(self.folder, dataset)} to run them again."
                    )

    def __bool__(self) -> bool:
        return any(cell.records for cell in self.cells.values())

    def of(self, dataset: str) -> Iterator[Cell]:
        shown = (*ROWS, *(name for name in self.rows if name not in ROWS and self.cells[name, dataset].records))
        return (self.cells[name, dataset] for name in shown)

    def records(self) -> list[Record]:
        return [record for cell in self.cells.values() for record in cell.records.values()]

    def difference(self, a: str, b: str, dataset: str) -> dict[int, float]:
        """In points by seed, where both are finished."""
        x, y = self.cells[a, dataset].values(), self.cells[b, dataset].values()
        return {seed: x[seed] - y[seed] for seed in x if seed in y}

    def best_single(self, dataset: str) -> str | None:
        """The paper's one-encoder row with the highest mean over the seeds that all of them have; None without such."""
        values = {n: self.cells[n, dataset].values() for n in METHODS if len(ROWS[n].parts) == 1}
        common = set.intersection(*(set(of_row) for of_row in values.values()))
        if not common:
            return None
        return max(values, key=lambda n: float(np.mean([values[n][seed] for seed in common])))


def _cell(scale: Scale, known: Records, row: Row, dataset: str) -> Cell:
    records = {}
    for seed in (s for s in known.seeds(dataset) if s < SEEDS):
        block = Block(scale.base(dataset, seed), (row,), scale.transfer)
        record = known.find(row, block)
        if record is not None:
            records[seed] = record
    return Cell(row, dataset, records)


def check_records(results: Path, scales: Sequence[str]) -> None:
    """Raise DataError if any record was edited, or rows that should be paired were measured on different images."""
    for name in scales:
        Finished(load_scale(name), places_of(name, results, Path()))


def render(results: Path, scales: Sequence[str] = SCALES) -> Path:
    """Write RESULTS/table3.md and a plot for each scale with a finished row; returns the page.

    Raises:
        DataError: if a record was edited.
    """
    sections = []
    for name in scales:
        scale = load_scale(name)
        finished = Finished(scale, places_of(name, results, Path()))
        if finished:
            picture = results / f"table3-{scale.name}.png"
            figure = bars(finished)
            write_atomically(picture, lambda file, figure=figure: figure.savefig(file, format="png"))  # type: ignore[misc]
            sections.append(_section(finished, picture.name))
    page = results / "table3.md"
    write_text(page, "\n".join([_INTRODUCTION, *sections]))
    return page


NAME, TITLE = "table3", "# Table 3: coarse-to-fine transfer"
_INTRODUCTION = f"""{TITLE}

Encoders are trained on superclass labels only and frozen; a linear probe then reads the fine classes from their
embeddings. Fine accuracy on the test set in %, mean ± standard deviation over seeds. Split, images, initialisation,
order and views follow the seed, so rows are paired. On CIFAR-100-U the accuracy is weighted by the classes' training
frequency, as the paper's probably is; the balanced one stands beside it. A control is as wide as its method and has no
autoencoder. Alpha is `auto` unless it says 0.5. Every number is in `runs/`, with its command, settings, versions and
hardware; this page is written by `thanos reproduce table3`.
"""


def _section(finished: Finished, picture: str) -> str:
    parts = [f"## Scale `{finished.scale.name}`", _circumstances(finished), f"![Ours beside the paper's]({picture})"]
    parts += [
        "### All data sets, ours (the paper's)",
        _overview(finished),
        "### Differences, paired by seed",
        _differences(finished),
    ]
    for dataset, title in finished.sets.items():
        parts += [f"### {title}", _details(finished, dataset)]
    return "\n\n".join(parts) + "\n"


def _circumstances(finished: Finished) -> str:
    records = finished.records()
    hardware = sorted({f"{re.sub(', [0-9]+ threads', '', r['hardware'])}, {r['threads']} thread(s)" for r in records})
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records})
    commits = sorted({str(r["commit"]) for r in records})
    seconds = {t["fingerprint"]: t["seconds"] for r in records for t in r["trainings"]}
    timed = [s for s in seconds.values() if s is not None]
    return (
        f"{len(records)} rows finished, resting on {len(seconds)} trainings; the {len(timed)} that were not "
        f"interrupted took {sum(timed) / 3600:.1f} hours. "
        f"Hardware: {'; '.join(hardware)}. Versions: {'; '.join(versions)}. Commits: {', '.join(commits)}. Settings: "
        f"`src/thanos/reproduce/scales/{finished.scale.name}.yaml`."
    )


def _overview(finished: Finished) -> str:
    lines = ["| | " + " | ".join(DATASETS.values()) + " |", "|---" * (len(DATASETS) + 1) + "|"]
    for name in ROWS:
        cells = []
        for dataset in DATASETS:
            cell = finished.cells[name, dataset]
            values = list(cell.values().values())
            paper = "" if cell.paper is None else f" ({cell.paper:.1f})"
            cells.append((mean_and_deviation(values) if values else "not run yet") + paper)
        title = f"**{name}**" if name == "thanos" else name
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    seeds = [str(len(finished.cells["thanos", dataset].records)) for dataset in DATASETS]
    return "\n".join([*lines, f"| seeds of thanos | {' | '.join(seeds)} |", _lift_line(finished)])


def _lift_line(finished: Finished) -> str:
    """The last row: the mean lift of THANOS over SupCon."""
    lifts = [finished.difference("thanos", "supcon", dataset) for dataset in DATASETS]
    cells = [f"{np.mean([*lift.values()]):+.1f}" if lift else "not run yet" for lift in lifts]
    lines = "| thanos - supcon | " + " | ".join(cells) + " |"
    if not all(lifts):
        return f"{lines}\n\nMean lift of THANOS over SupCon: not all data sets are run yet (paper {PAPER_LIFT:+.1f})."
    mean = float(np.mean([np.mean([*lift.values()]) for lift in lifts]))
    return f"{lines}\n\n**Mean lift of THANOS over SupCon: {mean:+.1f} points (paper {PAPER_LIFT:+.1f}).**"


def _differences(finished: Finished) -> str:
    lines = ["| data set | difference | mean | 95% interval | by seed | paper |", "|---|---|---|---|---|---|"]
    for dataset, title in DATASETS.items():
        best = finished.best_single(dataset)
        pairs = [
            ("thanos", "supcon"),
            ("spread", "supcon"),
            ("thanos", "spread + spread"),
            ("supcon+cauto", "supcon + supcon"),
            ("thanos (one encoder)", "spread"),
        ]
        pairs += [("thanos", best)] if best and ("thanos", best) not in pairs else []
        for a, b in pairs:
            by_seed = finished.difference(a, b, dataset)
            label = f"{a} - control ({b})" if ROWS[a].control == b else f"{a} - {b}"
            if a == "thanos" and b == best:
                label += " (best single encoder)"
            if not by_seed:
                lines.append(f"| {title} | {label} | not run yet | | | |")
                continue
            values = list(by_seed.values())
            low, high = mean_interval(values)
            paper = ""
            if a in PAPER and b in PAPER:
                paper = f"{PAPER[a][list(DATASETS).index(dataset)] - PAPER[b][list(DATASETS).index(dataset)]:+.1f}"
            shown = f"{low:+.1f} to {high:+.1f}" if math.isfinite(low) else "one seed"
            each = ", ".join(f"{v:+.1f}" for v in values)
            lines.append(f"| {title} | {label} | {np.mean(values):+.1f} | {shown} | {each} | {paper} |")
    return "\n".join(lines)


def _details(finished: Finished, dataset: str) -> str:
    uneven = dataset == "cifar100-u"
    head = ["row", "what", "fine accuracy", *(["balanced"] if uneven else []), "seeds", "paper", "difference"]
    head += ["20 neighbours", "spread within superclasses", "width", "training s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for cell in finished.of(dataset):
        paper = "" if cell.paper is None else f"{cell.paper:.1f}"
        row = cell.row
        if not cell.records:
            lines.append(f"| {row.name} | {row.what} | not run yet | {'| ' * uneven}| {paper} |" + " |" * 5)
            continue
        values = list(cell.values().values())
        records = list(cell.records.values())
        gap = "" if cell.paper is None else f"{np.mean(values) - cell.paper:+.1f}"
        balanced = [mean_and_deviation(list(cell.values("balanced_accuracy").values()))] if uneven else []
        neighbours = [
            100 * r["scores"]["neighbours"]["frequency_weighted_accuracy" if uneven else "accuracy"] for r in records
        ]
        spread = np.mean([r["scores"]["geometry"]["spread"] for r in records])
        seconds = [
            sum(t["seconds"] for t in r["trainings"]) for r in records if all(t["seconds"] for t in r["trainings"])
        ]
        cells = [
            f"**{row.name}**" if row.name == "thanos" else row.name,
            row.what,
            mean_and_deviation(values),
            *balanced,
            str(len(values)),
        ]
        cells += [paper, gap, mean_and_deviation(neighbours), f"{spread:.3f}", str(records[0]["width"])]
        cells.append(f"{np.mean(seconds):.0f}" if seconds and row.parts else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def bars(finished: Finished) -> "Figure":
    """Each data set's seven methods, ours (with every seed as a dot) beside the paper's; lines for the floors."""
    from thanos.report.figures import new_figure

    figure = new_figure(1, len(DATASETS), 3.0 * len(DATASETS), 4.2)
    for axes, (dataset, title) in zip(figure.axes, DATASETS.items(), strict=True):
        for place, name in enumerate(METHODS):
            cell = finished.cells[name, dataset]
            values = list(cell.values().values())
            axes.bar(
                place + 0.2,
                PAPER[name][list(DATASETS).index(dataset)],
                0.38,
                color="#BBBBBB",
                label="paper" if place == 0 else None,
            )
            if values:
                axes.bar(place - 0.2, np.mean(values), 0.38, color="#332288", label="ours" if place == 0 else None)
                axes.plot([place - 0.2] * len(values), values, ".", color="#DDCC77", markersize=4)
        for name, style in (("random encoder", ":"), ("fine labels", "--")):
            values = list(finished.cells[name, dataset].values().values())
            if values:
                height = float(np.mean(values))
                axes.axhline(height, linestyle=style, color="#882255", linewidth=1, label=f"ours, {name}")
        axes.set_title(title, fontsize=11)
        axes.set_xticks(range(len(METHODS)), METHODS, rotation=60, ha="right", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        top = axes.get_ylim()[1]
        axes.set_ylim(0 if dataset != "mnist" else 60, 100 if dataset == "mnist" else top)
    figure.axes[0].set_ylabel("fine accuracy, %")
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure
