"""What a number must carry to be repeated, beside the command: versions, hardware, commit."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """Of Python and the packages that decide numbers."""
    names = ("torch", "torchvision", "timm", "pytorch-lightning", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


@cache
def _version(name: str) -> str:
    return version(name)


def hardware() -> str:
    """Processor, cores, threads in use, and accelerators."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        model = next((line.split(": ")[1] for line in cpuinfo.read_text().splitlines() if "model name" in line), model)
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    counts = f"{os.cpu_count()} cores, threads: {torch.get_num_threads()}"
    return ", ".join([model, counts, *cuda])


@cache
def commit() -> str | None:
    """Which the package's source stood at when first asked, with + for uncommitted changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "-C", here, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(["git", "-C", here, "status", "--porcelain", "."], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else None
