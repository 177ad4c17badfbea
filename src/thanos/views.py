"""Random augmentation of a whole batch at once, on its device, each image with its own draw.

The draws are made on the CPU from a seeded generator and are the same on every device; only the pixels live there.
Each operation agrees with torchvision's functional one given the same parameters: crops are bilinear with the grid
held inside the crop's pixel centres, contrast blends with the mean of the grey image, and the order of the four
colour operations is drawn for each image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from thanos.config import FeatureViewSpec, ViewSpec
from thanos.feature_views import random_feature_views, standardized_features

GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, as torchvision and PIL weigh it


@dataclass(frozen=True)
class Draw:
    """The parameters of one view of a batch, all on the CPU."""

    box: Tensor  # (batch, 4): top, left, height, width of the crop in pixels, integers
    flip: Tensor  # (batch,) bool
    jitter: Tensor  # (batch,) bool
    order: Tensor  # (batch, 4): which operation comes first, second, ...: 0 brightness, 1 contrast, 2 saturation, 3 hue
    factor: Tensor  # (batch, 4): factors for brightness, contrast, saturation; shift for hue
    grey: Tensor  # (batch,) bool


def random_views(
    images: Tensor,
    spec: ViewSpec | FeatureViewSpec,
    rng: Generator,
    *,
    count: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """``count`` independent normalised views of each image, or of each vector.

    Args:
        images: uint8, shape (batch, height, width, channel); or vectors, shape (batch, dim).
        spec: How a view is drawn; says also of which of the two.
        rng: CPU generator; equal states give equal views on every device.
        count: Views of each image.
        mean, std: Per channel, in [0, 1]; or of each feature.
    Returns:
        float32, shape (count, batch, channel, height, width); or (count, batch, dim).
    """
    if isinstance(spec, FeatureViewSpec):
        return random_feature_views(images, spec, rng, count=count, mean=mean, std=std)
    pixels = to_pixels(images)
    height, width = pixels.shape[-2:]
    views = pixels.new_empty(count, *pixels.shape)
    for view in views:
        view.copy_(apply_draw(pixels, draw(spec, len(pixels), height, width, rng)))
    return standardize_(views, mean, std)


def clean_view(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The images themselves, normalised: uint8 (batch, height, width, channel) to float32 (batch, channel, ...).

    Or vectors, (batch, dim), standardised.
    """
    if images.ndim < 4:  # with views that were made before, the vector stands first
        return standardized_features(images if images.ndim == 2 else images[:, 0], mean, std)
    return standardize_(to_pixels(images), mean, std)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (batch, height, width, channel) to float32 in [0, 1], (batch, channel, height, width)."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def standardize_(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(pixels - mean) / std`` by channel, in place; pixels end in (channel, height, width)."""
    shift, scale = (_by_channel(tuple(values), pixels.device) for values in (mean, std))
    return pixels.sub_(shift).div_(scale)


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(channel, 1, 1) on the device; kept, so that a step copies nothing there and does not wait."""
    return torch.tensor(values, device=device)[:, None, None]


def draw(spec: ViewSpec, batch: int, height: int, width: int, rng: Generator) -> Draw:
    """The random parameters of one view of ``batch`` images of ``height`` by ``width`` pixels."""
    strength = torch.tensor([spec.brightness, spec.contrast, spec.saturation, spec.hue])
    factor = (torch.rand(batch, 4, generator=rng) * 2 - 1) * strength
    factor[:, :3] = (factor[:, :3] + 1).clamp_min(0)
    return Draw(
        box=_draw_crop(spec.crop_scale, batch, height, width, rng),
        flip=torch.rand(batch, generator=rng) < spec.flip,
        jitter=torch.rand(batch, generator=rng) < spec.jitter,
        order=torch.rand(batch, 4, generator=rng).argsort(dim=1),
        factor=factor,
        grey=torch.rand(batch, generator=rng) < spec.grey,
    )


def _draw_crop(smallest: float, batch: int, height: int, width: int, rng: Generator, tries: int = 10) -> Tensor:
    """torchvision's RandomResizedCrop: area uniform, aspect log-uniform in 3/4 to 4/3, the first of ten that fits.

    The aspect is that of the crop against the image's own, so that a crop of a long image is long as well.
    """
    whole = torch.tensor([0, 0, height, width]).expand(batch, 4)
    uniform = torch.rand(4, batch, tries, generator=rng)
    if smallest >= 1:
        return whole
    area = height * width * (smallest + (1 - smallest) * uniform[0])
    aspect = torch.exp((2 * uniform[1] - 1) * math.log(4 / 3)) * (width / height)
    w, h = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first)[:, 0].clamp(1, width), h.gather(1, first)[:, 0].clamp(1, height)
    top = (uniform[2].gather(1, first)[:, 0] * (height - h + 1)).long().clamp(max=height - h)
    left = (uniform[3].gather(1, first)[:, 0] * (width - w + 1)).long().clamp(max=width - w)
    return torch.where(fits.any(dim=1, keepdim=True), torch.stack([top, left, h, w], dim=1), whole)


def apply_draw(pixels: Tensor, chosen: Draw) -> Tensor:
    """One view of each image: crop and flip, colour jitter in each image's order, grey. Pixels in [0, 1] stay there."""
    views = crop_and_flip(pixels, chosen.box, chosen.flip)
    colour = pixels.shape[1] == 3
    for place in range(4):
        for number, operation in enumerate(_JITTERS if colour else _JITTERS[:2]):
            rows = (chosen.jitter & (chosen.order[:, place] == number)).nonzero()[:, 0]
            if len(rows):
                factor = chosen.factor[rows, number].to(pixels.device, non_blocking=True)[:, None, None, None]
                rows = rows.to(pixels.device, non_blocking=True)
                views[rows] = operation(views[rows], factor)
    if colour and chosen.grey.any():
        rows = chosen.grey.nonzero()[:, 0].to(pixels.device, non_blocking=True)
        views[rows] = grey(views[rows]).expand(-1, 3, -1, -1)
    return views


def crop_and_flip(pixels: Tensor, box: Tensor, flip: Tensor) -> Tensor:
    """Each image's box, resized to the whole by bilinear interpolation, then mirrored where ``flip``.

    Args:
        pixels: float, shape (batch, channel, height, width).
        box: (batch, 4): top, left, height, width in pixels, inside the image.
        flip: (batch,) bool.
    Returns:
        Same shape as ``pixels``; values stay inside each image's range.
    """
    height, width = pixels.shape[-2:]
    box, flip = box.to(pixels.device, non_blocking=True).float(), flip.to(pixels.device, non_blocking=True)
    y = _sampled_positions(box[:, 0], box[:, 2], height)
    x = _sampled_positions(box[:, 1], box[:, 3], width)
    x = torch.where(flip[:, None], x.flip(1), x)
    grid = torch.stack(
        [x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1
    )  # (batch, height, width, 2)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _sampled_positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where ``size`` evenly spaced output pixels fall along one axis, inside the crop, in grid_sample's [-1, 1]."""
    centre = (torch.arange(size, device=start.device) + 0.5) * (length[:, None] / size) - 0.5
    centre = torch.minimum(centre.clamp_min(0), length[:, None] - 1) + start[:, None]
    return (centre + 0.5) * (2 / size) - 1


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scale; pixels (batch, channel, height, width) in [0, 1], factor (batch, 1, 1, 1) >= 0."""
    return (pixels * factor).clamp_(0, 1)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of the grey image; shapes as :func:`brightness`."""
    average = grey(pixels).mean(dim=(1, 2, 3), keepdim=True)
    return (average + (pixels - average) * factor).clamp_(0, 1)


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image; shapes as :func:`brightness`."""
    colourless = grey(pixels)
    return (colourless + (pixels - colourless) * factor).clamp_(0, 1)


def hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` (batch, 1, 1, 1) turns, keeping HSV's value and saturation; pixels (batch, 3, ...).

    Written as one function of the hue h for all three channels, ``value - chroma * max(0, min(k, 4 - k, 1))`` with
    ``k = (offset + 6h) mod 6`` (offset 5, 3, 1 for red, green, blue).
    """
    value, chroma = (
        pixels.amax(dim=1, keepdim=True),
        pixels.amax(dim=1, keepdim=True) - pixels.amin(dim=1, keepdim=True),
    )
    red, green, blue = pixels[:, 0:1], pixels[:, 1:2], pixels[:, 2:3]
    sixth = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red, red - green)
    ) / chroma.clamp_min(torch.finfo(pixels.dtype).tiny)
    base = torch.where(value == red, 0.0, torch.where(value == green, 2.0, 4.0))
    k = (_by_channel((5.0, 3.0, 1.0), pixels.device) + (sixth + base + 6 * shift)).remainder_(6)
    return value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)


def grey(pixels: Tensor) -> Tensor:
    """Luma, shape (batch, 1, height, width); a one-channel image is its own."""
    if pixels.shape[1] == 1:
        return pixels
    return pixels[:, 0:1] * GREY[0] + pixels[:, 1:2] * GREY[1] + pixels[:, 2:3] * GREY[2]


_JITTERS = (brightness, contrast, saturation, hue)
