"""The losses against slow loops, finite differences, and two other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

import oracle
from thanos import (
    ClassConditionalInfoNCELoss,
    InfoNCELoss,
    SpreadLoss,
    SupConLoss,
    class_conditional_info_nce_loss,
    info_nce_loss,
    released_spread_loss,
    spread_loss,
    supcon_loss,
)

CONTRASTS = ("cross-view", "all-view")


@st.composite
def batches(draw):
    """(views, superclass): any number of views, any labels, also negative and far apart; classes of one; one class."""
    count, batch, dim = draw(st.integers(2, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = draw(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=4, unique=True))
    views = torch.from_numpy(rng.normal(size=(count, batch, dim)))
    return views, torch.from_numpy(rng.choice(names, size=batch))


def every_loss(contrast, temperature=0.5):
    """name -> loss(views, superclass)."""
    options = {"temperature": temperature, "contrast": contrast}
    return {
        "info_nce": lambda v, y: info_nce_loss(v, **options),
        "supcon": lambda v, y: supcon_loss(v, y, **options),
        "supcon, all": lambda v, y: supcon_loss(v, y, denominator="all", **options),
        "class_conditional": lambda v, y: class_conditional_info_nce_loss(v, y, **options),
        "spread": lambda v, y: spread_loss(v, y, alpha=0.3, **options),
    }


def every_oracle(contrast, temperature=0.5):
    return {
        "info_nce": lambda v, y: oracle.info_nce(v, temperature, contrast),
        "supcon": lambda v, y: oracle.supcon(v, y, temperature, contrast, "negatives"),
        "supcon, all": lambda v, y: oracle.supcon(v, y, temperature, contrast, "all"),
        "class_conditional": lambda v, y: oracle.class_conditional(v, y, temperature, contrast),
        "spread": lambda v, y: oracle.spread(v, y, 0.3, temperature, contrast),
    }


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", every_loss("cross-view"))
@settings(max_examples=40, deadline=None)
@given(batch=batches(), temperature=st.sampled_from([0.05, 0.5, 2.0]))
def test_equals_the_definition_written_as_loops(name, contrast, batch, temperature):
    views, label = batch
    ours = every_loss(contrast, temperature)[name](views, label)
    slow = every_oracle(contrast, temperature)[name](views.numpy(), label.tolist())
    assert_close(ours, torch.tensor(slow, dtype=torch.float64), rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    batch=batches(), alpha=st.floats(0, 1), clip=st.sampled_from([1.0, None]), temperature=st.sampled_from([0.1, 0.5])
)
def test_released_loss_equals_its_definition(batch, alpha, clip, temperature):
    views, label = batch
    ours = released_spread_loss(views, label, alpha=alpha, temperature=temperature, clip=clip)
    slow = oracle.released_spread(views.numpy(), label.tolist(), alpha, temperature, clip)
    assert_close(ours, torch.tensor(slow, dtype=torch.float64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", every_loss("cross-view"))
def test_gradient_agrees_with_finite_differences(name, contrast):
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([3, -1, 3, 0, 3])
    loss = every_loss(contrast)[name]
    assert gradcheck(lambda v: loss(v, label), (views,))


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", every_loss("cross-view"))
@pytest.mark.parametrize(
    "label", [[0], [5], [1, 1], [1, 2], [0, 0, 0, 0], [0, 1, 2, 3]], ids=lambda y: f"labels {y}".replace(" ", "")
)
@pytest.mark.parametrize("temperature", [0.005, 0.5])
def test_degenerate_batches_are_finite_with_finite_gradients(name, contrast, label, temperature):
    views = torch.randn(2, len(label), 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    value = every_loss(contrast, temperature)[name](views, torch.tensor(label))
    (gradient,) = torch.autograd.grad(value, views)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", every_loss("cross-view"))
def test_a_zero_row_is_finite_with_a_finite_gradient(name, contrast):
    views = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    views[0, 1] = 0
    views.requires_grad_()
    value = every_loss(contrast)[name](views, torch.tensor([0, 0, 1, 1]))
    (gradient,) = torch.autograd.grad(value, views)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", every_loss("cross-view"))
def test_float32_at_low_temperature_agrees_with_float64(name, contrast):
    views = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    label = torch.arange(64) % 5
    loss = every_loss(contrast, temperature=0.005)[name]
    assert_close(loss(views.float(), label).double(), loss(views, label), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", every_loss("cross-view"))
def test_autocast_does_not_lower_the_precision_of_the_loss(name):
    views = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(3))
    label = torch.arange(64) % 5
    loss = every_loss("cross-view", temperature=0.05)[name]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(views, label)
    assert inside.dtype == torch.float32
    assert_close(inside, loss(views, label))


@settings(max_examples=30, deadline=None)
@given(batch=batches(), seed=st.integers(0, 2**31))
def test_order_names_and_lengths_do_not_matter(batch, seed):
    views, label = batch
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(label), generator=rng)
    for contrast in CONTRASTS:
        for loss in every_loss(contrast).values():
            expected = loss(views, label)
            assert_close(loss(views[:, order], label[order]), expected)
            assert_close(loss(views, label * 2 + 1), expected)
            assert_close(loss(views * 7, label), expected)
            assert_close(loss(views.flip(0), label), expected)  # both directions count


@pytest.mark.parametrize("n", [1, 2, 17])
def test_a_collapsed_class_of_n_pays_log_n_at_alpha_one(n):
    views = torch.ones(2, n, 3, dtype=torch.float64)
    loss = spread_loss(views, torch.zeros(n, dtype=torch.int64), alpha=1.0, temperature=0.5)
    assert_close(loss, torch.tensor(math.log(n), dtype=torch.float64))


def test_one_class_only_has_nothing_to_attract_against():
    views = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    assert_close(supcon_loss(views, torch.zeros(6, dtype=torch.int64), temperature=0.5), torch.tensor(0.0))


def test_khoslas_form_equals_pytorch_metric_learning():
    from pytorch_metric_learning.losses import SupConLoss as Theirs

    views = torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    label = torch.randint(0, 5, (32,), generator=torch.Generator().manual_seed(5))
    theirs = Theirs(temperature=0.1)(views.flatten(0, 1), label.repeat(2))
    ours = supcon_loss(views, label, temperature=0.1, contrast="all-view", denominator="all")
    assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_all_view_info_nce_equals_lightlys_nt_xent():
    from lightly.loss import NTXentLoss

    views = torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(6))
    theirs = NTXentLoss(temperature=0.2)(views[0], views[1])
    assert_close(info_nce_loss(views, temperature=0.2, contrast="all-view"), theirs, rtol=1e-6, atol=1e-6)


def test_the_released_clip_repels_close_positives_where_supcon_attracts_them():
    """Two images of one class at cosine c, with a negative: does a larger c raise or lower the loss?"""

    def slope(loss, cosine):
        angle = torch.tensor(math.acos(cosine), dtype=torch.float64, requires_grad=True)
        zero = torch.zeros((), dtype=torch.float64)
        points = torch.stack(
            [
                torch.tensor([1.0, 0, 0], dtype=torch.float64),
                torch.stack([angle.cos(), angle.sin(), zero]),
                torch.tensor([0, 0, 1.0], dtype=torch.float64),
            ]
        )
        value = loss(points.expand(2, 3, 3), torch.tensor([0, 0, 1]))
        return -float(torch.autograd.grad(value, angle)[0])  # towards the positive the angle falls

    def released(v, y):
        return released_spread_loss(v, y, alpha=0, temperature=0.5)

    def unclipped(v, y):
        return released_spread_loss(v, y, alpha=0, temperature=0.5, clip=None)

    assert slope(released, 0.45) < 0  # attracted below cosine 0.5 ...
    assert slope(released, 0.55) > 0  # ... and repelled beyond
    assert slope(unclipped, 0.55) < 0
    assert slope(lambda v, y: supcon_loss(v, y, temperature=0.5), 0.55) < 0


def test_single_class_released_supcon_is_pure_repulsion():
    """mean relu(s - 1) over positives, as measured of the released code."""
    views = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    rows = torch.nn.functional.normalize(views, dim=-1)
    expected = (rows[1] @ rows[0].T / 0.5 - 1).clamp_min(0).mean()
    label = torch.zeros(6, dtype=torch.int64)
    assert_close(released_spread_loss(views, label, alpha=0, temperature=0.5), expected)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_modules_keep_their_settings(contrast):
    views = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(8))
    label = torch.arange(8) % 3
    pairs = [
        (InfoNCELoss(0.2, contrast)(views), info_nce_loss(views, temperature=0.2, contrast=contrast)),
        (
            SupConLoss(0.2, contrast, "all")(views, label),
            supcon_loss(views, label, temperature=0.2, contrast=contrast, denominator="all"),
        ),
        (
            ClassConditionalInfoNCELoss(0.2, contrast)(views, label),
            class_conditional_info_nce_loss(views, label, temperature=0.2, contrast=contrast),
        ),
        (
            SpreadLoss(0.3, 0.2, contrast)(views, label),
            spread_loss(views, label, alpha=0.3, temperature=0.2, contrast=contrast),
        ),
    ]
    for module, function in pairs:
        assert_close(module, function)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": torch.ones(1, 4, 2)}, "views >= 2"),
        ({"views": torch.ones(4, 2)}, "views >= 2"),
        ({"superclass": torch.zeros(3, dtype=torch.int64)}, "superclass"),
        ({"superclass": torch.zeros(4)}, "integer"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"views": torch.ones(2, 0, 2), "superclass": torch.zeros(0, dtype=torch.int64)}, "batch >= 1"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": "auto"}, "solve_alpha"),
        ({"contrast": "sideways"}, "cross-view or all-view"),
        ({"superclass": [0, 0, 1, 1]}, "torch.as_tensor"),
        ({"views": np.ones((2, 4, 2))}, "torch.as_tensor"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {
        "views": torch.ones(2, 4, 2),
        "superclass": torch.zeros(4, dtype=torch.int64),
        "alpha": 0.5,
        "temperature": 0.5,
        "contrast": "cross-view",
    } | change
    with pytest.raises(ValueError, match=message):
        spread_loss(arguments.pop("views"), arguments.pop("superclass"), **arguments)
    if not {"views", "superclass"} & set(change):
        with pytest.raises(ValueError, match=message):
            SpreadLoss(**{name: arguments[name] for name in ("alpha", "temperature", "contrast")})


def test_a_denominator_that_is_none():
    views, label = torch.ones(2, 4, 2), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="choose negatives or all"):
        SupConLoss(denominator="All")
    with pytest.raises(ValueError, match="choose negatives or all"):
        supcon_loss(views, label, temperature=1.0, denominator="All")


def test_a_loss_shows_its_settings():
    assert repr(SpreadLoss(0.3, 0.2)) == "SpreadLoss(temperature=0.2, contrast='cross-view', alpha=0.3)"
