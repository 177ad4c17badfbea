"""Figures as inline SVG or PNG, in colours that the colour-blind can tell apart."""

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings, ordinary_size
from thanos.report.plane import neighbour_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ten colours of Paul Tol's muted scheme and two more that differ in lightness.
COLOURS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777")


def new_figure(rows: int, columns: int, width: float, height: float) -> "Figure":
    """A matplotlib figure without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    figure.subplots(rows, columns, squeeze=False)
    figure.patch.set_facecolor("white")
    return figure


def as_png(figure: "Figure") -> str:
    """The figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def thumbnail(image: NDArray[np.uint8], side: int = 48) -> str:
    """One uint8 image (height, width, channel) as a data URI, its longer side ``side``; enlarged without smoothing.

    What is enlarged is lossless, anything else lossy.
    """
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(image.squeeze())
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    smooth = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    picture.resize(size, smooth).save(buffer, format="webp", lossless=scale > 1, quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def embedding_maps(embedded: dict[str, Embeddings]) -> "Figure":
    """Test embeddings side by side, coloured by subclass.

    Above, one superclass alone: the principal components around its centre, all at one scale, where a collapsed
    superclass is a dot. Below, all images by t-SNE, which ignores scale and shows who keeps company with whom.
    """
    figure = new_figure(2, len(embedded), 3.6 * len(embedded), 7.4)
    for column, (name, embeddings) in enumerate(embedded.items()):
        part = embeddings.of("test")
        assert part.subclass is not None
        rows = ordinary_size(part.vectors)
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        alone = np.flatnonzero(part.superclass == np.argmax(np.bincount(part.superclass)))
        centred = rows[alone] - rows[alone].mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        plane = neighbour_plane(rows)
        tsne = np.zeros((len(rows), 2)) if plane is None else plane
        upper, lower = figure.axes[column], figure.axes[len(embedded) + column]
        _scatter(upper, centred @ directions[:2].T, part.subclass[alone], part.subclass_names, scale=2.0)
        _scatter(lower, tsne, part.subclass, part.subclass_names, scale=float(np.ptp(tsne, axis=0).max()))
        upper.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
        upper.set_title(name, fontsize=13)
        if column == 0:
            upper.set_ylabel(f"only {part.superclass_names[part.superclass[alone[0]]]!r}, at one scale", fontsize=11)
            lower.set_ylabel("all test images, t-SNE", fontsize=11)
            dots = [
                lower.scatter([], [], s=30, color=COLOURS[k % len(COLOURS)]) for k in range(len(part.subclass_names))
            ]
            figure.legend(dots, part.subclass_names, loc="outside lower center", ncols=10, frameon=False, fontsize=11)
    return figure


def _scatter(
    axes: "Axes", points: NDArray[Any], subclass: NDArray[np.int64], names: tuple[str, ...], *, scale: float
) -> None:
    """Points coloured by subclass; names stand at the medians, where there is room for them in axes of width scale."""
    medians = np.array([np.median(points[subclass == kind], axis=0) for kind in np.unique(subclass)])
    room = np.ptp(medians, axis=0).max() > 0.1 * scale
    taken: list[NDArray[Any]] = []
    for kind in np.unique(subclass):
        mine = points[subclass == kind]
        colour = COLOURS[kind % len(COLOURS)]
        axes.scatter(mine[:, 0], mine[:, 1], s=12, color=colour, linewidths=0)
        centre = np.median(mine, axis=0)
        if room and all(np.linalg.norm(centre - other) > 0.08 * scale for other in taken):
            taken.append(centre)
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
            axes.annotate(
                names[kind], tuple(centre), ha="center", va="center", fontsize=11, fontweight="bold", bbox=box
            )
    axes.set_xticks([])
    axes.set_yticks([])


def training_curves(runs: dict[str, list[dict[str, float]]]) -> dict[str, str]:
    """Pictures by title: the cosine within superclasses, the neighbours' accuracy.

    Args:
        runs: By name, what was logged: a ``step`` and numbers each.
    """
    shown = {
        "spread/within": "cosine within superclasses (training batches)",
        "validation/superclass_accuracy": "superclass accuracy of neighbours (validation)",
    }
    pictures = {}
    for metric, title in shown.items():
        figure = new_figure(1, 1, 5, 3.2)
        axes = figure.axes[0]
        for (name, lines), colour, style in zip(runs.items(), COLOURS[::3], ("-", "--", ":"), strict=False):
            points = [(line["step"], line[metric]) for line in lines if metric in line]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, label=name)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("step")
        if len(runs) > 1:
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        pictures[title] = as_png(figure)
    return pictures
