"""The paper's second claim: contrastive losses do not change when images of a superclass exchange embeddings."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn.functional import normalize

from thanos.config import RunConfig, TrainConfig
from thanos.data.load import load
from thanos.embeddings import Embeddings, embed
from thanos.evaluate.knn import neighbour_accuracy
from thanos.experiments.leave import check_leave, leave
from thanos.objective import (
    class_conditional_info_nce_loss,
    info_nce_loss,
    released_spread_loss,
    spread_loss,
    supcon_loss,
)
from thanos.report.figures import COLOURS, new_figure
from thanos.training.fit import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "InfoNCE": lambda views, label: info_nce_loss(views, temperature=0.5),
    "InfoNCE, all-view": lambda views, label: info_nce_loss(views, temperature=0.5, contrast="all-view"),
    "SupCon": lambda views, label: supcon_loss(views, label, temperature=0.5),
    "SupCon, Khosla's denominator": lambda views, label: supcon_loss(views, label, temperature=0.5, denominator="all"),
    "SupCon, all-view": lambda views, label: supcon_loss(views, label, temperature=0.5, contrast="all-view"),
    "class-conditional InfoNCE": lambda views, label: class_conditional_info_nce_loss(views, label, temperature=0.5),
    "L_spread": lambda views, label: spread_loss(views, label, alpha=0.6, temperature=0.5),
    "L_spread, all-view": lambda views, label: spread_loss(
        views, label, alpha=0.6, temperature=0.5, contrast="all-view"
    ),
    "the released L_spread": lambda views, label: released_spread_loss(views, label, alpha=0.6, temperature=0.5),
}
"""Every contrastive loss of the library."""


def permutation_within(label: Tensor, rng: Generator) -> Tensor:
    """Rows in an order that exchanges images of one superclass only."""
    order = torch.arange(len(label))
    for value in label.unique():
        rows = (label == value).nonzero()[:, 0]
        order[rows] = rows[torch.randperm(len(rows), generator=rng)]
    return order


def loss_changes(views: Tensor, label: Tensor, permutations: int = 20) -> dict[str, float]:
    """Largest change of each contrastive loss when images of a superclass exchange embeddings, all views at once."""
    rng = Generator().manual_seed(0)
    orders = [permutation_within(label, rng) for _ in range(permutations)]
    return {
        name: max(abs(float(loss(views[:, order], label) - loss(views, label))) for order in orders)
        for name, loss in LOSSES.items()
    }


def linear_reconstruction(
    train: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], test: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
) -> float:
    """Error on ``test`` of the best affine decoder on ``train`` that is told the superclass.

    Args:
        train, test: Each (vectors, superclass, pixels).
    Returns:
        Mean squared error in units of the pixels' variance.
    """

    def told(vectors: NDArray[Any], label: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([vectors, np.eye(int(train[1].max()) + 1)[label]], axis=1)

    solution, *_ = np.linalg.lstsq(told(*train[:2]), train[2], rcond=None)
    return float(np.square(test[2] - told(*test[:2]) @ solution).mean() / test[2].var(axis=0).mean())


def invariance(out: Path, say: Say) -> dict[str, Any]:
    """Contrastive losses cannot tell a clustered embedding from a shuffled one; an autoencoder can.

    Trains L_spread on digits, then lets images exchange embeddings within their superclass.
    """
    check_leave(out, "invariance")
    config = TrainConfig(data="digits", method="spread", epochs=20)
    images = load(config)
    alone = RunConfig(quiet=True, threads=1)  # more threads do not help images this small
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run", images=images, run=alone, say=lambda line: None)
    tested = images.take(images.rows("test"))
    views = torch.stack(
        [torch.from_numpy(run.encoder.embed_view(tested, Generator().manual_seed(s))).double() for s in (0, 1)]
    )
    everyone = embed(run.encoder, images)
    learned, fitted = everyone.of("test"), everyone.of("train")
    label = torch.from_numpy(learned.superclass)
    subclass = torch.from_numpy(learned.known_subclass("thanos theory invariance"))
    changes = loss_changes(views, label)
    order = permutation_within(label, Generator().manual_seed(1))
    order_fitted = permutation_within(torch.from_numpy(fitted.superclass), Generator().manual_seed(2))
    pixels = {s: images.images[images.rows(s)].reshape(len(images.rows(s)), -1) / 255.0 for s in ("train", "test")}
    embeddings = {}
    for name, rows, rows_fitted in (
        ("learned", torch.arange(len(order)), torch.arange(len(order_fitted))),
        ("shuffled within superclasses", order, order_fitted),
    ):
        vectors = learned.vectors[rows.numpy()]
        unit = normalize(torch.from_numpy(vectors), dim=1)
        embeddings[name] = {
            "spread_loss": float(LOSSES["L_spread"](views[:, rows], label)),
            "fine_accuracy_of_neighbours": float(neighbour_accuracy(unit, subclass, k=5)),
            "best_affine_decoder_error": linear_reconstruction(
                (fitted.vectors[rows_fitted.numpy()], fitted.superclass, pixels["train"]),
                (vectors, learned.superclass, pixels["test"]),
            ),
        }
    for name, change in changes.items():
        say(f"  {name:<30} changes by at most {change:.1e} when images of a superclass exchange embeddings")
    for name, values in embeddings.items():
        say(
            f"  {name:<30} L_spread {values['spread_loss']:.6f}, digits by their neighbours "
            f"{values['fine_accuracy_of_neighbours']:.1%}, error of the best affine decoder "
            f"{values['best_affine_decoder_error']:.3f}"
        )
    numbers = {
        "test_images": len(learned),
        "largest_change_of_loss": changes,
        "embeddings": embeddings,
        "settings": config.model_dump(mode="json", exclude_defaults=True),
    }
    figure = _invariance_figure(learned, learned.vectors[order.numpy()], numbers)
    return leave(out, "invariance", "thanos theory invariance", numbers, {"invariance": figure})


def _invariance_figure(learned: Embeddings, shuffled: NDArray[np.float32], numbers: dict[str, Any]) -> "Figure":
    figure = new_figure(1, 2, 9, 4.6)
    assert learned.subclass is not None
    alone = np.flatnonzero(learned.superclass == 0)  # one superclass, so that its subclasses have the picture's room
    rows, moved = (v[alone] / np.linalg.norm(v[alone], axis=1, keepdims=True) for v in (learned.vectors, shuffled))
    subclass, centre = learned.subclass[alone], rows.mean(0)
    _, _, directions = np.linalg.svd(rows - centre, full_matrices=False)
    for axes, points, (name, values) in zip(figure.axes, (rows, moved), numbers["embeddings"].items(), strict=True):
        flat = (points - centre) @ directions[:2].T
        for kind in np.unique(subclass):
            mine, digit = flat[subclass == kind], learned.subclass_names[kind]
            axes.scatter(mine[:, 0], mine[:, 1], s=9, color=COLOURS[kind % len(COLOURS)], linewidths=0, label=digit)
        axes.set(
            xticks=[],
            yticks=[],
            xlabel=f"L_spread {values['spread_loss']:.6f} · digits {values['fine_accuracy_of_neighbours']:.0%}",
        )
        axes.set_title(name, fontsize=11)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=10, frameon=False, markerscale=2)
    return figure
