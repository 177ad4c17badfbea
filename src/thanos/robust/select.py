"""Which of several models is kept: the one whose worst group on validation is best; a rule says which groups."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.config import Rule
from thanos.embeddings import Embeddings
from thanos.errors import DataError, MissingLabels


@dataclass(frozen=True)
class Watch:
    """The validation images' ids under a rule, and what a model's predictions score on them."""

    rule: Rule
    ids: NDArray[np.int64]
    """(n,)"""
    names: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Validation images behind each group's accuracy."""
        count = np.bincount(self.ids, minlength=len(self.names)).tolist()
        return {name: n for name, n in zip(self.names, count, strict=True) if n}

    def score(self, right: NDArray[np.bool_]) -> tuple[float, float]:
        """The worst group's accuracy, and of equals the mean over groups."""
        size = np.bincount(self.ids)
        accuracy = np.bincount(self.ids, weights=right)[size > 0] / size[size > 0]
        return float(accuracy.min()), float(accuracy.mean())

    def facts(self) -> dict[str, Any]:
        return {"rule": self.rule, "n": self.sizes}


def watch(
    rule: Rule, embeddings: Embeddings, *, discovered: NDArray[np.int64] | None = None, names: tuple[str, ...] = ()
) -> Watch:
    """What a rule looks at on the validation images.

    Args:
        rule: Only worst-group looks at true groups.
        embeddings: With training and validation images.
        discovered, names: Cluster ids of all images, shape (n,), and their names, for worst-discovered.
    Raises:
        MissingLabels: for worst-group where groups are not known.
        DataError: without validation images, or if a group of the training images has none among them.
    """
    ids, names = {
        "worst-group": (embeddings.group, embeddings.group_names),
        "worst-discovered": (discovered, names),
        "worst-class": (embeddings.superclass, embeddings.superclass_names),
    }[rule]
    held_out = embeddings.in_split("validation")
    if not held_out.any():
        raise DataError(
            "models are chosen on validation images, and there are none. Name some in a column (or array) split."
        )
    if ids is None or (ids[held_out] < 0).any():
        raise MissingLabels(
            f"`select={rule}` needs the group of every validation image, and it is not known for "
            f"{'any' if ids is None else int((ids[held_out] < 0).sum())}. Give a column group, or pass "
            f"`select=worst-class`."
        )
    trained = ids[embeddings.in_split("train") & (ids >= 0)]
    absent = np.setdiff1d(trained, ids[held_out]).tolist()
    if absent:
        way = "merge small groups, or pass `select=worst-class`" if rule != "worst-class" else "or leave it out"
        raise DataError(
            f"{rule} is watched on validation images, and {names[absent[0]]!r} has none there. Hold out more, {way}."
        )
    return Watch(rule, ids[held_out], names)
