"""Small stand-ins for MNIST and CIFAR-10: noise with their classes, for tests of what is built from them."""

import numpy as np

from thanos.data.imageset import ImageSet
from thanos.data.labels import ids_of


def stand_in(name, size, channels, classes, per_class, test_per_class):
    """An ImageSet of random pixels, ten classes, splits train and test."""
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.repeat(np.arange(10), n) for n in (per_class, test_per_class)])
    names = sorted(classes)
    images = rng.integers(0, 256, (len(labels), size, size, channels), dtype=np.uint8)
    if channels == 1:
        images[:, :10] = 0  # ground to paint on
    superclass, superclass_names = ids_of([classes[names[k]] for k in labels])
    return ImageSet(
        name=name,
        images=images,
        superclass=superclass,
        superclass_names=superclass_names,
        split=np.repeat([0, 2], [10 * per_class, 10 * test_per_class]),
        subclass=labels,
        subclass_names=tuple(names),
        refs=tuple(map(str, range(len(labels)))),
    )
