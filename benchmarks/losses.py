"""Cost of the contrastive losses, forward and backward, beside peers' and the three matrix products they rest on.

Every figure is taken in a process of its own, one thread, float32, 128 dimensions, 2 views, 10 balanced superclasses:
the median processor time of a step, and the peak of resident memory above what inputs and libraries take. Page faults
are taken out by an allocator that keeps freed memory (MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=60000000000); memory is
measured without that.

On a GPU (--device cuda), in one process: milliseconds between events, peak of allocated memory; also the plain formula
compiled and the Triton kernels.

Peers come from the index (pip install pytorch-metric-learning lightly einops); SupContrast's and the paper's own loss
by a path, if given. Figures go to a .json, and a picture of cost against batch size beside it.

python benchmarks/losses.py --supcontrast SupContrast/losses.py --thanos-code thanos-code
python benchmarks/losses.py --device cuda --out results/losses_gpu.json
"""

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peak import peak_above

from thanos.objective import tiled

DIM, VIEWS, CLASSES = 128, 2, 10
SIZES = (128, 512, 2048, 8192, 65_536)
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "60000000000"}
SUPCONTRAST, PAPER = "THANOS_BENCH_SUPCONTRAST", "THANOS_BENCH_PAPER"
"""Environment of the measuring processes: paths."""
ONCE = 32_768
"""From so many images on a step is a minute: it is taken once, with an ordinary allocator."""
FLOOR_SIDE = 8192
"""Larger floors are scaled up from this one."""
KERNELS = tiled._fused
Step = Callable[[], object]


def inputs(batch: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(VIEWS, batch, DIM, generator=generator), dim=-1)
    label = torch.arange(batch)[torch.randperm(batch, generator=generator)] % CLASSES
    return rows.to(device), label.to(device)


def floor(count: int, device: str) -> Step:
    """Similarities, and the two products of their gradient."""
    side = min(count, FLOOR_SIDE)
    x, y = torch.randn(side, DIM, device=device), torch.randn(side, DIM, device=device)
    similarity, dx, dy = x.new_empty(side, side), torch.empty_like(x), torch.empty_like(y)

    def step() -> None:
        torch.mm(x, y.T, out=similarity)
        torch.mm(similarity, y, out=dx)
        torch.mm(similarity.T, x, out=dy)

    return step


def ours(
    name: str, contrast: str, large: int, *, kernels: bool = False, compiled: bool = False
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    from thanos import info_nce_loss, spread_loss, supcon_loss
    from thanos.objective import contrastive

    contrastive.LARGE.update(cpu=large, cuda=large)
    tiled._fused = KERNELS if kernels else lambda rows: None
    options: dict[str, Any] = {"temperature": 0.5, "contrast": contrast}
    if name == "spread":

        def spread(views: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return spread_loss(views, label, alpha=0.5, **options)

        return torch.compile(spread) if compiled else spread
    if name == "supcon":
        return lambda views, label: supcon_loss(views, label, denominator="all", **options)
    return lambda views, label: info_nce_loss(views, **options)


def supcontrast() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    spec = importlib.util.spec_from_file_location("supcontrast", os.environ[SUPCONTRAST])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loss = module.SupConLoss(temperature=0.5, base_temperature=0.5)
    return lambda views, label: loss(views.transpose(0, 1), label)


def papers() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    root = Path(os.environ[PAPER]) / "unagi"
    for name, folder in (("unagi", root), ("unagi.tasks", root / "tasks")):
        sys.modules[name] = types.ModuleType(name)  # its own __init__ imports all that it ever needs
        sys.modules[name].__path__ = [str(folder)]
    released = importlib.import_module("unagi.tasks.loss_fns.contrastive_loss")
    loss = released.ContrastiveLoss(views=VIEWS, temp=0.5, lc_norm=True)
    return lambda views, label: loss(*views, label.repeat_interleave(VIEWS))


def peer(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    if name == "lightly NTXent":
        from lightly.loss import NTXentLoss

        lightly = NTXentLoss(temperature=0.5)
        return lambda views, label: lightly(views[0], views[1])
    from pytorch_metric_learning.losses import SupConLoss

    pml = SupConLoss(temperature=0.5)
    return lambda views, label: pml(views.flatten(0, 1), label.repeat(VIEWS))


CASES: dict[str, tuple[str, Callable[[], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]], int]] = {
    "L_spread, plain": ("cross-view", lambda: ours("spread", "cross-view", 2**62), 8192),
    "L_spread, tiled": ("cross-view", lambda: ours("spread", "cross-view", 0), 65_536),
    "L_spread all-view, plain": ("all-view", lambda: ours("spread", "all-view", 2**62), 2048),
    "L_spread all-view, tiled": ("all-view", lambda: ours("spread", "all-view", 0), 65_536),
    "SupCon (Khosla), plain": ("all-view", lambda: ours("supcon", "all-view", 2**62), 2048),
    "SupCon (Khosla), tiled": ("all-view", lambda: ours("supcon", "all-view", 0), 8192),
    "NT-Xent, tiled": ("all-view", lambda: ours("infonce", "all-view", 0), 8192),
    "pytorch-metric-learning SupCon": ("all-view", lambda: peer("PML SupCon"), 2048),
    "lightly NTXent (no labels)": ("all-view", lambda: peer("lightly NTXent"), 2048),
    "SupContrast SupCon": ("all-view", supcontrast, 2048),
    "the paper's L_spread": ("cross-view", papers, 512),
}
"""Contrast, the loss, and the largest batch it is tried on."""
ON_GPU: dict[str, tuple[str, Callable[[], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]], int]] = {
    "L_spread, compiled": ("cross-view", lambda: ours("spread", "cross-view", 2**62, compiled=True), 16_384),
    "L_spread, kernels": ("cross-view", lambda: ours("spread", "cross-view", 0, kernels=True), 65_536),
    "L_spread all-view, kernels": ("all-view", lambda: ours("spread", "all-view", 0, kernels=True), 65_536),
    "SupCon (Khosla), kernels": ("all-view", lambda: ours("supcon", "all-view", 0, kernels=True), 65_536),
}
"""More of them, and how far the others go there: memory is no bound below GPU_LARGEST."""
GPU_SIZES, GPU_LARGEST = (512, 2048, 4096, 8192, 16_384, 65_536), 16_384


def measure(case: str, batch: int, device: str) -> dict[str, float]:
    """In this process: median seconds of a step, their spread, and megabytes at the peak."""
    torch.set_num_threads(1)
    if case.startswith("floor"):
        count = batch * (VIEWS if case == "floor all-view" else 1)
        step, scale = floor(count, device), (count / min(count, FLOOR_SIDE)) ** 2
    else:
        rows, label = inputs(batch, device)
        loss = (CASES | ON_GPU)[case][1]()
        scale = 1.0

        def once(views: torch.Tensor, kinds: torch.Tensor) -> None:
            leaf = views.detach().requires_grad_()  # memory is counted above the inputs
            loss(leaf, kinds).backward()  # type: ignore[no-untyped-call]

        def step() -> None:
            once(rows, label)

        once(*inputs(256, device))  # code that any size needs
    if device == "cuda":
        return {name: value * (scale if name != "peak_mb" else 1) for name, value in on_gpu(step).items()}
    peak = peak_above()
    started = time.process_time()
    step()
    is_long = batch >= ONCE and not case.startswith("floor")
    taken = [time.process_time() - started] if is_long else []
    megabytes = peak()
    while not is_long and (len(taken) < 3 or (sum(taken) < 2 and len(taken) < 200)):
        started = time.process_time()
        step()
        taken.append(time.process_time() - started)
        if sum(taken) > 60:
            break
    spread = (max(taken) - min(taken)) / 2
    return {"seconds": statistics.median(taken) * scale, "half_range": spread * scale, "peak_mb": megabytes}


def on_gpu(step: Step) -> dict[str, float]:
    """Between events, after steps that compile and warm up; peak above what stands before a step."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    megabytes = (torch.cuda.max_memory_allocated() - before) / 2**20
    taken: list[float] = []
    while len(taken) < 5 or (sum(taken) < 0.5 and len(taken) < 100):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1000)
    return {
        "seconds": statistics.median(taken),
        "half_range": (max(taken) - min(taken)) / 2,
        "peak_mb": megabytes,
    }


def figures_of(case: str, batch: int, device: str) -> dict[str, float]:
    """On a CPU in a process of its own: seconds without page faults, memory with an ordinary allocator."""
    if device == "cuda":
        try:
            return measure(case, batch, device)
        except (torch.OutOfMemoryError, ImportError) as error:
            print(case, error)
            return {"failed": 1}
        finally:
            torch.cuda.empty_cache()
    found: dict[str, float] = {}
    both = ((KEEP, ("seconds", "half_range")), ({}, ("peak_mb",)))
    together = batch >= ONCE and not case.startswith("floor")
    for extra, keys in (({}, ("seconds", "half_range", "peak_mb")),) if together else both:
        command = [sys.executable, __file__, "--device", device, "--one", case, str(batch)]
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | extra | {"OMP_NUM_THREADS": "1"})
        if run.returncode:
            return {"failed": run.returncode}
        result = json.loads(run.stdout.splitlines()[-1])
        found |= {key: result[key] for key in keys}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "BATCH"), help="measure here and print JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--batch", type=int, action="append", help=f"only these; default: {SIZES}, on a GPU {GPU_SIZES}"
    )
    parser.add_argument("--out", type=Path, default=Path("results/losses.json"))
    parser.add_argument("--supcontrast", type=Path, help="SupContrast's losses.py")
    parser.add_argument("--thanos-code", type=Path, help="the paper's repository")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]), given.device)))
        return
    from thanos.runs.provenance import commit, hardware, versions
    from thanos.storage import write_json

    measured: dict[str, dict[str, Any]] = {}
    sizes = given.batch or (SIZES if given.device == "cpu" else GPU_SIZES)
    if given.device == "cuda":
        for case, (contrast, loss, largest) in CASES.items():
            CASES[case] = contrast, loss, largest if case == "the paper's L_spread" else max(largest, GPU_LARGEST)
        CASES.update(ON_GPU)
    command = "python benchmarks/losses.py" + (" --device cuda" if given.device == "cuda" else "")
    command += "".join(f" --batch {size}" for size in given.batch or ())
    command += " --supcontrast SupContrast/losses.py" if given.supcontrast else ""
    command += " --thanos-code thanos-code" if given.thanos_code else ""
    for case, name, path in (
        ("SupContrast SupCon", SUPCONTRAST, given.supcontrast),
        ("the paper's L_spread", PAPER, given.thanos_code),
    ):
        if path is None:
            del CASES[case]
        else:
            os.environ[name] = str(path)
    for batch in sizes:
        floors = {
            contrast: figures_of(f"floor {contrast}", batch, given.device) for contrast in ("cross-view", "all-view")
        }
        rows: dict[str, Any] = {f"floor {contrast}": figures for contrast, figures in floors.items()}
        for case, (contrast, _, largest) in CASES.items():
            if batch > largest:
                continue
            figures = figures_of(case, batch, given.device)
            if "seconds" in figures:
                figures["times_floor"] = figures["seconds"] / floors[contrast]["seconds"]
            rows[case] = figures
            print(batch, case, {k: round(v, 4) for k, v in figures.items()}, flush=True)
        measured[str(batch)] = rows
        facts = {"command": command, "threads": 1, "dim": DIM, "views": VIEWS, "classes": CLASSES}
        facts |= {"commit": commit(), "hardware": hardware(), "versions": versions()}
        write_json(given.out, facts | {"by_batch": measured})
    draw(measured, given.out.with_suffix(".png"))


SHOWN = {
    "floor all-view": ("three matrix products (all-view)", "0.6", ":"),
    "L_spread, tiled": ("L_spread, cross-view", "#0072b2", "-"),
    "L_spread all-view, tiled": ("L_spread, all-view", "#009e73", "-"),
    "L_spread all-view, plain": ("L_spread, all-view, plain formula", "#009e73", "--"),
    "SupCon (Khosla), tiled": ("SupCon, all-view", "#e69f00", "-"),
    "SupContrast SupCon": ("SupContrast", "#d55e00", "--"),
    "pytorch-metric-learning SupCon": ("pytorch-metric-learning", "#cc79a7", "--"),
    "the paper's L_spread": ("the paper's L_spread", "black", "--"),
    "L_spread, kernels": ("L_spread, cross-view, Triton", "#0072b2", "-."),
    "L_spread all-view, kernels": ("L_spread, all-view, Triton", "#009e73", "-."),
    "L_spread, compiled": ("L_spread, cross-view, compiled", "#56b4e9", "--"),
}
"""Lines of the picture: label, colour, style."""
PLAIN_BELOW = {("SupCon (Khosla), tiled", batch): "SupCon (Khosla), plain" for batch in SIZES if batch < 768}
"""What the library takes by itself where a formula is light."""
SEEN = 2.0
"""Megabytes; less cannot be told from an allocator's habits."""


def draw(measured: dict[str, dict[str, Any]], path: Path) -> None:
    """Milliseconds, and megabytes, against images in a batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key, unit, what in (
        (panels[0], "seconds", 1000.0, "milliseconds a step"),
        (panels[1], "peak_mb", 1.0, "peak memory, MB"),
    ):
        for case, (label, colour, style) in SHOWN.items():
            taken = {b: rows.get(PLAIN_BELOW.get((case, int(b)), case), {}) for b, rows in measured.items()}
            points = [(int(b), figures[key] * unit) for b, figures in taken.items() if key in figures]
            points = [point for point in points if key == "seconds" or point[1] >= SEEN]
            if not points or (key == "peak_mb" and case.startswith("floor")):
                continue
            axes.loglog(*zip(*points, strict=True), color=colour, linestyle=style, marker=".", label=label)
        axes.set_xlabel("images in a batch (two views, 128 dimensions)")
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
    panels[1].set_ylim(bottom=SEEN)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
