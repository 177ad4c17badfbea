"""The tiled losses against the plain ones: values and gradients, any labels and temperature; memory by the batch."""

import multiprocessing
import resource
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contrastive import CONTRASTS, batches, every_loss
from torch.testing import assert_close

from thanos import spread_loss
from thanos.objective import contrastive, tiled

NAMES = list(every_loss("cross-view"))


def plain(name, contrast, temperature, views, label, *, large=2**62, side=1):
    """A loss and its gradient, without tiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "LARGE", {"cpu": large})
        patch.setattr(tiled, "SIDE", side)
        rows = views.clone().requires_grad_()
        value = every_loss(contrast, temperature)[name](rows, label)
        return value.detach(), torch.autograd.grad(value, rows)[0]


def in_tiles(name, contrast, temperature, views, label, side):
    """The same in tiles of that side."""
    return plain(name, contrast, temperature, views, label, large=0, side=side)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(batch=batches(), temperature=st.sampled_from([0.005, 0.05, 0.5, 2.0]), side=st.sampled_from([1, 3, 4, 100]))
def test_equal_the_plain_ones(name, contrast, batch, temperature, side):
    value, gradient = plain(name, contrast, temperature, *batch)
    ours, slope = in_tiles(name, contrast, temperature, *batch, side)
    assert_close(ours, value, rtol=1e-12, atol=1e-12)
    assert_close(slope, gradient, rtol=0, atol=1e-12 * max(1.0, float(gradient.abs().max())) / temperature)


def drawn(classes):
    generator = torch.Generator().manual_seed(classes)
    views = torch.randn(2, 200, 16, generator=generator)
    return views, torch.randint(0, classes, (200,), generator=generator)


@cache
def exact(name, contrast, temperature, classes):
    """For tiles of any side."""
    views, label = drawn(classes)
    return plain(name, contrast, temperature, views.double(), label)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [1, 2, 7, 500])
@pytest.mark.parametrize("temperature", [0.005, 0.03, 0.5])
@pytest.mark.parametrize("side", [64, 200])
def test_float32_agrees_with_float64(name, contrast, classes, temperature, side):
    views, label = drawn(classes)
    value, gradient = exact(name, contrast, temperature, classes)
    ours, slope = in_tiles(name, contrast, temperature, views, label, side)
    assert ours.dtype == torch.float32
    assert_close(ours.double(), value, rtol=1e-5, atol=1e-5)
    assert_close(
        slope.double(), gradient, rtol=0, atol=1e-5 * float(gradient.abs().max().clamp_min(1e-6)) / temperature
    )


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("side", [16, 60])
def test_near_points_lose_no_digits(contrast, side):
    """Positives that are much nearer than all negatives: a small loss that differences of large numbers would drown."""
    label = torch.arange(60) % 3
    centre = torch.eye(3, dtype=torch.float64)[label]
    noise = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = centre + 0.01 * noise
    value, gradient = plain("supcon", contrast, 0.06, views, label)
    ours, slope = in_tiles("supcon", contrast, 0.06, views.float(), label, side)
    assert value < 1e-5
    assert float(ours) == pytest.approx(float(value), rel=1e-3)
    assert_close(slope.double(), gradient, rtol=0, atol=1e-3 * float(gradient.abs().max()))


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_rows_of_any_length(contrast):
    """Also of none: where there is no direction to turn in, the gradient is that of the plain formula."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 40, 5, dtype=torch.float64, generator=generator)
    views *= torch.logspace(-9, 6, 40, dtype=torch.float64)[:, None]
    views[1, 7] = 0
    label = torch.arange(40) % 3
    value, gradient = plain("spread", contrast, 0.1, views, label)
    ours, slope = in_tiles("spread", contrast, 0.1, views, label, 8)
    assert_close(ours, value, rtol=1e-12, atol=1e-12)
    scale = gradient.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    assert_close(slope / scale, gradient / scale, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("contrast", "temperature", "least", "of_light"),
    [("cross-view", 0.5, 128, 128), ("cross-view", 0.02, 256, 768), ("all-view", 0.5, 256, 768)],
)
def test_large_batches_come_here_by_themselves(contrast, temperature, least, of_light, monkeypatch):
    """Plain is faster for longer with one number for each pair, but for what needs no tiles."""
    views = torch.randn(2, 768, 8, generator=torch.Generator().manual_seed(0))
    called = []
    whole = contrastive.tiled_parts
    monkeypatch.setattr(contrastive, "tiled_parts", lambda *a, **k: called.append(1) or whole(*a, **k))
    label = torch.arange(768) % 4
    for name in NAMES:
        at = of_light if name in ("info_nce", "supcon, all") else least
        every_loss(contrast, temperature)[name](views[:, : at - 1], label[: at - 1])
        assert called == []
        every_loss(contrast, temperature)[name](views[:, :at], label[:at])
        assert called == [1]
        called.clear()


def megabytes_of_a_step(contrast, batch, results):
    """What a step takes beyond a small one, which needs the same code and pools."""
    largest = []
    for size in (512, batch):
        views = torch.randn(2, size, 128, requires_grad=True)
        spread_loss(views, torch.arange(size) % 10, alpha=0.5, temperature=0.5, contrast=contrast).backward()
        largest.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    results.put((largest[1] - largest[0]) / 1024)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_memory_is_linear_in_the_batch(contrast):
    """4,096 images in two views: the matrix alone would take 64 MB, or 256 MB all-view; rows and gradients take 8."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=megabytes_of_a_step, args=(contrast, 4096, results))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert results.get() < 40


@pytest.mark.parametrize(("batch", "whole"), [(20, True), (300, False)])
def test_survive_torch_compile(batch, whole):
    """The plain formulas as one graph; the tiles wherever the compiler breaks it."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, batch, 8, generator=generator, requires_grad=True)
    label = torch.randint(0, 3, (batch,), generator=generator)
    loss = every_loss("cross-view")["spread"]
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=whole)
    value, ours = loss(views, label), compiled(views, label)
    assert_close(ours, value)
    (gradient,), (slope,) = (torch.autograd.grad(each, views) for each in (value, ours))
    assert_close(slope, gradient)
