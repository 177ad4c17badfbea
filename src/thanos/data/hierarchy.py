"""Which subclass belongs to which superclass, for the published data sets.

Source: Chen et al., ICML 2022; lesions and signs, which are not in the paper, by what they are. Groceries bring theirs.
"""

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

# By what is looked for; akiec, actinic keratoses and carcinomas in situ, counts as malignant.
HAM10000 = _invert({"benign": "nv bkl df vasc", "malignant": "mel bcc akiec"})

# By what a sign does to the driver, which its shape and colour tell; what lifts a limit is among the others.
GTSRB = {
    "speed limit 20": "speed limit",
    "speed limit 30": "speed limit",
    "speed limit 50": "speed limit",
    "speed limit 60": "speed limit",
    "speed limit 70": "speed limit",
    "speed limit 80": "speed limit",
    "end of speed limit 80": "other",
    "speed limit 100": "speed limit",
    "speed limit 120": "speed limit",
    "no passing": "other prohibition",
    "no passing for trucks": "other prohibition",
    "right of way at next crossing": "danger",
    "priority road": "other",
    "yield": "other",
    "stop": "other",
    "no vehicles": "other prohibition",
    "no trucks": "other prohibition",
    "no entry": "other prohibition",
    "general danger": "danger",
    "curve left": "danger",
    "curve right": "danger",
    "double curve": "danger",
    "bumpy road": "danger",
    "slippery road": "danger",
    "road narrows on the right": "danger",
    "road works": "danger",
    "traffic signals": "danger",
    "pedestrians": "danger",
    "children": "danger",
    "bicycles": "danger",
    "ice or snow": "danger",
    "wild animals": "danger",
    "end of all limits": "other",
    "turn right ahead": "mandatory",
    "turn left ahead": "mandatory",
    "ahead only": "mandatory",
    "ahead or right": "mandatory",
    "ahead or left": "mandatory",
    "keep right": "mandatory",
    "keep left": "mandatory",
    "roundabout": "mandatory",
    "end of no passing": "other",
    "end of no passing for trucks": "other",
}
"""In the order of ClassId, 0 to 42."""

ISIC_2017 = {"melanoma": "malignant", "seborrheic keratosis": "benign", "nevus": "benign"}


@cache
def tiny_imagenet() -> Hierarchy:
    """wnid -> superclass id as text: 200 classes in 52 superclasses (the ids run to 66, as released)."""
    table = json.loads(files("thanos.data").joinpath("tiny_imagenet_superclasses.json").read_text("utf-8"))
    return {wnid: f"superclass {number:02d}" for wnid, number in table["superclass"].items()}
