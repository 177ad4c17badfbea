"""A linear classifier that serves every group well, given or discovered, under scikit-learn's conventions."""

from collections.abc import Hashable, Iterable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from thanos.config import GROUPED_METHODS, DiscoverConfig, RobustConfig, RobustMethod, Rule
from thanos.data.draw import draw_held_out
from thanos.embeddings import Embeddings
from thanos.errors import DataError
from thanos.names import nearest
from thanos.robust.head import Classifier, Head
from thanos.robust.methods import METHODS
from thanos.robust.stage import choose_head


class GroupRobustClassifier(ClassifierMixin, BaseEstimator):
    """What ``thanos robust`` fits on embeddings, on any vectors: a linear head that is chosen by its worst group.

    Part of the rows is held out; the method's candidates are fitted on the others (``dfr``: on those held out), and the
    one is kept whose worst held-out group is best. Features are standardised, and one whose deviation is below a
    millionth of the largest counts for little: put a ``StandardScaler`` before features in so different units.

    Args:
        method: "groupdro" (the worst group's loss as small as it gets), "groupdro-auroc" (that of the worst pair of
            groups of different classes), "reweight" (every group weighs the same), "dfr" (sparse heads on
            group-balanced held-out rows), "jtt" (what a first head gets wrong counts more), "afr" (refitted on what a
            first head is least sure of), "dpe" (an ensemble of diverse prototypes), "erm" (the plain classifier, to
            compare with) or "portfolio" (infers groups in several ways and picks among heads on them; ``fit`` takes no
            groups then).
        select: What chooses on the held-out rows: "worst-group" (of those given to ``fit``), "worst-discovered" or
            "worst-class". "auto": worst-group if groups are given; else worst-discovered for groupdro,
            groupdro-auroc, reweight and dfr, worst-class for the others.
        clusters: In each class, where groups are discovered; None: chosen.
        validation: Share of the rows that is held out, in (0, 1); each group and class keeps its own.
        random_state: Seed, or numpy's RandomState.

    Attributes:
        classes_: The classes seen in ``fit``.
        head_: The classifier (:class:`thanos.Head`), for ``thanos.write_head``.
        coef_, intercept_: Logits are ``X @ coef_.T + intercept_``; shapes (classes, features) and (classes,), for two
            classes too. Not of "dpe", which is not linear.
        groups_: Of each row of ``fit``, the id of its group, given or discovered, shape (n,); None without groups.
        group_names_: Of the ids.
        held_out_: Whether each row of ``fit`` was held out, (n,).
        settings_: Of the candidate that was kept.
        selection_: Its ``rule``, the held-out rows ``n`` of each group, the ``accuracy`` of the worst there (which
            chose it: fresh rows may say less; for groupdro-auroc ``auroc``), and how many ``candidates`` there were.

    Example:
        >>> from sklearn.datasets import make_blobs
        >>> X, kind = make_blobs([90, 10, 90, 10], centers=[[-3, 0], [3, 2], [3, 0], [-3, 2]], random_state=0)
        >>> model = GroupRobustClassifier(random_state=0).fit(X, kind // 2, groups=kind)
        >>> model.selection_["n"]
        {'0': 18, '1': 2, '2': 18, '3': 2}
        >>> model.predict_proba(X).shape
        (200, 2)
    """

    def __init__(
        self,
        method: Literal[RobustMethod, "portfolio"] = "groupdro",
        *,
        select: Literal["auto"] | Rule = "auto",
        clusters: int | None = None,
        validation: float = 0.2,
        random_state: Any = None,
    ):
        self.method = method
        self.select = select
        self.clusters = clusters
        self.validation = validation
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: Iterable[Hashable] | None = None) -> Self:
        """Hold rows out, find groups where they are wanted and not given, fit and choose.

        Args:
            X: Vectors, (n, features).
            y: Their classes, (n,).
            groups: Of each vector, (n,): any hashable labels; a group may span classes or be a part of one. For an
                attribute that should not decide give class and attribute, ``list(zip(y, attribute))``: attributes alone
                hide the rows on which it and the class disagree. None: groupdro, groupdro-auroc, reweight, dfr
                and ``select="worst-discovered"`` discover clusters inside each class, as :func:`thanos.discover` does.
        Raises:
            ValueError: for other shapes, values that are no numbers, settings that do not fit, fewer than two classes,
                or a class or a group too small to be on both sides of the held-out rows.
        """
        self._check_settings(groups is not None)
        vectors, label = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(label)
        self.classes_, superclass = np.unique(label, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"two or more classes are told apart; y has 1 class, {self.classes_.tolist()[0]!r}.")
        names = tuple(str(each) for each in self.classes_)
        group, group_names = (None, ()) if groups is None else _ids(groups, len(vectors))
        _check_sizes("class", superclass, names, least=2)
        if group is not None:
            _check_sizes("group", group, group_names, least=3 if self.method == "dfr" else 2)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.held_out_ = draw_held_out(
            superclass if group is None else group,
            superclass,
            float(self.validation),
            np.random.default_rng(seed),
            least=2 if self.method == "dfr" else 1,
        )
        _, exponent = np.frexp(np.abs(vectors).max())
        embeddings = Embeddings(
            vectors=np.ldexp(vectors, -exponent),  # a power of two rounds nothing; squares stay ordinary numbers
            superclass=superclass,
            superclass_names=names,
            split=self.held_out_.astype(np.int8),
            group=group,
            group_names=group_names,
        )
        head = self._choose(embeddings, seed)
        self.head_ = replace(head, mean=np.ldexp(head.mean, exponent), scale=np.ldexp(head.scale, exponent))
        if isinstance(self.head_, Head):
            self.coef_ = self.head_.weight / self.head_.scale
            self.intercept_ = self.head_.bias - self.coef_ @ self.head_.mean
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits, (n, classes); of two classes, how much larger the second one's is, (n,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """The softmax of the logits, (n, classes)."""
        check_is_fitted(self)
        return self.head_.probabilities(validate_data(self, X, dtype=np.float64, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of each vector, (n,).

        Raises:
            NotFittedError: before ``fit``.
            ValueError: for vectors of another width than in ``fit``, or values that are no numbers.
        """
        logits = self._logits(X)
        return np.asarray(self.classes_[logits.argmax(axis=1)])

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self.head_.logits(validate_data(self, X, dtype=np.float64, reset=False))

    def _check_settings(self, given: bool) -> None:
        rules = ("auto", *get_args(Rule))
        for name, known in {"method": (*METHODS, "portfolio"), "select": rules}.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}; got {value!r}{nearest(str(value), known)}.")
        if not isinstance(self.validation, Real) or not 0 < float(self.validation) < 1:
            raise ValueError(f"validation is a share of the rows between 0 and 1; got {self.validation!r}.")
        if self.clusters is not None and (not isinstance(self.clusters, Integral) or self.clusters < 1):
            raise ValueError(f"clusters is None or a whole number >= 1; got {self.clusters!r}.")
        if self.method == "dfr" and self.select != "auto":
            raise ValueError(
                f"dfr chooses by its own groups on halves of the held-out rows; got select={self.select!r}. Use 'auto'."
            )
        if self.method == "portfolio" and (given or self.select != "auto" or self.clusters is not None):
            raise ValueError(
                "portfolio infers groups and chooses by them itself; pass no groups, and leave select and clusters as "
                "they are."
            )
        if self.select == "worst-group" and not given:
            raise ValueError(
                "select='worst-group' looks at given groups, and fit got none. Pass groups to fit, or use "
                "'worst-discovered' or 'worst-class'."
            )
        if self.select == "worst-discovered" and given:
            raise ValueError(
                "select='worst-discovered' looks at discovered groups, and fit got groups. Use 'worst-group', or pass "
                "none."
            )

    def _choose(self, embeddings: Embeddings, seed: int) -> Classifier:
        """The head that is kept; what it was chosen by is kept beside."""
        source: Literal["given", "discovered", "none"] = "none"
        if embeddings.group is not None:
            source = "given"
        elif self.method in GROUPED_METHODS or self.select == "worst-discovered":
            source = "discovered"
        config = RobustConfig(method=self.method, groups=source, select=self.select, seed=seed)
        try:
            clusters = DiscoverConfig(clusters=self.clusters, seed=seed)
            robust, discovered = choose_head(embeddings, config, clusters=clusters)
        except DataError as error:
            fault = str(error).rpartition(". ")[0]  # before the advice, which is for the command
            raise ValueError(
                f"{fault}. Have larger groups: lower clusters, raise validation, or pass others."
            ) from None
        self.groups_, self.group_names_ = embeddings.group, embeddings.group_names
        if discovered is not None:
            self.groups_, self.group_names_ = discovered.cluster, discovered.names
        self.settings_, self.selection_ = robust.settings, robust.selection
        return robust.head


def _ids(groups: Iterable[Hashable], n: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Ids of the groups by the order of their names, and the names."""
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise ValueError(f"groups has one label for each of the {n} rows of X; got {groups!r}. Pass the labels.")
    labels = list(groups)
    if len(labels) != n:
        raise ValueError(f"groups has one label for each of the {n} rows of X; got {len(labels)}.")
    for row, label in enumerate(labels):
        if not isinstance(label, Hashable):
            raise ValueError(
                f"groups has one label, such as a string or a number, for each row of X; that of row {row} is "
                f"{label!r}. Pass shape ({n},)."
            )
        if label is None or (isinstance(label, Real) and label != label):
            raise ValueError(f"groups has a label for each row of X; that of row {row} is missing. Give it one.")
    known = sorted(set(labels), key=lambda label: (_name(label), repr(label)))
    position = {label: i for i, label in enumerate(known)}
    names = tuple(map(_name, known))
    if len(set(names)) < len(names):  # 1 and "1"
        names = tuple(map(repr, known))
    return np.array([position[label] for label in labels], dtype=np.int64), names


def _name(label: Hashable) -> str:
    return "/".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _check_sizes(what: str, ids: NDArray[np.int64], names: tuple[str, ...], least: int) -> None:
    size = np.bincount(ids)
    small = int(size.argmin())
    if size[small] < least:
        raise ValueError(
            f"a {what} has {least} rows or more, some to fit on and some held out; {what} {names[small]!r} has "
            f"{size[small]}. Add rows, merge it into another {what}, or leave it out."
        )
