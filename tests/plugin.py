"""Another package's method, data set and encoder, in forty lines: what thanos asks of whoever adds one."""

import numpy as np
from torch import nn

from thanos import DatasetSpec, EncoderSpec, MethodSpec, from_arrays, register
from thanos.methods.branch import classify, embed_views


def stripes(config):
    """Grey images of 8x8: upright and lying stripes, each wide or narrow, which nobody labelled."""
    rng = np.random.default_rng(config.split_seed)
    kind = np.arange(240) % 4
    ramp = np.where(kind[:, None] % 2, np.arange(8) // 2 % 2, np.arange(8) % 2)[:, None, :] * 160
    pictures = np.where(kind[:, None, None] < 2, ramp, ramp.transpose(0, 2, 1)) + rng.integers(0, 60, (240, 8, 8))
    names = np.array(["upright", "upright", "lying", "lying"]), np.array(["thin-u", "wide-u", "thin-l", "wide-l"])
    return from_arrays(pictures.astype(np.uint8), names[0][kind], subclass=names[1][kind], name="stripes")


class Flat(nn.Sequential):
    """One layer on the pixels."""

    num_features = 24

    def __init__(self, channels, size):
        super().__init__(nn.Flatten(), nn.Linear(channels * size[0] * size[1], self.num_features))


def alignment_step(branch, images, superclass, settings, rng):
    """Views of an image close to each other, and the superclass cross-entropy."""
    embedding, projection = embed_views(branch, images, settings, rng)
    apart = (projection[0] - projection[1]).square().mean()
    return {"alignment": apart} | classify(branch, embedding, superclass, settings) | {"projection": projection}


register(
    MethodSpec("alignment", "views close to each other, + cross-entropy", {"contrastive": alignment_step}),
    DatasetSpec("stripes", "upright and lying stripes: 2 -> 4", stripes),
    EncoderSpec("flat", "one layer on the pixels", Flat, decoder=(8, 1)),
)
