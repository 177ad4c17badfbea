"""GroupRobustClassifier: scikit-learn's own checks; the heads of ``thanos robust``; worst groups served; refusals."""

import pickle
from functools import partial

import numpy as np
import pytest
import sklearn
from scipy.special import softmax
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_fit2d_1feature, parametrize_with_checks

from thanos import DiscoverConfig, Embeddings, GroupRobustClassifier, RobustConfig, make_robust, read_head, write_head
from thanos.config import GROUPED_METHODS
from thanos.robust import methods
from thanos.robust.methods import METHODS, fit_robust
from thanos.robust.prototypes import fit_prototypes
from thanos.robust.select import watch
from thanos.robust.stage import find_groups

CHECKED = [GroupRobustClassifier(method, clusters=None if method == "groupdro" else 2) for method in METHODS]
"""How many clusters there are is looked for in the same way whatever the method."""


@pytest.fixture
def _of_three(monkeypatch):
    """Of dpe's ensemble not fifteen members, of dfr's mean not ten heads."""
    monkeypatch.setattr(methods, "fit_prototypes", partial(fit_prototypes, members=3))
    monkeypatch.setattr(methods, "REFITS", 3)


@pytest.mark.usefixtures("_of_three")
@parametrize_with_checks(CHECKED)
def test_scikit_learns_checks(estimator, check):
    if check.func is check_fit2d_1feature:
        estimator.set_params(clusters=None)  # there is one direction only
    check(estimator)


def world(n, aligned, seed, classes=2):
    """Vectors in float32's numbers, their class, and an attribute that is easier to see and equals it this often."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    attribute = np.where(rng.random(n) < aligned, y, (y + 1) % classes)
    x = rng.normal(size=(n, 8))
    x[:, :classes] += 4 * np.eye(classes)[attribute]
    x[:, 4 : 4 + classes] += 2 * np.eye(classes)[y]
    return x.astype(np.float32).astype(np.float64), y, attribute


def cells(y, attribute):
    return list(zip(y.tolist(), attribute.tolist(), strict=True))


def worst(model, seed=100):
    """The worst group's accuracy on fresh rows, of which half carry the other class's attribute."""
    X, y, attribute = world(6000, 0.5, seed)
    right, group = model.predict(X) == y, 2 * y + attribute
    return min(right[group == kind].mean() for kind in range(4))


@pytest.fixture(scope="module")
def train():
    return world(1500, 0.95, 0)


@pytest.mark.usefixtures("_of_three")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_that_of_the_command_on_the_same_split(method, given, classes):
    X, y, attribute = world(900, 0.9, 1, classes)
    fresh = world(200, 0.5, 2, classes)
    group = classes * y + attribute
    model = GroupRobustClassifier(method, clusters=2, random_state=3).fit(X, y, groups=group if given else None)
    split = np.append(model.held_out_.astype(np.int8), np.full(200, 2, np.int8))
    everyone = Embeddings(
        vectors=np.concatenate([X, fresh[0]]).astype(np.float32),
        superclass=np.append(y, fresh[1]),
        superclass_names=tuple(map(str, range(classes))),
        split=split,
        group=np.append(group, classes * fresh[1] + fresh[2]),
        group_names=tuple(map(str, range(classes**2))),
    )
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    source = "given" if given else "discovered" if method in GROUPED_METHODS else "none"
    outcome = make_robust(
        everyone,
        RobustConfig(method=method, groups=source, seed=seed),
        clusters=DiscoverConfig(clusters=2, seed=seed),
    )
    for name, value in vars(outcome.robust.head).items():
        np.testing.assert_array_equal(getattr(model.head_, name), value)
    assert (model.settings_, model.selection_) == (outcome.robust.settings, outcome.robust.selection)
    if source == "discovered":
        np.testing.assert_array_equal(model.groups_, outcome.discovered.cluster[:900])
        assert model.group_names_ == outcome.discovered.names
    elif given:
        np.testing.assert_array_equal(np.array(model.group_names_)[model.groups_], group.astype(str))
    else:
        assert (model.groups_, model.group_names_) == (None, ())


def test_a_plain_model_may_be_chosen_by_discovered_groups(train):
    X, y, _ = train
    model = GroupRobustClassifier("erm", select="worst-discovered", clusters=2, random_state=0).fit(X, y)
    seen = Embeddings(
        vectors=X.astype(np.float32), superclass=y, superclass_names=("0", "1"), split=model.held_out_.astype(np.int8)
    )
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    found = find_groups(seen, DiscoverConfig(clusters=2, seed=seed))
    rule = watch("worst-discovered", seen, discovered=found.cluster, names=found.names)
    robust = fit_robust("erm", seen, None, rule, seed)
    np.testing.assert_array_equal(model.head_.weight, robust.head.weight)
    assert model.selection_ == robust.selection


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_the_softmax_of_the_raw_logits(classes):
    X, y, attribute = world(600, 0.9, 4, classes)
    model = GroupRobustClassifier(random_state=0).fit(X, y, groups=cells(y, attribute))
    assert model.coef_.shape == (classes, 8)
    logits = X @ model.coef_.T + model.intercept_
    probability = model.predict_proba(X)
    np.testing.assert_allclose(probability, softmax(logits, axis=1), rtol=1e-9)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(X), logits.argmax(axis=1))
    expected = logits if classes > 2 else logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["groupdro", "reweight", "dfr"])
@pytest.mark.parametrize("seed", range(3))
def test_the_worst_group_gains_where_groups_are_given(method, seed):
    X, y, attribute = world(1500, 0.95, seed)
    robust, plain = (
        GroupRobustClassifier(name, random_state=seed).fit(X, y, groups=cells(y, attribute)) for name in (method, "erm")
    )
    assert worst(robust) > worst(plain) + 0.15


@pytest.mark.parametrize("seed", range(3))
def test_the_worst_hidden_cluster_gains_where_none_is_given(seed):
    """A class's second cluster is small and on the other class's side of the easy feature."""
    rng = np.random.default_rng(seed)

    def draw(sizes):
        kind = np.repeat(np.arange(4), sizes)
        centre = np.array([[-4, -1], [4, -1], [4, 1], [-4, 1]])  # a's large and small, b's large and small
        x = np.concatenate([centre[kind], np.zeros((len(kind), 4))], axis=1)
        return x + rng.normal(size=x.shape) * 0.7, kind

    X, kind = draw([600, 30, 600, 30])
    fresh, wanted = draw([1000] * 4)
    accuracies = []
    for method in ("groupdro", "erm"):
        model = GroupRobustClassifier(method, random_state=seed).fit(X, kind // 2)
        right = model.predict(fresh) == wanted // 2
        accuracies.append(min(right[wanted == each].mean() for each in range(4)))
    assert accuracies[0] > accuracies[1] + 0.15


def test_order_of_the_rows_does_not_matter(train):
    X, y, attribute = train
    order = np.random.default_rng(1).permutation(len(X))
    models = [
        GroupRobustClassifier(random_state=0).fit(X[rows], y[rows], groups=cells(y[rows], attribute[rows]))
        for rows in (np.arange(len(X)), order)
    ]
    fresh = world(4000, 0.5, 9)[0]
    assert (models[0].predict(fresh) == models[1].predict(fresh)).mean() > 0.95  # other rows are held out
    assert models[0].selection_["n"] == models[1].selection_["n"]


def test_names_of_classes_and_groups_do_not_matter(train):
    X, y, attribute = train
    group = 2 * y + attribute
    fresh = world(4000, 0.5, 9)[0]
    model = GroupRobustClassifier(random_state=0).fit(X, y, groups=group)
    called = GroupRobustClassifier(random_state=0).fit(
        X, np.array(["land", "water"])[y], groups=np.array(["a", "b", "c", "d"])[group]
    )
    np.testing.assert_array_equal(called.head_.weight, model.head_.weight)
    np.testing.assert_array_equal(called.predict(fresh), np.array(["land", "water"])[model.predict(fresh)])
    assert called.selection_["n"] == dict(zip("abcd", model.selection_["n"].values(), strict=True))
    turned = GroupRobustClassifier(random_state=0).fit(X, 1 - y, groups=3 - group)
    assert (turned.predict(fresh) == 1 - model.predict(fresh)).mean() > 0.95
    assert list(turned.selection_["n"].values()) == list(model.selection_["n"].values())[::-1]


def test_labels_of_groups_are_anything_hashable(train):
    X, y, attribute = train
    model = GroupRobustClassifier(random_state=0).fit(X, y, groups=cells(y, attribute))
    assert model.group_names_ == ("0/0", "0/1", "1/0", "1/1")
    mixed = [[frozenset(), 1, "1", 2.5][2 * c + a] for c, a in cells(y, attribute)]
    other = GroupRobustClassifier(random_state=0).fit(X, y, groups=mixed)
    assert other.group_names_ == ("'1'", "1", "2.5", "frozenset()")
    assert worst(other) > worst(GroupRobustClassifier("erm", random_state=0).fit(X, y)) + 0.15


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e300, 1e-300])
@pytest.mark.parametrize("given", [True, False])
def test_the_length_of_vectors_does_not_matter(train, size, given):
    X, y, attribute = train
    groups = cells(y, attribute) if given else None
    model = GroupRobustClassifier(random_state=0, clusters=2).fit(X, y, groups=groups)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        scaled = GroupRobustClassifier(random_state=0, clusters=2).fit(X * size, y, groups=groups)
        probability = scaled.predict_proba(X * size)
    np.testing.assert_allclose(probability, model.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(scaled.coef_ * size, model.coef_, rtol=1e-3, atol=1e-5)


def test_an_offset_does_not_matter(train):
    X, y, attribute = train
    groups = cells(y, attribute)
    model, moved = (GroupRobustClassifier(random_state=0).fit(X + far, y, groups=groups) for far in (0, 1e8))
    np.testing.assert_allclose(moved.predict_proba(X + 1e8), model.predict_proba(X), atol=1e-4)


def test_pipelines_folds_and_pickles(train):
    X, y, attribute = train
    group = 2 * y + attribute
    model = GroupRobustClassifier("reweight", random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), clone(model).set_fit_request(groups=True))
        scores = cross_val_score(pipeline, X, y, cv=StratifiedKFold(3), params={"groups": group})
    byhand = []
    for mine, other in StratifiedKFold(3).split(X, y):
        scaler = StandardScaler().fit(X[mine])
        fitted = clone(model).fit(scaler.transform(X[mine]), y[mine], groups=group[mine])
        byhand.append(fitted.score(scaler.transform(X[other]), y[other]))
    np.testing.assert_array_equal(scores, byhand)
    fitted = clone(model).fit(X, y, groups=group)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))


def test_the_head_survives_its_file(train, tmp_path):
    X, y, attribute = train
    model = GroupRobustClassifier(random_state=0).fit(X, y, groups=cells(y, attribute))
    write_head(model.head_, tuple(map(str, model.classes_)), tmp_path / "head.npz")
    np.testing.assert_array_equal(read_head(tmp_path / "head.npz")[0].probabilities(X), model.predict_proba(X))


@pytest.mark.parametrize("method", [*METHODS, "portfolio"])
def test_few_rows_are_enough(method):
    y = np.repeat([0, 1], 3 if method == "dfr" else 2)
    X = 2.0 * y[:, None] + np.random.default_rng(0).normal(size=(len(y), 3)) * 0.1
    model = GroupRobustClassifier(method, random_state=0).fit(X, y)
    assert np.isfinite(model.decision_function(X)).all()
    assert method == "dpe" or np.isfinite(model.coef_).all()


def test_dfr_joins_a_cluster_of_one_held_out_row():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], [100, 5, 100])  # of five rows one is held out
    X = np.eye(6)[kind] * 5 + rng.normal(size=(205, 6)) * 0.3
    model = GroupRobustClassifier("dfr", clusters=2, random_state=0).fit(X, kind // 2)
    sizes = {name: n for name, n in model.selection_["n"].items() if name.startswith("0/")}
    assert set(sizes) == {"0/0"}


def test_the_portfolio_sees_through_a_shortcut_without_groups(train):
    X, y, attribute = train
    model = GroupRobustClassifier("portfolio", random_state=0).fit(X, y)
    assert model.groups_ is None
    assert model.selection_["candidates"] == len(model.selection_["table"])
    assert model.settings_["head"] == "mean"
    plain = GroupRobustClassifier("erm", random_state=0).fit(X, y)

    def worst(fitted):
        right = fitted.predict(X) == y
        return min(right[(y == k) & (attribute == a)].mean() for k in (0, 1) for a in (0, 1))

    assert worst(model) > worst(plain) + 0.1
    with pytest.raises(ValueError, match="pass no groups"):
        GroupRobustClassifier("portfolio").fit(X, y, groups=cells(y, attribute))


BAD_SETTINGS = [
    ({"method": "groupdr"}, r"method is one of erm, .*; got 'groupdr' \(did you mean 'groupdro'\?\)"),
    ({"method": None}, "method is one of .*; got None"),
    ({"select": "worst-groups"}, r"select is one of auto, .*got 'worst-groups' \(did you mean 'worst-group'\?\)"),
    ({"validation": 0}, "validation is a share of the rows between 0 and 1; got 0"),
    ({"validation": 1.5}, "validation is a share"),
    ({"validation": "a fifth"}, "validation is a share"),
    ({"clusters": 0}, "clusters is None or a whole number >= 1; got 0"),
    ({"clusters": 2.0}, "clusters is None or a whole number"),
    ({"method": "portfolio", "select": "worst-class"}, "portfolio infers groups .* leave select and clusters"),
    ({"method": "dfr", "select": "worst-class"}, "dfr chooses by its own groups .* Use 'auto'"),
    ({"select": "worst-group"}, "fit got none. Pass groups to fit"),
    ({"clusters": 2000}, "2000 clusters need 2000 different .* lower clusters"),
]


@pytest.mark.parametrize(("settings", "said"), BAD_SETTINGS)
def test_settings_that_make_no_sense(train, settings, said):
    with pytest.raises(ValueError, match=said) as refusal:
        GroupRobustClassifier(**settings).fit(*train[:2])
    assert "--" not in str(refusal.value)


def test_data_that_will_not_do(train):
    X, y, attribute = train
    group = 2 * y + attribute
    for groups, said in (
        (group[:-1], "one label for each of the 1500 rows of X; got 1499"),
        ("place", "got 'place'. Pass the labels"),
        (7, "got 7. Pass the labels"),
        (group[:, None], r"that of row 0 is array\(\[\d\]\). Pass shape \(1500,\)"),
        (np.where(np.arange(1500) == 8, np.nan, group), "that of row 8 is missing"),
        ([None, *group[1:]], "that of row 0 is missing"),
        (np.where(np.arange(1500) == 8, 17, group), "group '17' has 1. Add rows, merge it into another group"),
    ):
        with pytest.raises(ValueError, match=said):
            GroupRobustClassifier().fit(X, y, groups=groups)
    two = np.where(np.arange(1500) < 2, 17, group)
    GroupRobustClassifier("reweight").fit(X, y, groups=two)
    with pytest.raises(ValueError, match=r"a group has 3 rows or more, .*; group '17' has 2"):
        GroupRobustClassifier("dfr").fit(X, y, groups=two)
    with pytest.raises(ValueError, match="class '5' has 1"):
        GroupRobustClassifier().fit(X, np.where(np.arange(1500) == 8, 5, y))
    with pytest.raises(ValueError, match="y has 1 class, 'a'"):
        GroupRobustClassifier().fit(X, np.full(1500, "a"))
    with pytest.raises(ValueError, match=r"fit got groups\. Use 'worst-group'"):
        GroupRobustClassifier(select="worst-discovered").fit(X, y, groups=group)
