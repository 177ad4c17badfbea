"""CIFAR-10 at CPU scale: 10,000 training images, the tiny encoder, 12 epochs, the full test set, paired seeds.

THANOS_DATA=DIR python benchmarks/cifar10_cpu.py --work runs/cifar10-cpu --out results/cifar10_cpu.json
"""

import argparse
from pathlib import Path

from thanos.config import RunConfig, TrainConfig
from thanos.reproduce.comparison import compare, table_lines
from thanos.storage import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="run directories; an interrupted comparison goes on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    arguments = parser.parse_args()
    base = TrainConfig(data="cifar10", train_limit=10_000, encoder="tiny", epochs=12, method="supcon")
    result = compare(
        base,
        arguments.seeds,
        arguments.work,
        run=RunConfig(threads=1, quiet=True),
        jobs=arguments.jobs,
        command=f"python benchmarks/cifar10_cpu.py --work runs/cifar10-cpu --out {arguments.out} "
        f"--seeds {arguments.seeds} --jobs {arguments.jobs}",
        say=lambda line: print(line, flush=True),
    )
    print("\n".join(table_lines(result.metrics)))
    write_json(arguments.out, result.metrics)


if __name__ == "__main__":
    main()
