"""Encoders by name: any timm model, the paper's small ViT, ResNet-18 for small images, and ``tiny``."""

import warnings
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from thanos import registry
from thanos.encoders.pretrained import converted, packaged_weights, way_to_package
from thanos.errors import ConfigError
from thanos.storage import check_packing


def build_encoder(
    name: str, *, channels: int, size: tuple[int, int] | None, pretrained: bool | Path = False
) -> nn.Module:
    """A module from normalised images (batch, channels, height, width) to embeddings (batch, dimension).

    Or from standardised vectors (batch, channels), where ``size`` is None.

    Args:
        name: One of :func:`thanos.registry.encoders` or a timm model's name.
        channels, size: Of the images; size is height and width, None for vectors.
        pretrained: Start a timm model from a file of weights in timm's names; or, if True, from those of an installed
            package (:data:`thanos.encoders.pretrained.PACKAGES`), else from its published ones.
    Returns:
        The module; :func:`dimension` tells its embedding's.
    Raises:
        ConfigError: for an unknown name, weights that cannot be had or do not fit, or an encoder that cannot take
            images of this size, or vectors.
        DataError: for a package of weights that is damaged.
        OutputError: if its weights cannot be kept in the cache.
    """
    try:
        own = registry.encoder(name)
    except ValueError as error:
        raise ConfigError(f"`encoder`: {error}") from None
    given: registry.Kinds = "images" if size is not None else "vectors"
    takes = "images" if own is None else own.takes
    if takes != given:
        suited = ", ".join(registry.encoders(given))
        raise ConfigError(f"`encoder={name}` takes {takes}, and these are {given}. Choose one for them: {suited}.")
    if own is None:
        assert size is not None
        return _timm(name, channels, size, pretrained)
    module = registry.resolve(own.build, own)(channels, *(own.sizes if size is None else (size,)))
    if not isinstance(module, nn.Module) or not hasattr(module, "num_features"):
        raise ConfigError(
            f"an encoder is a torch module with num_features; {name!r}, added by {registry.home_of(own)}, builds "
            f"{type(module).__name__}."
        )
    return module


def dimension(encoder: nn.Module) -> int:
    """Of an encoder's embedding."""
    return int(getattr(encoder, "head_hidden_size", encoder.num_features))  # type: ignore[arg-type]


def tiny(channels: int, size: tuple[int, int]) -> nn.Module:
    """:class:`TinyEncoder`, which takes images of any size."""
    return TinyEncoder(channels)


class TinyEncoder(nn.Module):
    """Six 3x3 convolutions with batch norm (16-32-32-64-64-128, every second one of stride 2), pooled, linear to 128.

    160 thousand parameters for colour images: made for experiments on a CPU.
    """

    num_features = 128

    def __init__(self, channels: int):
        super().__init__()
        widths = (channels, 16, 32, 32, 64, 64, 128)
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            convolution = nn.Conv2d(before, after, 3, stride=2 if i % 2 else 1, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], self.num_features)

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return embedding


def paper_vit(channels: int, size: tuple[int, int]) -> nn.Module:
    """The paper's small ViT (3.7 million parameters at 32 pixels): 7 blocks of width 256, patches of 4 pixels."""
    from timm.models.vision_transformer import VisionTransformer

    if size[0] % 4 or size[1] % 4:
        raise ConfigError(
            f"paper-vit cuts images into patches of 4 pixels; {size[0]}x{size[1]} is no multiple. Pass `size`."
        )
    return VisionTransformer(
        img_size=size,
        in_chans=channels,
        patch_size=4,
        embed_dim=256,
        depth=7,
        num_heads=8,
        mlp_ratio=2,
        qkv_bias=False,
        embed_norm_layer=nn.LayerNorm,
        pos_drop_rate=0.1,
        proj_drop_rate=0.05,
        attn_drop_rate=0.05,
        drop_path_rate=0.05,
        drop_rate=0,
        num_classes=0,
        global_pool="token",
    )


def resnet18_small(channels: int, size: tuple[int, int]) -> nn.Module:
    """timm's ResNet-18 with a stem for small images: a 3x3 convolution of stride 1 and no pooling."""
    return _small_stem("resnet18", channels)


def resnet50_small(channels: int, size: tuple[int, int]) -> nn.Module:
    """The same of ResNet-50, which the SupCon paper trains on CIFAR (Khosla et al. 2020); 23.5 million parameters."""
    return _small_stem("resnet50", channels)


def _small_stem(name: str, channels: int) -> nn.Module:
    import timm

    model = timm.create_model(name, num_classes=0, in_chans=channels)
    model.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _timm(name: str, channels: int, size: tuple[int, int], pretrained: bool | Path) -> nn.Module:
    import timm

    build = partial(timm.create_model, name, num_classes=0, in_chans=channels, pretrained=bool(pretrained))
    if (file := _file_of_weights(name, pretrained)) is not None:
        build = partial(build, pretrained_cfg_overlay={"file": str(file)})
    try:
        try:
            model = build(img_size=size)
        except TypeError:  # convolutional families take no img_size
            model = build()
        with torch.no_grad():
            shape = model.eval()(torch.zeros(1, channels, *size)).shape
        if tuple(shape) != (1, dimension(model)):
            raise ValueError(f"its output has shape {tuple(shape)}, not one vector an image")
    except (RuntimeError, AssertionError, ValueError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            f"{name} cannot be built for {channels}x{size[0]}x{size[1]} images ({reason}). Pass `size` (224 suits most "
            f"timm models), or choose one of {', '.join(registry.encoders('images'))}."
        ) from None
    return model.train()


def _file_of_weights(name: str, pretrained: bool | Path) -> Path | None:
    """The file to start from, checked; None: no weights, or those in timm's cache, which are there then."""
    if isinstance(pretrained, Path):
        _check_weights(name, pretrained)
        return pretrained
    if not pretrained:
        return None
    if (held := packaged_weights(name)) is not None:
        return converted(held)
    _fetch_published(name)
    return None


def _fetch_published(name: str) -> None:
    """Bring a model's published weights to this machine's cache, once.

    Raises:
        ConfigError: if there are none, or they cannot be had.
    """
    import socket

    import timm
    from huggingface_hub import constants

    known = constants.HF_HUB_OFFLINE
    try:
        try:
            socket.getaddrinfo("huggingface.co", 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True  # what the cache holds, at once: the hub's client would try for a minute
        timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0].split(". ")[0].rstrip(".")
        way = way_to_package(name)
        raise ConfigError(
            f"the published weights of {name} cannot be had ({reason}). "
            f"{'' if way is None else f'A package has such: `{way}`. '}Give a file of them, `pretrained=FILE`; a "
            f"training also starts without any."
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = known


def _check_weights(name: str, file: Path) -> None:
    """timm itself passes over every weight that a file does not hold.

    Raises:
        ConfigError: if it lacks one that the encoder has.
    """
    import timm
    from timm.models import load_state_dict

    if not file.is_file():
        raise ConfigError(f"`pretrained` takes a file of weights; there is none at {file}.")
    try:
        check_packing(file)
        with warnings.catch_warnings(action="ignore"):  # of what it then refuses
            state = load_state_dict(str(file), device="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise ConfigError(
            f"`pretrained` takes weights (.safetensors, .pth); {file} cannot be read: {reason}."
        ) from None
    absent = [key for key in timm.create_model(name, num_classes=0).state_dict() if key not in state]
    if absent:
        raise ConfigError(
            f"{file} does not hold the weights of {name} in timm's names: {len(absent)} are missing, {absent[0]} "
            f"first. Name the `encoder` that it is of."
        )


class SideBySide(nn.Module):
    """Several encoders as one: the embedding is the concatenation, each part brought to the same mean length.

    The lengths are constants measured on training images (:meth:`balance`), so a linear probe sees what plain
    concatenation would show it, while distances weigh the parts alike.
    """

    scale: Tensor

    def __init__(self, encoders: Sequence[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(encoders)
        self.num_features = sum(dimension(e) for e in encoders)
        self.register_buffer("scale", torch.ones(len(encoders)))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([part(images) * scale for part, scale in zip(self.parts, self.scale, strict=True)], dim=1)

    def balance(self, lengths: Sequence[float]) -> None:
        """Divide each part by its mean length on training images."""
        self.scale.copy_(1 / torch.tensor(lengths).clamp_min(1e-12))
