"""The paper's Table 3: seven methods on five data sets; its rows, the paper's figures beside ours, its columns."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thanos import registry
from thanos.reproduce import markdown
from thanos.reproduce.markdown import Cell, difference_cells, mean_and_deviation
from thanos.reproduce.records import Record
from thanos.reproduce.rows import ROWS, known_rows
from thanos.reproduce.table import Finished, Phase, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DATASETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar100-u": "CIFAR-100-U",
    "tiny-imagenet": "Tiny ImageNet",
}
BEYOND = {"grocery": "Grocery", "ham10000": "HAM10000", "gtsrb": "GTSRB"}
"""Sets that the paper does not have."""
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
RECOVERY = ("recovery", "adjusted_mutual_information")
_PAIRS = (
    ("thanos", "supcon"),
    ("spread", "supcon"),
    ("thanos", "spread + spread"),
    ("supcon+cauto", "supcon + supcon"),
    ("thanos", "frozen features"),
    ("spread", "frozen features"),
    ("thanos (one encoder)", "spread"),
)


def _kind(dataset: str) -> str:
    """On CIFAR-100-U the headline is weighted by training frequency, as the paper's."""
    return "frequency_weighted_accuracy" if dataset == "cifar100-u" else "accuracy"


def _paper(row: str, dataset: str) -> float | None:
    if row not in PAPER or dataset not in DATASETS:
        return None
    return PAPER[row][list(DATASETS).index(dataset)]


def _circumstances(finished: Finished) -> Iterator[str]:
    records = finished.records()
    hardware = sorted({f"{re.sub(', [0-9]+ threads', '', r['hardware'])}, {r['threads']} thread(s)" for r in records})
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records})
    commits = sorted({str(r["commit"]) for r in records})
    seconds = {t["fingerprint"]: t["seconds"] for r in records for t in r["trainings"]}
    timed = [s for s in seconds.values() if s is not None]
    yield (
        f"{len(records)} rows finished, resting on {len(seconds)} trainings; the {len(timed)} that were not "
        f"interrupted took {sum(timed) / 3600:.1f} hours. "
        f"Hardware: {'; '.join(hardware)}. Versions: {'; '.join(versions)}. Commits: {', '.join(commits)}. Settings: "
        f"`src/thanos/reproduce/scales/{finished.scale.name}.yaml`."
    )
    yield f"![Ours beside the paper's]({finished.table.picture_file(Path(), finished.scale.name)})"


def _rows(finished: Finished) -> list[str]:
    """Those of which something is known at this scale."""
    return [name for name in ROWS if any(finished.of(name, dataset) for dataset in finished.sets)]


def _titles(finished: Finished) -> dict[str, str]:
    """Of the data sets of which something is known."""
    return {dataset: (DATASETS | BEYOND).get(dataset, dataset) for dataset in finished.sets}


def _overview(finished: Finished) -> Iterator[str]:
    titles = _titles(finished)
    rows: list[list[Cell]] = []
    for name in _rows(finished):
        cells: list[Cell] = [f"**{name}**" if name == "thanos" else name]
        for dataset in titles:
            values, paper = finished.headline(name, dataset).values(), _paper(name, dataset)
            theirs = "" if paper is None or not values else f" ({paper:.1f})"
            cells.append(mean_and_deviation(values) + theirs if values else None)
        rows.append(cells)
    rows.append(["seeds of thanos", *(str(len(finished.of("thanos", dataset))) for dataset in titles)])
    lifts = {dataset: [*finished.difference("thanos", "supcon", dataset).values()] for dataset in titles}
    rows.append(["thanos - supcon", *(f"{np.mean(lift):+.1f}" if lift else None for lift in lifts.values())])
    yield "### All data sets, ours (the paper's)"
    yield markdown.table([None, *titles.values()], rows)
    if all(lifts.get(dataset) for dataset in DATASETS):
        mean = float(np.mean([np.mean(lifts[dataset]) for dataset in DATASETS]))
        yield (
            f"**Mean lift of THANOS over SupCon on the paper's sets: {mean:+.1f} points (paper {PAPER_LIFT:+.1f}).**"
        )
    yield from _recovery(finished)


def _recovery(finished: Finished) -> Iterator[str]:
    """How well clusters recover the classes, where that was measured."""
    titles, rows = _titles(finished), []
    for name in _rows(finished):
        known = [finished.values(name, dataset, *RECOVERY).values() for dataset in titles]
        if any(known):
            cells: list[Cell] = [mean_and_deviation(values) if values else None for values in known]
            rows.append([f"**{name}**" if name == "thanos" else name, *cells])
    if rows:
        yield "### What clusters recover"
        yield (
            "Adjusted mutual information (times 100) between the fine classes of a superclass and k-means of its test "
            "images, with as many clusters as it has classes; mean over superclasses."
        )
        yield markdown.table([None, *titles.values()], rows)


def _differences(finished: Finished) -> Iterator[str]:
    rows: list[list[Cell]] = []
    for dataset, title in _titles(finished).items():
        best = _best_single(finished, dataset)
        pairs = dict.fromkeys([*_PAIRS, *([("thanos", best)] if best else [])])
        for a, b in pairs:
            label = f"{a} - control ({b})" if ROWS[a].control == b else f"{a} - {b}"
            if a == "thanos" and b == best:
                label += " (best single encoder)"
            if found := finished.difference(a, b, dataset):
                rows.append([title, label, *difference_cells(found.values()), _paper_difference(a, b, dataset)])
    yield "### Differences, paired by seed"
    yield markdown.table(["data set", "difference", "mean", "95% interval", "by seed", "paper"], rows)


def _best_single(finished: Finished, dataset: str) -> str | None:
    """The paper's one-encoder row with the highest mean over the seeds that all of them have; None without such."""
    values = {name: finished.headline(name, dataset) for name in METHODS if len(ROWS[name].parts) == 1}
    common = set.intersection(*(set(of_row) for of_row in values.values()))
    if not common:
        return None
    return max(values, key=lambda name: float(np.mean([values[name][seed] for seed in common])))


def _paper_difference(a: str, b: str, dataset: str) -> str:
    x, y = _paper(a, dataset), _paper(b, dataset)
    return "" if x is None or y is None else f"{x - y:+.1f}"


def _details(finished: Finished) -> Iterator[str]:
    for dataset, title in _titles(finished).items():
        uneven = dataset == "cifar100-u"
        head = ["row", "what", "fine accuracy", *(["balanced"] if uneven else []), "seeds", "paper", "difference"]
        head += ["20 neighbours", "spread within superclasses", "width", "training s"]
        known = [name for name in finished.table.rows() if finished.of(name, dataset)]
        yield f"### {title}"
        yield markdown.table(head, (_detail(finished, name, dataset) for name in known))


def _detail(finished: Finished, name: str, dataset: str) -> list[Cell]:
    """One row on one data set."""
    row, records, uneven = finished.table.rows()[name], [*finished.of(name, dataset).values()], dataset == "cifar100-u"
    paper = _paper(name, dataset)
    theirs = "" if paper is None else f"{paper:.1f}"
    values = [*finished.headline(name, dataset).values()]
    cells: list[Cell] = [f"**{name}**" if name == "thanos" else name, row.what, mean_and_deviation(values)]
    if uneven:
        cells.append(mean_and_deviation(finished.values(name, dataset, "probe", "balanced_accuracy").values()))
    cells += [str(len(values)), theirs, "" if paper is None else f"{np.mean(values) - paper:+.1f}"]
    cells.append(mean_and_deviation(finished.values(name, dataset, "neighbours", _kind(dataset)).values()))
    spread = np.mean([record["scores"]["geometry"]["spread"] for record in records])
    return [*cells, f"{spread:.3f}", str(records[0]["width"]), _training_seconds(records) if row.parts else ""]


def _training_seconds(records: list[Record]) -> str:
    """The mean over the seeds without an interruption."""
    by_seed = [[training["seconds"] for training in record["trainings"]] for record in records]
    seconds = [sum(of_seed) for of_seed in by_seed if all(of_seed)]
    return f"{np.mean(seconds):.0f}" if seconds else ""


def bars(finished: Finished) -> "Figure":
    """Each data set's seven methods, ours (with every seed as a dot) beside the paper's; lines for the floors."""
    from thanos.report.figures import new_figure

    titles = _titles(finished)
    figure = new_figure(1, len(titles), 3.0 * len(titles), 4.2)
    for axes, (dataset, title) in zip(figure.axes, titles.items(), strict=True):
        _draw(axes, finished, dataset)
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


def _draw(axes: "Axes", finished: Finished, dataset: str) -> None:
    """The bars of one data set, and its lines."""
    for place, name in enumerate(METHODS):
        theirs, values = _paper(name, dataset), [*finished.headline(name, dataset).values()]
        if theirs is not None:
            axes.bar(place + 0.2, theirs, 0.38, color="#BBBBBB", label="paper" if place == 0 else None)
        if values:
            mean = float(np.mean(values))
            axes.bar(place - 0.2, mean, 0.38, color="#332288", label="ours" if place == 0 else None)
            axes.plot([place - 0.2] * len(values), values, ".", color="#DDCC77", markersize=4)
    for name, style in (("random encoder", ":"), ("frozen features", "-."), ("fine labels", "--")):
        values = [*finished.headline(name, dataset).values()]
        if values:
            height = float(np.mean(values))
            axes.axhline(height, linestyle=style, color="#882255", linewidth=1, label=f"ours, {name}")


TABLE = Table(
    name="table3",
    title="# Table 3: coarse-to-fine transfer",
    introduction="""\
Encoders are trained on superclass labels only and frozen; a linear probe then reads the fine classes from their
embeddings. Fine accuracy on the test set in %, mean ± standard deviation over seeds. Split, images, initialisation,
order and views follow the seed, so rows are paired. On CIFAR-100-U the accuracy is weighted by the classes' training
frequency, as the paper's probably is; the balanced one stands beside it. A control is as wide as its method and has no
autoencoder. Alpha is `auto` unless it says 0.5. Every number is in `runs/`, with its command, settings, versions and
hardware; this page is written by `thanos reproduce table3`.""",
    sets=DATASETS,
    more_sets=lambda: sorted({*registry.datasets()} - {*DATASETS}),
    rows=known_rows,
    usual=(*ROWS,),
    phases=(Phase(lambda row: row.name not in LATER), Phase(lambda row: row.name in LATER)),
    headline=lambda dataset: ("probe", _kind(dataset)),
    sections=(_circumstances, _overview, _differences, _details),
    picture=bars,
)
