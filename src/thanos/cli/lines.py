"""Scores as lines on a terminal. Knows numbers and words; measures nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from thanos.names import left_out

if TYPE_CHECKING:
    from thanos.compare import Keeping
    from thanos.config import DiscoverConfig, RobustConfig
    from thanos.evaluate.apart import Apart
    from thanos.evaluate.recovery import Recovered
    from thanos.evaluate.robustness import GroupScores
    from thanos.evaluate.transfer import Transfer
    from thanos.inputs import Source
    from thanos.robust.stage import Gain, Outcome, RobustScores
    from thanos.subclasses.fitted import Discovered


def transfer_lines(scores: "Transfer") -> list[str]:
    """Fine accuracy by each reader."""
    from thanos.evaluate.intervals import FEW  # it needs numpy, which a help text does not

    lines = []
    for reader, numbers in (("probe", scores.probe), ("neighbours", scores.neighbours)):
        if numbers is None:
            continue
        low, high = numbers.interval
        few = ", few images" if numbers.n < FEW else ""
        lines.append(
            f"{reader:<10} fine accuracy {numbers.accuracy:.1%} (95% {low:.1%} to {high:.1%}, n = {numbers.n:,}{few}) "
            f"· balanced {numbers.balanced_accuracy:.1%} · weighted by training frequency "
            f"{numbers.frequency_weighted_accuracy:.1%}"
        )
    return lines


def apart_line(scores: "Apart") -> str:
    """What a split that tears things apart would pretend."""
    return (
        f"a plain classifier is right on {scores.whole:.1%} of held-out rows where what several show (together) is on "
        f"one side; drawn one by one it would seem {scores.torn:.1%} ({100 * min(scores.differences):+.1f} to "
        f"{100 * max(scores.differences):+.1f} points in {len(scores.differences)} draws of {scores.n:,} rows)"
    )


def geometry_lines(scores: Mapping[str, Any], part: str) -> list[str]:
    """A line for each score, under how many images of which part they are of."""
    lines = [f"{'of':<36} {scores['n']:,} {part}"]
    for name, value in scores.items():
        if name != "n":
            lines.append(f"{name:<36} {value:.4f}" if isinstance(value, float) else f"{name:<36} {_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:.3f}" for k, v in value.items())
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def discovered_lines(found: "Discovered", recovered: "Recovered", config: "DiscoverConfig") -> list[str]:
    """How many subclasses of how many images each superclass has, and what they recover of the true ones."""
    lines = _of_part(found)
    for name, fact in found.superclasses.items():
        sizes = ", ".join(f"{size:,}" for size in fact["sizes"])
        tried = max(fact["silhouette"].values()) if fact.get("silhouette") else None
        why = "" if tried is None else f" · silhouette {tried:.2f}"
        why += f", a cloud without clusters {max(fact['unstructured']):.2f}" if "unstructured" in fact else ""
        why += f" · {fact['excess']:.1f} deviations beyond one cloud (p {_p(fact['p'])})" if "excess" in fact else ""
        if fact.get("silhouette") and fact["clusters"] == config.largest:
            why += f"; no larger number was tried: `most={2 * fact['clusters']}`"
        subclasses = f"{fact['clusters']} subclasses" if fact["clusters"] > 1 else "one subclass"
        lines.append(f"{name}: {subclasses} of {sizes} images{why}")
    for where, again in recovered.named():
        one = again.one_cluster
        lines.append(
            f"recovery, {where}: F1 {again.macro_f1:.2f} (one cluster {one.macro_f1:.2f}, by chance "
            f"{again.shuffled.macro_f1:.2f}), rarest {again.rarest_f1.mean:.2f} ({one.rarest_f1.mean:.2f}), purity "
            f"{again.purity:.2f} ({one.purity:.2f}), adjusted mutual information "
            f"{again.adjusted_mutual_information:.2f}"
        )
    return lines


def _of_part(found: "Discovered") -> list[str]:
    """Which part of the embeddings was clustered, where that was chosen, and why."""
    if not found.standing_out:
        return []
    (chosen, far), (other, less) = found.standing_out.items()
    by = "times as far as chance"
    if any("excess" in fact for fact in found.superclasses.values()):
        by = "deviations beyond one cloud"
    return [f"clusters of the {chosen}, which stand out {far:.2f} {by} (those of the {other}: {less:.2f})"]


def split_lines(found: "Discovered", typical: Mapping[str, list[str]]) -> list[str]:
    """Superclasses by the evidence that they are more than one class, the surest first, and what is on each side."""
    facts = found.superclasses
    order = sorted(facts, key=lambda name: (facts[name]["p"], -facts[name]["excess"]))
    lines = _of_part(found) + [line for name in order for line in _split_lines(name, facts[name], typical)]
    several = sum(fact["clusters"] > 1 and fact["p"] <= LEVEL for fact in facts.values())
    what = "superclass is" if several == 1 else "superclasses are"
    return [*lines, f"{several} of {len(order)} {what} more than one class, at a probability of {LEVEL} of any mistake"]


LEVEL = 0.05
"""Probability that anything at all is called more than one class where nothing is."""


def _split_lines(name: str, fact: Mapping[str, Any], typical: Mapping[str, list[str]]) -> list[str]:
    p, held = fact["p"], fact.get("holds", {})
    seen = f"{fact['excess']:.1f} standard deviations beyond clouds of one piece"
    if fact["clusters"] < 2:
        return [f"{name}: one class as far as these vectors tell ({fact['images']:,} images; p {_p(p)}, {seen})"]
    doubt = "" if p <= LEVEL else ": may be one"
    lines = [f"{name}: {fact['clusters']} subclasses of {fact['images']:,} images{doubt} (p {_p(p)}, {seen})"]
    for number, size in enumerate(fact["sizes"]):
        one = f"{name}/{number}"
        sure = f", found again in {held[one]:.0%} of fresh draws" if one in held else ""
        part = f"part {number + 1} of {name}"  # not the name of a subclass that thanos discover wrote
        lines.append(f"  {part:<24} {size:>7,}{sure} · {', '.join(typical[one])}")
    return lines


def _p(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0") if p < 1 else "1"


FEWEST = 10
"""Validation images of a group, by which it makes sense to choose."""


def chosen_lines(config: "RobustConfig", selection: dict[str, Any]) -> list[str]:
    """By what a classifier was chosen on validation images."""
    if config.method == "portfolio":
        reason = f"portfolio, {selection['candidates']} candidates: {selection['reason']}"
        return [
            reason,
            *(f"of its ways to infer groups and heads on them, {line}" for line in left_out(selection["aside"])),
        ]
    sizes = ", ".join(f"{n:,} {name}" for name, n in selection["n"].items())
    reached = f"AUROC {selection['auroc']:.1%}" if "auroc" in selection else f"{selection['accuracy']:.1%}"
    lines = [
        f"{config.method}, groups {config.groups}; of {selection['candidates']} settings chosen by "
        f"{selection['rule']} on validation: {reached} (n = {sizes})"
    ]
    if few := [name for name, n in selection["n"].items() if n < FEWEST]:
        lines.append(
            f"{', '.join(few)}: fewer than {FEWEST} validation images, by which settings cannot be told apart; the "
            f"portfolio, the default, leans on such groups less"
        )
    return lines


def robust_lines(outcome: "Outcome", plain: "Outcome", method: str) -> list[str]:
    """Each group's accuracy under the method and under the plain head, with the interval of the method's."""
    mine, other = outcome.scores, plain.scores
    lines = [f"{'test images':<36}{'n':>8}{method:>12}{'plain':>9}  95% of {method}"]
    pairs = (("group", mine.groups, other.groups), ("subclass", mine.discovered_groups, other.discovered_groups))
    for title, a, b in pairs:
        if a is None or b is None:
            continue
        lines += [_beside(f"{title} {name}", share, b.groups[name].accuracy) for name, share in a.groups.items()]
        lines.append(_beside(f"{title}: worst one", a.worst_group, b.worst_group.accuracy) + f"  ({_worst_of(a, b)})")
        lines.append(_beside(f"{title}: mean of all", a.group_mean, b.group_mean.accuracy))
    lines.append(_beside("worst superclass", mine.worst_class, other.worst_class.accuracy))
    return [*lines, _beside("all images", mine.all_images, other.all_images.accuracy)]


def _worst_of(mine: "GroupScores", plain: "GroupScores") -> str:
    """Which group is the worst, and which that of the plain head."""
    a, b = (min(each.groups, key=lambda name: each.groups[name].accuracy) for each in (mine, plain))
    return a if a == b else f"{a}; plain: {b}"


def _beside(label: str, share: Any, plain: float) -> str:
    """One line: an accuracy with its interval (and its images, where it knows them), and the plain head's."""
    (low, high), n = share.interval, getattr(share, "n", None)
    count = "" if n is None else f"{n:,}"
    mark = "  few images" if getattr(share, "small", False) else ""
    return f"{label:<{44 - len(count)}}{count}{share.accuracy:>12.1%}{plain:>9.1%}  {low:.1%} to {high:.1%}{mark}"


PLAIN_TO_SEE = 0.05
"""A change of a group's accuracy that is counted."""


def changes_lines(mine: "RobustScores", plain: "RobustScores") -> list[str]:
    """How many groups gain and lose, and the largest loss; empty where no group changes much."""
    a, b = mine.groups or mine.discovered_groups, plain.groups or plain.discovered_groups
    if a is None or b is None:
        return []
    change = {name: share.accuracy - b.groups[name].accuracy for name, share in a.groups.items()}
    more, less = (sum(sign * each >= PLAIN_TO_SEE for each in change.values()) for sign in (1, -1))
    if not (more or less):
        return []
    said = f"of {len(change)} groups {more} gain and {less} lose {100 * PLAIN_TO_SEE:.0f} points or more"
    most = min(change, key=lambda name: change[name])
    few = ", few images" if a.groups[most].small else ""
    return [said + (f"; {most} loses most, {-100 * change[most]:.1f} (n = {a.groups[most].n:,}{few})" if less else "")]


def gain_line(found: "Gain", plain: str) -> str:
    """What a method gives and takes, in a sentence, and how sure that is.

    Args:
        found: The difference to the plain classifier.
        plain: Where that one is.
    """
    worst, everyone = found.worst, found.all_images
    (low, high), few = worst.interval, f", few images: {worst.n}" if worst.small else ""
    said = (
        f"against the plain classifier: worst {worst.of} {100 * worst.difference:+.1f} points (95% "
        f"{100 * low:+.1f} to {100 * high:+.1f}{few}), all images {100 * everyone.difference:+.1f} (95% "
        f"{100 * everyone.interval[0]:+.1f} to {100 * everyone.interval[1]:+.1f})"
    )
    if low <= 0 and worst.difference > 0:
        said += f". The worst {worst.of}'s gain may be chance"
    elif low <= 0:
        said += f". The worst {worst.of} is not served better"
    if everyone.interval[1] < 0:
        said += ". Over all images it is worse, and that is no chance"
    if found.right < found.most_frequent:
        always = f"always saying the most frequent superclass would be right on {found.most_frequent:.1%}"
        said += f". It is right on {found.right:.1%} of all images; {always}"
    if low <= 0:
        said += f". The plain one: {plain}"
    return said


def next_lines(
    outcome: "Outcome", source: "Source", out: Path, table: Path | None, names: Path | None, *, for_these: bool
) -> list[str]:
    """What to do with a classifier.

    Args:
        outcome: The classifier.
        source, table, names: What it is of, its discovered subclasses, and the names that were given for these.
        out: Its file.
        for_these: Whether it is to be fair to groups that a person named.
    """
    again, own = source.again(table), out == source.own(f"robust-{outcome.robust.method}", ".npz")
    called = "" if names is None else f" --names {quote(str(names))}"
    taken = f"thanos classify takes it for new images{'' if own else f', by --classifier {quote(str(out))}'}"
    portfolio = outcome.robust.method == "portfolio"
    page = f"thanos report {again}{called} shows each group by both; " if own and portfolio else ""
    if outcome.robust.settings.get("head") != "erm" or for_these:
        return [f"next: {page}{taken}"]
    named = f"thanos robust {again} --names FILE"
    return [
        f"the portfolio's classifier is the plain one; to be fair to groups that you name: {named}",
        f"next: {page}{taken}",
    ]


def kept_lines(found: Sequence["Keeping"]) -> list[str]:
    """Which start and method keeps hidden subclasses best, and the minutes of each."""
    if not found:
        return []
    lines = [f"hidden subclasses are kept best ({found[0].measure}) by {found[0].start}, {found[0].method}:"]
    for one in found:
        low, high = one.interval
        runs = "1 run: another seed may differ" if one.runs == 1 else f"{one.runs} runs, 95% {low:.3f} to {high:.3f}"
        took = "" if one.minutes is None else f"  {one.minutes:,.1f} min"
        lines.append(f"  {one.start + ', ' + one.method:<28}{one.value:.3f}{took}  ({runs})")
    return lines
