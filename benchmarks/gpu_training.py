"""Images a second that a training step takes on this GPU: encoder x precision x compiled, over a set that stays on it.

The very step of a training (two views of each image, forward, backward, update), 60 of them after 10 that warm up, in
pieces of 10: the median piece, and half the range. Beside it the peak of allocated memory. Images a second are images,
not views.

python benchmarks/gpu_training.py --data photos/ --out results/gpu_training.json
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from thanos import TrainConfig, load
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.training.bench import TrainingStep

WARM, PIECES, PIECE = 10, 6, 10
SMALL = ("paper-vit", "resnet18-small")
TUNED = "tf_efficientnet_lite0"


def settings() -> list[dict[str, Any]]:
    """Of the trainings timed: networks from nothing at 32 pixels, then a whole pretrained one."""
    small = [
        {"encoder": encoder, "precision": precision, "compile": compiled, "batch": batch}
        for encoder in SMALL
        for precision, compiled, batch in (
            ("32", False, 256), ("bf16-mixed", False, 256), ("bf16-mixed", False, 1024), ("bf16-mixed", True, 256),
        )
    ]  # fmt: skip
    tuned = [
        {"encoder": TUNED, "pretrained": True, "size": size, "precision": "bf16-mixed", "compile": False, "batch": 256}
        for size in (64, 128)
    ]
    return [given | {"method": "spread"} for given in small + tuned]


def images_a_second(config: TrainConfig) -> dict[str, float]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    step = TrainingStep(config, load(config))
    for _ in range(WARM):
        step()
    step.wait()
    begun = time.perf_counter() - started
    taken = []
    for _ in range(PIECES):
        started = time.perf_counter()
        for _ in range(PIECE):
            step()
        step.wait()
        taken.append(PIECE * step.batch / (time.perf_counter() - started))
    peak = torch.cuda.max_memory_allocated() / 2**20
    spread = (max(taken) - min(taken)) / 2
    return {"per_second": statistics.median(taken), "half_range": spread, "peak_mb": peak, "seconds_to_begin": begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of images, 32 x 32, as thanos takes it")
    parser.add_argument("--out", type=Path, default=Path("results/gpu_training.json"))
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for each in settings():
        try:
            rows.append(each | images_a_second(TrainConfig(data=given.data, accelerator="gpu", **each)))
        except Exception as error:
            rows.append(each | {"failed": str(error)[-300:]})
        print(rows[-1], flush=True)
        torch._dynamo.reset()
    facts = {"command": "python benchmarks/gpu_training.py --data the 10,000 test images of CIFAR-10, two superclasses"}
    facts |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
    write_json(given.out, facts | {"trained": rows})


if __name__ == "__main__":
    main()
