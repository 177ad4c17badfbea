"""The settings that all rows of Table 3 share at CPU scale, and what alpha, temperature and the other terms do.

Settings are chosen on a held-out seed by validation superclass accuracy and label-free geometry alone; fine accuracies
are measured to show where the chosen ones land, and choose nothing.

THANOS_DATA=DIR python benchmarks/table3_study.py --work runs/table3-study --jobs 2
"""

import argparse
from pathlib import Path
from typing import Any

from thanos.config import DemoConfig, RunConfig
from thanos.reproduce.demo import demo_settings
from thanos.reproduce.plan import carry_out
from thanos.reproduce.records import Places, Records, convert_old_records
from thanos.reproduce.rows import Block, Part, Row
from thanos.reproduce.scale import load_scale
from thanos.runs.provenance import commit, hardware, versions
from thanos.storage import write_json

SEED = 100  # no seed of the table
DATASETS = ("digits", "cifar10", "cifar100")
ALPHAS = ("auto", "follow", 0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def study_rows() -> list[tuple[str, Row]]:
    """(what is varied, row): every row is one encoder."""
    rows = [
        (
            f"learning_rate, {method}",
            Row(f"{method} rate {rate:g}", "", "variant", (Part(method, {"learning_rate": rate}),)),
        )
        for method in ("supcon", "spread", "cauto")
        for rate in (1e-3, 3e-3)
    ]
    rows += [("alpha", Row(f"alpha {alpha}", "", "variant", (Part("spread", {"alpha": alpha}),))) for alpha in ALPHAS]
    rows += [
        ("temperature", Row(f"temperature {tau:g}", "", "variant", (Part("spread", {"temperature": tau}),)))
        for tau in (0.2, 0.5, 1.0)
    ]
    rows += [
        (
            "reconstruction_weight",
            Row(f"reconstruction {w:g}", "", "variant", (Part("cauto", {"reconstruction_weight": w}),)),
        )
        for w in (0.3, 1.0, 3.0)
    ]
    rows += [
        (
            "classify_weight",
            Row(f"classify {w:g}, alpha {a}", "", "variant", (Part("spread", {"classify_weight": w, "alpha": a}),)),
        )
        for w in (0.0, 1.0)
        for a in ("auto", 0.5, 0.6, 0.7)
    ]
    return rows


def block(data: str, rows: tuple[Row, ...]) -> Block:
    """The rows at the settings that the demo (digits) or the table's CPU scale shares."""
    if data == "digits":
        base = demo_settings(DemoConfig())
        return Block(base.model_copy(update={"seed": SEED, "split_seed": SEED}), rows)
    scale = load_scale("cpu")
    return Block(scale.base(data, SEED), rows, scale.transfer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="run directories; an interrupted study goes on")
    parser.add_argument("--records", type=Path, default=Path("results/runs/study"))
    parser.add_argument("--out", type=Path, default=Path("results/table3_study.json"))
    parser.add_argument(
        "--only", help="what is varied: learning_rate, alpha, temperature, reconstruction_weight, classify_weight"
    )
    parser.add_argument("--dataset", choices=DATASETS, action="append", help="only these")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    arguments = parser.parse_args()
    command = f"python benchmarks/table3_study.py --work runs/table3-study --jobs {arguments.jobs}"
    rows = [(varied, row) for varied, row in study_rows() if varied.startswith(arguments.only or "")]
    blocks = [block(data, tuple(row for _, row in rows)) for data in arguments.dataset or DATASETS]
    places = Places(arguments.work, arguments.records)
    convert_old_records(places.records, print)
    run = RunConfig(threads=1, quiet=True)
    failures = carry_out(
        blocks, places, run=run, jobs=arguments.jobs, command=command, say=lambda line: print(line, flush=True)
    )
    found: dict[str, Any] = {}
    records = Records(places.records)
    for data in DATASETS:
        for varied, row in study_rows():
            record = records.find(row, block(data, (row,)))
            if record is not None:
                found.setdefault(varied, {}).setdefault(row.name, {})[data] = numbers(record)
    content = {
        "command": command,
        "seed": SEED,
        "chosen by": "superclass_accuracy, the mean over methods and data sets",
        "studied": found,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    write_json(arguments.out, content)
    for varied, of_rows in found.items():
        print(varied)
        for name, by_data in of_rows.items():
            shown = " · ".join(f"{data} {n['superclass_accuracy']:.3f}" for data, n in by_data.items())
            print(f"  {name:<24} superclass accuracy {shown}")
    for failure in failures:
        print(f"failed: {failure.title}: {failure.reason} ({failure.log})")


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """What the study keeps of one run."""
    (training,) = record["trainings"]
    final = training["final"]
    return {
        "alpha": training["alpha"],
        "superclass_accuracy": final["validation/superclass_accuracy"],
        "within_class_cosine_of_training_projections": final.get("spread/within"),
        "within_class_cosine_of_validation_embeddings": final["validation/within_class_cosine"],
        "between_class_cosine_of_validation_embeddings": final["validation/between_class_cosine"],
        "fine_accuracy": record["scores"]["probe"]["accuracy"],
        "subclass_purity": record["scores"]["geometry"]["subclass_purity"],
        "seconds": training["seconds"],
    }


if __name__ == "__main__":
    main()
