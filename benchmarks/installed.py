"""What a fresh installation weighs over torch, torchvision and scikit-learn, and how soon its command answers.

Builds the wheel, installs it into an environment of its own (with uv, from the index), and there takes the seconds of
`thanos --help`, of a subcommand's help, of a misspelt flag and of Python itself.

python benchmarks/installed.py --out results/installed.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from thanos.runs.provenance import commit, hardware
from thanos.storage import write_json

BASE = ("torch", "torchvision", "scikit-learn")
WEIGH = """
import json, importlib.metadata as metadata
found = {}
for one in metadata.distributions():
    sizes = [file.locate().stat().st_size for file in one.files or () if file.locate().is_file()]
    found[one.metadata["Name"].lower()] = sum(sizes)
print(json.dumps(found))
"""
COMMANDS = {
    "python -c pass": ("python", "-c", "pass"),
    "thanos --help": ("thanos", "--help"),
    "thanos discover --help": ("thanos", "discover", "--help"),
    "thanos train --methd (misspelt)": ("thanos", "train", "--methd", "x", "--out", "y"),
}


def environment(folder: Path, *packages: str) -> Path:
    """Its bin; made with the running Python's version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run(["uv", "venv", "--quiet", "--python", version, folder], check=True)
    install = ["uv", "pip", "install", "--quiet", "--python", folder / "bin/python", *packages]
    subprocess.run(install, check=True)
    return folder / "bin"


def weigh(binaries: Path) -> dict[str, int]:
    """Bytes of every installed distribution."""
    done = subprocess.run([binaries / "python", "-c", WEIGH], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def seconds(command: list[str]) -> float:
    taken = []
    for _ in range(9):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True)
        taken.append(time.perf_counter() - started)
    return round(median(taken), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", folder], check=True)
        (wheel,) = folder.glob("*.whl")
        before = weigh(environment(folder / "base", *BASE))
        binaries = environment(folder / "ours", str(wheel))
        added = {name: size for name, size in weigh(binaries).items() if name not in before}
        answers = {name: seconds([str(binaries / c[0]), *c[1:]]) for name, c in COMMANDS.items()}
        wheel_kb = round(wheel.stat().st_size / 1e3)
    facts = {
        "command": f"python benchmarks/installed.py --out {given.out}",
        "packages_added": len(added),
        "mb_added": round(sum(added.values()) / 1e6, 1),
        "wheel_kb": wheel_kb,
        "seconds": answers,
        "mb_of_each": {name: round(size / 1e6, 1) for name, size in sorted(added.items(), key=lambda i: -i[1])},
        "python": sys.version.split()[0],
    }
    write_json(given.out, facts | {"commit": commit(), "hardware": hardware()})
    print(f"{len(added)} packages, {facts['mb_added']} MB over {', '.join(BASE)}; {answers}")


if __name__ == "__main__":
    main()
