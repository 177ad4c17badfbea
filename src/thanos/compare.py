"""Runs side by side: what each scored, with intervals, and the command behind every number; a page and a CSV."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from thanos import registry
from thanos.data.group_table import mark_of
from thanos.data.splits import watched
from thanos.embeddings import kept_fingerprint
from thanos.errors import ConfigError, DataError, ThanosError
from thanos.evaluate.intervals import FEW, Interval, lowest_share, mean_interval, share_interval
from thanos.report.page import render
from thanos.runs.run_dir import RunDir
from thanos.storage import has_columns, read_json, refuse_foreign, says, write_csv, write_text
from thanos.storage.schemas import Classifier, Found, Kept

TITLE = "thanos: runs compared"


@dataclass(frozen=True)
class Cell:
    """One number of one run."""

    value: float | int | None
    """None: not measured yet. A whole number is shown as one."""
    interval: Interval | None
    command: str
    """That gives it, or would; empty where the images lack the labels for it."""
    share: bool = True
    """Shown in %."""
    few: bool = False
    """Whether it rests on fewer than 50 images."""
    ran: bool = True
    """Whether the command was carried out, be it without this number."""

    @property
    def text(self) -> str:
        if self.value is None:
            return "-"
        if self.share:
            return f"{100 * self.value:.1f}"
        return f"{self.value:.3f}" if isinstance(self.value, float) else f"{self.value:,}"

    @property
    def around(self) -> str:
        """The interval, or nothing; and whether it rests on few images."""
        if self.interval is None or self.value is None:
            return ""
        scale, digits = (100, 1) if self.share else (1, 3)
        few = ", few images" if self.few else ""
        return f"{scale * self.interval[0]:.{digits}f} to {scale * self.interval[1]:.{digits}f}{few}"


@dataclass(frozen=True)
class Line:
    """One run."""

    name: str
    settings: dict[str, str]
    cells: dict[str, Cell]

    @property
    def commands(self) -> dict[str, bool]:
        """Behind the cells, and whether each was run."""
        return {cell.command: cell.ran for cell in self.cells.values() if cell.command}


ALWAYS = ("data", "method", "encoder", "alpha", "epochs", "batch", "seed")
"""Settings that the CSV of every version begins with."""
SETTINGS = (*ALWAYS, "start")
COLUMNS = {
    "fine accuracy, probe": "linear probe on the fine labels, test images",
    "fine accuracy, neighbours": "nearest neighbours, test images",
    "superclass accuracy": "20 nearest neighbours vote for the superclass, validation images",
    "spread, validation": "1 - mean cosine between images of one superclass; on validation images, as in training's "
    "last line (a run's page and thanos geometry measure it on test images)",
    "recovery": "adjusted mutual information of discovered and true subclasses, test images: 0 is chance and what one "
    "cluster scores, however many clusters there are",
    "worst group": "of test images, true groups; of the thanos robust classifier that validation favours",
    "worst discovered group": "of test images, the run's discovered subclasses; of the thanos robust classifier that "
    "validation favours",
    "minutes": "of training, and of a frozen network's features (hardly any where they lay in the cache)",
}
"""What is compared, and what it is."""
UNRANKED = ("minutes", "spread, validation")
"""Of which more is not better."""
KEEPS = ("fine accuracy, probe", "recovery", "fine accuracy, neighbours")
"""What says how well hidden subclasses are kept: the first that was measured in most runs."""


def compare(runs: Sequence[Path], leave_out: Callable[[str], None] = lambda why: None) -> list[Line]:
    """The runs in the order of their probe's accuracy, then of superclass accuracy; not measured ones last.

    Args:
        runs: Folders.
        leave_out: Receives why a folder is not compared that holds no finished run, or a damaged one.
    Raises:
        ConfigError: for one folder twice.
        DataError: if none is left.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise ConfigError("every run is compared once; one was named twice.")
    lines, faults = list[Line](), list[ThanosError]()
    for run in runs:
        try:
            lines.append(_line(run))
        except ThanosError as fault:
            faults.append(fault)
            leave_out(str(fault))
    if not lines:
        raise faults[0]
    order = ("fine accuracy, probe", "superclass accuracy")
    return sorted(lines, key=lambda line: [-(line.cells[name].value or -1.0) for name in order])


def _finished(path: Path) -> RunDir:
    """A run directory whose training came to its end.

    Raises:
        DataError, ConfigError: if it is none, or damaged; the message says how to go on.
    """
    run = RunDir(path)
    if run.is_finished and run.metrics() and run.settings():
        return run
    how = f"the first command in {run.log} goes on with it" if run.log.is_file() else "train one: thanos train --help"
    raise DataError(f"finished runs are compared; {path} is none; {how}.")


def _line(run: Path) -> Line:
    here = _finished(run)
    metrics, settings = here.metrics(), here.settings()
    where = quote(str(run))
    train = f"thanos train --config {quote(str(here.settings_file))} --out NEW"
    final = metrics["final"]
    cells = {}
    data = here.data()
    encoder = kept_fingerprint(here.weights())
    if not encoder and here.weights().is_file():
        raise DataError(f"{here.facts()} is gone, which says what {here.weights()} are. Bring back a copy.")
    for name, reader in (("fine accuracy, probe", "probe"), ("fine accuracy, neighbours", "neighbours")):
        kept = metrics.get("transfer/last", {})
        kept = kept if kept.get("encoder") == encoder else {}  # of weights that are no longer the run's
        scores = kept.get(reader, {})
        typed = kept.get("command", f"thanos transfer {where}" if data.get("subclasses") else "")
        accuracy, n = scores.get("accuracy"), scores.get("n", 0)
        around = None if accuracy is None else share_interval(accuracy, n)
        cells[name] = Cell(accuracy, around, typed, few=n < FEW, ran=bool(scores))
    accuracy, held_out = final.get("validation/superclass_accuracy"), _validation_images(data)
    around = share_interval(accuracy, held_out) if accuracy is not None and held_out else None
    cells["superclass accuracy"] = Cell(accuracy, around, train, few=held_out < FEW)
    within = final.get("validation/within_class_cosine")
    cells["spread, validation"] = Cell(None if within is None else 1 - within, None, train, share=False)
    of = {"images": data.get("fingerprint"), "encoder": encoder}
    found = _made_of(here.outcome("subclasses", ".json"), Found, of)
    recovered = found.get("recovery", {}).get("test", {})
    typed = found.get("command", f"thanos discover {where}")
    mutual = recovered.get("adjusted_mutual_information")
    cells["recovery"] = Cell(mutual, None, typed, share=False, ran=bool(found))
    cells["worst group"] = _worst_group(here, where, "groups", of)
    cells["worst discovered group"] = _worst_group(here, where, "discovered_groups", of)
    seconds = metrics.get("seconds")
    minutes = None if seconds is None else (seconds + metrics.get("features_seconds", 0.0)) / 60
    cells["minutes"] = Cell(minutes, None, train, share=False)
    shown = {name: str(settings.get(name)) for name in SETTINGS} | {"start": start_of(settings)}
    alpha = metrics.get("alpha")
    shown["alpha"] = "-" if alpha is None else f"{alpha:.3f}" + (" (auto)" if settings.get("alpha") == "auto" else "")
    return Line(str(run), shown, cells)


def start_of(settings: Mapping[str, Any]) -> str:
    """What training started from: scratch, a network that was fine-tuned or kept frozen, or ready-made vectors."""
    if settings.get("frozen"):
        return "frozen"
    if settings.get("pretrained"):
        return "fine-tuned"
    own = registry.encoder(str(settings["encoder"]))
    return "vectors" if own is not None and own.takes == "vectors" else "scratch"


@dataclass(frozen=True)
class Keeping:
    """How well one start and method keep hidden subclasses, over its runs."""

    start: str
    method: str
    runs: int
    measure: str
    """Of :data:`KEEPS`."""
    value: float
    """Mean."""
    interval: Interval
    """95% of the mean over runs by Student's t; of a single run endless."""
    minutes: float | None
    """Mean."""


def kept_by(lines: Sequence[Line]) -> list[Keeping]:
    """By start and method, the best first: which keeps hidden subclasses best, and what it took.

    Args:
        lines: Of runs on the same data; of several data sets nothing is said, and nothing where no run was measured.
    """
    measured = {name: [line for line in lines if line.cells[name].value is not None] for name in KEEPS}
    measure = max(KEEPS, key=lambda name: len(measured[name]))  # of equals the first
    if not measured[measure] or len({line.settings["data"] for line in lines}) > 1:
        return []
    together: dict[tuple[str, str], list[Line]] = {}
    for line in measured[measure]:
        together.setdefault((line.settings["start"], line.settings["method"]), []).append(line)
    found = []
    for (start, method), mine in together.items():
        values = [value for line in mine if (value := line.cells[measure].value) is not None]
        took = [value for line in mine if (value := line.cells["minutes"].value) is not None]
        minutes = sum(took) / len(took) if took else None
        mean = sum(values) / len(values)
        found.append(Keeping(start, method, len(mine), measure, mean, mean_interval(values), minutes))
    return sorted(found, key=lambda one: -one.value)


def _worst_group(run: RunDir, where: str, kind: str, of: dict[str, Any]) -> Cell:
    """On test images, of the classifier in the run that validation favours."""
    best: tuple[float, Cell] | None = None
    table = run.outcome("subclasses", ".csv")
    subclasses = mark_of(table if table.is_file() else None)
    typed = ""
    for file in sorted(run.path.glob("robust-*.json")):
        if not (found := _made_of(file, Classifier, of)):
            continue
        typed = found.get("command", f"thanos robust {where}")
        if kind == "discovered_groups" and found.get("subclasses") != subclasses:
            continue  # of subclasses that are no longer the run's
        groups = found.get("scores", {}).get(kind, {}).get("groups")
        chosen = found.get("selection", {}).get("accuracy", 0.0)
        if groups and (best is None or chosen > best[0]):
            worst = lowest_share(groups)
            best = chosen, Cell(worst["accuracy"], worst["interval"], typed, few=worst["small"])
    return Cell(None, None, typed or f"thanos robust {where}", ran=bool(typed)) if best is None else best[1]


def _validation_images(data: dict[str, Any]) -> int:
    counts = data.get("counts", {}).get("validation", {})
    return len(watched(range(sum(counts.values()))))


def _made_of(file: Path, schema: type[Kept], of: dict[str, Any]) -> dict[str, Any]:
    """What a command left in a run; empty where it left nothing, or made it of other images or weights."""
    content = read_json(file, schema) if file.is_file() else {}
    return content if content.get("of") == of else {}


def best_of(cells: Sequence[Cell]) -> float | None:
    """The largest value, if no other's interval reaches beyond the lower end of its own; None: it may be chance."""
    values = sorted((cell.value for cell in cells if cell.value is not None), reverse=True)
    if not values:
        return None
    least = min((c.interval[0] for c in cells if c.value == values[0] and c.interval), default=values[0])
    near = [c for c in cells if c.value not in (None, values[0]) and c.interval and c.interval[1] > least]
    return None if near else values[0]


def write_comparison(lines: list[Line], page: Path, left_out: Sequence[str] = ()) -> None:
    """The page, and beside it a .csv with every value, interval and command.

    Args:
        lines: Of the runs.
        page: The .html.
        left_out: Why other runs are not there.
    Raises:
        OutputError: if another file is there.
    """
    heads = [head for name in COLUMNS for head in (name, f"{name}: low", f"{name}: high", f"{name}: command")]
    columns = ["run", *SETTINGS, *heads]
    refuse_foreign(page, says(TITLE), "thanos compare")
    refuse_foreign(page.with_suffix(".csv"), has_columns(columns[: 1 + len(ALWAYS)]), "thanos compare")
    varied = [name for name in SETTINGS if len({line.settings[name] for line in lines}) > 1]
    common = {name: lines[0].settings[name] for name in SETTINGS if name not in varied}
    best = {name: best_of([line.cells[name] for line in lines]) for name in COLUMNS if name not in UNRANKED}
    shown = {k: what for k, what in COLUMNS.items() if any(line.cells[k].value is not None for line in lines)}
    unmeasured = [name for name in COLUMNS if name not in shown]
    facts = {"title": TITLE, "lines": lines, "varied": varied, "common": common, "columns": shown, "best": best}
    facts |= {"unmeasured": unmeasured, "left_out": left_out}
    write_text(page, render("compare.html", **facts))
    rows: list[list[Any]] = [columns]
    for line in lines:
        row: list[Any] = [line.name, *line.settings.values()]
        for cell in line.cells.values():
            low, high = cell.interval or ("", "")
            row += ["" if cell.value is None else cell.value, low, high, cell.command]
        rows.append(row)
    write_csv(page.with_suffix(".csv"), rows)
