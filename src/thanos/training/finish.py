"""What a training leaves when it ends: final numbers with their definitions, weights, classifiers."""

from typing import Any

import numpy as np
from torch import nn

from thanos import registry
from thanos.data.samples import Samples
from thanos.encoders.mlp import Unchanged
from thanos.encoders.zoo import SideBySide
from thanos.methods.branch import StepSettings, encoder_of
from thanos.robust.head import Head, write_head
from thanos.runs.checkpoint import read_checkpoint
from thanos.runs.encoder_io import UNCHANGED, Encoder, ModelCard, balance_parts, card_for, save_encoder
from thanos.runs.provenance import commit, hardware, versions
from thanos.runs.run_dir import RunDir
from thanos.training.frozen import on_backbone
from thanos.training.groups import TrainingGroups
from thanos.training.module import TrainingModule

DEFINITIONS = {
    "train/*": "terms of the loss on the last logged batch, in nats (reconstruct: squared standard deviations)",
    "spread/within": "mean cosine between projections of different images of one superclass in that batch",
    "spread/within_largest": "the same for the superclass where it is largest",
    "spread/between": "mean cosine between projections of different superclasses in that batch",
    "validation/superclass_accuracy": "share of validation images whose 20 nearest others (in small sets "
    "fewer: half of the smallest superclass) vote for their superclass",
    "validation/worst_group_accuracy": "the classifier's accuracy on the group of validation images where it is lowest",
    "validation/worst_class_accuracy": "the same for superclasses",
    "validation/within_class_cosine": "as spread/within, for clean embeddings of the validation images",
    "validation/between_class_cosine": "as spread/between, for clean embeddings of the validation images",
}


def final_metrics(
    module: TrainingModule,
    groups: TrainingGroups | None,
    final: dict[str, float],
    *,
    steps: int,
    seen: int,
    seconds: float,
) -> dict[str, Any]:
    """What metrics.json says.

    Args:
        module: As training left it.
        groups: What it knew of groups.
        final: The last value of every number.
        steps, seen, seconds: Of the whole training, with those of the runs that it went on from; ``seen`` images.
    """
    config = module.settings.config
    alpha = None
    if registry.method(config.method).spreads:
        alpha = float(module.settings.alpha if module.alpha is None else module.alpha)
    return {
        "method": config.method,
        "alpha": alpha,
        "steps": steps,
        "images_per_second": round(seen / seconds, 1),
        "seconds": round(seconds, 2),
        "final": final,
        **({} if groups is None else {"groups": groups.facts(module.group_losses)}),
        "provenance": {"commit": commit(), "hardware": hardware(), "versions": versions()},
        "definitions": DEFINITIONS,
    }


def export_all(
    settings: StepSettings, branches: nn.ModuleDict, images: Samples, place: RunDir, backbone: Encoder | None = None
) -> None:
    """The last weights as model.safetensors, then the best ones (which replace them in memory).

    Args:
        settings, branches, images: What was trained, and on what.
        place: Where they go.
        backbone: On whose features it was trained; None: on the images themselves.
    """
    last = finished_encoder(settings, branches, images, backbone)
    save_encoder(last, place.weights("last"))
    _export_classifier(branches, images, place, last)
    kept = place.best_checkpoint
    if kept.exists():
        best = read_checkpoint(kept)["state_dict"]
        of_branches = [name for name in best if name.startswith("branches.")]
        branches.load_state_dict({name.removeprefix("branches."): best[name] for name in of_branches})
        best_one = finished_encoder(settings, branches, images, backbone)
        save_encoder(best_one, place.weights("best"))
        _export_classifier(branches, images, place, best_one, best=True)
        kept.unlink()


def _export_classifier(
    branches: nn.ModuleDict, images: Samples, place: RunDir, encoder: Encoder, *, best: bool = False
) -> None:
    """The superclass classifier on the embedding; where encoders stand side by side there is none on all of it."""
    branch = next(iter(branches.values()))
    if len(encoder.card.encoders) == 1 and hasattr(branch, "classifier"):
        layer = branch.classifier
        assert isinstance(layer, nn.Linear)
        weight, bias = (p.detach().cpu().double().numpy() for p in (layer.weight, layer.bias))
        plain = np.zeros(weight.shape[1]), np.ones(weight.shape[1])
        head = Head(weight, bias, *plain, encoder=encoder.fingerprint)
        write_head(head, images.superclass_names, place.classifier("best" if best else "last"))


def finished_encoder(
    settings: StepSettings, branches: nn.ModuleDict, images: Samples, backbone: Encoder | None = None
) -> Encoder:
    """What was trained, ready to embed images; two encoders are brought to one length."""
    module = _whole(settings, branches, images).cpu().eval()
    encoder = Encoder(module, card_of(settings, branches, images))
    balance_parts(encoder, images)
    return encoder if backbone is None else on_backbone(encoder, backbone)


def card_of(settings: StepSettings, branches: nn.ModuleDict, images: Samples) -> ModelCard:
    """The facts about what is trained."""
    names = (settings.config.encoder,) * len(branches)
    names = (UNCHANGED, *names) if settings.config.keep_features else names
    facts: dict[str, Any] = {"method": settings.config.method, "mean": settings.mean, "std": settings.std}
    return card_for(images, names, _whole(settings, branches, images), views=settings.views, **facts)


def _whole(settings: StepSettings, branches: nn.ModuleDict, images: Samples) -> nn.Module:
    """What was trained, beside the vectors themselves where these are to be kept."""
    trained = encoder_of(branches)
    if not settings.config.keep_features:
        return trained
    parts = [*trained.parts] if isinstance(trained, SideBySide) else [trained]
    return SideBySide([Unchanged(images.channels, settings.mean, settings.std), *parts])
