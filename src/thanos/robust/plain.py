"""The plain classifier on an embedding: logistic regression, which knows no group; what others are held against."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thanos.embeddings import Embeddings
from thanos.robust.head import Classifier
from thanos.robust.methods import fit_robust
from thanos.robust.select import watch
from thanos.subclasses.fitted import Discovered


@dataclass(frozen=True)
class Errors:
    """A plain classifier's errors on the images it was not fitted on."""

    wrong: NDArray[np.bool_]
    """(n,)"""
    held_out: NDArray[np.bool_]
    """(n,)"""

    def share(self, rows: NDArray[Any]) -> tuple[float, int] | None:
        """Of these rows, held out: the share that is wrong, and how many there are; None without any."""
        mine = rows[self.held_out[rows]]
        return (float(self.wrong[mine].mean()), len(mine)) if len(mine) else None

    def accuracies(self, found: Discovered) -> dict[str, dict[str, Any]]:
        """``accuracy`` on the held-out images of each discovered subclass that has some, and their number ``n``."""
        shares = {name: self.share(np.flatnonzero(found.cluster == number)) for number, name in enumerate(found.names)}
        return {name: {"accuracy": 1 - share[0], "n": share[1]} for name, share in shares.items() if share is not None}


def plain_head(embeddings: Embeddings) -> Classifier:
    """Logistic regression on the training embeddings, its penalty chosen by the worst superclass of validation images.

    Raises:
        DataError: if there are no two superclasses, or a superclass has no validation image.
    """
    blind = embeddings.without_hidden()
    return fit_robust("erm", blind, None, watch("worst-class", blind)).head


def plain_errors(embeddings: Embeddings) -> Errors | None:
    """Those of the plain classifier; None without two superclasses, or validation images of each."""
    train = embeddings.in_split("train")
    kinds = np.unique(embeddings.superclass[train])
    if len(kinds) < 2 or len(np.setdiff1d(kinds, embeddings.superclass[embeddings.in_split("validation")])):
        return None
    return Errors(plain_head(embeddings).predict(embeddings.vectors) != embeddings.superclass, ~train)
