"""Images augmented per second: our batched views against torchvision's per-image PIL pipeline, one thread, one run.

    THANOS_DATA=DIR python benchmarks/views.py --out results/views.json

Both draw the paper's augmentation from the same uint8 images and end in normalised float tensors.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from thanos.config import DataConfig, ViewSpec
from thanos.data.load import load
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.views import random_views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = load(DataConfig(data="cifar10"))
    mean, std = images.mean_std
    spec, rng = ViewSpec(), torch.Generator().manual_seed(0)
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(images.size, scale=(spec.crop_scale, 1)),
            transforms.RandomHorizontalFlip(spec.flip),
            transforms.RandomApply(
                [transforms.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue)], p=spec.jitter
            ),
            transforms.RandomGrayscale(spec.grey),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    rows = np.random.default_rng(0).permutation(images.rows("train"))[: arguments.batch]
    batch = torch.from_numpy(images.images[rows])
    pictures = [Image.fromarray(image) for image in batch.numpy()]
    pipelines = {
        "ours": lambda: random_views(batch, spec, rng, count=1, mean=mean, std=std),
        "torchvision, PIL": lambda: torch.stack([theirs(picture) for picture in pictures]),
    }
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for round_number in range(arguments.rounds + 2):  # taken in turn, so that both meet the same machine
        for name, pipeline in pipelines.items():
            started = time.process_time()
            pipeline()
            if round_number >= 2:
                rates[name].append(arguments.batch / (time.process_time() - started))
    ratios = np.array(rates["ours"]) / np.array(rates["torchvision, PIL"])
    result = {
        "what": "images per second of processor time, CIFAR-10, 32x32, one view each, one thread",
        "command": f"python benchmarks/views.py --rounds {arguments.rounds} --batch {arguments.batch}",
        "images_per_second": {
            name: {"median": float(np.median(r)), "low": float(np.quantile(r, 0.1)), "high": float(np.quantile(r, 0.9))}
            for name, r in rates.items()
        },
        "ratio": {
            "median": float(np.median(ratios)),
            "low": float(np.quantile(ratios, 0.1)),
            "high": float(np.quantile(ratios, 0.9)),
        },
        "rounds": arguments.rounds,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    for name, rate in result["images_per_second"].items():
        print(f"{name:<20} {rate['median']:>8,.0f} images/s")
    median, low, high = (result["ratio"][key] for key in ("median", "low", "high"))
    print(f"ratio {median:.1f} (10% to 90%: {low:.1f} to {high:.1f})")
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
