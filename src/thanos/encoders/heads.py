"""What stands on an encoder while it trains: projector, classifier, decoder."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from thanos import registry


def build_projector(dim: int, width: int) -> nn.Module:
    """Two layers from the embedding to what the contrastive loss sees; width 0 is none, as in the paper."""
    if width == 0:
        return nn.Identity()
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, width))


def build_decoder(encoder: str, dim: int, *, channels: int, size: tuple[int, int] | None, classes: int) -> nn.Module:
    """From the embedding back to the image, or where ``size`` is None to the vector; its scale suits the encoder."""
    width, blocks = decoder_scale(encoder)
    if size is None:
        return VectorDecoder(dim, channels, width=width, classes=classes)
    return Decoder(dim, channels=channels, size=size, width=width, blocks=blocks, classes=classes)


class Decoder(nn.Module):
    """ResNet-18 in reverse: from an embedding back to the image.

    Stages of basic blocks at 1/8, 1/4, 1/2 and the whole of the image's side, each halving the channels as the
    resolution doubles, mirror the encoder's. Upsampling is to the nearest neighbour.

    Args:
        dim: Of the embedding.
        channels, size: Of the image; size is height and width.
        width: Channels of the last stage; the first has eight times as many.
        blocks: Basic blocks in a stage; 2 as in ResNet-18.
        classes: If given, the decoder is told the superclass: a one-hot vector joins the embedding.
    """

    def __init__(
        self, dim: int, *, channels: int, size: tuple[int, int], width: int = 64, blocks: int = 2, classes: int = 0
    ):
        super().__init__()
        self.classes = classes
        sizes = [(max(1, -(-size[0] // 2**s)), max(1, -(-size[1] // 2**s))) for s in (3, 2, 1, 0)]
        widths = [width * 2**s for s in (3, 2, 1, 0)]
        self.start = (widths[0], *sizes[0])
        self.expand = nn.Linear(dim + classes, widths[0] * sizes[0][0] * sizes[0][1])
        stages: list[nn.Module] = []
        for i, (side, after) in enumerate(zip(sizes, widths, strict=True)):
            before = widths[max(i - 1, 0)]
            if i and side != sizes[i - 1]:
                stages.append(nn.Upsample(size=side, mode="nearest"))
            stages += [BasicBlock(before if b == 0 else after, after) for b in range(blocks)]
        self.stages = nn.Sequential(*stages)
        self.to_pixels = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, embedding: Tensor, superclass: Tensor) -> Tensor:
        """Embeddings (batch, dim) and superclass (batch,) to normalised images (batch, channels, height, width)."""
        embedding = _told(embedding, superclass, self.classes)
        pixels: Tensor = self.to_pixels(self.stages(self.expand(embedding).unflatten(1, self.start)))
        return pixels


class VectorDecoder(nn.Module):
    """One hidden layer: from an embedding back to the standardised vector.

    Args:
        dim: Of the embedding.
        features: Of the vector.
        width: Of the hidden layer.
        classes: As for :class:`Decoder`.
    """

    def __init__(self, dim: int, features: int, *, width: int, classes: int = 0):
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(nn.Linear(dim + classes, width), nn.ReLU(), nn.Linear(width, features))

    def forward(self, embedding: Tensor, superclass: Tensor) -> Tensor:
        """Embeddings (batch, dim) and superclass (batch,) to vectors (batch, features)."""
        vectors: Tensor = self.layers(_told(embedding, superclass, self.classes))
        return vectors


def _told(embedding: Tensor, superclass: Tensor, classes: int) -> Tensor:
    """Embeddings with the superclass beside them, one-hot, where a decoder is told it."""
    if not classes:
        return embedding
    return torch.cat([embedding, one_hot(superclass, classes).to(embedding.dtype)], dim=1)


class KeyBank(nn.Module):
    """A slow copy of an encoder with its projector, and the keys it made last (He et al., CVPR 2020)."""

    keys: Tensor
    superclass: Tensor
    filled: Tensor

    def __init__(self, encoder: nn.Module, projector: nn.Module, *, size: int, dim: int, momentum: float):
        super().__init__()
        self.slow = copy.deepcopy(nn.Sequential(encoder, projector)).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("superclass", torch.full((size,), -1))
        """-1 where nothing was kept yet."""
        self.register_buffer("filled", torch.tensor(0))

    @torch.no_grad()
    def encode(self, view: Tensor, encoder: nn.Module, projector: nn.Module) -> Tensor:
        """Keys (batch, dim) of normalised images, after one step towards the quick weights."""
        quick = [*encoder.parameters(), *projector.parameters()]
        torch._foreach_lerp_(list(self.slow.parameters()), [p.detach() for p in quick], 1 - self.momentum)
        keys: Tensor = self.slow(view)
        return keys

    @torch.no_grad()
    def keep(self, keys: Tensor, superclass: Tensor) -> None:
        """Put keys (batch, dim) in the place of the oldest."""
        place = (self.filled + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        self.keys[place] = keys.to(self.keys.dtype)
        self.superclass[place] = superclass
        self.filled.add_(len(keys))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut (He et al. 2016)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.shortcut(features) + self.body(features))


def decoder_scale(encoder: str) -> tuple[int, int]:
    """(width, blocks) of the decoder that suits an encoder; timm's have ResNet-18's own."""
    own = registry.encoder(encoder)
    return (64, 2) if own is None else own.decoder
