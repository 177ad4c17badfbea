"""The command ``thanos``: one verb, one function; parse, build one configuration, call. Imports torch only to work."""

import inspect
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import (
    App,
    ArgumentCollection,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)
from cyclopts.config import Dict
from cyclopts.validators import Number
from pydantic import ValidationError

from thanos import registry
from thanos.config import (
    AutoTrainConfig,
    DataConfig,
    DemoConfig,
    DiscoverConfig,
    LaunchConfig,
    RobustConfig,
    RunConfig,
    SourceConfig,
    SuggestConfig,
    Table3Config,
    Table4Config,
    TrainConfig,
    TransferConfig,
    check_data,
    explain,
    read_yaml,
)
from thanos.console import plain, say
from thanos.errors import ConfigError, DataError, ThanosError
from thanos.inputs import FILES, Source
from thanos.names import nearest, timm_names
from thanos.runs import provenance
from thanos.runs.run_dir import RunDir

app = App(
    name="thanos",
    help="Learn image representations that keep the classes nobody labelled.",
    help_epilogue="First: `thanos demo`. `thanos VERB --help` shows examples. --config FILE reads settings from "
    "YAML (flags beside it win); --debug shows tracebacks.",
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
)
Flat = Parameter(name="*")
Judged = Annotated[
    Path,
    Parameter(
        help="A run directory, its last.ckpt, a .safetensors file or a timm model's name (both with --data), or an "
        ".npz with vectors and superclass."
    ),
]
Out = Annotated[Path | None, Parameter(name=["--out", "-o"])]
Of = Annotated[SourceConfig, Parameter(name="*", show_default=False)]
_WHERE = Group("Over many machines", sort_key=2)
_TRAINING = Group("Training, for images (what is left open is chosen, with a reason)", sort_key=1)
_RUN = Group("How it is carried out (does not change the outcome)", sort_key=2)


@app.command(
    help_epilogue="""Examples:
  thanos demo
  thanos demo --out DIR --seeds 3"""
)
def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/demo"),
    config: Annotated[DemoConfig, Flat] = DemoConfig(),
) -> None:
    """Train SupCon, L_spread and the autoencoder on digits labelled only '< 5' or '>= 5'; show what survives.

    Writes metrics.json and report.html. Takes a few minutes on two cores; needs no data and no network.

    Parameters
    ----------
    out
        Folder for the runs, metrics.json and report.html. An interrupted demo goes on where it stopped.
    """
    from thanos.workers import start_importing

    if config.jobs != 1:
        start_importing()
    from thanos.reproduce.demo import run_demo

    run_demo(config, out, say)


@app.command(
    help_epilogue="""Examples:
  thanos train --data cifar10 --method thanos --epochs 100 --out runs/a
  thanos train --data photos/ --size 64 --method spread --out runs/b
  thanos train --data labels.csv --encoder resnet18 --size 224 --out runs/c
  thanos train --config runs/a/config.yaml --seed 1 --out runs/d"""
)
def train(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    config: Annotated[TrainConfig, Flat] = TrainConfig(),
    run: Annotated[RunConfig, Parameter(name="*", group=_RUN)] = RunConfig(),
) -> None:
    """Train an encoder on superclass labels by one of seven methods; leaves a run directory.

    The same command again goes on with an unfinished run. Ctrl-C saves first.

    Parameters
    ----------
    out
        The run directory: new or empty, or this run's own.
    """
    from thanos.data.load import load

    first = os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0"
    if first and "data" not in config.model_fields_set:
        say("no --data: the digits that come with scikit-learn")
    if first:
        RunDir(out).check_free()
    images = load(config)  # before torch is imported: what is wrong with the data shows at once
    from thanos.training.fit import train as fit

    fit(config, out, images=images, run=run)
    if first:
        say(f"next: thanos discover {out}   or: thanos embed {out}")


class _Checked(DataConfig):
    """What of it decides how images are read; the rest of it is not for ``thanos check``."""

    data: Annotated[str, Parameter(show=False)] = "digits"
    skip_bad: Annotated[bool, Parameter(show=False)] = False
    validation: Annotated[float, Parameter(show=False)] = 0.1
    train_limit: Annotated[int | None, Parameter(show=False)] = None
    split_seed: Annotated[int, Parameter(show=False)] = 0
    groups_from: Annotated[Path | None, Parameter(show=False)] = None
    groups_named: Annotated[Path | None, Parameter(show=False)] = None


@app.command(
    help_epilogue="""Examples:
  thanos check photos/
  thanos check labels.csv --out faults.csv
  thanos check cifar10"""
)
def check(
    data: str,
    *,
    out: Out = None,
    config: Annotated[_Checked, Flat] = _Checked(),
) -> None:
    """Find every fault of images and labels before anything is trained; exits 2 if there is one.

    Files that are missing, cut short or no images; rows without label, twice, or with an unknown split; superclasses
    that look misspelt or have too few images; test images that are training images; one picture under two labels.

    Parameters
    ----------
    data
        A data set's name, a folder SUPERCLASS[/SUBCLASS]/image, or a CSV.
    out
        A CSV for all faults; the first 20 are printed.
    """
    if "data" in config.model_fields_set:
        raise ConfigError("thanos check takes the data as its argument; drop --data.")
    if config.skip_bad:
        raise ConfigError("thanos check lists what is bad and goes on; drop --skip-bad.")
    from thanos.data.check import check as look
    from thanos.data.check import report, write_faults

    checked = look(DataConfig(**config.model_dump(exclude_unset=True) | {"data": data}))
    report(checked, say)
    if out is not None:
        write_faults(checked.faults, out)
    if checked.faults:
        many = "1 fault" if len(checked.faults) == 1 else f"{len(checked.faults)} faults"
        remedy = (
            "; thanos discover and train go on without bad files and rows if told --skip-bad"
            if checked.images.skipped
            else ""
        )
        raise DataError(f"{many} in {data}. Mend {'it' if len(checked.faults) == 1 else 'them'}{remedy}.")
    if checked.remarks:
        say("no faults; mind the notes")
    else:
        options = "".join(f" {token}" for token in provenance.TYPED[2:]) if provenance.TYPED[:1] == ["check"] else ""
        say(f"no faults; next: thanos discover {data}{options} -o runs/a")


@app.command(
    help_epilogue="""Examples:
  thanos embed runs/a
  thanos embed runs/a --data more-photos/ --out more.npz
  thanos embed model.safetensors --data cifar10 --out cifar10.npz
  thanos embed vit_small_patch16_224 --pretrained vit.safetensors --data photos/ --size 224 --out photos.npz"""
)
def embed(
    source: Path,
    *,
    out: Out = None,
    of: Of = SourceConfig(),
) -> None:
    """Embed images with a trained encoder; writes one .npz that numpy reads.

    Without --data: the images the run was trained on, all splits.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file with its .json, or a timm model's name (with --data).
    out
        The .npz. Needed with --data; of a run's own images by default embeddings.npz (of the best weights:
        embeddings-best.npz) in the run directory.
    """
    from_ = Source(source, of)
    if from_.of_embeddings:
        raise ConfigError(f"{source} holds embeddings already; name what embeds images.")
    where = from_.out(out, "embeddings", suffix=".npz")
    from thanos.verbs import embed_source

    embed_source(from_, where)


@app.command(
    help_epilogue="""Examples:
  thanos transfer runs/a
  thanos transfer runs/a --probe released
  thanos transfer model.safetensors --data cifar10
  thanos transfer embeddings.npz --neighbours 5"""
)
def transfer(
    source: Path,
    *,
    config: Annotated[TransferConfig, Flat] = TransferConfig(),
    of: Of = SourceConfig(),
) -> None:
    """Judge a frozen embedding on the fine labels nobody used: linear probe and nearest neighbours.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file or a timm model's name (both with --data), or an .npz with
        vectors, superclass, subclass and split.
    """
    from_ = Source(source, of)
    from thanos.verbs import transfer_source

    transfer_source(from_, config)


@app.command(
    help_epilogue="""Examples:
  thanos geometry runs/a
  thanos geometry model.safetensors --data cifar10
  thanos geometry embeddings.npz"""
)
def geometry(
    source: Judged,
    *,
    of: Of = SourceConfig(),
) -> None:
    """Measure an embedding's shape: spread, collapse, separation, alignment, uniformity, clustering of subclasses."""
    from_ = Source(source, of)
    from thanos.verbs import geometry_source

    geometry_source(from_)


@app.command(
    help_epilogue="""Examples:
  thanos discover photos/ -o runs/a
  thanos discover photos/ --labels labels.csv -o runs/a
  thanos discover photos/ --encoder resnet18 --pretrained resnet18.safetensors --size 96 -o runs/a
  thanos discover runs/a --clusters 4
  thanos discover embeddings.npz --method mixture --out found.csv"""
)
def discover(
    source: Path,
    *,
    out: Out = None,
    config: Annotated[DiscoverConfig, Flat] = DiscoverConfig(),
    of: Of = SourceConfig(),
    training: Annotated[AutoTrainConfig, Parameter(name="*", group=_TRAINING)] = AutoTrainConfig(),
    quiet: bool = False,
) -> None:
    """Find hidden subclasses: of images (trains first), or of a run or embeddings; writes a table and a page.

    A discovered subclass is a set of images that the embedding puts together: no protected group, and no cause.

    Parameters
    ----------
    source
        Images: a data set's name, a folder SUPERCLASS/image (or any folder with --labels), a CSV, an .npz of images.
        Or what is trained already: a run directory, its last.ckpt, a .safetensors file or a timm model's name (both
        with --data), an .npz of vectors.
    out
        For images: the run directory; default: runs/NAME. Otherwise the CSV; beside it a .json says how subclasses were
        found, and what they recover where the true ones are known, and a .html shows them; default: subclasses.csv (of
        the best weights: subclasses-best.csv) in the run directory, NAME-subclasses.csv beside NAME.npz.
    quiet
        No progress.
    """
    if _holds_images(source):
        if "weights" in of.model_fields_set:
            raise ConfigError("--weights chooses between the weights of a finished run; drop it to train one.")
        if "data" in of.model_fields_set:
            raise ConfigError(f"{source} and --data {of.data} both name images; drop one.")
        given = of.model_fields_set & set(DataConfig.model_fields)
        images = DataConfig(**of.model_dump(include=given), data=str(source))
        check_data(images.data)
        if training.encoder is None and of.pretrained:
            raise ConfigError("--pretrained starts a timm model; name it with --encoder.")
        name = source.stem if source.suffix in (".csv", ".tsv", ".npz") else source.resolve().name
        run = out or Path("runs") / name
        RunDir(run).check_free()
        from thanos.verbs import discover_images

        discover_images(images, run, config, training, of.pretrained, quiet)
        return
    if unused := sorted(training.model_fields_set):
        raise ConfigError(f"--{unused[0].replace('_', '-')} is for training, and {source} is trained already; drop it.")
    if not source.exists() and str(source) not in timm_names():
        raise ConfigError(
            f"images are wanted (a folder SUPERCLASS/image, a CSV, an .npz, a data set's name), or what was trained on "
            f"them; {source} does not exist{nearest(str(source), (*registry.datasets(), *timm_names()))}."
        )
    from_ = Source(source, of)
    table = from_.out(out, "subclasses", suffix=".csv")
    from thanos.verbs import discover_source

    discover_source(from_, table, config)


def _holds_images(source: Path) -> bool:
    """Whether there is something to train on first: a data set, a folder that is no run, a table, arrays of images."""
    if source.suffix == ".npz" and source.is_file():
        import zipfile

        if not zipfile.is_zipfile(source):
            return False
        with zipfile.ZipFile(source) as arrays:
            return "vectors.npy" not in arrays.namelist()
    if source.is_dir():
        here = RunDir(source)
        return not (here.is_run or here.settings_file.is_file() or here.facts().is_file())
    return registry.dataset(str(source)) is not None or (source.is_file() and source.suffix not in FILES)


@app.command(
    help_epilogue="""Examples:
  thanos robust runs/a
  thanos robust runs/a --table runs/a/subclasses.csv --names names.yaml
  thanos robust runs/a --method groupdro --groups given
  thanos robust runs/a --method jtt --groups none
  thanos robust embeddings.npz --method dfr --groups given --out fair.npz"""
)
def robust(
    source: Judged,
    *,
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    config: Annotated[RobustConfig, Flat] = RobustConfig(),
    of: Of = SourceConfig(),
) -> None:
    """Train a classifier on embeddings that serves every group well, known or discovered; seconds.

    Prints each group's test accuracy beside that of a plain classifier. The .npz holds weight, bias, mean and scale:
    logits = (vectors - mean) / scale @ weight.T + bias.

    Parameters
    ----------
    out
        The classifier (.npz); its scores go beside it as .json. Default: robust-METHOD.npz in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz, else discover now.
    names
        A YAML file 'discovered subclass: your name' for that table, equal names merge; default: the one beside the
        table.
    """
    from_ = Source(source, of)
    if (table or names) is not None and config.groups != "discovered":
        option = "--table holds" if names is None else "--names names"
        raise ConfigError(f"{option} discovered groups; drop it, or drop --groups {config.groups}.")
    if config.groups == "discovered":
        table, names = from_.discovered(table, names)
    where = from_.out(out, f"robust-{config.method}", suffix=".npz")
    from thanos.verbs import robust_source

    robust_source(from_, where, config, table, names)


@app.command(
    help_epilogue="""Examples:
  thanos classify runs/a --data new-photos/ -o predicted.csv
  thanos classify runs/a --classifier runs/a/robust-jtt.npz --data new-photos/ -o predicted.csv
  thanos classify embeddings.npz --classifier fair.npz"""
)
def classify(
    source: Judged,
    *,
    classifier: Path | None = None,
    out: Out = None,
    of: Of = SourceConfig(),
) -> None:
    """Tell the superclass of images by a classifier that thanos robust (or train) made; writes a CSV.

    Parameters
    ----------
    classifier
        The .npz; default: the run's robust-groupdro.npz, else its classifier.npz.
    out
        A CSV: image, predicted, probability, and the superclass where it is known. Needed with --data; of a run's own
        images by default predicted.csv in the run directory.
    """
    from_ = Source(source, of)
    where = from_.out(out, "predicted", suffix=".csv")
    head = from_.classifier(classifier)
    from thanos.verbs import classify_source

    classify_source(from_, head, where)


@app.command(
    help_epilogue="""Examples:
  thanos export runs/a --to onnx
  thanos export runs/a --to csv --out vectors.csv
  thanos export runs/a --to safetensors --out resnet18-photos.safetensors --weights best"""
)
def export(
    source: Path,
    *,
    to: Literal["onnx", "safetensors", "csv"],
    out: Out = None,
    of: Of = SourceConfig(),
) -> None:
    """Write what a run learned for other programs: ONNX (checked), weights in timm's names, vectors as CSV.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file, a timm model's name (with --data), or for --to csv also an
        .npz of embeddings.
    to
        onnx: a model from uint8 images to vectors, normalisation inside; an extra, `pip install thanos-repr[onnx]`.
        safetensors: weights, and the facts needed to use them in a .json. csv: a line for each image.
    out
        The file. Needed for safetensors, and with --data; else by default model.onnx or embeddings.csv (of the best
        weights: -best) in the run directory.
    """
    from_ = Source(source, of)
    if from_.of_embeddings and to != "csv":
        raise ConfigError(f"{source} holds vectors, no encoder; --to csv is what can be made of it.")
    if out is None and to == "safetensors":
        raise ConfigError("--out names the .safetensors to write; it is needed here.")
    if out is not None and out.suffix != f".{to}":
        raise ConfigError(f"--to {to} writes a .{to} file; --out {out} is named otherwise.")
    where = from_.out(out, "embeddings" if to == "csv" else "model", suffix=f".{to}")
    for file in (where, where.with_suffix(".json")) if to == "safetensors" else (where,):
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{file} is there already. Name another --out, or remove it.")
    from thanos.verbs import export_source

    export_source(from_, to, where)


@app.command(
    help_epilogue="""Examples:
  thanos report runs/a
  thanos report runs/a --table runs/a/subclasses.csv --names names.yaml --out named.html
  thanos report runs/a/last.ckpt --out so-far.html
  thanos report resnet18 --pretrained resnet18.safetensors --data photos/ --size 96 --out resnet18.html"""
)
def report(
    source: Judged,
    *,
    out: Out = None,
    table: Path | None = None,
    names: Path | None = None,
    of: Of = SourceConfig(),
) -> None:
    """Measure all that the labels allow and write one page: numbers, map, discovered subclasses under your names.

    Parameters
    ----------
    out
        The page; default: report.html in the run directory.
    table
        Discovered subclasses from an earlier thanos discover; default: those of the run or the .npz, else discover now.
    names
        A YAML file 'discovered subclass: your name' for that table; default: the one beside it.
    """
    from_ = Source(source, of)
    where = from_.out(out, "report", suffix=".html")
    table, names = from_.discovered(table, names)
    from thanos.verbs import report_source

    report_source(from_, where, table, names)


@app.command(
    help_epilogue="""Examples:
  thanos compare runs/a runs/b
  thanos compare runs/* --out comparison.html"""
)
def compare(
    *runs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("compare.html"),
) -> None:
    """Put finished runs side by side: a table here, a page and a CSV with intervals and the command of every number.

    Takes what thanos train, transfer, discover and robust left in the runs; measures nothing.

    Parameters
    ----------
    runs
        Run directories.
    out
        The page; a .csv goes beside it.
    """
    if not runs:
        raise ConfigError("thanos compare takes run directories; none was named. For example: thanos compare runs/*")
    if out.suffix != ".html":
        raise ConfigError(f"--out names a .html page; got {out}.")
    from thanos.compare import COLUMNS, write_comparison
    from thanos.compare import compare as put_together

    lines = put_together(runs)
    write_comparison(lines, out)
    longest = max(len(line.name) for line in lines)
    say(f"{'run':<{longest}}" + "".join(f"{name:>{max(9, len(name)) + 2}}" for name in COLUMNS))
    for line in lines:
        cells = "".join(f"{cell.text:>{max(9, len(name)) + 2}}" for name, cell in line.cells.items())
        say(f"{line.name:<{longest}}{cells}")
    say(f"with intervals and commands: {out}, {out.with_suffix('.csv')}")


data_app = App(name="data", help="Build data sets: with spurious attributes, with rare subclasses, Waterbirds.")
app.command(data_app)


@data_app.command(
    help_epilogue="""Examples:
  thanos data build dominoes-95
  thanos data build coloured-digits-large --seed 1
  thanos data build waterbirds --cub CUB_200_2011 --masks segmentations --places data_large --out $THANOS_DATA"""
)
def build(
    name: str,
    *,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    root: Path | None = None,
    download: bool = False,
    cub: Path | None = None,
    masks: Path | None = None,
    places: Path | None = None,
    out: Out = None,
) -> None:
    """Build a set and print how many images each group has; --data NAME then takes it in every verb.

    dominoes-95, dominoes-99: a digit above a vehicle, mostly its own; coloured-digits-large, -medium, -small: pairs of
    digits, mostly on a colour of their own; patched-cifar10: animals, half with a coloured square; rare-cifar10,
    rare-mnist: one class cut to 5%; waterbirds: birds in front of places.

    Parameters
    ----------
    name
        The set.
    seed
        Of every draw; the same as --split-seed in other verbs.
    root
        Where MNIST and CIFAR-10 lie; default: $THANOS_DATA, else ~/.cache/thanos/data.
    download
        Fetch what is missing of them.
    cub
        For waterbirds: the folder CUB_200_2011.
    masks
        For waterbirds: its segmentations.
    places
        For waterbirds: Places365's data_large.
    out
        For waterbirds: the data folder to write to; default: --root.
    """
    from thanos.data.build import build_set

    build_set(name, seed, root, download, (cub, masks, places), out, say)


bench = App(name="bench", help="What this machine does, and what limits it.")
app.command(bench)


@bench.command(
    name="train",
    help_epilogue="""Examples:
  thanos bench train --data cifar10 --method thanos
  thanos bench train --data photos/ --size 224 --encoder resnet50 --batch 64 --precision bf16-mixed
  thanos bench train --config runs/a/config.yaml""",
)
def bench_train(
    *,
    config: Annotated[TrainConfig, Flat] = TrainConfig(),
    run: Annotated[RunConfig, Parameter(name="*", group=_RUN)] = RunConfig(),
) -> None:
    """Take some steps of a training: images per second, the time of each part, what limits it. Writes nothing.

    Takes the settings of thanos train. The parts: images read, augmented, embedded, compared, the optimiser's step.
    """
    from thanos.data.load import load

    images = load(config)  # before torch is imported: what is wrong with the data shows at once
    from thanos.training.bench import bench_training

    bench_training(config, images, run)


reproduce = App(name="reproduce", help="Repeat the paper's experiments: a plan of runs, records, a table.")
app.command(reproduce)


@reproduce.command(
    help_epilogue="""Examples:
  thanos reproduce table3 --dry-run
  thanos reproduce table3 --dataset cifar10 --seeds 1
  thanos reproduce table3 --dataset mnist --method thanos --method supcon --jobs 2
  thanos reproduce table3 --scale paper-fast --dataset cifar10 --jobs 1
  thanos reproduce table3 --scale paper --launcher slurm --hours 48"""
)
def table3(
    *,
    results: Path = Path("results"),
    work: Path = Path("runs/table3"),
    config: Annotated[Table3Config, Flat] = Table3Config(),
    launcher: Annotated[LaunchConfig, Parameter(name="*", group=_WHERE)] = LaunchConfig(),
) -> None:
    """Coarse-to-fine transfer: seven methods, five data sets, paired seeds; our table beside the paper's.

    What is finished is not repeated: the same command goes on after any stop. Writes RESULTS/table3.md, its plot, and
    one JSON file for each row.

    Parameters
    ----------
    results
        Where records (RESULTS/runs/SCALE) and the table go.
    work
        Where trainings keep their run directories; may be deleted when the table is done.
    """
    from thanos.reproduce.table3 import planned_blocks

    planned_blocks(config)  # before torch is imported: names that do not exist show at once
    from thanos.reproduce.command import reproduce as carry_out

    carry_out(config, launcher, results, work, say)


@reproduce.command(
    help_epilogue="""Examples:
  thanos reproduce table4 --dry-run
  thanos reproduce table4 --jobs 2
  thanos reproduce table4 --dataset dominoes-95 --method thanos --method george --seeds 1"""
)
def table4(
    *,
    results: Path = Path("results"),
    work: Path = Path("runs/table4"),
    config: Annotated[Table4Config, Flat] = Table4Config(),
    launcher: Annotated[LaunchConfig, Parameter(name="*", group=_WHERE)] = LaunchConfig(),
) -> None:
    """The paper's Table 4: worst-group accuracy and subclass recovery of George, JTT, SupCon, THANOS and GroupDRO.

    Sets are built from MNIST and CIFAR-10. Finished rows are records in RESULTS/runs; the page is RESULTS/table4.md.

    Parameters
    ----------
    results
        Where records and the table go.
    work
        Where trainings keep their run directories; may be deleted when the table is done.
    """
    from thanos.reproduce.table4 import planned_blocks

    planned_blocks(config)  # before torch is imported: names that do not exist show at once
    from thanos.reproduce.command import reproduce as carry_out

    carry_out(config, launcher, results, work, say)


theory = App(
    name="theory",
    help="The paper's theory as experiments anyone can run, and a guide to alpha.",
    help_epilogue="""Examples:
  thanos theory
  thanos theory spread
  thanos theory suggest --superclasses 10 --batch 512""",
)
app.command(theory)
TheoryOut = Annotated[Path, Parameter(help="Folder for the numbers (JSON) and pictures (PNG).")]


@theory.default
def all_of_theory(*, out: TheoryOut = Path("runs/theory")) -> None:
    """Run all experiments (spread, invariance, mechanisms): some minutes on two cores."""
    for experiment in (spread, invariance, mechanisms):
        experiment(out=out)


@theory.command(
    help_epilogue="""Examples:
  thanos theory suggest --superclasses 2
  thanos theory suggest --superclasses 10 --batch 512 --temperature 0.5
  thanos theory suggest --superclasses 20 --batch 128 --within-class-cosine 0.8"""
)
def suggest(*, config: Annotated[SuggestConfig, Flat]) -> None:
    """Print the alpha for a wanted degree of spread, and the window outside which superclasses collapse or dissolve."""
    from thanos.methods.suggest import suggestion

    for line in suggestion(config):
        say(line)


@theory.command(
    help_epilogue="""Examples:
  thanos theory spread
  thanos theory spread --full --out results/theory"""
)
def spread(*, out: TheoryOut = Path("runs/theory"), full: bool = False) -> None:
    """How alpha sets the degree of spread: collapse at 0, where it ends, how far points spread, where they dissolve.

    Minimises the library's own loss over free points and compares with the formulas of docs/theory.md. Minutes.

    Parameters
    ----------
    full
        Thresholds for up to 256 images a superclass and finer steps of alpha.
    """
    from thanos.experiments.spread import spread as run

    run(out, say, full=full)
    say(f"numbers and pictures: {out}")


@theory.command(
    help_epilogue="""Examples:
  thanos theory invariance
  thanos theory invariance --out results/theory"""
)
def invariance(*, out: TheoryOut = Path("runs/theory")) -> None:
    """Let images of a superclass exchange embeddings: no contrastive loss notices, an autoencoder does."""
    from thanos.experiments.invariance import invariance as run

    run(out, say)
    say(f"numbers and pictures: {out}")


@theory.command(
    help_epilogue="""Examples:
  thanos theory mechanisms
  thanos theory mechanisms --seeds 10 --out results/theory"""
)
def mechanisms(
    *,
    out: TheoryOut = Path("runs/theory"),
    seeds: Annotated[int, Parameter(validator=Number(gte=2), help="Runs of every condition.")] = 5,
) -> None:
    """What makes subclasses cluster, which no contrastive loss asks for: smoothness, augmentation, the autoencoder.

    Trains small networks at one degree of spread, with each mechanism at several strengths. Minutes.
    """
    from thanos.workers import start_importing

    start_importing()
    from thanos.experiments.mechanisms import mechanisms as run

    run(out, say, seeds=seeds)
    say(f"numbers and pictures: {out}")


def _unbroken(text: str) -> str:
    """A docstring whose paragraphs and parameters are one line each: --help breaks lines by itself."""
    head, mark, parameters = inspect.cleandoc(text).partition("Parameters\n----------\n")
    head = "\n\n".join(" ".join(paragraph.split()) for paragraph in head.split("\n\n"))
    lines: list[str] = []
    for line in parameters.splitlines():
        if line.startswith("    ") and lines[-1].startswith("    "):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return head + mark + "\n".join(lines)


for _each in (app, data_app, bench, reproduce, theory):
    for _verb in _each.subapps:
        if inspect.isfunction(_verb.default_command):
            _verb.default_command.__doc__ = _unbroken(_verb.default_command.__doc__ or "")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command; exits 0, 2 for what the user can mend, 130 or 143 when stopped by a signal."""
    # Threads that wait for each other fall asleep sooner: on cores with other work their spinning slows steps tenfold.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [t for t in tokens if t != "--debug"]
    try:
        sys.exit(run_command(tokens))
    except ThanosError as error:
        _fail(str(error), debug, error.exit_code)
    except ValidationError as error:
        _fail(explain(error), debug, 2)
    except KeyboardInterrupt:
        _fail("stopped.", debug, 130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}. Mend the path or its permissions, or free space.", debug, 2)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error} (a fault of thanos; --debug shows where).", debug, 1)


def run_command(tokens: list[str]) -> int:
    """Parse and carry out one command line."""
    provenance.TYPED[:] = tokens
    if tokens and tokens[0] in ("help", "version"):
        tokens = [*tokens[1:2], f"--{tokens[0]}"]
    tokens, settings = _take_config(tokens)
    if settings and tokens[:1] == ["discover"] and settings.get("method") in registry.methods():
        raise ConfigError(
            "--config names settings of thanos train; thanos discover takes images as its argument and settings of "
            f"training as options: thanos discover {settings.get('data', 'PHOTOS')} --train-method {settings['method']}"
        )
    app.config = [_AnyKeys(settings, source="--config")] if settings else []
    try:
        app(tokens, print_error=False, exit_on_error=False, result_action="return_value")
    except UnusedCliTokensError as error:
        token = (error.unused_tokens or [""])[0]
        known = [name for each in (app, theory, reproduce, bench, data_app) for name in each]
        hint = (
            f" (images are named by --data {token})"
            if registry.dataset(token) is not None or Path(token).exists()
            else ""
        )
        raise ConfigError(
            f"{token!r} is not taken here{hint or nearest(token, known)}. See thanos {tokens[0]} --help."
        ) from error
    except MissingArgumentError as error:
        if error.argument is None:
            raise ConfigError(_one_line(error)) from error
        name = error.argument.name
        what = f"{name} takes a value; none came"
        if name not in tokens:
            what = f"{name if error.argument.index is None else name.lstrip('-').upper()} is missing"
        raise ConfigError(f"{what}. For examples: thanos {tokens[0]} --help") from error
    except CycloptsError as error:
        raise ConfigError(_one_line(error)) from error
    return 0


class _AnyKeys(Dict):
    """Settings of whichever verb was called; cyclopts' own leaves keys out that are also verbs: data, robust."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        settings = self.data
        for command in reversed(commands):
            settings = {command: settings}
        Dict(settings, source=self.source)(app, commands, arguments)


def _take_config(tokens: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Lift ``--config FILE`` out of the command line; flags beside it win over the file."""
    settings: dict[str, Any] = {}
    rest = []
    stream = iter(tokens)
    for token in stream:
        if token == "--config" or token.startswith("--config="):
            name = token.partition("=")[2] or next(stream, None)
            if name is None:
                raise ConfigError("--config takes a YAML file, like the config.yaml of a run.")
            settings = {k: v for k, v in read_yaml(Path(name)).items() if v is not None}
        else:
            rest.append(token)
    return rest, settings


def _one_line(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError):
        return explain(error.__cause__)
    text = re.sub(r" Available commands: .*", " See thanos --help.", str(error), flags=re.DOTALL)
    return " ".join(text.replace('"[', '"').replace("][", ".").replace(']" from', '" from').split())


def _fail(message: str, debug: bool, code: int) -> None:
    if debug:
        traceback.print_exc()
    print(f"thanos: {plain(message)}", file=sys.stderr)
    sys.exit(code)
