"""Does the autoencoder earn its place over a second spread encoder of the same width, trained to the end?

Heads of Table 3's scale `frozen`, trained for 10, 100 and 1,000 epochs, with several weights of the reconstruction.
Every row of two encoders is held against the control of its width and number of epochs, paired by seed. Nothing is
chosen here: settings are the scale's, and all that were run are shown.

THANOS_DATA=DIR python benchmarks/autoencoder_epochs.py --work runs/autoencoder-epochs --jobs 2
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from thanos.config import RunConfig
from thanos.evaluate.intervals import mean_interval
from thanos.reproduce.plan import carry_out
from thanos.reproduce.records import Places, Records
from thanos.reproduce.rows import Block, Part, Row
from thanos.reproduce.scale import load_scale
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

EPOCHS = {"grocery": (10, 100, 1000), "ham10000": (10, 100)}
"""Sets of few images: a thousand epochs of 2,640 are four minutes on one core, of 6,400 a quarter of an hour."""
SEEDS = 5
WEIGHTS = (0.1, 1.0, 10.0)
CONTROL = "spread + spread"


def _auto(weight: float) -> Part:
    return Part("cauto", {} if weight == 1 else {"reconstruction_weight": weight})


SPREAD = Part("spread")
ROWS = (
    Row("spread", "", "variant", (SPREAD,)),
    Row(CONTROL, "", "control", (SPREAD, Part("spread", second=True))),
    *(Row(f"cauto, reconstruction {weight:g}", "", "variant", (_auto(weight),)) for weight in WEIGHTS),
    *(Row(f"thanos, reconstruction {weight:g}", "", "variant", (SPREAD, _auto(weight))) for weight in WEIGHTS),
)


def block(data: str, epochs: int, seed: int) -> Block:
    scale = load_scale("frozen")
    return Block(scale.base(data, seed).model_copy(update={"epochs": epochs}), ROWS, scale.transfer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="run directories; an interrupted study goes on")
    parser.add_argument("--records", type=Path, default=Path("results/runs/autoencoder-epochs"))
    parser.add_argument("--out", type=Path, default=Path("results/autoencoder_epochs.json"))
    parser.add_argument("--dataset", choices=list(EPOCHS), action="append", help="only these")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, SEEDS + 1))
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    given = parser.parse_args()
    command = f"python benchmarks/autoencoder_epochs.py --work runs/autoencoder-epochs --jobs {given.jobs}"
    cells = [(data, epochs, seed) for data in EPOCHS for epochs in EPOCHS[data] for seed in range(SEEDS)]
    places = Places(given.work, given.records)
    wanted = given.dataset or list(EPOCHS)
    blocks = [block(*cell) for cell in cells if cell[0] in wanted and cell[2] < given.seeds]
    run = RunConfig(threads=1, quiet=True)
    failures = carry_out(
        blocks, places, run=run, jobs=given.jobs, command=command, say=lambda line: print(line, flush=True)
    )
    found = collect(Records(places.records), cells)
    facts = {"versions": versions(), "hardware": hardware(), "commit": commit()}
    write_json(given.out, {"command": command, "studied": found, **facts})
    for data, by_epochs in found.items():
        for epochs, rows in by_epochs.items():
            for name, numbers in rows.items():
                low, high = numbers["over the control"]
                print(
                    f"{data:<9} {epochs:>4} epochs  {name:<28} probe {numbers['probe']:.1f}"
                    f"  over the control {low:+.1f} to {high:+.1f}  AMI {numbers['recovery']:.1f}"
                )
    for failure in failures:
        print(f"failed: {failure.title}: {failure.reason} ({failure.log})")


def collect(records: Records, cells: list[tuple[str, int, int]]) -> dict[str, Any]:
    """Percentages by data set, epochs and row; differences from the control of as many epochs, paired by seed."""
    scores: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for data, epochs, seed in cells:
        found_here = [records.find(row, block(data, epochs, seed)) for row in ROWS]
        for row, record in zip(ROWS, found_here, strict=True):
            if record is not None and None not in found_here:
                scores.setdefault((data, epochs, row.name), []).append(record)
    found: dict[str, Any] = {}
    for (data, epochs, name), rows in scores.items():
        probe = [100 * record["scores"]["probe"]["accuracy"] for record in rows]
        control = [100 * record["scores"]["probe"]["accuracy"] for record in scores[data, epochs, CONTROL]]
        apart = [ours - theirs for ours, theirs in zip(probe, control, strict=True)]
        found.setdefault(data, {}).setdefault(str(epochs), {})[name] = {
            "probe": mean(probe),
            "by seed": probe,
            "seeds": len(probe),
            "over the control": list(mean_interval(apart)) if len(apart) > 1 else apart * 2,
            "recovery": 100 * mean(record["scores"]["recovery"]["adjusted_mutual_information"] for record in rows),
            "seconds": [[training["seconds"] for training in record["trainings"]] for record in rows],
        }
    return found


if __name__ == "__main__":
    main()
