"""Training steps on CIFAR-10 from images to update, ours and the usual pipeline, on the same cores in one run.

Both train the `tiny` encoder and its projector by Khosla's SupCon on two views of 128 images, AdamW. The usual one:
PIL images through torchvision's transforms in worker processes, float32, channels first, SupContrast's loss (a file the
user gives) or else pytorch-metric-learning's. Rounds are taken in turn, so that all meet the same machine. What bf16
can give is bounded by how fast the machine multiplies in it: that is measured beside.

THANOS_DATA=DIR python benchmarks/end_to_end.py --supcontrast SupContrast/losses.py --out results/end_to_end.json
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from thanos.config import TrainConfig
from thanos.data.imageset import ImageSet
from thanos.data.load import load
from thanos.methods.branch import Branch
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.training.bench import TrainingStep, parts_of_a_step
from thanos.training.settings import resolve_settings

CONFIG = TrainConfig(
    data="cifar10",
    encoder="tiny",
    method="supcon",
    contrast="all-view",
    denominator="all",
    classify_weight=0,
    temperature=0.1,
    batch=128,
    accelerator="cpu",
)
Loss = Callable[[Tensor, Tensor], Tensor]


class Pictures(Dataset[tuple[Tensor, Tensor, int]]):
    """Two augmented views of each training image."""

    def __init__(self, images: ImageSet):
        settings, _ = resolve_settings(CONFIG, images)
        spec, rows = settings.views, images.rows("train")
        self._pictures = [Image.fromarray(image) for image in images.images[rows]]
        self._label = images.superclass[rows].tolist()
        jitter = transforms.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue)
        self._augment = transforms.Compose(
            [
                transforms.RandomResizedCrop(images.size, scale=(spec.crop_scale, 1)),
                transforms.RandomHorizontalFlip(spec.flip),
                transforms.RandomApply([jitter], p=spec.jitter),
                transforms.RandomGrayscale(spec.grey),
                transforms.ToTensor(),
                transforms.Normalize(settings.mean, settings.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        return self._augment(self._pictures[i]), self._augment(self._pictures[i]), self._label[i]


def usual_loss(path: Path | None) -> tuple[str, Loss]:
    if path is None:
        from pytorch_metric_learning.losses import SupConLoss

        metric_learning = SupConLoss(temperature=CONFIG.temperature)
        return "pytorch-metric-learning", lambda views, label: metric_learning(
            views.flatten(0, 1), label.repeat(len(views))
        )
    spec = importlib.util.spec_from_file_location("supcontrast", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    released = module.SupConLoss(temperature=CONFIG.temperature, base_temperature=CONFIG.temperature)
    return "SupContrast", lambda views, label: released(normalize(views, dim=2).transpose(0, 1), label)


def usual_steps(pictures: Pictures, images: ImageSet, loss: Loss, workers: int) -> Iterator[None]:
    """One training step after the other."""
    torch.manual_seed(0)
    branch = Branch(CONFIG, channels=images.channels, size=images.size, superclasses=2, contrast=True, decode=False).to(
        memory_format=torch.contiguous_format
    )
    model = nn.Sequential(branch.encoder, branch.projector)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    loader = DataLoader(pictures, CONFIG.batch, shuffle=True, drop_last=True, num_workers=workers)
    for first, second, label in loader:
        optimizer.zero_grad()
        loss(model(torch.cat([first, second])).unflatten(0, (2, -1)), label).backward()
        optimizer.step()
        yield


def our_steps(images: ImageSet, precision: str) -> Iterator[None]:
    step = TrainingStep(CONFIG.model_copy(update={"precision": precision}), images)
    while True:
        step()
        yield


def images_per_second(steps: Iterator[None], count: int) -> float:
    for _ in range(3):
        next(steps)
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    return count * CONFIG.batch / (time.perf_counter() - started)


def products_per_second(dtype: torch.dtype, side: int = 2048) -> float:
    """GFLOP a second of square matrix products."""
    x = torch.randn(side, side).to(dtype)
    taken = []
    for _ in range(6):
        started = time.perf_counter()
        x @ x
        taken.append(time.perf_counter() - started)
    return 2 * side**3 / median(taken[1:]) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supcontrast", type=Path, help="SupContrast's losses.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    images = load(CONFIG)
    pictures = Pictures(images)
    name, loss = usual_loss(given.supcontrast)
    pipelines: dict[str, Callable[[], Iterator[None]]] = {
        f"usual ({name}), {workers} workers": lambda workers=workers: usual_steps(pictures, images, loss, workers)  # type: ignore[misc]
        for workers in (1, 2)
    }
    pipelines["ours, float32"] = lambda: our_steps(images, "32")
    pipelines["ours, bf16"] = lambda: our_steps(images, "bf16-mixed")
    rates: dict[str, list[float]] = {each: [] for each in pipelines}
    for _ in range(given.rounds):
        for each, start in pipelines.items():
            rates[each].append(images_per_second(start(), given.steps))
            print(f"{each:<32} {rates[each][-1]:8.0f} images per second", flush=True)
    usual = np.max([rates[each] for each in pipelines if each.startswith("usual")], axis=0)
    ratios = {each: np.array(rates[each]) / usual for each in ("ours, float32", "ours, bf16")}
    parts = parts_of_a_step(CONFIG, images, steps=given.steps)
    products = {str(dtype): products_per_second(dtype) for dtype in (torch.float32, torch.bfloat16)}
    result = {
        "command": f"python benchmarks/end_to_end.py --rounds {given.rounds} --steps {given.steps} "
        f"--threads {given.threads}{' --supcontrast SupContrast/losses.py' if given.supcontrast else ''}",
        "threads": given.threads,
        "images_per_second": {each: {"median": median(r), "low": min(r), "high": max(r)} for each, r in rates.items()},
        "times_the_faster_usual": {
            each: {"median": float(np.median(r)), "low": float(r.min()), "high": float(r.max())}
            for each, r in ratios.items()
        },
        "our_parts_seconds": parts,
        "matrix_products_gflop_per_second": products,
        "views_share": parts["views"] / sum(parts.values()),
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }
    for each, ratio in result["times_the_faster_usual"].items():  # type: ignore[attr-defined]
        print(f"{each}: {ratio['median']:.2f} times the usual ({ratio['low']:.2f} to {ratio['high']:.2f})")
    print(", ".join(f"{part} {1000 * seconds:.1f} ms" for part, seconds in parts.items()))
    print(f"views: {result['views_share']:.0%} of a step")
    print("matrix products: " + ", ".join(f"{dtype} {rate:.0f} GFLOP/s" for dtype, rate in products.items()))
    if given.out:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
