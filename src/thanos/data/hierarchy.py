"""Which subclass belongs to which superclass, for the published data sets. Source: Chen et al., ICML 2022."""

import json
from functools import cache
from importlib.resources import files

Hierarchy = dict[str, str]
"""subclass name -> superclass name."""


def _invert(members: dict[str, str]) -> Hierarchy:
    return {subclass: superclass for superclass, names in members.items() for subclass in names.split()}


DIGITS = _invert({"below 5": "0 1 2 3 4", "5 and above": "5 6 7 8 9"})

CIFAR10 = _invert(
    {"animals": "bird cat deer dog frog horse", "vehicles": "airplane automobile ship truck"},
)

# By what is worn where; a dress covers the legs, as trousers do, and is cut unlike any top.
FASHION_MNIST = {
    "T-shirt/top": "tops",
    "Pullover": "tops",
    "Coat": "tops",
    "Shirt": "tops",
    "Trouser": "bottoms and dress",
    "Dress": "bottoms and dress",
    "Sandal": "shoes",
    "Sneaker": "shoes",
    "Ankle boot": "shoes",
    "Bag": "bag",
}

CIFAR100 = _invert(
    {
        "aquatic_mammals": "beaver dolphin otter seal whale",
        "fish": "aquarium_fish flatfish ray shark trout",
        "flowers": "orchid poppy rose sunflower tulip",
        "food_containers": "bottle bowl can cup plate",
        "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
        "household_electrical_devices": "clock keyboard lamp telephone television",
        "household_furniture": "bed chair couch table wardrobe",
        "insects": "bee beetle butterfly caterpillar cockroach",
        "large_carnivores": "bear leopard lion tiger wolf",
        "large_man-made_outdoor_things": "bridge castle house road skyscraper",
        "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
        "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
        "medium_mammals": "fox porcupine possum raccoon skunk",
        "non-insect_invertebrates": "crab lobster snail spider worm",
        "people": "baby boy girl man woman",
        "reptiles": "crocodile dinosaur lizard snake turtle",
        "small_mammals": "hamster mouse rabbit shrew squirrel",
        "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
        "vehicles_1": "bicycle bus motorcycle pickup_truck train",
        "vehicles_2": "lawn_mower rocket streetcar tank tractor",
    }
)


@cache
def tiny_imagenet() -> Hierarchy:
    """wnid -> superclass id as text: 200 classes in 52 superclasses (the ids run to 66, as released)."""
    table = json.loads(files("thanos.data").joinpath("tiny_imagenet_superclasses.json").read_text("utf-8"))
    return {wnid: f"superclass {number:02d}" for wnid, number in table["superclass"].items()}
