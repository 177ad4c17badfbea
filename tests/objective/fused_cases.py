"""The kernels against the plain formulas in float64, by the name of each case; test_fused.py reports them one by one.

As a program, in Triton's interpreter: writes what went wrong with each case into the file that is named, or nothing.
"""

import json
import os
import sys
import traceback
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from test_contrastive import CONTRASTS, every_loss
from torch.testing import assert_close

from thanos.objective import contrastive, fused, tiled

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
LABELS = {"one class": [5], "three classes": [2**40, -1, -2], "classes of one": list(range(200))}


@contextmanager
def forced():
    """The kernels for every batch in float32; in the interpreter in small blocks, so that few rows make many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "LARGE", {})
        patch.setattr(contrastive, "LARGE_ELSEWHERE", 0)
        if INTERPRETED:
            whole = fused.blocks
            small = {"ROWS": 16, "COLUMNS": 16}
            patch.setattr(tiled, "_fused", lambda rows: fused.FusedParts.apply)
            patch.setattr(fused, "blocks", lambda dim, large: whole(dim, large=large) | small)
        yield


def compare(name, contrast, temperature, views, label, tolerance):
    ours = views.float().to(DEVICE).requires_grad_()
    value = every_loss(contrast, temperature)[name](ours, label.to(DEVICE))
    (slope,) = torch.autograd.grad(value, ours)
    exact = views.float().double().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "LARGE_ELSEWHERE", 2**62)
        plain = every_loss(contrast, temperature)[name](exact, label)
    (gradient,) = torch.autograd.grad(plain, exact)
    assert_close(value.detach().double().cpu(), plain.detach(), rtol=tolerance, atol=tolerance)
    largest = max(float(gradient.abs().max()), 1e-6)
    assert_close(slope.double().cpu(), gradient, rtol=0, atol=tolerance * largest / min(temperature, 1))
    return float(value.detach())


def equal_the_plain_formulas(name, contrast, classes, temperature):
    """Random labels, classes of one, one class; rows of no block's length."""
    generator = torch.Generator().manual_seed(len(classes))
    views = torch.randn(2, 15, 10, generator=generator, dtype=torch.float64)
    label = torch.tensor(classes)[torch.randint(0, len(classes), (15,), generator=generator)]
    compare(name, contrast, temperature, views, label, 1e-5)


def any_shape(contrast, views, batch, dim):
    generator = torch.Generator().manual_seed(batch)
    rows = torch.randn(views, batch, dim, generator=generator, dtype=torch.float64)
    compare("spread", contrast, 0.1, rows, torch.arange(batch) % 3, 1e-5)


def near_points_lose_no_digits(contrast):
    """Positives that are much nearer than all negatives: a small loss that differences of large numbers would drown."""
    label = torch.arange(30) % 3
    noise = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = torch.eye(3, dtype=torch.float64)[label] + 0.01 * noise
    assert compare("supcon", contrast, 0.06, views, label, 1e-3) < 1e-5


def the_same_sum_in_the_same_order():
    views = torch.randn(2, 50, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE).requires_grad_()
    label = (torch.arange(50) % 4).to(DEVICE)
    found = []
    for _ in range(2):
        value = every_loss("cross-view", 0.1)["spread"](views, label)
        found.append((value.item(), torch.autograd.grad(value, views)[0]))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


CASES = {
    **{
        f"{name}, {contrast}, {which}, temperature {temperature}": partial(
            equal_the_plain_formulas, name, contrast, LABELS[which], temperature
        )
        for temperature in (0.005, 0.5)
        for which in LABELS
        for name in every_loss("cross-view")
        for contrast in CONTRASTS
    },
    **{
        f"{views} views of {batch} in {dim}, {contrast}": partial(any_shape, contrast, views, batch, dim)
        for views, batch, dim in ((3, 20, 5), (2, 1, 3), (4, 16, 33), (2, 33, 128))
        for contrast in CONTRASTS
    },
    **{f"near points, {contrast}": partial(near_points_lose_no_digits, contrast) for contrast in CONTRASTS},
    "the same sum in the same order": the_same_sum_in_the_same_order,
}


def main(file):
    wrong = {}
    for name, case in CASES.items():
        wrong[name] = ""
        try:
            with forced():
                case()
        except Exception:
            wrong[name] = traceback.format_exc()
    Path(file).write_text(json.dumps(wrong))


if __name__ == "__main__":
    main(sys.argv[1])
