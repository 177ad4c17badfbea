"""The paper's Table 4: worst-group accuracy and subclass recovery; its rows and sets, and its columns."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from thanos.config import DiscoverConfig, RobustConfig
from thanos.evaluate.intervals import lowest_share
from thanos.reproduce import markdown
from thanos.reproduce.markdown import Cell, difference_cells, from_to, mean_and_deviation, not_run
from thanos.reproduce.records import Record
from thanos.reproduce.rows import Kind, Part, Row, Stage
from thanos.reproduce.table import Finished, Phase, Table, paired

DATASETS = {
    "dominoes-95": "Dominoes, 95%",
    "coloured-digits-medium": "Coloured digits, medium patch",
    "rare-cifar10": "Rare ship (CIFAR-10)",
    "rare-mnist": "Rare 8 (MNIST)",
    "dominoes-99": "Dominoes, 99%",
    "coloured-digits-large": "Coloured digits, whole ground",
    "coloured-digits-small": "Coloured digits, small patch",
    "patched-cifar10": "Patch on animals",
    "celeba": "CelebA",
    "isic": "ISIC",
}
GROUPED = ("dominoes", "coloured", "patched", "celeba", "isic")
"""Sets with groups start so; on the others rows are judged by recovery alone."""
PHOTOGRAPHS = ("celeba", "isic")
"""Two of the paper's three sets; heads on frozen features stand beside those on trained embeddings, and whole networks
are too long for a CPU."""
BY_AUROC = ("isic",)
"""Malignant lesions are few and seldom called so: rows are read by AUROC, as in the paper."""
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
CLUSTERS = DiscoverConfig(number="silhouette", least=2, most=10)
"""As many as the silhouette favours, and no superclass left whole, as in George: how every embedding is clustered."""
RARE_CLUSTERS = DiscoverConfig(number="silhouette", clusters=20, most=10)
"""For sets with a rare subclass: many, as the few that a silhouette asks for are each larger than the subclass."""
MIXTURES = DiscoverConfig(number="silhouette", method="mixture", least=2, most=10, overcluster=True)
"""George's for MNIST and ISIC, with principal components in UMAP's place."""
HARDNESS = DiscoverConfig(
    number="silhouette", reduce="hardness", components=1, length="own", method="mixture", least=2, most=10
)
"""George's for Waterbirds and CelebA: a mixture along the direction that tells the superclass."""


def _row(name: str, what: str, kind: Kind, parts: tuple[Part, ...], config: RobustConfig, **more: Any) -> Row:
    network, clusters = more.pop("network", False), more.pop("clusters", None)
    return Row(name, what, kind, parts, stage=Stage(config, clusters, network), **more)


_TRUE = RobustConfig(method="groupdro", groups="given")
_PAIRS = RobustConfig(method="groupdro-auroc", groups="discovered")
_TRUE_PAIRS = RobustConfig(method="groupdro-auroc", groups="given")
_JTT = RobustConfig(method="jtt", groups="none")
_AFR = RobustConfig(method="afr", groups="none")
_JTT_ORACLE = RobustConfig(method="jtt", groups="none", select="worst-group")
_DFR = RobustConfig(method="dfr", groups="given")
_PORTFOLIO = RobustConfig(method="portfolio")
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
FEATURES = (
    _row("erm on features", "plain head on the frozen features", "floor", (), _PLAIN, floor="features"),
    _row("jtt on features", "JTT on them", "method", (), _JTT, floor="features"),
    _row("george on features", "their clusters, GroupDRO", "method", (), _DRO, floor="features"),
    _row("george by auroc on features", "their clusters, GroupDRO over pairs", "method", (), _PAIRS, floor="features"),
    _row("portfolio on features", "what the portfolio's rule picks", "method", (), _PORTFOLIO, floor="features"),
    _row("portfolio on thanos", "the same on THANOS's embedding", "method", _THANOS, _PORTFOLIO),
    _row("groupdro on features", "true groups, GroupDRO on the features", "ceiling", (), _TRUE, floor="features"),
    _row("groupdro by auroc on features", "true groups, over pairs", "ceiling", (), _TRUE_PAIRS, floor="features"),
    _row("dfr on features", "true validation groups, DFR on the features", "ceiling", (), _DFR, floor="features"),
)
"""On photographs: what the frozen network's own features give, and the portfolio (docs/robust.md)."""
NETWORKS = (
    _row("erm, network", "superclass cross-entropy, best epoch by worst class", "floor", _ERM, _PLAIN, network=True),
    _row("jtt, network", "what erm's network gets wrong weighs 20 times", "method", _ERM, _JTT, network=True),
    _row("george, network", "GroupDRO on a new network, clusters as george", "method", _ERM, _DRO, network=True),
    _row("supcon, network", "GroupDRO on a new network, clusters as supcon", "method", _SUPCON, _DRO, network=True),
    _row("thanos, network", "GroupDRO on a new network, clusters as thanos", "method", _THANOS, _DRO, network=True),
    _row("groupdro, network", "GroupDRO on a new network, true groups", "ceiling", _ERM, _TRUE, network=True),
)
"""The last stage is a whole network; for the first seed."""
RECOVERY = ("random encoder", "george", "george (hardness)", "george on features", "supcon", "spread", "thanos")
"""Rows that discover groups in an embedding."""
_TWO_SUPCON = (Part("supcon"), Part("supcon", second=True))
RARE_ONLY = (
    _row("supcon + supcon", "control: two seeds of SupCon", "control", _TWO_SUPCON, _DRO),
    _row("supcon (mixtures)", "George's overclustered mixtures", "variant", _SUPCON, _DRO, clusters=MIXTURES),
    _row("thanos (mixtures)", "George's overclustered mixtures", "variant", _THANOS, _DRO, clusters=MIXTURES),
)
"""On sets with a rare subclass, beside RECOVERY."""
ROWS = {row.name: row for row in (*HEADS, *FEATURES, *RARE_ONLY, *NETWORKS)}

LABEL_FREE = ("jtt", "afr", "george", "george (hardness)", "supcon")
"""The rivals that see no group label; the paper's, and AFR."""
GAP = 5.0
"""Points between ERM and GroupDRO above which the share of the way between them is worth stating."""


def _row_on(dataset: str, row: Row) -> Row | None:
    """With the clustering that is the set's; sets without groups are there for recovery."""
    assert row.stage is not None
    photographs = dataset.startswith(PHOTOGRAPHS)
    if (row in FEATURES and not photographs) or (row.stage.network and photographs):
        return None
    if row.stage.config.method == "groupdro-auroc" and dataset not in BY_AUROC:
        return None
    rare_only = any(row.name == other.name for other in RARE_ONLY)
    if rare_only if dataset.startswith(GROUPED) else not rare_only and row.name not in RECOVERY:
        return None
    if row.stage.config.groups != "discovered":
        return row
    usual = RARE_CLUSTERS if dataset in RARE else CLUSTERS
    return replace(row, stage=replace(row.stage, clusters=row.stage.clusters or usual))


def _by_set(finished: Finished) -> Iterator[str]:
    for dataset in finished.sets:
        yield f"### {DATASETS[dataset]} (`{dataset}`)"
        if dataset.startswith(GROUPED):
            yield _worst_groups(finished, dataset)
            if dataset in BY_AUROC:
                yield _aurocs(finished, dataset)
            yield _differences(finished, dataset)
        if dataset in RARE:
            yield _rare(finished, dataset)
            yield _rare_differences(finished, dataset)
        else:
            yield _recovered(finished, dataset)


def _worst_groups(finished: Finished, dataset: str) -> str:
    head = ["row", "what", "worst group", "95% of a seed's images", "group mean", "sample mean"]
    head += ["chosen by (smallest n)", "of the way to GroupDRO", "seeds"]
    lines = []
    for row in finished.table.rows_on(dataset).values():
        found = finished.of(row.name, dataset)
        lines.append(_worst_group(finished, row, dataset) if found else not_run(head, row.name, row.what))
    return markdown.table(head, lines)


def _worst_group(finished: Finished, row: Row, dataset: str) -> list[Cell]:
    """One row on one set."""
    name, scores = row.name, [record["scores"] for record in finished.of(row.name, dataset).values()]
    worst = [lowest_share(each["groups"]["groups"]) for each in scores]
    low, high = (100 * np.mean([each["interval"][i] for each in worst]) for i in (0, 1))
    smallest = min((n for each in scores for n in each["selection"]["n"].values()), default=None)
    cells: list[Cell] = [f"**{name}**" if name.startswith("thanos") and row.kind == "method" else name, row.what]
    cells.append(mean_and_deviation(finished.headline(name, dataset).values()))
    cells.append(f"{low:.1f} to {high:.1f}" + (", few images" if any(each["small"] for each in worst) else ""))
    means = (finished.values(name, dataset, "groups", mean, "accuracy") for mean in ("group_mean", "sample_mean"))
    cells += [mean_and_deviation(by_seed.values()) for by_seed in means]
    cells.append(scores[0]["selection"]["rule"] + (f" ({smallest})" if smallest else ""))
    return [*cells, _share(finished, row, dataset), str(len(scores))]


def _aurocs(finished: Finished, dataset: str) -> str:
    """Of the second superclass over all test images, and against each subclass of the first."""
    lines: list[list[Cell]] = []
    pairs: list[str] = []
    for row in finished.table.rows_on(dataset).values():
        scores = [record["scores"]["auroc"] for record in finished.of(row.name, dataset).values()]
        if scores:
            pairs = sorted(scores[0]["pairs"])
            by_pair = [[100 * each["pairs"][pair] for each in scores] for pair in pairs]
            overall = [100 * each["overall"] for each in scores]
            lines.append([row.name, *(mean_and_deviation(values) for values in (overall, *by_pair))])
    return markdown.table(["AUROC", "all test images", *pairs], lines)


def _share(finished: Finished, row: Row, dataset: str) -> str:
    """(m - ERM) / (GroupDRO - ERM) of the means, where the denominator is worth it."""
    network = ", network" if row.stage and row.stage.network else ""
    names = (row.name, f"erm{network}", f"groupdro{network}")
    means = [[*finished.headline(name, dataset).values()] for name in names]
    if not all(means) or row.name in names[1:]:
        return ""
    mine, low, high = (float(np.mean(values)) for values in means)
    return f"{(mine - low) / (high - low):.0%}" if high - low > GAP else f"(gap {high - low:+.1f})"


def _differences(finished: Finished, dataset: str) -> str:
    pairs = [("thanos", other) for other in ("erm", "george", "supcon", "jtt", "afr", "spread", "thanos, plain")]
    pairs += [("groupdro", "erm"), ("thanos, network", "erm, network"), ("thanos, network", "george, network")]
    if dataset in PHOTOGRAPHS:
        pairs = [pair for pair in pairs if "network" not in "".join(pair)]
        pairs += [("portfolio on features", "erm on features"), ("portfolio on thanos", "erm on features")]
        pairs += [
            ("thanos", "erm on features"),
            ("thanos", "jtt on features"),
            ("groupdro on features", "erm on features"),
        ]
    if dataset in BY_AUROC:
        pairs += [("george by auroc on features", "george on features")]
    lines = [[f"{a} - {b}", *difference_cells(finished.difference(a, b, dataset).values())] for a, b in pairs]
    return markdown.table(["difference in worst group", "mean", "95% interval", "by seed"], lines)


def _recovered(finished: Finished, dataset: str) -> str:
    """F1 of discovered against true groups on the training images, and of one cluster a superclass."""
    head = ["recovery, training images", "F1, mean over groups", "F1, rarest groups", "purity", "clusters", "seeds"]
    lines: list[list[Cell]] = []
    one: list[dict[str, Any]] = []
    here = finished.table.rows_on(dataset)
    for name in (name for name in RECOVERY if name in here):
        records = [record for record in finished.of(name, dataset).values() if "recovery" in record["scores"]]
        if not records:
            lines.append(not_run(head, name))
            continue
        scores = [record["scores"]["recovery"]["train"] for record in records]
        one = [each["one_cluster"] for each in scores]
        sizes = _clusters(records)
        lines.append([name, *_recovery(scores), f"{min(sizes)} to {max(sizes)}", str(len(records))])
    if one:
        lines.append(["one cluster a superclass", *_recovery(one), "1", ""])
    return markdown.table(head, lines)


def _recovery(scores: Sequence[dict[str, Any]]) -> list[Cell]:
    """F1 over all groups and over the rarest, and purity; over seeds."""
    by_score = (
        [each["macro_f1"] for each in scores],
        [each["rarest_f1"]["mean"] for each in scores],
        [each["purity"] for each in scores],
    )
    return [mean_and_deviation([100 * value for value in values]) for values in by_score]


def _clusters(records: Sequence[Record]) -> list[int]:
    """How many each superclass was cut into."""
    return [len(found["sizes"]) for record in records for found in record["scores"]["clusters"].values()]


def _rare_f1(finished: Finished, row: str, dataset: str) -> dict[int, float]:
    return finished.values(row, dataset, "recovery", "train", "best_f1", RARE[dataset])


def _rare(finished: Finished, dataset: str) -> str:
    """F1 of the rare class on the training images, beside what its clusters score by chance, and by seed."""
    rare = RARE[dataset]
    head = ["recovery, training images", "what", f"F1, rare class ({rare})", "its clusters shuffled"]
    head += ["F1, mean over classes", "clusters", "F1 of the rare class by seed"]
    lines: list[list[Cell]] = []
    one: dict[int, float] = {}
    here = finished.table.rows_on(dataset)
    for name in (name for name in (*RECOVERY, *(row.name for row in RARE_ONLY)) if name in here):
        if not finished.of(name, dataset):
            lines.append(not_run(head, name, ROWS[name].what))
            continue
        found = _rare_f1(finished, name, dataset).values()
        cells: list[Cell] = [f"**{name}**" if name == "thanos" else name, ROWS[name].what, mean_and_deviation(found)]
        scores = partial(finished.values, name, dataset, "recovery", "train")
        beside = (scores("shuffled", "best_f1", rare), scores("macro_f1"))
        cells += [mean_and_deviation(by_seed.values()) for by_seed in beside]
        one |= scores("one_cluster", "rarest_f1", "lowest")
        cells.append(from_to(_clusters([*finished.of(name, dataset).values()])))
        lines.append([*cells, ", ".join(f"{v:.1f}" for v in found)])
    if one:
        cells = ["one cluster a superclass", "", mean_and_deviation(one.values()), "", "", "1"]
        lines.append([*cells, ", ".join(f"{v:.1f}" for v in one.values())])
    return markdown.table(head, lines)


def _rare_differences(finished: Finished, dataset: str) -> str:
    lines = []
    for a, b in (("thanos", "supcon"), ("thanos", "supcon + supcon"), ("thanos (mixtures)", "supcon (mixtures)")):
        by_seed = paired(_rare_f1(finished, a, dataset), _rare_f1(finished, b, dataset))
        lines.append([f"{a} - {b}", *difference_cells(by_seed.values())])
    return markdown.table(["difference in F1 of the rare class", "mean", "95% interval", "by seed"], lines)


def _lifts(finished: Finished) -> Iterator[str]:
    """THANOS over the rivals that see no group label: the mean over sets, and the largest over JTT."""
    yield "### Mean lifts beside the paper's"
    wanted = ("thanos", "erm", *LABEL_FREE)
    sets = [d for d in finished.sets if d.startswith(GROUPED) and all(finished.headline(name, d) for name in wanted)]
    if not sets:
        yield "Not run yet (paper: +4.7 points over the others in the mean, +11.5 over JTT on CelebA)."
        return
    lifts = {rival: [_mean(finished.difference("thanos", rival, d)) for d in sets] for rival in ("erm", *LABEL_FREE)}
    rivals = [max(_mean(finished.headline(rival, d)) for rival in LABEL_FREE) for d in sets]
    best = [_mean(finished.headline("thanos", d)) - rival for d, rival in zip(sets, rivals, strict=True)]
    lines = [
        [name, *(f"{lift:+.1f}" for lift in each), f"{np.mean(each):+.1f}"]
        for name, each in (lifts | {"best of these, without erm": best}).items()
    ]
    yield markdown.table(["thanos -", *(DATASETS[d] for d in sets), "mean"], lines)
    yield (
        f"**Mean lift over the best without group labels: {np.mean(best):+.1f} points (paper: +4.7, which its own "
        f"table makes 3.7). Largest lift over JTT: {max(lifts['jtt']):+.1f} (paper: +11.5, on CelebA).**"
    )


def _mean(by_seed: dict[int, float]) -> float:
    return float(np.mean([*by_seed.values()]))


def _paper(finished: Finished) -> Iterator[str]:
    """The paper's own table; its sets are too large for a CPU."""
    lines = []
    for name, worst in PAPER_WORST.items():
        recovered = ", ".join(f"{value:.1f}" for value in PAPER_RECOVERY.get(name, ()))
        lines.append([name, ", ".join(f"{value:.1f}" for value in worst), recovered])
    yield "The paper's table (Waterbirds, ISIC, CelebA):"
    yield markdown.table(["method", "worst group", "recovery F1"], lines)


def _is_network(row: Row) -> bool:
    return row.stage is not None and row.stage.network


TABLE = Table(
    name="table4",
    title="# Table 4: worst-group accuracy and subclass recovery",
    introduction="""\
Encoders are trained on superclass labels only. Rows *without* group labels see no true group before the test: clusters
inside each superclass (docs/discover.md; k-means on principal components, for the rare sets twenty of them, a number
settled on seeds 0 to 2 of the rare ship before the others were trained) take the groups' place in training and in
choosing among settings; ERM, JTT and AFR choose by the worst superclass. GroupDRO and DFR, and JTT as published, see
the true groups of training or validation images. The last stage is a convex head on the frozen embedding
(docs/robust.md), or, where it says network, a whole network for one seed. Worst-group accuracy on test images in %,
mean ± standard deviation over seeds that pair split, images, initialisation and views; the interval of a seed's images
is that of the lowest true accuracy of a group, whichever it is, for as many images as each has. Every number is in
`runs/`; `thanos reproduce table4` writes this page.""",
    sets=DATASETS,
    rows=lambda: ROWS,
    row_on=_row_on,
    usual=(*ROWS,),
    phases=(Phase(lambda row: not _is_network(row)), Phase(_is_network, seeds=1)),
    headline=lambda dataset: ("groups", "worst_group", "accuracy"),
    sections=(_by_set, _lifts, _paper),
)
