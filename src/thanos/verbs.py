"""What stands between the command line and the library: read a source, evaluate, say, keep the numbers."""

from dataclasses import replace
from glob import escape
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator

from thanos import registry
from thanos.config import (
    AutoTrainConfig,
    DataConfig,
    DiscoverConfig,
    RobustConfig,
    RunConfig,
    TransferConfig,
)
from thanos.console import say
from thanos.data.given_names import GivenNames
from thanos.data.group_table import group_ids, in_table, made_of, mark_of, read_table
from thanos.data.labels import SPLITS
from thanos.data.load import check_superclasses
from thanos.embeddings import Embeddings, embed, marks_of, read_embeddings, write_embeddings
from thanos.errors import DataError, MissingLabels
from thanos.evaluate.geometry import EXACT, geometry
from thanos.evaluate.intervals import FEW, share_interval
from thanos.evaluate.recovery import recovery
from thanos.evaluate.transfer import transfer
from thanos.export import Format, export_onnx, export_table, export_weights
from thanos.inputs import Source
from thanos.report.discover_page import SUBCLASSES, TITLE, write_discover_page
from thanos.robust.head import read_head, write_head
from thanos.robust.stage import gain, make_robust
from thanos.runs.provenance import command
from thanos.runs.run_dir import RunDir
from thanos.storage import SKIPPED, begins, holds, read_json, refuse_foreign, says, skipped_list, write_csv, write_json
from thanos.subclasses.discovery import discover
from thanos.subclasses.fitted import Discovered
from thanos.training.auto import announce, load_suitably, settle


def embed_source(source: Source, out: Path) -> Embeddings:
    refuse_foreign(out, lambda file: source.keeps_embeddings(file) or _is_ours(file), "thanos embed")
    images = source.images
    embeddings = embed(source.encoder, images)
    write_embeddings(embeddings, out)
    _list_skipped(source, out)
    say(f"{len(embeddings):,} embeddings of {source.encoder.card.dim} dimensions in {out}")
    return embeddings


def _is_ours(file: Path) -> bool:
    """Whether it holds embeddings with the mark of the images that they are of."""
    try:
        return read_embeddings(file).fingerprint != ""
    except DataError:
        return False


def _list_skipped(source: Source, out: Path) -> None:
    """What was left out of the images that were named, beside the outcome."""
    if source.data is not None and source.images.skipped:
        write_csv(skipped_list(out), [SKIPPED, *source.images.skipped])


def transfer_source(source: Source, config: TransferConfig) -> dict[str, Any]:
    augments = config.probe == "released" and not source.of_embeddings
    encoder, images = (source.encoder, source.images) if augments else (None, None)
    scores = transfer(source.embeddings, config, encoder, images)
    _say_transfer(scores)
    _keep(source, "transfer", scores)
    return scores


def _say_transfer(scores: dict[str, Any]) -> None:
    for reader, numbers in scores.items():
        low, high = numbers["interval"]
        few = ", few images" if numbers["n"] < FEW else ""
        say(
            f"{reader:<10} fine accuracy {numbers['accuracy']:.1%} (95% {low:.1%} to {high:.1%}, "
            f"n = {numbers['n']:,}{few}) · balanced {numbers['balanced_accuracy']:.1%} · weighted by training "
            f"frequency {numbers['frequency_weighted_accuracy']:.1%}"
        )


def geometry_source(source: Source) -> dict[str, Any]:
    scores = _geometry(source)
    part = "test images" if source.embeddings.in_split("test").any() else "images"
    say(f"{'of':<36} {scores['n']:,} {part}")
    for name, value in scores.items():
        if name != "n":
            say(f"{name:<36} {value:.4f}" if isinstance(value, float) else f"{name:<36} {_plain(value)}")
    _keep(source, "geometry", scores)
    return scores


def _geometry(source: Source) -> dict[str, Any]:
    embeddings, views = source.embeddings, None
    if not source.of_embeddings:
        try:
            images = source.images
        except DataError as error:
            say(f"without the alignment, which needs pictures: {error}")
            return geometry(embeddings)
        rows = images.rows("test") if len(images.rows("test")) else np.arange(len(images))
        some = images.take(rows[:: max(1, -(-len(rows) // EXACT))])
        rng = Generator().manual_seed(0)
        views = source.encoder.embed_view(some, rng), source.encoder.embed_view(some, rng)
    return geometry(embeddings, views)


def judge(source: Source) -> dict[str, Any]:
    """``geometry`` and, where fine labels stand in every split, ``transfer``; kept with a run."""
    scores = {"geometry": _geometry(source)}
    try:
        scores["transfer"] = transfer(source.embeddings, TransferConfig())
    except (MissingLabels, DataError):
        pass  # the page then says what is known without
    else:
        _say_transfer(scores["transfer"])
    for name, values in scores.items():
        _keep(source, name, values)
    return scores


def report_source(source: Source, page: Path, table: Path | None, names: Path | None, *, asked: bool = True) -> None:
    """The page anew, with a table's subclasses as a person named them; ``asked``: the table was named."""
    refuse_foreign(page, says(TITLE), "thanos report or discover")
    embeddings, _ = source.embeddings, source.pictures  # pictures that are gone show before the work
    found = discover(embeddings, DiscoverConfig()) if table is None else _from_table(source, table, names, asked=asked)
    scores = judge(source) | {"recovery": _recovered(embeddings, found)}
    write_discover_page(page, embeddings, found, source, scores, table=table, mark=mark_of(table))
    _list_skipped(source, page)
    say(f"{len(found.names)} subclasses {_told(table, names)}; to look at: {page}")


def _told(table: Path | None, names: Path | None) -> str:
    return "discovered now" if table is None else f"of {table}{'' if names is None else f', named by {names}'}"


def discover_images(
    data: DataConfig,
    run: Path,
    config: DiscoverConfig,
    training: AutoTrainConfig,
    pretrained: bool | Path,
    quiet: bool,
) -> Discovered:
    """From images to a run directory with its table and page: choose what was left open, train, embed, discover."""
    from thanos.training.fit import train  # Lightning takes seconds to import; no other verb here trains

    images, choices = load_suitably(data)
    check_superclasses(images)
    chosen = settle(training, data, images, choices, seed=config.seed, pretrained=pretrained)
    announce(choices, say)
    trained = train(chosen, run, images=images, run=RunConfig(quiet=quiet))
    source = Source.of_run(run, images, trained.encoder)
    table = RunDir(run).outcome("subclasses", ".csv")
    found = discover_source(source, table, config, judge(source))
    again = quote(str(run))
    names = table.with_suffix(".yaml")
    say(f"next: look at it, name subclasses in {names}; thanos report {again}, thanos robust {again}")
    return found


def export_source(source: Source, to: Format, out: Path) -> None:
    """Write an encoder, or embeddings, in another program's format."""
    if to == "csv":
        embeddings = source.embeddings
        export_table(embeddings, out)
        say(f"{len(embeddings):,} vectors of {embeddings.vectors.shape[1]} dimensions in {out}")
        return
    encoder = source.encoder
    if to == "safetensors":
        export_weights(encoder, out)
        one = encoder.card.encoders[0]
        timm = len(encoder.card.encoders) == 1 and registry.encoder(one) is None
        call = f"{one!r}, num_classes=0, in_chans={encoder.card.channels}, checkpoint_path={str(out)!r}"
        note = f"; loads in bare timm: timm.create_model({call})"
        say(f"weights in {out}, facts in {out.with_suffix('.json')}{note if timm else ''}")
        return
    apart = export_onnx(encoder, out)
    (height, width), channels = encoder.card.size, encoder.card.channels
    checked = "not checked, for onnxruntime is not installed" if apart is None else f"off by {apart:.1g} in onnxruntime"
    say(f"{out}: images, uint8 (n, {height}, {width}, {channels}) -> vectors (n, {encoder.card.dim}); {checked}")


COLUMNS = ("image", "superclass", "subclass", "distance", "confidence", "split")
"""Of the table of discovered subclasses."""


def discover_source(
    source: Source, out: Path, config: DiscoverConfig, scores: dict[str, Any] | None = None
) -> Discovered:
    """Write the table of discovered subclasses, and beside it as JSON how they were found and what they recover.

    Args:
        source: What is clustered.
        out: The table.
        config: How.
        scores: ``geometry`` and ``transfer`` of the source, for the page; default: what a run keeps of them.
    """
    facts_file, page = out.with_suffix(".json"), out.with_suffix(".html")
    refuse_foreign(out, begins(",".join(COLUMNS)), "thanos discover")
    refuse_foreign(page, says(TITLE), "thanos discover")
    refuse_foreign(facts_file, holds("settings", "superclasses", "recovery"), "thanos discover")
    embeddings, _ = source.embeddings, source.pictures  # pictures that are gone show before the work
    found = discover(embeddings, config)
    known = _recovered(embeddings, found)
    for name, fact in found.superclasses.items():
        sizes = ", ".join(f"{size:,}" for size in fact["sizes"])
        tried = max(fact["silhouette"].values()) if fact.get("silhouette") else None
        why = "" if tried is None else f" · silhouette {tried:.2f}"
        why += f", a cloud without clusters {max(fact['unstructured']):.2f}" if "unstructured" in fact else ""
        subclasses = f"{fact['clusters']} subclasses" if fact["clusters"] > 1 else "one subclass"
        say(f"{name}: {subclasses} of {sizes} images{why}")
    for split, again in known.items():
        one = again["one_cluster"]
        say(
            f"recovery, {split}: F1 {again['macro_f1']:.2f} (one cluster {one['macro_f1']:.2f}, by chance "
            f"{again['shuffled']['macro_f1']:.2f}), rarest "
            f"{again['rarest_f1']['mean']:.2f} ({one['rarest_f1']['mean']:.2f}), purity {again['purity']:.2f} "
            f"({one['purity']:.2f}), adjusted mutual information {again['adjusted_mutual_information']:.2f}"
        )
    refs = embeddings.names
    rows: list[tuple[str, ...]] = [COLUMNS]
    for i, ref in enumerate(refs):
        superclass, subclass = embeddings.superclass_names[embeddings.superclass[i]], found.names[found.cluster[i]]
        split = SPLITS[embeddings.split[i]]
        rows.append((ref, superclass, subclass, f"{found.distance[i]:.5f}", f"{found.confidence[i]:.4f}", split))
    shown = {"recovery": known} | (_kept(source) if scores is None else scores)
    write_discover_page(page, embeddings, found, source, shown, table=out)
    given, before = GivenNames(out), out.read_bytes() if out.exists() else b""
    write_csv(out, rows)
    if before and before != out.read_bytes():
        _tell_of_the_earlier(out)
    settings = config.model_dump(mode="json")
    facts: dict[str, Any] = {"command": command(), "settings": settings}
    facts |= {"superclasses": found.superclasses, "recovery": known}
    facts["of"], facts["subclasses"] = marks_of(embeddings), mark_of(out)
    write_json(facts_file, facts)
    members = (np.flatnonzero(found.cluster == cluster) for cluster in range(len(found.names)))
    given.hand_on({name: {refs[i] for i in rows} for name, rows in zip(found.names, members, strict=True)})
    _list_skipped(source, out)
    say(f"subclasses of {len(embeddings):,} images in {out}; to look at: {page}")
    return found


def _tell_of_the_earlier(table: Path) -> None:
    """What lies beside a table and rests on subclasses that are no longer those of it."""
    before = table.stem.removesuffix("subclasses")
    page, scored = table.with_name(f"{before}report.html"), sorted(table.parent.glob(f"{escape(before)}robust-*.json"))
    if not page.is_file() and not scored:
        return
    now = mark_of(table)
    marks = {file.with_suffix(".npz").name: read_json(file).get("subclasses") for file in scored if holds()(file)}
    old = [page.name] * (page.is_file() and not says(f"{SUBCLASSES} {now}")(page))
    old += [name for name, mark in marks.items() if mark not in (None, now)]
    if old:
        say(f"still of the earlier subclasses: {', '.join(old)}; thanos report and robust make them anew")


def _recovered(embeddings: Embeddings, found: Discovered) -> dict[str, Any]:
    """Scores against the true subclasses, on training and on test images; empty where these are unknown."""
    if embeddings.subclass is None:
        return {}
    scores: dict[str, Any] = {}
    for number, split in ((0, "train"), (2, "test")):
        rows = np.flatnonzero(embeddings.split == number)
        against = recovery(
            found.cluster[rows], embeddings.subclass[rows], embeddings.superclass[rows], embeddings.subclass_names
        )
        scores |= {split: against} if against else {}
    return scores


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:.3f}" for k, v in value.items())
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _keep(source: Source, name: str, scores: dict[str, Any]) -> None:
    """Add scores of a run's own images to its metrics.json."""
    if source.run is not None:
        marked = scores | {"command": command(), "encoder": source.embeddings.encoder}
        source.run.add_metrics({f"{name}/{source.options.weights}": marked})


def _kept(source: Source) -> dict[str, Any]:
    """What :func:`judge` kept of a run; empty where it is none."""
    if source.run is None:
        return {}
    metrics = source.run.metrics()
    named = {name: metrics.get(f"{name}/{source.options.weights}") for name in ("geometry", "transfer")}
    return {name: each for name, each in named.items() if each and each.get("encoder") == source.embeddings.encoder}


def robust_source(
    source: Source, out: Path, config: RobustConfig, table: Path | None, names: Path | None, *, asked: bool = True
) -> dict[str, Any]:
    """Fit the method and the plain head beside it; write the head (.npz) and the scores of both (.json).

    ``asked``: the table was named.
    """
    facts = out.with_suffix(".json")
    refuse_foreign(out, _is_head, "thanos robust")
    refuse_foreign(facts, holds("settings", "selection", "scores", "plain"), "thanos robust")
    embeddings = source.embeddings
    discovered = _from_table(source, table, names, asked=asked) if table is not None else None
    if config.groups == "discovered":
        say(f"subclasses {_told(table, names)}{'; to see them: thanos discover' if table is None else ''}")
    outcome = make_robust(embeddings, config, discovered=discovered)
    plain = RobustConfig(method="erm", groups=config.groups, select=config.select)
    beside = make_robust(embeddings, plain, discovered=outcome.discovered)
    weighed = gain(outcome, beside)
    selection = outcome.robust.selection
    say(
        f"{config.method}, groups {config.groups}; of {selection['candidates']} settings chosen by "
        f"{selection['rule']} on validation: {selection['accuracy']:.1%} (n = "
        f"{', '.join(f'{n:,} {name}' for name, n in selection['n'].items())})"
    )
    for line in _beside(outcome.scores, beside.scores, config.method):
        say(line)
    write_head(replace(outcome.robust.head, encoder=embeddings.encoder), embeddings.superclass_names, out)
    _list_skipped(source, out)
    scores = {
        "command": command(),
        "settings": config.model_dump(mode="json") | outcome.robust.settings,
        "selection": selection,
        "subclasses": mark_of(table),
        "of": marks_of(embeddings),
        "scores": outcome.scores,
        "gain": weighed,
        "plain": {"settings": beside.robust.settings, "selection": beside.robust.selection, "scores": beside.scores},
    }
    write_json(facts, scores)
    say(f"classifier: {out} · scores: {facts}")
    if config.method != "erm":
        say(_weighed(weighed, source.again(None), out))
    return scores


def _weighed(found: dict[str, Any], again: str, out: Path) -> str:
    """What the method gives and takes, in a sentence, and how sure that is."""
    worst, everyone = found["worst"], found["all_images"]
    (low, high), few = worst["interval"], f", few images: {worst['n']}" if worst["small"] else ""
    said = (
        f"against the plain classifier: worst {worst['of']} {100 * worst['difference']:+.1f} points (95% "
        f"{100 * low:+.1f} to {100 * high:+.1f}{few}), all images {100 * everyone['difference']:+.1f} (95% "
        f"{100 * everyone['interval'][0]:+.1f} to {100 * everyone['interval'][1]:+.1f})"
    )
    if low > 0:
        return said
    plain_one = quote(str(out.with_name("plain.npz")))
    doubt = f"so it serves no {worst['of']} better here"
    if worst["difference"] > 0:
        doubt = f"which so {'few images do' if few else 'many images do'} not tell from nothing"
    return f"{said}: {doubt}. The plain one: thanos robust {again} --method erm --out {plain_one}"


PREDICTED = ("image", "predicted", "probability", "superclass")
"""Columns of a table of predictions."""


def classify_source(source: Source, classifier: Path, out: Path) -> NDArray[np.int64]:
    """Write each image's superclass as the classifier tells it, and its probability; where it is known also that."""
    refuse_foreign(out, begins(",".join(PREDICTED)), "thanos classify")
    head, names = read_head(classifier)
    embeddings = source.embeddings
    if embeddings.vectors.shape[1] != head.weight.shape[1]:
        raise DataError(
            f"{classifier} is for embeddings of {head.weight.shape[1]} dimensions; those of {source.path} have "
            f"{embeddings.vectors.shape[1]}. Give the classifier that was made for them."
        )
    if "" not in (head.encoder, embeddings.encoder) and head.encoder != embeddings.encoder:
        raise DataError(
            f"{classifier} is for embeddings of another encoder, or of other weights, than those of {source.path}. "
            f"Make one for these: thanos robust {source.again(None)}"
        )
    probability = head.probabilities(embeddings.vectors)
    predicted = probability.argmax(axis=1)
    known = set(embeddings.superclass_names) <= set(names)
    rows: list[tuple[str, ...]] = [PREDICTED]
    refs = embeddings.names
    truth = [embeddings.superclass_names[i] if known else "" for i in embeddings.superclass]
    for i, ref in enumerate(refs):
        rows.append((ref, names[predicted[i]], f"{probability[i, predicted[i]]:.4f}", truth[i]))
    write_csv(out, rows)
    _list_skipped(source, out)
    counts = np.bincount(predicted, minlength=len(names))
    told = ", ".join(f"{count:,} {name}" for name, count in zip(names, counts, strict=True))
    say(f"{len(predicted):,} images by {classifier}: {told}; in {out}")
    if known:
        right = np.array([names[p] for p in predicted]) == np.array(truth)
        judged = embeddings.rows("test") if source.run is not None else np.arange(len(right))
        if len(judged):
            low, high = share_interval(float(right[judged].mean()), len(judged))
            which = "test images" if source.run is not None else "images"
            few = ", few images" if len(judged) < FEW else ""
            say(f"right on {right[judged].mean():.1%} of {len(judged):,} {which} (95% {low:.1%} to {high:.1%}{few})")
    return np.asarray(predicted)


def _is_head(file: Path) -> bool:
    try:
        read_head(file)
    except DataError:
        return False
    return True


def _from_table(source: Source, table: Path, names: Path | None, *, asked: bool) -> Discovered:
    """Discovered subclasses of an earlier run, as a person named and merged them.

    Args:
        source: What they are wanted for.
        table, names: The table, and the person's names.
        asked: Whether the table was named; else it lies where the source keeps its own, and must be that.
    Raises:
        DataError: if the source's own table is of other images or weights, or is not what the JSON beside it describes;
            if any table is of other images.
    """
    embeddings = source.embeddings
    refs = embeddings.names
    listed = read_table(table, names)
    beside, facts = table.with_suffix(".json"), {}
    described = read_json(beside) if beside.is_file() else {}
    how = each if isinstance(each := described.get("superclasses"), dict) else {}
    if not asked:
        of, mark, said = made_of(table), described.get("subclasses"), ""
        if not of:
            said = f"is without {beside.name}, which says what it was found in"
        elif of != marks_of(embeddings):
            other = "images" if of.get("images") != embeddings.fingerprint else "weights"
            said = f"was found in embeddings of other {other} than those of {source.path}"
        elif mark not in (None, mark_of(table)):
            said = f"is not the table that {beside.name} describes (name it by `table` if it is meant)"
        if said:
            raise DataError(f"{table} {said}. Find subclasses anew: thanos discover {source.again(None)}")
    subclass = {image: one.subclass for image, one in listed.items()}
    cluster, known = group_ids(subclass, refs, table, embeddings.fingerprint)
    members = [listed[image] for image in in_table(listed, refs, table, embeddings.fingerprint)]
    distance, confidence = (
        np.array([getattr(member, name) for member in members]) for name in ("distance", "confidence")
    )
    for value, name in enumerate(embeddings.superclass_names):
        sizes = np.unique(cluster[embeddings.superclass == value], return_counts=True)[1]
        facts[name] = how.get(name, {}) | {
            "clusters": len(sizes),
            "images": int(sizes.sum()),
            "sizes": sorted(sizes.tolist(), reverse=True),
        }
    return Discovered(cluster, known, distance, confidence, facts)


def _beside(scores: dict[str, Any], plain: dict[str, Any], method: str) -> list[str]:
    """Each group's accuracy under the method and under the plain head, with the interval of the method's."""
    lines = [f"{'test images':<36}{'n':>8}{method:>12}{'plain':>9}  95% of {method}"]

    def line(label: str, mine: dict[str, Any], other: dict[str, Any]) -> str:
        low, high = mine["interval"]
        n = f"{mine['n']:,}" if "n" in mine else ""
        mark = "  few images" if mine.get("small") else ""
        shown = f"{mine['accuracy']:>12.1%}{other['accuracy']:>9.1%}  {low:.1%} to {high:.1%}{mark}"
        return f"{label:<{44 - len(n)}}{n}{shown}"

    for key, title in (("groups", "group"), ("discovered_groups", "discovered")):
        if key not in scores:
            continue
        mine, other = scores[key], plain[key]
        lines += [line(f"{title} {name}", group, other["groups"][name]) for name, group in mine["groups"].items()]
        lines.append(line(f"{title}: worst group", mine["worst_group"], other["worst_group"]))
        lines.append(line(f"{title}: group mean", mine["group_mean"], other["group_mean"]))
    lines.append(line("worst superclass", scores["worst_class"], plain["worst_class"]))

    def everyone(of: dict[str, Any]) -> dict[str, Any]:
        return {"accuracy": of["sample_accuracy"], "interval": share_interval(of["sample_accuracy"], of["n"])}

    return [*lines, line("all images", everyone(scores), everyone(plain))]
