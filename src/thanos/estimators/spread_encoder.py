"""L_spread, or another method, as a scikit-learn transformer, on feature vectors or on images."""

import copy
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from thanos import registry
from thanos.data.labels import split_ids
from thanos.errors import Interrupted

if TYPE_CHECKING:
    from thanos.data.samples import Samples
    from thanos.runs.encoder_io import Encoder

WATCHED = 200
"""Vectors, at most, on which their training is watched."""


class SpreadEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embeddings that tell classes apart and keep what is inside them.

    Vectors (n, features), from any model, go through a small network, the encoder ``mlp``: one hidden layer. Images (n,
    height, width) or (n, height, width, 1 or 3), uint8, go through the encoder ``tiny``. Both are trained as ``thanos
    train`` trains, by default by L_spread and the classes' cross-entropy on two views of each row; a view of a vector
    is its standardised features with noise, some of them missing. Of images a tenth is held out to watch the
    training; of vectors none is.

    Args:
        dim: Of the embedding of vectors; methods that train two encoders side by side give twice as many.
        method: How they are trained: "spread", "thanos", "supcon", "infonce", ...; those of ``thanos train --method``.
        hidden: Width of their hidden layer.
        alpha: Weight of spreading in [0, 1], for "spread" and "thanos"; 0 is SupCon; "auto" solves for
            ``within_class_cosine`` (0.5 where the batch is too small for that).
        within_class_cosine: The degree of spread that "auto" aims at.
        temperature: Divisor of the cosine.
        noise: Standard deviation of the noise in a view of a vector, in standard deviations of its features.
        left_out: Probability that a feature is missing from a view of a vector.
        epochs: Passes over the data.
        batch: Vectors (or images) in a batch, at most.
        learning_rate: Peak rate of AdamW.
        classify: Weight of the cross-entropy; None: the method's own (1; 0 for "infonce" and "maskcon").
        random_state: Seed, or numpy's RandomState.

    Attributes:
        classes_: The classes seen in ``fit``.
        alpha_: What was used; None for methods without.
        n_features_in_: Width of the vectors.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> SpreadEncoder(epochs=2, random_state=0).fit(X, y < 5).transform(X).shape
        (1797, 64)
    """

    def __init__(
        self,
        dim: int = 64,
        *,
        method: str = "spread",
        hidden: int = 256,
        alpha: float | str = "auto",
        within_class_cosine: float = 0.6,
        temperature: float = 0.5,
        noise: float = 0.3,
        left_out: float = 0.2,
        epochs: int = 100,
        batch: int = 256,
        learning_rate: float = 3e-3,
        classify: float | None = None,
        random_state: Any = None,
    ):
        self.dim = dim
        self.method = method
        self.hidden = hidden
        self.alpha = alpha
        self.within_class_cosine = within_class_cosine
        self.temperature = temperature
        self.noise = noise
        self.left_out = left_out
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.classify = classify
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train on vectors or images with their classes.

        Args:
            X: Vectors (n, features), or uint8 images (n, height, width[, channels]).
            y: Classes, shape (n,).
        Raises:
            ValueError: for other shapes, values that are no numbers, fewer than two classes, or no ``y``.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        self._check_settings()
        images = _as_images(X)
        if images is None:
            X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        elif len(images) != len(column_or_1d(y)):
            raise ValueError(f"X and y have one entry for each image; got {len(images)} and {len(column_or_1d(y))}.")
        check_classification_targets(y)
        self.classes_, label = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"two or more classes are contrasted; y has 1 class, {self.classes_.tolist()[0]!r}.")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if images is None:
            self._fit_vectors(np.asarray(X), label, seed)
        else:
            self._fit_images(images, label, seed)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Embeddings, (n, dimensions); of any length.

        Raises:
            NotFittedError: before ``fit``.
            ValueError: for data of another shape than in ``fit``.
        """
        check_is_fitted(self)
        images = _as_images(X)
        if self.encoder_.card.size is None:
            return self._embed_vectors(validate_data(self, X, dtype=np.float64, reset=False))
        if images is None:
            raise ValueError(f"X holds images in fit; transform got shape {np.shape(X)}.")
        from thanos.data.arrays import from_arrays

        found = from_arrays(images, np.zeros(len(images), dtype=np.int64), split=["train"] * len(images))
        return self.encoder_.embed(found).astype(np.float64)

    def _check_settings(self) -> None:
        try:
            registry.method(self.method)
        except ValueError as error:
            raise ValueError(f"method {error}") from None
        for name, least in {"dim": 1, "hidden": 1, "epochs": 1, "batch": 2}.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} is a whole number >= {least}; got {value!r}.")
        for name in ("noise", "classify"):
            value = getattr(self, name)
            if name == "classify" and value is None:
                continue
            if not isinstance(value, Real) or not float(value) >= 0:
                raise ValueError(f"{name} is a number >= 0; got {value!r}.")
        if not isinstance(self.temperature, Real) or not float(self.temperature) >= 0.005:
            raise ValueError(f"temperature is a number >= 0.005; got {self.temperature!r}.")
        if not isinstance(self.learning_rate, Real) or not float(self.learning_rate) > 0:
            raise ValueError(f"learning_rate is a number > 0; got {self.learning_rate!r}.")
        if not 0 < self.within_class_cosine < 1:
            raise ValueError(f"within_class_cosine lies between 0 and 1; got {self.within_class_cosine!r}.")
        if not 0 <= self.left_out < 1:
            raise ValueError(f"left_out is a share in [0, 1); got {self.left_out}.")
        if self.alpha != "auto" and not (isinstance(self.alpha, Real) and 0 <= float(self.alpha) <= 1):
            raise ValueError(f"alpha is 'auto' or a number in [0, 1]; got {self.alpha!r}.")

    def _chosen_alpha(self, batch: int) -> float:
        from thanos.methods.alpha import solve_alpha

        if self.alpha != "auto":
            return float(self.alpha)
        try:
            return solve_alpha(len(self.classes_), batch, self.temperature, self.within_class_cosine).alpha
        except ValueError:
            return 0.5

    def _fit_vectors(self, x: NDArray[np.float64], label: NDArray[np.int64], seed: int) -> None:
        """All rows are trained on, the only one of a class twice; some of them are watched."""
        from thanos.config import FeatureViewSpec
        from thanos.data.vectors import VectorSet, mean_and_deviation

        self.mean_, self.scale_ = mean_and_deviation(x)
        count, alone = len(x), np.flatnonzero(np.bincount(label)[label] == 1)
        seen = np.arange(count)[:: -(-count // WATCHED)]
        rows = np.concatenate([np.arange(count), alone, seen])
        found = VectorSet(
            name="X",
            vectors=self._standardised(x).astype(np.float32)[rows],
            views=FeatureViewSpec(noise=self.noise, dropout=self.left_out),
            superclass=label[rows],
            superclass_names=tuple(str(name) for name in self.classes_),
            split=split_ids(["train"] * (count + len(alone)) + ["validation"] * len(seen)),
        )
        self._train(found, min(self.batch, count), seed, encoder=f"mlp-{self.hidden}-{self.dim}", accelerator="cpu")
        self.encoder_.device = "cpu"

    def _fit_images(self, images: NDArray[np.uint8], label: NDArray[np.int64], seed: int) -> None:
        from thanos.data.arrays import from_arrays

        found = from_arrays(images, label, split=["train"] * len(label), split_seed=seed)  # some watch its training
        self._train(found, min(self.batch, len(found.rows("train"))), seed)

    def _train(self, found: "Samples", batch: int, seed: int, **settings: Any) -> None:
        from thanos.config import RunConfig, TrainConfig
        from thanos.training.fit import train

        alpha = self._chosen_alpha(batch)
        self.alpha_ = alpha if registry.method(self.method).spreads else None
        config = TrainConfig(
            method=self.method,
            alpha=alpha,
            temperature=self.temperature,
            epochs=self.epochs,
            batch=batch,
            learning_rate=self.learning_rate,
            classify_weight=self.classify,
            seed=seed,
            **settings,
        )
        with TemporaryDirectory() as folder, _undisturbed():
            run = train(config, Path(folder) / "run", images=found, run=RunConfig(quiet=True), say=lambda line: None)
        self.encoder_: Encoder = run.encoder
        self._n_features_out = run.encoder.card.dim

    def _standardised(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x - self.mean_) / self.scale_

    def _embed_vectors(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """In float64: the embedding of a row does not depend on which rows are beside it."""
        import torch

        from thanos.views import clean_view

        module, card = copy.deepcopy(self.encoder_.module).double(), self.encoder_.card
        with torch.inference_mode():
            rows = clean_view(torch.from_numpy(self._standardised(x)), mean=card.mean, std=card.std)
            return np.asarray(module(rows).numpy())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Training leaves the caller's random numbers and filters of warnings as they were; Ctrl-C is Ctrl-C."""
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            yield
    except Interrupted as stopped:  # its state is in the temporary folder, where nobody goes on with it
        if stopped.exit_code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(stopped.exit_code) from None


def _as_images(X: Any) -> NDArray[np.uint8] | None:
    """An array of pictures; None if X is anything else, vectors perhaps."""
    if getattr(X, "ndim", 2) not in (3, 4):
        return None
    if X.dtype != np.uint8:
        raise ValueError(f"images are uint8 (0 to 255), channels last; got {X.dtype} of shape {X.shape}.")
    return np.asarray(X)
