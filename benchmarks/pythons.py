"""The built wheel and sdist on several Pythons: each installed into an environment of its own, there the quick tests.

The sdist's own tests run against the installed wheel (its `src` is removed first), those that are not marked slow; then
the sdist is installed in the wheel's place and its command asked for its version.

python benchmarks/pythons.py PYTHON [PYTHON ...] --out results/pythons.json
"""

import argparse
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thanos.runs.provenance import commit, hardware
from thanos.storage import write_json


def tried(python: str, wheel: Path, sdist: Path, folder: Path, extras: Sequence[str]) -> dict[str, Any]:
    """Install and test on one Python."""
    home = folder / f"python-{len(list(folder.iterdir()))}"
    run = home / "bin/python"
    subprocess.run(["uv", "venv", "--quiet", "--python", python, home], check=True)
    started = time.perf_counter()
    install = ["uv", "pip", "install", "--quiet", "--python", run]
    subprocess.run([*install, f"{wheel}[{','.join(extras)}]"], check=True)
    asked = subprocess.run(
        [run, "-c", "import platform as p; print(p.python_version())"], capture_output=True, text=True
    )
    found: dict[str, Any] = {"python": asked.stdout.strip()}
    found["seconds_to_install"] = round(time.perf_counter() - started, 1)
    with tarfile.open(sdist) as file:
        file.extractall(home / "sdist", filter="data")
    (place,) = (home / "sdist").iterdir()
    shutil.rmtree(place / "src")
    started = time.perf_counter()
    quick = [run, "-m", "pytest", "tests", "-m", "not slow", "-p", "no:cacheprovider"]
    done = subprocess.run(quick, cwd=place, capture_output=True, text=True)
    found |= {"seconds_of_tests": round(time.perf_counter() - started, 1), "exit": done.returncode}
    counts = re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout.splitlines()[-1])
    found |= {kind: int(count) for count, kind in counts}
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-2000:], flush=True)
    subprocess.run([*install, "--reinstall-package", "thanos-repr", sdist], check=True)
    asked = subprocess.run([home / "bin/thanos", "--version"], capture_output=True, text=True, check=True)
    found["version_of_sdist"] = asked.stdout.strip()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="+", help="versions, or interpreters")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(["uv", "build", "--quiet", "--out-dir", folder / "dist"], check=True)
        (wheel,), (sdist,) = ((folder / "dist").glob(end) for end in ("*.whl", "*.tar.gz"))
        facts: dict[str, Any] = {"command": "python benchmarks/pythons.py " + " ".join(["PYTHON"] * len(given.pythons))}
        facts |= {"wheel_kb": round(wheel.stat().st_size / 1e3), "sdist_kb": round(sdist.stat().st_size / 1e3)}
        facts["pythons"] = {}
        for python in given.pythons:
            found = tried(python, wheel, sdist, folder, ["dev"])
            facts["pythons"][found.pop("python")] = found
            print(python, found, flush=True)
            write_json(given.out, facts | {"commit": commit(), "hardware": hardware()})


if __name__ == "__main__":
    main()
