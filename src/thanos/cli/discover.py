"""``thanos discover``: hidden subclasses, of images or of what is trained already."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from thanos import registry
from thanos.cli.app import TRAINING, Flat, Of, Out, Thumbnails, app, say
from thanos.cli.lines import discovered_lines
from thanos.cli.shared import check_thumbnails, evaluate, explained, measured, write_page
from thanos.config import AutoTrainConfig, DataConfig, DiscoverConfig, RunConfig, SourceConfig, check_data
from thanos.console import doing
from thanos.errors import ConfigError
from thanos.inputs import FILES, Source
from thanos.names import nearest, timm_names
from thanos.runs.run_dir import RunDir
from thanos.storage import refuse_foreign, says
from thanos.storage.locks import alone

if TYPE_CHECKING:
    from thanos.data.samples import Samples


@app.command(
    help_epilogue="""Examples:
  thanos discover photos/ -o runs/a
  thanos discover photos/ --labels labels.csv -o runs/a
  thanos discover photos/ --encoder resnet18 --pretrained resnet18.safetensors --size 96 -o runs/a
  thanos discover runs/a --clusters 4
  thanos discover runs/a --without brightness,hospital
  thanos discover embeddings.npz --method mixture --out found.csv
  thanos discover vectors.npy --labels labels.csv --train-method thanos -o runs/v"""
)
def discover(
    source: Path,
    *,
    out: Out = None,
    names: Path | None = None,
    images: Thumbnails = "embedded",
    config: Annotated[DiscoverConfig, Flat] = DiscoverConfig(),
    of: Of = SourceConfig(),
    training: Annotated[AutoTrainConfig, Parameter(name="*", group=TRAINING)] = AutoTrainConfig(),
    quiet: bool = False,
) -> None:
    """Find hidden subclasses: of images (trains first), or of a run or embeddings; writes a table and a page.

    A discovered subclass is a set of images that the embedding puts together: no protected group, and no cause.

    Parameters
    ----------
    source
        Images: a data set's name, a folder SUPERCLASS/image (or any folder with --labels), a CSV, an .npz of images.
        Or what is trained already: a run directory, its last.ckpt, a .safetensors file or a timm model's name (both
        with --data). Or vectors: .npz, .npy, .csv, .parquet; they are clustered as they are, and with any option of
        training (--train-method thanos) a head is trained on them first.
    out
        For images: the run directory; default: runs/NAME. Otherwise the CSV; beside it a .json says how subclasses were
        found, and what they recover where the true ones are known, and a .html shows them; default: subclasses.csv (of
        the best weights: subclasses-best.csv) in the run directory, NAME-subclasses.csv beside NAME.npz.
    names
        What you called the subclasses of the table that is there now, or the edits that its page saved
        (subclasses-edited.yaml): each name follows its images; default: the file beside the table.
    images
        Where the page's thumbnails are: embedded in it, of 5,000 images at most; or linked, of all images on it, in a
        folder beside it that goes where the page goes.
    quiet
        No progress.
    """
    from thanos.data.load import is_of_vectors

    vectors = is_of_vectors(str(source))
    if (training.model_fields_set or of.pretrained) if vectors else _holds_images(source):
        if "weights" in of.model_fields_set:
            raise ConfigError("--weights chooses between the weights of a finished run; drop it to train one.")
        if names is not None:
            raise ConfigError(f"--names {names} is for subclasses that were found, and {source} is trained on first.")
        if "data" in of.model_fields_set:
            raise ConfigError(f"{source} and --data {of.data} both name images; drop one.")
        given = of.model_fields_set & set(DataConfig.model_fields)
        data = DataConfig(**of.model_dump(include=given), data=str(source))
        check_data(data.data)
        if training.encoder is None and of.pretrained:
            raise ConfigError("--pretrained starts a timm model; name it with --encoder.")
        name = source.stem if source.is_file() else source.resolve().name
        run = out or Path("runs") / name
        RunDir(run).check_free()
        check_thumbnails(RunDir(run).outcome("subclasses", ".html"), images)
        of_images(data, run, config, training, of.pretrained, quiet, thumbnails=images)
        return
    if unused := sorted(training.model_fields_set):
        raise ConfigError(f"--{unused[0].replace('_', '-')} is for training, and {source} is trained already; drop it.")
    if not source.exists() and str(source) not in timm_names():
        beside = source.parent.iterdir() if source.parent.is_dir() else ()
        close = nearest(str(source), map(str, beside)) or nearest(str(source), (*registry.datasets(), *timm_names()))
        raise ConfigError(
            f"images are wanted (a folder SUPERCLASS/image, a CSV, an .npz, a data set's name), vectors, or what was "
            f"trained on them; {source} does not exist{close}{registry.broken()}."
        )
    from_ = Source(source, of, say)
    table = from_.out(out, "subclasses", suffix=".csv")
    if names is not None:
        from thanos.data.group_table import read_table

        read_table(table, names)  # what is wrong with either shows before the work
    write_found(from_, table, config, None, names, images)


def of_images(
    data: DataConfig,
    run: Path,
    config: DiscoverConfig,
    training: AutoTrainConfig,
    pretrained: bool | Path,
    quiet: bool,
    thumbnails: Thumbnails = "embedded",
) -> None:
    """From images to a run directory with its table and page: choose what was left open, train, embed, discover."""
    from thanos.data.load import check_superclasses, is_of_vectors
    from thanos.training.auto import choose_training, load_suitably
    from thanos.training.fit import train
    from thanos.training.of_vectors import load_vectors_suitably

    images: Samples

    if is_of_vectors(data.data):
        if pretrained:
            raise ConfigError(f"--pretrained is about a network for images, and {data.data} holds vectors. Drop it.")
        images, choices = load_vectors_suitably(data, training)
    else:
        images, choices = load_suitably(data, training, pretrained)
    chosen = choose_training(training, data, images, choices, seed=config.seed, pretrained=pretrained)
    check_superclasses(images, chosen.method)
    for reason in choices.reasons:
        say(f"chosen {reason}")
    trained = train(chosen, run, images=images, run=RunConfig(quiet=quiet), say=say)
    source = Source.of_run(trained, chosen, images, say)
    table = RunDir(run).outcome("subclasses", ".csv")
    write_found(source, table, config, evaluate(source), thumbnails=thumbnails)
    again, names = quote(str(run)), table.with_suffix(".yaml")
    way = f"edit its subclasses there, or name them in {names}"
    fair = f", thanos robust {again}" if len(images.superclass_names) > 1 else ""
    say(f"next: look at it; {way}; thanos report {again}{fair}")


def write_found(
    source: Source,
    table: Path,
    config: DiscoverConfig,
    scores: dict[str, Any] | None,
    names: Path | None = None,
    thumbnails: Thumbnails = "embedded",
) -> None:
    """Discover; write the table with what goes beside it, and the page.

    Args:
        source: What is clustered.
        table: The CSV.
        config: How.
        scores: ``geometry`` and ``transfer`` of the source, for the page; None: what a run keeps of them.
        names: What a person called the subclasses of the table that is there now; None: what the file beside it says.
        thumbnails: Where they go.
    """
    from thanos.evaluate.recovery import recovery_by_split
    from thanos.report.discover_page import TITLE
    from thanos.report.summary import by_heart, unsure_line
    from thanos.subclasses.cuts import with_cuts
    from thanos.subclasses.discovery import discover as cluster
    from thanos.subclasses.table import check_table_free, write_discovered

    page = table.with_suffix(".html")
    check_table_free(table)
    refuse_foreign(page, says(TITLE), "thanos discover")
    check_thumbnails(page, thumbnails)
    embeddings, pictures = source.embeddings, source.pictures  # pictures that are gone show before the work
    with doing(f"subclasses of {len(embeddings):,} images, and how surely"):
        properties = measured(source)
        found = with_cuts(embeddings, cluster(embeddings, config, properties=properties), config.seed)
        recovered = recovery_by_split(embeddings, found.cluster)
        told = explained(source, found, properties)
    for line in (*discovered_lines(found, recovered, config), *(told.lines(found.names) if told else ())):
        say(line)
    if unsure := unsure_line(found):
        say(f"{unsure}; the evidence that there are several: thanos split {source.again(None)}")
    if source.run is not None and (learned := by_heart(embeddings, found)):
        say(learned)
    shown = recovered.to_dict() | (source.kept() if scores is None else scores)
    with alone(table):  # what goes beside it is to be of the same subclasses
        write_page(page, source, found, shown, table=table, told=told, linked=thumbnails == "linked")
        before = table.read_bytes() if table.exists() else b""
        images = None if pictures is None else pictures.images
        lines = write_discovered(
            table, embeddings, found, config=config, recovered=recovered, shown=images, names=names
        )
    if before and before != table.read_bytes() and (old := outdated(table)):
        say(f"still of the earlier subclasses: {', '.join(old)}; thanos report and robust make them anew")
    for line in lines:
        say(line)
    source.list_skipped(table)
    say(f"subclasses of {len(embeddings):,} images in {table}; to look at: {page}")


def outdated(table: Path) -> list[str]:
    """What lies beside a table and rests on subclasses that are no longer those of it: its page, classifiers."""
    from thanos.data.group_table import mark_of
    from thanos.report.discover_page import SUBCLASSES
    from thanos.subclasses.table import outdated_classifiers

    page = table.with_name(f"{table.stem.removesuffix('subclasses')}report.html")
    old = [page.name] * (page.is_file() and not says(f"{SUBCLASSES} {mark_of(table)}")(page))
    return old + outdated_classifiers(table)


def _holds_images(source: Path) -> bool:
    """Whether there is something to train on first: a data set, a folder that is no run, a table, arrays of images."""
    if source.suffix == ".npz" and source.is_file():
        import zipfile

        return zipfile.is_zipfile(source)
    if source.is_dir():
        here = RunDir(source)
        return not (here.is_run or here.settings_file.is_file() or here.facts().is_file())
    return registry.dataset(str(source)) is not None or (source.is_file() and source.suffix not in FILES)
