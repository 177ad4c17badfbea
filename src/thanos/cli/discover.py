"""``thanos discover``: hidden subclasses, of images or of what is trained already."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thanos import registry
from thanos.cli.app import TRAINING, Flat, Of, Out, app
from thanos.config import AutoTrainConfig, DataConfig, DiscoverConfig, SourceConfig, check_data
from thanos.errors import ConfigError
from thanos.inputs import FILES, Source
from thanos.names import nearest, timm_names
from thanos.runs.run_dir import RunDir


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
