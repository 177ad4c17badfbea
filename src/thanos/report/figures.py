"""Figures as inline SVG or PNG, in colours that the colour-blind can tell apart."""

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings

if TYPE_CHECKING:
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
    """One uint8 image (height, width, channel) as a data URI, enlarged without smoothing."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(image.squeeze())
    picture.resize((side, side), Image.Resampling.NEAREST).save(buffer, format="webp", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def embedding_maps(embedded: dict[str, Embeddings]) -> "Figure":
    """Test embeddings side by side: above, principal components at one scale; below, t-SNE, which ignores scale."""
    from sklearn.manifold import TSNE

    figure = new_figure(2, len(embedded), 3.6 * len(embedded), 7.4)
    for column, (name, embeddings) in enumerate(embedded.items()):
        part = embeddings.of("test")
        assert part.subclass is not None
        rows = part.vectors / np.linalg.norm(part.vectors, axis=1, keepdims=True)
        centred = rows - rows.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        flat = centred @ directions[:2].T
        tsne = TSNE(random_state=0, perplexity=min(30, len(rows) // 4)).fit_transform(rows)
        for row, points in ((0, flat), (1, tsne)):
            axes = figure.axes[row * len(embedded) + column]
            for kind, label in enumerate(part.subclass_names):
                mine = points[part.subclass == kind]
                axes.scatter(mine[:, 0], mine[:, 1], s=9, color=COLOURS[kind % len(COLOURS)], linewidths=0)
                axes.annotate(
                    label,
                    np.median(mine, axis=0),
                    ha="center",
                    va="center",
                    fontsize=11,
                    fontweight="bold",
                    bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
                )
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
                axes.set_title(name, fontsize=13)
    figure.axes[0].set_ylabel("principal components, one scale")
    figure.axes[len(embedded)].set_ylabel("t-SNE")
    return figure


def training_curves(runs: dict[str, Path]) -> "Figure":
    """The cosine within superclasses and the neighbours' superclass accuracy, from each run's metrics.jsonl."""
    figure = new_figure(1, 2, 10, 3.4)
    shown = (
        ("spread/within", "cosine within superclasses\n(projections, training batches)"),
        ("validation/superclass_accuracy", "superclass accuracy of neighbours\n(validation)"),
    )
    styles = ("-", "--", ":")
    for axes, (metric, title) in zip(figure.axes, shown, strict=True):
        for (name, file), colour, style in zip(runs.items(), COLOURS[::3], styles, strict=False):
            lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            points = [(line["step"], line[metric]) for line in lines if metric in line]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, label=name)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("step")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
