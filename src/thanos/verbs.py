"""What stands between the command line and the library: read a source, evaluate, print, keep the numbers."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Generator

from thanos.artefact import Encoder, load_encoder, timm_encoder
from thanos.config import (
    AutoTrainConfig,
    DataConfig,
    DiscoverConfig,
    RobustConfig,
    RunConfig,
    TransferConfig,
    read_yaml,
)
from thanos.data.group_table import group_ids, read_table
from thanos.data.imageset import SPLITS, ImageSet
from thanos.data.load import load
from thanos.discovery import Discovered, discover
from thanos.embeddings import Embeddings, embed, kept_embeddings, read_embeddings, write_embeddings
from thanos.errors import ConfigError, DataError, OutputError
from thanos.evaluate.geometry import EXACT, geometry
from thanos.evaluate.recovery import recovery
from thanos.evaluate.transfer import transfer
from thanos.export import Format, export_onnx, export_table, export_weights
from thanos.names import OWN_ENCODERS
from thanos.provenance import command
from thanos.report.discover_page import TITLE, write_discover_page
from thanos.robust.head import read_head, write_head
from thanos.robust.stage import make_robust
from thanos.storage import write_json, write_text
from thanos.training.auto import announce, load_suitably, settle
from thanos.training.folder import write_skipped

WEIGHTS = {"last": "model.safetensors", "best": "best.safetensors"}


def embed_run(
    source: Path, out: Path, weights: str, data: DataConfig | None, pretrained: Path | None = None
) -> Embeddings:
    if data is not None and not source.exists():
        images = load(data)
        encoder = timm_encoder(str(source), pretrained, images)
    else:
        encoder, images = _encoder_and_images(source, weights, data)
    embeddings = embed(encoder, images)
    write_embeddings(embeddings, out)
    if images.skipped:
        write_skipped(out.with_name("skipped.csv"), images)
    print(f"{len(embeddings):,} embeddings of {encoder.card.dim} dimensions in {out}")
    return embeddings


def transfer_source(source: Path, weights: str, data: DataConfig | None, config: TransferConfig) -> dict[str, Any]:
    embeddings, encoder, images = _embeddings(source, weights, data)
    scores = transfer(embeddings, config, encoder, images)
    for reader, numbers in scores.items():
        low, high = numbers["interval"]
        print(
            f"{reader:<10} fine accuracy {numbers['accuracy']:.1%} (95% {low:.1%} to {high:.1%}, "
            f"n = {numbers['n']:,}) · balanced {numbers['balanced_accuracy']:.1%} · weighted by training frequency "
            f"{numbers['frequency_weighted_accuracy']:.1%}"
        )
    _keep(source, f"transfer/{weights}", scores, data)
    return scores


def geometry_source(source: Path, weights: str, data: DataConfig | None) -> dict[str, Any]:
    embeddings, encoder, images = _embeddings(source, weights, data)
    views = None
    if encoder is not None and images is not None:
        rows = images.rows("test") if len(images.rows("test")) else np.arange(len(images))
        some = images.take(rows[:: max(1, -(-len(rows) // EXACT))])
        rng = Generator().manual_seed(0)
        views = encoder.embed_view(some, rng), encoder.embed_view(some, rng)
    scores = geometry(embeddings, views)
    for name, value in scores.items():
        print(f"{name:<36} {value:.4f}" if isinstance(value, float) else f"{name:<36} {_plain(value)}")
    _keep(source, f"geometry/{weights}", scores, data)
    return scores


def discover_images(
    data: DataConfig, run: Path, config: DiscoverConfig, training: AutoTrainConfig, quiet: bool
) -> Discovered:
    """From images to a run directory with its table and page: choose what was left open, train, embed, discover."""
    from thanos.training.fit import train  # Lightning takes seconds to import; no other verb here trains

    images, choices = load_suitably(data)
    chosen = settle(training, data, images, choices, config.seed)
    announce(choices, print)
    train(chosen, run, images=images, run=RunConfig(quiet=quiet))
    if not kept_embeddings(run, "last").is_file():
        write_embeddings(embed(load_encoder(run), images), kept_embeddings(run, "last"))
    found = discover_source(run, run / "subclasses.csv", "last", None, config)
    print(f"next: thanos robust {run}   or: thanos embed {run} --data NEW_IMAGES --out new.npz")
    return found


def export_source(source: Path, to: Format, out: Path, weights: str, data: DataConfig | None) -> None:
    """Write a run's encoder, or its embeddings, in another program's format."""
    if to == "csv":
        embeddings, _, _ = _embeddings(source, weights, data)
        export_table(embeddings, out)
        print(f"{len(embeddings):,} vectors of {embeddings.vectors.shape[1]} dimensions in {out}")
        return
    encoder = load_encoder(source / WEIGHTS[weights] if source.is_dir() else source)
    if to == "safetensors":
        export_weights(encoder, out)
        one = encoder.card.encoders[0]
        timm = len(encoder.card.encoders) == 1 and one not in OWN_ENCODERS
        call = f"{one!r}, num_classes=0, in_chans={encoder.card.channels}, checkpoint_path={str(out)!r}"
        note = f"; loads in bare timm: timm.create_model({call})"
        print(f"weights in {out}, facts in {out.with_suffix('.json')}{note if timm else ''}")
        return
    apart = export_onnx(encoder, out)
    (height, width), channels = encoder.card.size, encoder.card.channels
    checked = "not checked, for onnxruntime is not installed" if apart is None else f"off by {apart:.1g} in onnxruntime"
    print(f"{out}: images, uint8 (n, {height}, {width}, {channels}) -> vectors (n, {encoder.card.dim}); {checked}")


COLUMNS = ("image", "superclass", "subclass", "distance", "confidence", "split")
"""Of the table of discovered subclasses."""


def discover_source(
    source: Path, out: Path, weights: str, data: DataConfig | None, config: DiscoverConfig
) -> Discovered:
    """Write the table of discovered subclasses, and beside it as JSON how they were found and what they recover."""
    facts_file, page = out.with_suffix(".json"), out.with_suffix(".html")
    for file, ours in (
        (out, lambda: _says(out, ",".join(COLUMNS))),
        (page, lambda: _says(page, TITLE)),
        (facts_file, lambda: _holds(facts_file, {"settings", "superclasses", "recovery"})),
    ):
        if file.exists() and not ours():
            raise OutputError(f"{file} is there and was not written by thanos discover. Name another --out.")
    embeddings, _, images = _embeddings(source, weights, data)
    found = discover(embeddings, config)
    known = {} if embeddings.subclass is None else _recovered(embeddings, found)
    for name, fact in found.superclasses.items():
        sizes = ", ".join(f"{size:,}" for size in fact["sizes"])
        tried = max(fact["silhouette"].values()) if fact.get("silhouette") else None
        why = "" if tried is None else f" · silhouette {tried:.2f}"
        why += f", a cloud without clusters {max(fact['unstructured']):.2f}" if "unstructured" in fact else ""
        subclasses = f"{fact['clusters']} subclasses" if fact["clusters"] > 1 else "one subclass"
        print(f"{name}: {subclasses} of {sizes} images{why}")
    for split, scores in known.items():
        one = scores["one_cluster"]
        print(
            f"recovery, {split}: F1 {scores['macro_f1']:.2f} (one cluster {one['macro_f1']:.2f}), rarest "
            f"{scores['rarest_f1']['mean']:.2f} ({one['rarest_f1']['mean']:.2f}), purity {scores['purity']:.2f} "
            f"({one['purity']:.2f}), adjusted mutual information {scores['adjusted_mutual_information']:.2f}"
        )
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    refs = embeddings.refs or tuple(str(i) for i in range(len(embeddings)))
    for i, ref in enumerate(refs):
        superclass, subclass = embeddings.superclass_names[embeddings.superclass[i]], found.names[found.cluster[i]]
        split = SPLITS[embeddings.split[i]]
        writer.writerow((ref, superclass, subclass, f"{found.distance[i]:.5f}", f"{found.confidence[i]:.4f}", split))
    write_text(out, table.getvalue())
    settings = config.model_dump(mode="json")
    facts = {"command": command(), "settings": settings, "superclasses": found.superclasses, "recovery": known}
    write_json(facts_file, facts)
    _offer_names(out, found)
    run = source if source.is_dir() and data is None and (source / "metrics.json").is_file() else None
    write_discover_page(page, embeddings, found, images, out, run)
    print(f"subclasses of {len(embeddings):,} images in {out}; to look at: {page}")
    return found


def _says(file: Path, text: str) -> bool:
    return text in file.read_text("utf-8", errors="replace")


def _holds(file: Path, keys: set[str]) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        return keys <= set(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError):
        return False


def _offer_names(table: Path, found: Discovered) -> None:
    """A file for a person's names; one that a person has changed is left."""
    file = table.with_suffix(".yaml")
    if file.exists():
        known = yaml.safe_load(file.read_text("utf-8"))
        if not isinstance(known, dict) or any(old != new for old, new in known.items()):
            print(f"{file} holds names for an earlier discovery and is kept; move it away for a fresh one")
            return
    head = "# Name discovered subclasses; equal names merge. Then:\n"
    head += f"# thanos robust RUN --table {table.name} --names {file.name}\n"
    names = {name: name for name in found.names}
    shown = yaml.safe_dump(names, allow_unicode=True, sort_keys=False)
    if yaml.safe_load(shown) != names:  # line breaks that YAML would fold, unless they are escaped
        shown = yaml.safe_dump(names, sort_keys=False)
    write_text(file, head + shown)


def _recovered(embeddings: Embeddings, found: Discovered) -> dict[str, Any]:
    """Scores against the true subclasses, on training and on test images."""
    assert embeddings.subclass is not None
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


def _embeddings(
    source: Path, weights: str, data: DataConfig | None
) -> tuple[Embeddings, Encoder | None, ImageSet | None]:
    if source.suffix == ".npz":
        return read_embeddings(source), None, None
    encoder, images = _encoder_and_images(source, weights, data)
    kept = kept_embeddings(source, weights)
    if data is None and kept.is_file():
        return read_embeddings(kept), encoder, images
    return embed(encoder, images), encoder, images


def _encoder_and_images(source: Path, weights: str, data: DataConfig | None) -> tuple[Encoder, ImageSet]:
    encoder = load_encoder(source / WEIGHTS[weights] if source.is_dir() else source)
    if data is not None:
        images = load(data)
        for note in images.notes:
            print(note)
        return encoder, images
    settings = source / "config.yaml"
    if not settings.is_file():
        raise ConfigError(f"{source} does not say which images to take; say it with --data.")
    known = {k: v for k, v in read_yaml(settings).items() if k in DataConfig.model_fields}
    images = load(DataConfig(**known))
    if images.fingerprint != encoder.card.fingerprint:
        raise DataError(
            f"the images of {source} have changed since training (fingerprint {encoder.card.fingerprint[:8]} then, "
            f"{images.fingerprint[:8]} now). Say with --data which to take."
        )
    return encoder, images


def _keep(source: Path, name: str, scores: dict[str, Any], data: DataConfig | None) -> None:
    """Add scores of a run's own images to its metrics.json."""
    file = source / "metrics.json"
    if data is None and source.is_dir() and file.is_file():
        write_json(file, json.loads(file.read_text("utf-8")) | {name: scores | {"command": command()}})


def robust_source(
    source: Path,
    out: Path,
    weights: str,
    data: DataConfig | None,
    config: RobustConfig,
    table: Path | None,
    names: Path | None,
) -> dict[str, Any]:
    """Fit the method and the plain head beside it; write the head (.npz) and the scores of both (.json)."""
    facts = out.with_suffix(".json")
    for file, ours in (
        (out, lambda: _is_head(out)),
        (facts, lambda: _holds(facts, {"settings", "selection", "scores", "plain"})),
    ):
        if file.exists() and not ours():
            raise OutputError(f"{file} is there and was not written by thanos robust. Name another --out.")
    embeddings, _, _ = _embeddings(source, weights, data)
    discovered = _from_table(embeddings, table, names) if table is not None else None
    outcome = make_robust(embeddings, config, discovered=discovered)
    plain = RobustConfig(method="erm", groups=config.groups, select=config.select)
    beside = make_robust(embeddings, plain, discovered=outcome.discovered)
    selection = outcome.robust.selection
    print(
        f"{config.method}, groups {config.groups}; of {selection['candidates']} settings chosen by "
        f"{selection['rule']} on validation: {selection['accuracy']:.1%} (n = "
        f"{', '.join(f'{n:,} {name}' for name, n in selection['n'].items())})"
    )
    for line in _beside(outcome.scores, beside.scores, config.method):
        print(line)
    write_head(outcome.robust.head, embeddings.superclass_names, out)
    scores = {
        "command": command(),
        "settings": config.model_dump(mode="json") | outcome.robust.settings,
        "selection": selection,
        "scores": outcome.scores,
        "plain": {"settings": beside.robust.settings, "selection": beside.robust.selection, "scores": beside.scores},
    }
    write_json(facts, scores)
    print(f"classifier: {out} · scores: {facts}")
    return scores


def _is_head(file: Path) -> bool:
    try:
        read_head(file)
    except DataError:
        return False
    return True


def _from_table(embeddings: Embeddings, table: Path, names: Path | None) -> Discovered:
    """Discovered subclasses of an earlier run, as a person named and merged them."""
    refs = embeddings.refs or tuple(str(i) for i in range(len(embeddings)))
    cluster, known = group_ids(read_table(table, names), refs, table)
    blank = np.zeros(len(embeddings))
    return Discovered(cluster, known, blank, blank, {})


def _beside(scores: dict[str, Any], plain: dict[str, Any], method: str) -> list[str]:
    """Each group's accuracy under the method and under the plain head."""
    lines = [f"{'test images':<36}{'n':>8}{method:>12}{'plain':>9}"]
    for key, title in (("groups", "group"), ("discovered_groups", "discovered")):
        if key not in scores:
            continue
        for name, group in scores[key]["groups"].items():
            label = f"{title} {name}"
            mark = "  few images" if group["small"] else ""
            other = plain[key]["groups"][name]["accuracy"]
            lines.append(f"{label:<36}{group['n']:>8,}{group['accuracy']:>12.1%}{other:>9.1%}{mark}")
        for summary in ("worst_group", "group_mean"):
            mine, other = scores[key][summary], plain[key][summary]
            low, high = mine["interval"]
            label = f"{title}: {summary.replace('_', ' ')}"
            lines.append(f"{label:<44}{mine['accuracy']:>12.1%}{other['accuracy']:>9.1%}  95% {low:.1%} to {high:.1%}")
    lines.append(
        f"{'worst superclass':<44}{scores['worst_class']['accuracy']:>12.1%}{plain['worst_class']['accuracy']:>9.1%}"
    )
    lines.append(f"{'all images':<44}{scores['sample_accuracy']:>12.1%}{plain['sample_accuracy']:>9.1%}")
    return lines
