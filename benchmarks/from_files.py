"""From image files to a fair classifier and a page, as it is typed: seconds of each command, from nothing in the cache.

`thanos discover NAME`, `thanos robust`, `thanos report` on a published set with groups, the extra photos installed, all
cores. Beside the seconds what came out: the worst test group of a plain classifier and of the portfolio's pick.

THANOS_DATA=DIR python benchmarks/from_files.py celeba --out results/from_files.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json


def typed(*words: object, cache: Path) -> dict[str, Any]:
    """Seconds of the clock and of the processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    environment = os.environ | {"THANOS_CACHE": str(cache)}
    command = [str(Path(sys.executable).parent / "thanos"), *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - started, 1), "processor_seconds": round(worked, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of a set with groups")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        run, cache, steps = Path(home) / "run", Path(home) / "cache", {}
        for name, words in {
            "discover": ("discover", given.name, "-o", run),
            "robust": ("robust", run),
            "report": ("report", run),
        }.items():
            steps[name] = typed(*words, cache=cache)
            print(name, steps[name], flush=True)
        told = json.loads((run / "robust-portfolio.json").read_text())
        page = (run / "subclasses.html").stat().st_size
    worst = {"portfolio": told["scores"]["groups"]["worst_group"]}
    worst |= {"plain": told["plain"]["scores"]["groups"]["worst_group"]}
    found: dict[str, Any] = {
        "command": f"python benchmarks/from_files.py {given.name}",
        "set": given.name,
        "steps": steps,
    }
    found |= {"seconds": round(sum(each["seconds"] for each in steps.values()), 1), "worst_test_group": worst}
    found |= {"page_bytes": page, "load_average_after": round(os.getloadavg()[0], 2)}
    write_json(given.out, found | {"commit": commit(), "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
