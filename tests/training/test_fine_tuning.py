"""Training from pretrained weights: who learns at which rate, and when; what stays; the same after a resume."""

import os
import random
import signal

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from launching import Launched
from thanos import RunConfig, TrainConfig, load, load_encoder, train
from thanos.config import ViewSpec
from thanos.encoders.pretrained import preprocessing
from thanos.errors import ConfigError, DataError, Interrupted
from thanos.methods.branch import StepSettings, build_branches
from thanos.training.estimate import expected_time
from thanos.training.fine_tuning import FineTuning, blocks_of
from thanos.training.module import TrainingModule, warmup_cosine
from thanos.training.monitor import KeepState

QUIET = RunConfig(quiet=True, threads=1)
STILL = ViewSpec(crop_scale=1, flip=0, jitter=0, grey=0)
"""Views without chance."""


def silent(line): ...


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """By name, a file of weights; batch norm has statistics of its own."""
    folder = tmp_path_factory.mktemp("w")
    for name in ("test_resnet", "test_vit"):
        torch.manual_seed(0)
        state = timm.create_model(name).state_dict()
        for key, value in state.items():
            if "running" in key:
                value.add_(0.1 * torch.rand_like(value))
        save_file(state, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in ("test_resnet", "test_vit")}


@pytest.fixture
def settings(weights):
    def of(encoder="test_resnet", **more):
        base = {"method": "cross-entropy", "encoder": encoder, "pretrained": weights[encoder], "size": 32}
        return TrainConfig(**(base | {"train_limit": 64, "batch": 16, "epochs": 2, "warmup": 0.25} | more))

    return of


def module_of(config, batches=100):
    branches = build_branches(config, channels=1, size=(32, 32), superclasses=2)
    return TrainingModule(
        StepSettings(config, 0.6, STILL, (0.5,), (0.5,)), branches, total_batches=batches, log_every=batches + 1
    )


def by_name(module, groups):
    """The groups' settings by the names of their parameters."""
    names = {id(parameter): name for name, parameter in module.branches.named_parameters()}
    return {names[id(p)]: group for group in groups for p in group["params"]}


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_rates_and_decay_of_a_transformer_are_those_by_hand(settings, decay):
    """Stem below six blocks: block i of n at decay ** (n - 1 - i), the stem at decay ** n."""
    config = settings("test_vit", learning_rate=0.01, backbone_rate=0.2, layer_decay=decay, weight_decay=0.3)
    module = module_of(config)
    found = by_name(module, module.parameter_groups())
    assert len(found) == sum(1 for _ in module.branches.parameters())
    depth = len(module.branches["classifier"].encoder.blocks)
    for name, parameter in module.branches.named_parameters():
        group, inside = found[name], ".encoder." in name
        above = depth
        if ".blocks." in name:
            above = depth - 1 - int(name.split(".blocks.")[1].split(".")[0])
        elif "encoder.norm." in name:
            above = 0
        assert group.get("lr", 0.01) == pytest.approx(0.01 * 0.2 * decay**above if inside else 0.01), name
        plain = parameter.ndim <= 1 or name.endswith(("pos_embed", "cls_token", "reg_token"))
        assert group.get("weight_decay", 0.3) == (0.0 if inside and plain else 0.3), name


def test_groups_are_timms_own(settings):
    from timm.optim import param_groups_layer_decay

    config = settings(layer_decay=0.6, learning_rate=1.0, backbone_rate=1.0)
    module = module_of(config)
    encoder = module.branches["classifier"].encoder
    theirs = param_groups_layer_decay(encoder, config.weight_decay, layer_decay=0.6)
    ours = module.parameter_groups()
    assert [group["lr"] for group in ours[:-1]] == [group["lr_scale"] for group in theirs]
    assert len({group["lr"] for group in ours[:-1]}) > 4
    for mine, other in zip(ours, theirs, strict=False):
        assert mine["weight_decay"] == other["weight_decay"]
        assert all(a is b for a, b in zip(mine["params"], other["params"], strict=True))


def test_heads_follow_the_schedule_and_the_backbone_warms_up_when_its_turn_comes(settings):
    module = module_of(settings(learning_rate=0.5, backbone_rate=0.1, head_first=0.3, warmup=0.1, accumulate=2), 200)
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    for step in range(100):
        backbone, heads = optimizer.param_groups[0]["lr"], optimizer.param_groups[-1]["lr"]
        assert heads == pytest.approx(0.5 * warmup_cosine(step, 100, 10))
        turn = 0.0 if step < 30 else min(1.0, (step - 29) / 10)
        assert backbone == pytest.approx(0.05 * turn * warmup_cosine(step, 100, 10))
        optimizer.step()
        schedule.step()


def test_a_training_from_nothing_has_one_group_as_ever():
    config = TrainConfig(method="spread")
    module = module_of(config)
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    assert all(a is b for a, b in zip(group["params"], module.branches.parameters(), strict=True))
    assert (group["initial_lr"], group["weight_decay"]) == (config.learning_rate, config.weight_decay)


def of_weights(folder, file):
    """By name: the encoder's tensors after the training, and those it started from, as timm loads them for grey."""
    given = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}}
    trained = load_file(folder / "model.safetensors")
    start = timm.create_model("test_resnet", num_classes=0, in_chans=1, **given).state_dict()
    assert trained.keys() == start.keys()
    return trained, start


@pytest.mark.parametrize("batch_norm", ["fixed", "adapt"])
def test_what_is_below_the_last_blocks_stays_bit_for_bit(settings, weights, tmp_path, batch_norm):
    train(settings(unfreeze=2, batch_norm=batch_norm), tmp_path / "run", run=QUIET, say=silent)
    trained, start = of_weights(tmp_path / "run", weights["test_resnet"])
    moved = {name for name in start if not torch.equal(trained[name], start[name])}
    assert moved
    assert all(name.startswith(("layer3", "layer4")) for name in moved)
    assert {"layer3.0.conv1.weight", "layer4.0.conv1.weight", "layer4.0.bn1.weight"} <= moved
    statistics = {name for name in moved if "running" in name or "tracked" in name}
    assert bool(statistics) == (batch_norm == "adapt")


def test_frozen_blocks_cost_no_gradient(settings):
    module = module_of(settings(unfreeze=1))
    encoder = module.branches["classifier"].encoder
    below = []
    encoder.layer3.register_forward_hook(lambda layer, given, out: below.append(out.requires_grad))
    encoder(torch.rand(2, 1, 32, 32)).sum().backward()
    assert below == [False]
    assert {name.split(".")[0] for name, p in encoder.named_parameters() if p.grad is not None} == {"layer4"}


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny_patch4_window7_224", "test_vit", "tf_efficientnet_lite0"])
def test_what_lies_behind_the_last_block_is_no_block(name):
    """A norm that timm puts with the classifier always learns, and does not count."""
    with torch.device("meta"):
        encoder = timm.create_model(name, num_classes=0)
    stem, *blocks, behind = blocks_of(encoder)
    named = [key for key, _ in encoder.named_parameters()]
    assert sorted([*stem, *(key for block in blocks for key in block), *behind]) == sorted(named)
    assert len(blocks) == {"convnext_atto": 4, "swin_tiny_patch4_window7_224": 4, "tf_efficientnet_lite0": 7}.get(
        name, len(getattr(encoder, "blocks", ()))
    )
    assert all("norm" in key for key in behind)


@pytest.fixture
def seen(monkeypatch):
    """After each batch: the encoders' tensors, the heads', and how many parameters the optimiser has a state of."""
    found, ended = [], KeepState.on_train_batch_end

    def look(self, trainer, module, *args):
        state = {name: value.clone() for name, value in module.branches.state_dict().items()}
        kept = {id(p) for p in trainer.optimizers[0].state}
        found.append((state, {n for n, p in module.branches.named_parameters() if id(p) in kept}))
        ended(self, trainer, module, *args)

    monkeypatch.setattr(KeepState, "on_train_batch_end", look)
    return found


@pytest.mark.parametrize("method", ["cross-entropy", "thanos"])
def test_the_backbone_stands_still_while_heads_learn(settings, seen, tmp_path, method):
    """Statistics too, though they may adapt later; the optimiser remembers nothing of that time."""
    images = {"size": 16, "train_limit": 48} if method == "thanos" else {}
    config = settings(method=method, head_first=0.5, batch_norm="adapt", accumulate=2, epochs=2, **images)
    train(config, tmp_path / "run", run=QUIET, say=silent)
    batches = len(seen)
    still = round(0.5 * -(-batches // 2)) * 2
    assert 0 < still < batches - 1
    start = seen[0][0]
    inside = [name for name in start if ".encoder." in name]
    assert len({name.split(".")[0] for name in inside}) == (2 if method == "thanos" else 1)
    for state, kept in seen[:still]:
        assert all(torch.equal(state[name], start[name]) for name in inside)
        assert not any(".encoder." in name for name in kept)
    fresh = build_branches(config, channels=1, size=(config.size,) * 2, superclasses=2).state_dict()
    assert all(torch.equal(fresh[name], start[name]) for name in inside)
    heads = [name for name in start if ".encoder." not in name and name.endswith("weight")]
    assert not any(torch.equal(seen[still - 1][0][name], fresh[name]) for name in heads)
    last = seen[-1][0]
    assert not any(torch.equal(last[name], start[name]) for name in inside if "conv" in name)
    assert not any(torch.equal(last[name], start[name]) for name in inside if "running_mean" in name)


@pytest.mark.parametrize("method", ["cross-entropy", "maskcon"])
@pytest.mark.parametrize("batch_norm", ["fixed", "adapt"])
def test_statistics_hold_or_adapt_and_with_them_the_slow_copys(settings, seen, tmp_path, method, batch_norm):
    config = settings(method=method, batch_norm=batch_norm, epochs=1)
    train(config, tmp_path / "run", run=QUIET, say=silent)
    fresh = build_branches(config, channels=1, size=(32, 32), superclasses=2).state_dict()
    names = [name for name in fresh if "running" in name]
    assert any(".slow." in name for name in names) == (method == "maskcon")
    same = [torch.equal(seen[-1][0][name], fresh[name]) for name in names]
    assert all(same) if batch_norm == "fixed" else not any(same)


def test_fixed_statistics_also_decide_what_training_sees(settings):
    """An image's embedding does not depend on its batch."""
    fixed, adapted = (module_of(settings(batch_norm=kind)) for kind in ("fixed", "adapt"))
    images = torch.rand(4, 1, 32, 32)
    for module, alike in ((fixed, True), (adapted, False)):
        module.train()
        encoder = module.branches["classifier"].encoder
        assert torch.allclose(encoder(images)[:2], encoder(images[:2]), atol=1e-5) == alike


@pytest.mark.parametrize("pretrained", [True, False])
def test_images_are_normalised_as_the_weights_know_them(settings, tmp_path, pretrained):
    config = settings(epochs=1, **({} if pretrained else {"pretrained": False}))
    run = train(config, tmp_path / "run", run=QUIET, say=silent)
    own = preprocessing("test_resnet")
    grey = (sum(own.mean) / 3,), (sum(own.std) / 3,)
    card = load_encoder(tmp_path / "run").card
    assert (card.mean, card.std) == (grey if pretrained else load(config).mean_std)
    assert card == run.encoder.card


def test_a_run_knows_whose_weights_it_took(settings, weights, tmp_path):
    said = []
    run = train(settings(epochs=1), tmp_path / "run", run=QUIET, say=said.append)
    whose = f"weights of test_resnet from {weights['test_resnet'].resolve()}"
    assert run.metrics["provenance"]["weights"] == whose
    assert any(line.startswith(whose) and "learning at 0.0001" in line for line in said)
    plain = train(settings(epochs=1, pretrained=False), tmp_path / "plain", run=QUIET, say=silent)
    assert "weights" not in plain.metrics["provenance"]
    frozen = train(settings(epochs=1, frozen=True, frozen_views=0), tmp_path / "f", run=QUIET, say=silent)
    assert frozen.metrics["provenance"]["weights"] == whose


@pytest.mark.parametrize("stop_at", [2, 4, 6])
def test_stopped_before_at_and_after_the_turn_it_ends_as_ever(settings, tmp_path, monkeypatch, stop_at):
    """Heads learn for 4 of 8 steps."""
    config = settings(head_first=0.5, layer_decay=0.8, unfreeze=3, batch_norm="adapt")
    train(config, tmp_path / "whole", run=QUIET, say=silent)
    ended = KeepState.on_train_batch_end

    def stop(self, trainer, module, *args):
        if module.batches_done == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        ended(self, trainer, module, *args)

    with monkeypatch.context() as patched:
        patched.setattr(KeepState, "on_train_batch_end", stop)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "stopped", run=QUIET, say=silent)
    train(config, tmp_path / "stopped", run=QUIET, say=silent)
    for name in ("model.safetensors", "best.safetensors", "metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_state_without_these_groups_is_refused_in_a_line(settings, tmp_path, monkeypatch):
    """Such as an earlier version left, which had one rate for all."""
    config, ended = settings(), KeepState.on_train_batch_end

    def stop(self, trainer, module, *args):
        os.kill(os.getpid(), signal.SIGINT)
        ended(self, trainer, module, *args)

    with monkeypatch.context() as patched:
        patched.setattr(KeepState, "on_train_batch_end", stop)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run", run=QUIET, say=silent)
    state = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    del state["optimizer_states"][0]["param_groups"][1:]
    torch.save(state, tmp_path / "run/last.ckpt")
    with pytest.raises(DataError, match=r"an earlier version began it.*Remove it to start anew"):
        train(config, tmp_path / "run", run=QUIET, say=silent)


def test_the_trial_of_time_changes_nothing(settings, tmp_path):
    config, lines = settings(), {}
    for quiet in (True, False):
        said = lines.setdefault(quiet, [])
        train(config, tmp_path / str(quiet), run=RunConfig(quiet=quiet, threads=1), say=said.append)
    (line,) = set(lines[False]) - set(lines[True])
    assert "on this CPU" in line
    assert "`frozen`" in line
    for name in ("model.safetensors", "best.safetensors", "metrics.jsonl"):
        assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


def test_the_trial_of_time_leaves_random_states_as_they_were(settings):
    config = settings(head_first=0.5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert expected_time(config, load(config), 100).startswith("at most")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_two_processes_learn_as_one_with_the_whole_batch(settings, weights, tmp_path):
    """Views without chance, statistics that hold: what is left is the order of sums."""
    more = {"head_first": 0.5, "unfreeze": 3, "views": STILL, "learning_rate": 1e-2, "train_limit": 128}
    train(settings(batch=32, **more), tmp_path / "one", run=QUIET, say=silent)
    halves = settings(batch=16, devices=2, accelerator="cpu", **more)
    two = Launched(lambda: train(halves, tmp_path / "two", run=QUIET, say=silent), tmp_path).end(timeout=240)
    assert two.returncode == 0, two.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    _, start = of_weights(tmp_path / "one", weights["test_resnet"])
    moved = max(float((one[name] - start[name]).abs().max()) for name in one if "conv" in name)
    assert moved > 1e-4
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=moved / 10), name
        assert torch.equal(two[name], start[name]) == torch.equal(value, start[name])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained": False, "backbone_rate": 0.5}, "`backbone_rate` is about .* pass `pretrained`"),
        ({"pretrained": False, "unfreeze": 1}, "`unfreeze` is about"),
        ({"frozen": True, "head_first": 0.1}, "`head_first` is about .* `frozen` trains none"),
        ({"frozen": True, "layer_decay": 0.9}, "`layer_decay` is about"),
        ({"pretrained": False, "batch_norm": "adapt"}, "`batch_norm` is about"),
    ],
)
def test_what_says_nothing_is_refused(settings, changes, said):
    with pytest.raises(ValueError, match=said):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unfreeze": 5}, "`unfreeze` takes at most the 4 blocks .* got 5"),
        ({"method": "infonce", "head_first": 0.2}, "`head_first` trains heads first, .* infonce has none"),
    ],
)
def test_what_the_encoder_cannot_do_leaves_no_run(settings, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        train(settings(**changes), tmp_path / "run", run=QUIET, say=silent)
    assert not (tmp_path / "run").exists()


def test_layers_are_refused_where_timm_knows_none(settings):
    branches = build_branches(settings(), channels=1, size=(32, 32), superclasses=2)
    branches["classifier"].encoder = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="`layer_decay` asks timm for layers"):
        FineTuning(settings(layer_decay=0.5), branches, 10)
