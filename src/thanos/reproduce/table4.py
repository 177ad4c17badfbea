"""The paper's Table 4: worst-group accuracy and subclass recovery; which rows, on which sets, and how it is shown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from thanos.config import DiscoverConfig, RobustConfig, Table4Config
from thanos.evaluate.intervals import lowest_share, mean_interval
from thanos.reproduce.records import Places, Record, Records
from thanos.reproduce.rows import Block, Kind, Part, Row, Stage, check_rows
from thanos.reproduce.scale import load_scale
from thanos.reproduce.table3 import mean_and_deviation, places_of
from thanos.storage import write_text

DATASETS = {
    "dominoes-95": "Dominoes, 95%",
    "coloured-digits-medium": "Coloured digits, medium patch",
    "rare-cifar10": "Rare ship (CIFAR-10)",
    "rare-mnist": "Rare 8 (MNIST)",
    "dominoes-99": "Dominoes, 99%",
    "coloured-digits-large": "Coloured digits, whole ground",
    "coloured-digits-small": "Coloured digits, small patch",
    "patched-cifar10": "Patch on animals",
}
GROUPED = ("dominoes", "coloured", "patched")
"""Sets with groups start so; on the others rows are judged by recovery alone."""
RARE = {"rare-mnist": "8", "rare-cifar10": "ship"}
"""The class of which a twentieth of the training images is left."""
PAPER_RECOVERY = {"george": (56.3, 74.0, 24.2), "supcon": (47.1, 92.5, 19.4), "thanos": (59.0, 93.8, 24.8)}
PAPER_WORST = {
    "george": (88.4, 92.0, 55.0),
    "jtt": (83.8, 91.8, 77.9),
    "supcon": (86.8, 93.3, 66.1),
    "thanos": (88.6, 92.6, 89.4),
    "groupdro": (90.7, 92.3, 88.9),
}
"""F1, and worst-group accuracy (ISIC: AUROC), on Waterbirds, ISIC, CelebA. Source: Chen et al., ICML 2022."""

_ERM = (Part("cross-entropy"),)
_SUPCON, _SPREAD, _THANOS = (Part("supcon"),), (Part("spread"),), (Part("spread"), Part("cauto"))
_PLAIN = RobustConfig(method="erm", groups="none")
_DRO = RobustConfig(method="groupdro", groups="discovered")
CLUSTERS = DiscoverConfig(least=2)
"""`thanos discover`'s own defaults, and no superclass left whole: how every embedding is clustered."""
RARE_CLUSTERS = DiscoverConfig(clusters=20)
"""For sets with a rare subclass: many, as the few that a silhouette asks for are each larger than the subclass."""
MIXTURES = DiscoverConfig(method="mixture", least=2, overcluster=True)
"""George's for MNIST and ISIC, with principal components in UMAP's place."""
HARDNESS = DiscoverConfig(reduce="hardness", components=1, length="own", method="mixture", least=2)
"""George's for Waterbirds and CelebA: a mixture along the direction that tells the superclass."""


def _row(name: str, what: str, kind: Kind, parts: tuple[Part, ...], config: RobustConfig, **more: Any) -> Row:
    network, clusters = more.pop("network", False), more.pop("clusters", None)
    return Row(name, what, kind, parts, stage=Stage(config, clusters, network), **more)


_TRUE = RobustConfig(method="groupdro", groups="given")
_JTT = RobustConfig(method="jtt", groups="none")
_AFR = RobustConfig(method="afr", groups="none")
_JTT_ORACLE = RobustConfig(method="jtt", groups="none", select="worst-group")
_DFR = RobustConfig(method="dfr", groups="given")
HEADS = (
    _row("erm", "superclass cross-entropy, plain head", "floor", _ERM, _PLAIN),
    _row("random encoder", "control: George on an untrained encoder", "floor", (), _DRO, floor="random"),
    _row("jtt", "JTT on erm's embedding", "method", _ERM, _JTT),
    _row("afr", "AFR on erm's embedding", "method", _ERM, _AFR),
    _row("george", "clusters of erm's embedding, GroupDRO", "method", _ERM, _DRO),
    _row("george (hardness)", "its clustering for Waterbirds", "method", _ERM, _DRO, clusters=HARDNESS),
    _row("supcon", "clusters of SupCon's embedding, GroupDRO", "method", _SUPCON, _DRO),
    _row("spread", "clusters of L_spread's embedding, GroupDRO", "method", _SPREAD, _DRO),
    _row("thanos", "clusters of THANOS's embedding, GroupDRO", "method", _THANOS, _DRO),
    _row("supcon, plain", "control: SupCon's embedding, plain head", "control", _SUPCON, _PLAIN),
    _row("thanos, plain", "control: THANOS's embedding, plain head", "control", _THANOS, _PLAIN),
    _row("jtt (validation groups)", "JTT, chosen by true groups as published", "ceiling", _ERM, _JTT_ORACLE),
    _row("groupdro", "true groups, GroupDRO on erm's embedding", "ceiling", _ERM, _TRUE),
    _row("dfr", "true validation groups, DFR on erm's embedding", "ceiling", _ERM, _DFR),
    _row("groupdro on thanos", "true groups, GroupDRO on THANOS's embedding", "ceiling", _THANOS, _TRUE),
)
"""The last stage is a convex head on frozen embeddings."""
NETWORKS = (
    _row("erm, network", "superclass cross-entropy, best epoch by worst class", "floor", _ERM, _PLAIN, network=True),
    _row("jtt, network", "what erm's network gets wrong weighs 20 times", "method", _ERM, _JTT, network=True),
    _row("george, network", "GroupDRO on a new network, clusters as george", "method", _ERM, _DRO, network=True),
    _row("supcon, network", "GroupDRO on a new network, clusters as supcon", "method", _SUPCON, _DRO, network=True),
    _row("thanos, network", "GroupDRO on a new network, clusters as thanos", "method", _THANOS, _DRO, network=True),
    _row("groupdro, network", "GroupDRO on a new network, true groups", "ceiling", _ERM, _TRUE, network=True),
)
"""The last stage is a whole network; for the first seed."""
RECOVERY = ("random encoder", "george", "george (hardness)", "supcon", "spread", "thanos")
"""Rows that discover groups in an embedding."""
_TWO_SUPCON = (Part("supcon"), Part("supcon", second=True))
RARE_ONLY = (
    _row("supcon + supcon", "control: two seeds of SupCon", "control", _TWO_SUPCON, _DRO),
    _row("supcon (mixtures)", "George's overclustered mixtures", "variant", _SUPCON, _DRO, clusters=MIXTURES),
    _row("thanos (mixtures)", "George's overclustered mixtures", "variant", _THANOS, _DRO, clusters=MIXTURES),
)
"""On sets with a rare subclass, beside RECOVERY."""
ROWS = {row.name: row for row in (*HEADS, *RARE_ONLY, *NETWORKS)}

LABEL_FREE = ("jtt", "afr", "george", "george (hardness)", "supcon")
"""The rivals that see no group label; the paper's, and AFR."""
GAP = 5.0
"""Points between ERM and GroupDRO above which the share of the way between them is worth stating."""


def planned_blocks(config: Table4Config) -> list[Block]:
    """Blocks of one set and one seed, all sets before the next seed; whole networks for the first seed, at the end.

    Raises:
        ConfigError: for a scale or a row that does not exist.
    """
    scale = load_scale(config.scale)
    check_rows(config.method, ROWS)
    chosen = set(config.method or ROWS)
    blocks = []
    for rows, seeds in (((*HEADS, *RARE_ONLY), config.seeds), (NETWORKS, 1)):
        for seed in range(seeds):
            for dataset in config.dataset:
                base = scale.base(dataset, seed, config.root).model_copy(update={"download": config.download})
                wanted = tuple(row for row in _rows_of(dataset, rows) if row.name in chosen)
                blocks += [Block(base, wanted, scale.transfer)] if wanted else []
    return blocks


def _rows_of(dataset: str, rows: Iterable[Row]) -> list[Row]:
    """The rows that a set has, with the clustering that is its; sets without groups are there for recovery."""
    usual = RARE_CLUSTERS if dataset in RARE else CLUSTERS
    wanted = {*ROWS} - {row.name for row in RARE_ONLY}
    if not dataset.startswith(GROUPED):
        wanted = {*RECOVERY, *(row.name for row in RARE_ONLY)}
    found = []
    for row in rows:
        assert row.stage is not None
        clusters = row.stage.clusters or usual
        stage = replace(row.stage, clusters=clusters) if row.stage.config.groups == "discovered" else row.stage
        if row.name in wanted:
            found.append(replace(row, stage=stage))
    return found


class Finished:
    """All finished rows of a scale: by row and set, the records by seed.

    Raises:
        DataError: if a record was edited.
    """

    def __init__(self, scale: str, places: Places):
        self.scale = load_scale(scale)
        self.records: dict[tuple[str, str], dict[int, Record]] = {}
        known = Records(places.records)
        for dataset in DATASETS:
            self.records |= {(name, dataset): {} for name in ROWS}
            for row in _rows_of(dataset, ROWS.values()):
                found = self.records[row.name, dataset]
                for seed in known.seeds(dataset):
                    block = Block(self.scale.base(dataset, seed), (row,), self.scale.transfer)
                    record = known.find(row, block)
                    if record is not None:
                        found[seed] = record

    def values(self, row: str, dataset: str, *path: str) -> dict[int, float]:
        """A score in % by seed, found along ``path``; seeds without it are left out."""
        found = {}
        for seed, record in self.records[row, dataset].items():
            value: Any = record["scores"]
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            if value is not None:
                found[seed] = 100 * float(value)
        return found

    def worst(self, row: str, dataset: str) -> dict[int, float]:
        return self.values(row, dataset, "groups", "worst_group", "accuracy")

    def difference(self, a: str, b: str, dataset: str) -> list[float]:
        """In points of worst-group accuracy, paired by seed."""
        x, y = self.worst(a, dataset), self.worst(b, dataset)
        return [x[seed] - y[seed] for seed in x if seed in y]

    @property
    def sets(self) -> list[str]:
        """With a finished row."""
        return [dataset for dataset in DATASETS if any(self.records[name, dataset] for name in ROWS)]


def check_records(results: Path, scales: Sequence[str]) -> None:
    """Raise DataError if any record was edited."""
    for name in scales:
        Finished(name, places_of(name, results, Path()))


def render(results: Path, scales: Sequence[str]) -> Path:
    """Write RESULTS/table4.md; returns it."""
    sections = [_section(found) for name in scales if (found := Finished(name, places_of(name, results, Path()))).sets]
    page = results / "table4.md"
    write_text(page, "\n\n".join([_INTRODUCTION, *sections]) + "\n")
    return page


NAME, TITLE = "table4", "# Table 4: worst-group accuracy and subclass recovery"
_INTRODUCTION = f"""{TITLE}

Encoders are trained on superclass labels only. Rows *without* group labels see no true group before the test: clusters
inside each superclass (docs/discover.md; k-means on principal components, for the rare sets twenty of them, a number
settled on seeds 0 to 2 of the rare ship before the others were trained) take the groups' place in training and in
choosing among settings; ERM, JTT and AFR choose by the worst superclass. GroupDRO and DFR, and JTT as published, see
the true groups of training or validation images. The last stage is a convex head on the frozen embedding
(docs/robust.md), or, where it says network, a whole network for one seed. Worst-group accuracy on test images in %,
mean ± standard deviation over seeds that pair split, images, initialisation and views; the interval of a seed's images
is that of the lowest true accuracy of a group, whichever it is, for as many images as each has. Every number is in
`runs/`; `thanos reproduce table4` writes this page."""


def _section(found: Finished) -> str:
    parts = [f"## Scale `{found.scale.name}`"]
    for dataset in found.sets:
        parts.append(f"### {DATASETS[dataset]} (`{dataset}`)")
        if dataset.startswith(GROUPED):
            parts += [_worst_groups(found, dataset), _differences(found, dataset)]
        parts.append(_rare(found, dataset) if dataset in RARE else _recovered(found, dataset))
    return "\n\n".join([*parts, "### Mean lifts beside the paper's", _lifts(found), _paper()])


def _worst_groups(found: Finished, dataset: str) -> str:
    head = ["row", "what", "worst group", "95% of a seed's images", "group mean", "sample mean"]
    head += ["chosen by (smallest n)", "of the way to GroupDRO", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in _rows_of(dataset, ROWS.values()):
        name, records = row.name, list(found.records[row.name, dataset].values())
        if not records:
            lines.append(f"| {name} | {row.what} | not run yet |" + " |" * (len(head) - 3))
            continue
        groups = [record["scores"]["groups"] for record in records]
        worst = [lowest_share(g["groups"]) for g in groups]
        low, high = (100 * np.mean([each["interval"][i] for each in worst]) for i in (0, 1))
        selection = records[0]["scores"]["selection"]
        smallest = min(min(r["scores"]["selection"]["n"].values()) for r in records)
        reference = "groupdro, network" if row.stage and row.stage.network else "groupdro"
        cells = [f"**{name}**" if name.startswith("thanos") and row.kind == "method" else name, row.what]
        cells.append(mean_and_deviation([100 * g["worst_group"]["accuracy"] for g in groups]))
        cells.append(f"{low:.1f} to {high:.1f}" + (", few images" if any(each["small"] for each in worst) else ""))
        cells += [mean_and_deviation([100 * g[k]["accuracy"] for g in groups]) for k in ("group_mean", "sample_mean")]
        cells += [f"{selection['rule']} ({smallest})", _share(found, name, reference, dataset), str(len(records))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(found: Finished, row: str, reference: str, dataset: str) -> str:
    """(m - ERM) / (GroupDRO - ERM) of the means, where the denominator is worth it."""
    floor = "erm, network" if "network" in reference else "erm"
    means = [[*found.worst(name, dataset).values()] for name in (row, floor, reference)]
    if not all(means) or row in (floor, reference):
        return ""
    mine, low, high = (float(np.mean(values)) for values in means)
    return f"{(mine - low) / (high - low):.0%}" if high - low > GAP else f"(gap {high - low:+.1f})"


def _differences(found: Finished, dataset: str) -> str:
    lines = ["| difference in worst group | mean | 95% interval | by seed |", "|---|---|---|---|"]
    pairs = [("thanos", other) for other in ("erm", "george", "supcon", "jtt", "afr", "spread", "thanos, plain")]
    pairs += [("groupdro", "erm"), ("thanos, network", "erm, network"), ("thanos, network", "george, network")]
    for a, b in pairs:
        lines.append(_difference_line(f"{a} - {b}", found.difference(a, b, dataset)))
    return "\n".join(lines)


def _difference_line(what: str, values: Sequence[float]) -> str:
    if not values:
        return f"| {what} | not run yet | | |"
    low, high = mean_interval(values)
    interval = f"{low:+.1f} to {high:+.1f}" if math.isfinite(low) else "one seed"
    return f"| {what} | {np.mean(values):+.1f} | {interval} | {', '.join(f'{v:+.1f}' for v in values)} |"


def _recovered(found: Finished, dataset: str) -> str:
    """F1 of discovered against true groups on the training images, and of one cluster a superclass."""
    head = ["recovery, training images", "F1, mean over groups", "F1, rarest groups", "purity", "clusters", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    base: dict[str, list[float]] = {}
    for name in RECOVERY:
        records = [r for r in found.records[name, dataset].values() if "recovery" in r["scores"]]
        if not records:
            lines.append(f"| {name} | not run yet |" + " |" * 4)
            continue
        scores = [record["scores"]["recovery"]["train"] for record in records]
        one = [each["one_cluster"] for each in scores]
        for key, values in (("macro", [o["macro_f1"] for o in one]), ("rare", [o["rarest_f1"]["mean"] for o in one]),
                            ("pure", [o["purity"] for o in one])):  # fmt: skip
            base[key] = [100 * v for v in values]
        sizes = [len(c["sizes"]) for record in records for c in record["scores"]["clusters"].values()]
        cells = [name, mean_and_deviation([100 * s["macro_f1"] for s in scores])]
        cells.append(mean_and_deviation([100 * s["rarest_f1"]["mean"] for s in scores]))
        cells += [mean_and_deviation([100 * s["purity"] for s in scores]), f"{min(sizes)} to {max(sizes)}"]
        lines.append("| " + " | ".join([*cells, str(len(records))]) + " |")
    if base:
        cells = [mean_and_deviation(base[key]) for key in ("macro", "rare", "pure")]
        lines.append("| one cluster a superclass | " + " | ".join([*cells, "1", ""]) + " |")
    return "\n".join(lines)


def _rare(found: Finished, dataset: str) -> str:
    """F1 of the rare class on the training images, beside what its clusters score by chance, and by seed."""
    rare = RARE[dataset]
    head = ["recovery, training images", "what", f"F1, rare class ({rare})", "its clusters shuffled"]
    head += ["F1, mean over classes", "clusters", "F1 of the rare class by seed"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    by_row: dict[str, dict[int, float]] = {}
    one: dict[int, float] = {}
    for name in (*RECOVERY, *(row.name for row in RARE_ONLY)):
        records = found.records[name, dataset]
        if not records:
            lines.append(f"| {name} | {ROWS[name].what} | not run yet |" + " |" * (len(head) - 3))
            continue
        scores = {seed: record["scores"]["recovery"]["train"] for seed, record in records.items()}
        by_row[name] = {seed: 100 * each["best_f1"][rare] for seed, each in scores.items()}
        one |= {seed: 100 * each["one_cluster"]["rarest_f1"]["lowest"] for seed, each in scores.items()}
        sizes = [len(c["sizes"]) for record in records.values() for c in record["scores"]["clusters"].values()]
        cells = [f"**{name}**" if name == "thanos" else name, ROWS[name].what]
        cells.append(mean_and_deviation([*by_row[name].values()]))
        cells.append(mean_and_deviation([100 * each["shuffled"]["best_f1"][rare] for each in scores.values()]))
        cells.append(mean_and_deviation([100 * each["macro_f1"] for each in scores.values()]))
        cells += [str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"]
        lines.append("| " + " | ".join([*cells, ", ".join(f"{v:.1f}" for v in by_row[name].values())]) + " |")
    if one:
        cells = ["one cluster a superclass", "", mean_and_deviation([*one.values()]), "", "", "1"]
        lines.append("| " + " | ".join([*cells, ", ".join(f"{v:.1f}" for v in one.values())]) + " |")
    lines += ["", "| difference in F1 of the rare class | mean | 95% interval | by seed |", "|---|---|---|---|"]
    for a, b in (("thanos", "supcon"), ("thanos", "supcon + supcon"), ("thanos (mixtures)", "supcon (mixtures)")):
        x, y = by_row.get(a, {}), by_row.get(b, {})
        lines.append(_difference_line(f"{a} - {b}", [x[seed] - y[seed] for seed in x if seed in y]))
    return "\n".join(lines)


def _lifts(found: Finished) -> str:
    """THANOS over the rivals that see no group label: the mean over sets, and the largest over JTT."""
    wanted = ("thanos", "erm", *LABEL_FREE)
    sets = [d for d in found.sets if d.startswith(GROUPED) and all(found.worst(name, d) for name in wanted)]
    if not sets:
        return "Not run yet (paper: +4.7 points over the others in the mean, +11.5 over JTT on CelebA)."
    lines = [f"| thanos - | {' | '.join(DATASETS[d] for d in sets)} | mean |", "|---" * (len(sets) + 2) + "|"]
    for rival in ("erm", *LABEL_FREE):
        each = [float(np.mean(found.difference("thanos", rival, d))) for d in sets]
        lines.append(f"| {rival} | " + " | ".join(f"{v:+.1f}" for v in each) + f" | {np.mean(each):+.1f} |")
    rivals = [max(float(np.mean([*found.worst(r, d).values()])) for r in LABEL_FREE) for d in sets]
    best = [float(np.mean([*found.worst("thanos", d).values()])) - rival for d, rival in zip(sets, rivals, strict=True)]
    largest = max(float(np.mean(found.difference("thanos", "jtt", d))) for d in sets)
    cells = " | ".join(f"{v:+.1f}" for v in best)
    lines.append(f"| best of these, without erm | {cells} | {np.mean(best):+.1f} |")
    summary = (
        f"**Mean lift over the best without group labels: {np.mean(best):+.1f} points (paper: +4.7, which its own "
        f"table makes 3.7). Largest lift over JTT: {largest:+.1f} (paper: +11.5, on CelebA).**"
    )
    return "\n".join([*lines, "", summary])


def _paper() -> str:
    """The paper's own table; its sets are too large for a CPU."""
    lines = [
        "The paper's table (Waterbirds, ISIC, CelebA):",
        "",
        "| method | worst group | recovery F1 |",
        "|---|---|---|",
    ]
    for name, worst in PAPER_WORST.items():
        recovered = PAPER_RECOVERY.get(name)
        shown = "" if recovered is None else ", ".join(f"{v:.1f}" for v in recovered)
        lines.append(f"| {name} | {', '.join(f'{v:.1f}' for v in worst)} | {shown} |")
    return "\n".join(lines)
