"""Kill -9 a training at random moments, start it again until it ends, and compare with one never killed: ten times.

    python benchmarks/resume.py --out results/resume.json

Every start is a process of its own (forked: imports are not what is killed); a checkpoint is written after almost
every step, so that many kills fall into the writing of one.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
from pathlib import Path

import torch

from thanos.config import RunConfig, TrainConfig
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json
from thanos.training.fit import train

CONFIG = TrainConfig(method="thanos", epochs=8, seed=3)
KILLS = 4


def run(folder: Path) -> None:
    torch.set_num_threads(1)
    train(CONFIG, folder, run=RunConfig(quiet=True, threads=1, checkpoint_minutes=1e-5), say=lambda line: None)


def start(folder: Path) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=run, args=(folder,))
    process.start()
    return process


def results_of(folder: Path) -> tuple[bytes, bytes, str]:
    weights = [(folder / name).read_bytes() for name in ("model.safetensors", "best.safetensors")]
    return weights[0], weights[1], (folder / "metrics.jsonl").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trials", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as work:
        reference = Path(work) / "reference"
        start(reference).join()
        expected, trials = results_of(reference), []
        for trial in range(arguments.trials):
            folder, kills, while_writing = Path(work) / str(trial), 0, 0
            while True:
                process = start(folder)
                process.join(rng.uniform(0.2, 2.5) if kills < KILLS else None)
                if process.exitcode is not None:
                    break
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()
                kills += 1
                while_writing += folder.exists() and any(p.name.startswith(".") for p in folder.iterdir())
            same = process.exitcode == 0 and results_of(folder) == expected
            trials.append({"kills": kills, "kills_while_writing": while_writing, "bit_for_bit": same})
            print(f"trial {trial + 1}: killed {kills} times ({while_writing} while writing), equal: {same}", flush=True)
    result = {
        "what": "weights (last and best) and metrics.jsonl of a killed and restarted training, compared byte by byte",
        "command": f"python benchmarks/resume.py --trials {arguments.trials}",
        "equal": sum(t["bit_for_bit"] for t in trials),
        "trials": trials,
        "settings": CONFIG.model_dump(mode="json"),
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    print(f"{result['equal']} of {len(trials)} equal")
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
