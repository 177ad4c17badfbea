"""What a property explains linearly is taken out: against least squares, and a world of two causes."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_mutual_info_score

from thanos import DiscoverConfig, discover
from thanos.cli import run_command
from thanos.embeddings import Embeddings
from thanos.errors import ConfigError, DataError
from thanos.subclasses.erase import fit_erased, trace_of
from thanos.subclasses.keep import Places, read_places, write_places
from thanos.subclasses.properties import Properties

COUNT, DIM = 400, 12


@pytest.fixture(scope="module")
def world():
    """A loud cause (hospital), a quiet one (kind), and a number (dose) in the vectors of two superclasses."""
    rng = np.random.default_rng(0)
    hospital, kind, superclass = rng.integers(0, 3, COUNT), rng.integers(0, 2, COUNT), rng.integers(0, 2, COUNT)
    dose = rng.normal(size=COUNT)
    vectors = 0.3 * rng.normal(size=(COUNT, DIM))
    vectors[:, 0:3] += 4 * np.eye(3)[hospital]
    vectors[:, 3] += 2 * kind
    vectors[:, 4] += dose
    embeddings = Embeddings(
        vectors=vectors.astype(np.float32),
        superclass=superclass,
        superclass_names=("a", "b"),
        split=np.where(np.arange(COUNT) % 4 == 3, 2, 0).astype(np.int8),
    )
    words = np.array([f"h{each}" for each in hospital], dtype=object)
    return embeddings, Properties(np.arange(COUNT), {"dose": dose}, {"hospital": words}), kind, hospital


def test_no_linear_function_of_what_is_left_goes_with_the_properties(world):
    embeddings, properties, _, _ = world
    x, train = embeddings.vectors.astype(np.float64), embeddings.in_split("train")
    trace = trace_of("dose,hospital", properties)
    left = fit_erased(x, embeddings.superclass, train, trace).transform(x)
    assert trace.design.shape == (COUNT, 4)
    for value in (0, 1):
        mine = train & (embeddings.superclass == value)
        assert LinearRegression().fit(x[mine], trace.design[mine]).score(x[mine], trace.design[mine]) > 0.8
    both = np.concatenate([x[train], np.eye(2)[embeddings.superclass[train]]], axis=1)
    rest = np.concatenate([left[train], np.eye(2)[embeddings.superclass[train]]], axis=1)
    plain = np.eye(2)[embeddings.superclass[train]]
    alone = LinearRegression().fit(plain, trace.design[train]).score(plain, trace.design[train])
    assert LinearRegression().fit(rest, trace.design[train]).score(rest, trace.design[train]) == pytest.approx(
        alone, abs=1e-9
    )
    assert LinearRegression().fit(both, trace.design[train]).score(both, trace.design[train]) > 0.8
    assert np.linalg.matrix_rank(x - left) == 3  # words of three kinds are two directions, a number is one


def test_the_quiet_cause_is_found_once_the_loud_one_is_gone(world):
    embeddings, properties, kind, hospital = world
    for without, wanted, other in ((None, hospital, kind), ("hospital,dose", kind, hospital)):
        config = DiscoverConfig(clusters=3 if without is None else 2, without=without)
        found = discover(embeddings, config, properties=properties).cluster
        inside = [embeddings.superclass == value for value in (0, 1)]
        assert min(adjusted_mutual_info_score(wanted[mine], found[mine]) for mine in inside) > 0.9
        assert max(adjusted_mutual_info_score(other[mine], found[mine]) for mine in inside) < 0.1


def test_new_vectors_need_no_property(world, tmp_path):
    """What places them knows the directions, also once it was kept."""
    embeddings, properties, _, _ = world
    found = discover(embeddings, DiscoverConfig(clusters=2, without="hospital"), properties=properties)
    write_places(Places(found.fitted, found.names, ("a", "b"), "space", "table"), tmp_path / "p.npz")
    for fitted in (found.fitted, read_places(tmp_path / "p.npz").fitted):
        again = fitted.predict(embeddings.vectors, embeddings.superclass)[0]
        np.testing.assert_array_equal(again, found.cluster)


def test_what_is_not_known_of_a_row_leaves_it_out_of_the_fit(world):
    _, properties, _, _ = world
    dose, words = properties.numbers["dose"].copy(), properties.kinds["hospital"].copy()
    dose[::2], words[1::4] = np.nan, ""
    trace = trace_of("hospital, dose", Properties(properties.rows, {"dose": dose}, {"hospital": words}))
    assert trace.rows.tolist() == [i for i in range(COUNT) if i % 2 and i % 4 != 1]
    with pytest.raises(DataError, match="needs 20 or more rows of which all of it is known; there are 0"):
        trace_of("dose", Properties(properties.rows, {"dose": np.full(COUNT, np.nan)}))


def test_unknown_names_are_refused(world):
    embeddings, properties, _, _ = world
    with pytest.raises(ConfigError, match=r"dose, hospital; got 'hospitl' .did you mean 'hospital'"):
        discover(embeddings, DiscoverConfig(without="hospitl"), properties=properties)
    with pytest.raises(ConfigError, match="`without=dose` needs the images, or columns beside the vectors"):
        discover(embeddings, DiscoverConfig(without="dose"))


def test_by_command_on_vectors_with_columns(world, tmp_path, capsys):
    """A column beside vectors is named as what tells clusters apart, taken out, and no longer named."""
    embeddings, properties, _, _ = world
    hospital = properties.kinds["hospital"].astype(str)
    np.savez(tmp_path / "v.npz", X=embeddings.vectors, y=embeddings.superclass, hospital=hospital)
    assert run_command(["discover", str(tmp_path / "v.npz"), "--clusters", "3"]) == 0
    assert "hospital h" in capsys.readouterr().out
    assert run_command(["discover", str(tmp_path / "v.npz"), "--without", "hospital", "--clusters", "2"]) == 0
    assert "hospital h" not in capsys.readouterr().out
    page = (tmp_path / "v-subclasses.html").read_text()
    assert "in 1 simple property" in page
    assert "none tells any of them apart" in page
    with pytest.raises(ConfigError, match="hospital; got 'weight'"):
        run_command(["discover", str(tmp_path / "v.npz"), "--without", "weight"])
