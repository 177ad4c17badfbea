"""What a user of the package in Python meets: names, paths as strings, errors, scores."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest

import thanos
from thanos.config import read_yaml


def test_every_public_name_is_there():
    for name in thanos.__all__:
        assert getattr(thanos, name) is not None
    assert set(dir(thanos)) >= {"load", "train", "discover", "DataError"}


@pytest.mark.parametrize("name", sorted(set(thanos.__all__) - {"__version__"}))
def test_every_public_name_and_method_says_what_it_does(name):
    thing = getattr(thanos, name)
    assert inspect.getdoc(thing)
    for key in [key for key in vars(thing) if inspect.isclass(thing) and not key.startswith("_")]:
        member = getattr(thing, key)
        assert inspect.getdoc(member) or not (callable(member) or isinstance(member, property)), f"{name}.{key}"


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "MissingLabels", "OutputError"])
def test_errors_are_value_errors_of_thanos(name):
    error = getattr(thanos, name)
    assert issubclass(error, ValueError)
    assert issubclass(error, thanos.ThanosError)


@pytest.mark.parametrize("name", ["geometry", "recovery", "side_by_side", "transfer"])
def test_names_of_the_first_version_still_work_and_say_what_they_are_called(name):
    with pytest.warns(DeprecationWarning, match=rf"thanos.{name} is called thanos.\w+ now"):
        earlier = getattr(thanos, name)
    assert earlier is getattr(thanos, earlier.__name__)
    assert name not in dir(thanos)


def test_a_stop_is_no_value_error():
    """Whatever reads images while a signal comes must not take it for a damaged file."""
    assert not issubclass(thanos.Interrupted, ValueError)


@pytest.mark.usefixtures("all_digits")
def test_a_message_names_the_setting_as_python_does(tmp_path):
    with pytest.raises(ValueError, match="`batch` takes at most the 1294 training images"):
        thanos.train(thanos.TrainConfig(batch=5000, alpha=0.5), tmp_path / "run")


def test_names_and_strings_will_do_for_paths(tmp_path):
    digits = thanos.load("digits")
    assert digits.fingerprint == thanos.load(thanos.DataConfig(data="digits")).fingerprint
    small = digits.take(np.arange(0, len(digits), 9))
    config = thanos.TrainConfig(method="spread", epochs=1, batch=32)
    run = thanos.train(config, str(tmp_path / "run"), images=small, run=thanos.RunConfig(quiet=True, threads=1))
    encoder = thanos.load_encoder(str(tmp_path / "run"))
    embeddings = thanos.embed(encoder, small)
    assert np.array_equal(embeddings.vectors, thanos.embed(run.encoder, small).vectors)
    file = str(tmp_path / "e.npz")
    thanos.write_embeddings(embeddings, file)
    assert np.array_equal(thanos.read_embeddings(file).vectors, embeddings.vectors)
    thanos.save_encoder(encoder, str(tmp_path / "w.safetensors"))
    assert thanos.load_encoder(str(tmp_path / "w.safetensors")).fingerprint == encoder.fingerprint
    thanos.write_head(thanos.read_head(str(tmp_path / "run/classifier.npz"))[0], small.superclass_names, file)
    assert thanos.read_head(file)[1] == small.superclass_names


def test_scores_are_frozen_and_become_json():
    rng = np.random.default_rng(0)
    kind = np.arange(120) % 4
    embeddings = thanos.Embeddings(
        vectors=(np.eye(4)[kind] * 3 + rng.normal(size=(120, 4))).astype(np.float32),
        superclass=kind // 2,
        superclass_names=("a", "b"),
        split=np.tile([0, 1, 2], 40).astype(np.int8),
        subclass=kind,
        subclass_names=("a0", "a1", "b0", "b1"),
    )
    shape, fine = thanos.evaluate_geometry(embeddings), thanos.evaluate_transfer(embeddings)
    with pytest.raises(AttributeError):
        shape.spread = 0
    said = json.loads(json.dumps(shape.to_dict()))
    assert said["spread"] == shape.spread
    assert "alignment" not in said  # what was not measured is not there
    assert json.loads(json.dumps(fine.to_dict()))["probe"]["accuracy"] == fine.probe.accuracy
    found = thanos.recovery_scores(kind, kind, kind // 2)
    assert found.to_dict()["rarest_f1"] == {"mean": 1.0, "lowest": 1.0}


def test_label_free_rules_see_neither_groups_nor_subclasses():
    digits = thanos.load("digits")
    seen = digits.without_hidden()
    assert seen.subclass is None
    assert seen.group is None
    assert (seen.subclass_names, seen.group_names) == ((), ())
    assert np.array_equal(seen.superclass, digits.superclass)
    assert np.array_equal(seen.split, digits.split)


def test_rows_may_be_given_as_a_list():
    digits = thanos.load("digits")
    assert digits.take([3, 1]).refs == (digits.refs[3], digits.refs[1])


def test_a_fault_of_images_is_not_taken_for_one_of_the_device(tmp_path):
    class Gone:
        shape, on_demand, identity = (1797, 8, 8, 1), True, "one of a test"

        def __len__(self):
            return 1797

        def __getitem__(self, rows):
            raise thanos.DataError("photos/3.jpg cannot be read any more.")

    images = replace(thanos.load("digits"), images=Gone())
    with pytest.raises(thanos.DataError, match="cannot be read any more"):
        thanos.train(thanos.TrainConfig(epochs=1), tmp_path / "run", images=images)


def test_a_yaml_file_that_is_too_large_is_called_so(tmp_path):
    big = tmp_path / "big.yaml"
    big.write_text("a: b\n" + "#" * (17 * 2**20))
    with pytest.raises(thanos.ConfigError, match=r"^a YAML file of .* is wanted; .*big.yaml is larger than 16 MB\.$"):
        read_yaml(big)
