"""Kill -9 a training at random moments, start it again until it ends, and compare with one never killed: ten times.

    python benchmarks/resume.py --out results/resume.json

Every trial is the real command in a process of its own; a checkpoint is written after almost every step, so that many
kills fall into the writing of one.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thanos.provenance import commit, hardware, versions
from thanos.storage import write_json

COMMAND = [
    sys.executable, "-m", "thanos", "train", "--method", "thanos", "--epochs", "8", "--seed", "3", "--threads", "1",
    "--checkpoint-minutes", "0.0001", "--quiet", "--out",
]  # fmt: skip


def results_of(folder: Path) -> tuple[bytes, bytes, str]:
    weights = [(folder / name).read_bytes() for name in ("model.safetensors", "best.safetensors")]
    return weights[0], weights[1], (folder / "metrics.jsonl").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trials", type=int, default=10)
    arguments = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as work:
        reference = Path(work) / "reference"
        subprocess.run([*COMMAND, reference], check=True, stdout=subprocess.DEVNULL)
        expected, trials = results_of(reference), []
        for trial in range(arguments.trials):
            folder, kills, while_writing = Path(work) / str(trial), 0, 0
            while True:
                process = subprocess.Popen([*COMMAND, folder], stdout=subprocess.DEVNULL)
                while not (folder / "run.log").exists() and process.poll() is None:
                    time.sleep(0.01)
                try:
                    process.wait(rng.uniform(0.2, 4) if kills < 3 else None)
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    while_writing += any(p.name.startswith(".") for p in folder.iterdir())
            same = process.returncode == 0 and results_of(folder) == expected
            trials.append({"kills": kills, "kills_while_writing": while_writing, "bit_for_bit": same})
            print(f"trial {trial + 1}: killed {kills} times ({while_writing} while writing), equal: {same}", flush=True)
    result = {
        "what": "weights (last and best) and metrics.jsonl of a killed and restarted training, compared byte by byte",
        "command": f"python benchmarks/resume.py --trials {arguments.trials}",
        "equal": sum(t["bit_for_bit"] for t in trials),
        "trials": trials,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    print(f"{result['equal']} of {len(trials)} equal")
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
