"""Which blocks the Triton kernels should hold on this GPU: milliseconds of L_spread's forward and of its whole step.

Kernels are compiled by as many processes as there are cores, then timed one after the other, each beside its largest
difference from the plain formula in float64 at 1,024 images (a wrong kernel is no fast one). What is in use is marked.

python benchmarks/kernel_blocks.py --out results/kernel_blocks.json
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from thanos import spread_loss
from thanos.objective import contrastive, fused
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

VIEWS, DIM, CLASSES = 2, 128, 10
SIZES = (512, 4096, 16_384)
TRIED = [
    {"ROWS": rows, "COLUMNS": columns, "num_warps": warps, "num_stages": stages}
    for rows, columns, warps, stages in (
        (16, 32, 4, 2), (16, 64, 4, 2), (32, 16, 4, 1), (32, 32, 4, 2), (32, 64, 4, 2), (64, 32, 4, 1), (64, 32, 4, 2),
        (64, 32, 4, 3), (64, 32, 8, 2), (64, 64, 4, 2), (64, 64, 8, 2), (64, 128, 8, 2), (128, 32, 8, 2),
        (128, 64, 8, 2), (128, 64, 8, 1), (128, 32, 4, 2),
    )
]  # fmt: skip


def loss(views: torch.Tensor, label: torch.Tensor, contrast: str) -> torch.Tensor:
    return spread_loss(views, label, alpha=0.5, temperature=0.5, contrast=contrast)  # type: ignore[arg-type]


def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    rows = torch.nn.functional.normalize(torch.randn(VIEWS, batch, DIM, generator=generator), dim=-1)
    return rows.cuda(), (torch.arange(batch) % CLASSES).cuda()


def use(blocks: dict[str, int]) -> None:
    contrastive.LARGE.update(cuda=0)
    fused._blocks = lambda rows: {"DIM": DIM, **blocks}


def milliseconds(step: Any) -> float:
    from triton.testing import do_bench

    return float(do_bench(step, warmup=20, rep=80, return_mode="median"))


def difference(contrast: str) -> float:
    views, label = inputs(1024)
    ours = views.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(ours, label, contrast), ours)
    exact = views.double().requires_grad_()
    contrastive.LARGE.update(cuda=2**62)
    (gradient,) = torch.autograd.grad(loss(exact, label, contrast), exact)
    contrastive.LARGE.update(cuda=0)
    return float((slope - gradient).norm() / gradient.norm())


def figures(blocks: dict[str, int]) -> dict[str, Any]:
    use(blocks)
    found: dict[str, Any] = dict(blocks)
    for contrast in ("cross-view", "all-view"):
        found[f"{contrast} difference"] = difference(contrast)
        for batch in SIZES:
            views, label = inputs(batch)
            leaf = views.requires_grad_()
            found[f"{contrast} {batch} forward"] = milliseconds(lambda: loss(leaf, label, contrast))  # noqa: B023
            found[f"{contrast} {batch} step"] = milliseconds(
                lambda: torch.autograd.grad(loss(leaf, label, contrast), leaf)  # noqa: B023
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/kernel_blocks.json"))
    parser.add_argument("--compile", type=int, help="compile this one of TRIED and end")
    given = parser.parse_args()
    if given.compile is not None:
        use(TRIED[given.compile])
        for contrast in ("cross-view", "all-view"):
            views, label = inputs(512)
            loss(views.requires_grad_(), label, contrast).backward()
        return
    command = [sys.executable, __file__, "--compile"]
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 2)) as pool:
        ran = [*pool.map(lambda k: subprocess.run([*command, str(k)], capture_output=True), range(len(TRIED)))]
    inputs(512)
    used = fused._blocks(torch.empty(1, DIM, device="cuda"))
    rows = []
    for blocks, compiled in zip(TRIED, ran, strict=True):
        try:
            if compiled.returncode:
                raise RuntimeError(compiled.stderr.decode()[-200:])
            rows.append(figures(blocks) | {"used": all(used[name] == value for name, value in blocks.items())})
        except Exception as error:
            rows.append(blocks | {"failed": str(error)[-200:]})
        print(json.dumps(rows[-1]), flush=True)
    facts = {"command": "python benchmarks/kernel_blocks.py", "dim": DIM, "views": VIEWS, "classes": CLASSES}
    facts |= {"commit": commit(), "hardware": hardware(), "versions": versions(), "unit": "milliseconds"}
    write_json(given.out, facts | {"tried": rows})


if __name__ == "__main__":
    main()
