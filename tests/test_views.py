"""Each operation against torchvision's functional one with the same parameters, and the draws' statistics."""

import pytest
import torch
from torch import Generator
from torch.testing import assert_close
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as reference

from thanos.config import ViewSpec
from thanos.views import (
    Draw,
    apply_draw,
    brightness,
    clean_view,
    contrast,
    crop_and_flip,
    draw,
    grey,
    hue,
    random_views,
    saturation,
)


@pytest.fixture
def pixels():
    images = torch.rand(24, 3, 20, 28, generator=Generator().manual_seed(0))
    images[0] = 0.5  # no chroma
    images[1] = torch.tensor([1.0, 0, 0])[:, None, None]
    images[2, 0] = images[2, 1]  # ties between channels
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (brightness, reference.adjust_brightness, 0.0, 2.0),
        (contrast, reference.adjust_contrast, 0.0, 2.0),
        (saturation, reference.adjust_saturation, 0.0, 2.0),
        (hue, reference.adjust_hue, -0.5, 0.5),
    ],
)
def test_colour_operations(pixels, ours, theirs, low, high):
    factor = torch.linspace(low, high, len(pixels))
    expected = torch.stack([theirs(image, float(f)) for image, f in zip(pixels, factor, strict=True)])
    assert_close(ours(pixels, factor[:, None, None, None]), expected, rtol=0, atol=5e-6)


def test_grey(pixels):
    assert_close(grey(pixels), reference.rgb_to_grayscale(pixels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_crop_and_flip(pixels, seed):
    chosen = draw(ViewSpec(crop_scale=0.05), len(pixels), 20, 28, Generator().manual_seed(seed))
    expected = [
        reference.resized_crop(i, *b.tolist(), [20, 28], antialias=True)
        for i, b in zip(pixels, chosen.box, strict=True)
    ]
    expected = [reference.hflip(i) if f else i for i, f in zip(expected, chosen.flip, strict=True)]
    assert_close(crop_and_flip(pixels, chosen.box, chosen.flip), torch.stack(expected), rtol=0, atol=5e-6)


def test_whole_view_equals_torchvisions_operations_in_each_images_order(pixels):
    chosen = draw(ViewSpec(), len(pixels), 20, 28, Generator().manual_seed(3))
    adjust = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    expected = []
    for i, image in enumerate(pixels):
        view = reference.resized_crop(image, *chosen.box[i].tolist(), [20, 28], antialias=True)
        view = reference.hflip(view) if chosen.flip[i] else view
        for operation in chosen.order[i].tolist() if chosen.jitter[i] else []:
            view = adjust[operation](view.clamp(0, 1), float(chosen.factor[i, operation]))
        expected.append(reference.rgb_to_grayscale(view, 3) if chosen.grey[i] else view)
    assert_close(apply_draw(pixels, chosen), torch.stack(expected), rtol=0, atol=2e-5)


def test_each_image_has_its_own_draw_and_equal_seeds_equal_views():
    images = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8, generator=Generator().manual_seed(0)).expand(
        32, -1, -1, -1
    )
    options = {"count": 2, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    views = random_views(images, ViewSpec(), Generator().manual_seed(1), **options)
    again = random_views(images, ViewSpec(), Generator().manual_seed(1), **options)
    assert views.shape == (2, 32, 3, 16, 16)
    assert torch.equal(views, again)
    assert len({view.numpy().tobytes() for view in views.flatten(0, 1)}) == 64


def test_draws_follow_their_distributions():
    spec = ViewSpec()
    chosen = draw(spec, 20_000, 32, 32, Generator().manual_seed(0))
    image = torch.empty(3, 32, 32)
    theirs = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    for ours, wanted in (
        (chosen.box[:, 2] * chosen.box[:, 3], [h * w for _, _, h, w in theirs]),
        (chosen.box[:, 0], [top for top, _, _, _ in theirs]),
        (chosen.box[:, 3], [w for _, _, _, w in theirs]),
    ):
        wanted = torch.tensor(wanted, dtype=torch.float64)
        error = wanted.std() / len(wanted) ** 0.5
        assert abs(ours.double().mean() - wanted.mean()) < 5 * error
        assert_close(ours.double().std(), wanted.std(), rtol=0.06, atol=0)
    assert (chosen.box[:, 0] + chosen.box[:, 2] <= 32).all()
    assert (chosen.box[:, 1] + chosen.box[:, 3] <= 32).all()
    for share, wanted in ((chosen.flip, 0.5), (chosen.jitter, 0.8), (chosen.grey, 0.2)):
        assert float(share.double().mean()) == pytest.approx(wanted, abs=0.02)
    assert chosen.factor[:, :3].sub(1).abs().max() <= 0.4 + 1e-6
    assert chosen.factor[:, 3].abs().max() <= 0.1 + 1e-6
    assert len({tuple(order) for order in chosen.order.tolist()}) == 24


def test_everything_off_is_the_clean_view():
    images = torch.randint(0, 256, (5, 9, 9, 3), dtype=torch.uint8, generator=Generator().manual_seed(0))
    off = ViewSpec(crop_scale=1, flip=0, jitter=0, grey=0)
    options = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    (view,) = random_views(images, off, Generator().manual_seed(0), count=1, **options)
    assert_close(view, clean_view(images, **options), rtol=0, atol=1e-5)


def test_one_channel_images_keep_one_channel():
    images = torch.randint(0, 256, (6, 8, 8, 1), dtype=torch.uint8, generator=Generator().manual_seed(0))
    (view,) = random_views(images, ViewSpec(), Generator().manual_seed(0), count=1, mean=(0.0,), std=(1.0,))
    assert view.shape == (6, 1, 8, 8)
    assert view.min() >= 0
    assert view.max() <= 1


def test_a_draw_by_hand():
    """The right half of an image, mirrored."""
    pixels = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    nothing = torch.zeros(1, dtype=torch.bool)
    chosen = Draw(
        box=torch.tensor([[0, 2, 4, 2]]),
        flip=~nothing,
        jitter=nothing,
        order=torch.arange(4)[None],
        factor=torch.ones(1, 4),
        grey=nothing,
    )
    row = apply_draw(pixels, chosen)[0, 0, 0] * 16
    assert_close(row, torch.tensor([3.0, 2.75, 2.25, 2.0]))


def test_crops_of_a_long_image_are_long_as_well():
    """Against the square of the same width: the same draws, with the height stretched."""
    square = draw(ViewSpec(crop_scale=0.2), 4000, 64, 64, Generator().manual_seed(0)).box.float()
    long = draw(ViewSpec(crop_scale=0.2), 4000, 128, 64, Generator().manual_seed(0)).box.float()
    assert (long[:, 2] / square[:, 2]).median() == pytest.approx(2, abs=0.05)
    assert (long[:, 3] / square[:, 3]).median() == pytest.approx(1, abs=0.05)
