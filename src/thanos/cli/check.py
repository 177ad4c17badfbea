"""``thanos check``: every fault of images and labels, before anything is trained."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thanos import console
from thanos.cli.app import Flat, Out, app, say
from thanos.config import DataConfig
from thanos.errors import ConfigError, DataError
from thanos.runs.run_dir import RunDir
from thanos.storage.manifest import read_manifest


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
  thanos check labels.csv --out files.csv
  thanos check images/ --labels metadata.csv --columns path=image_id,superclass=dx,together=lesion_id
  thanos check cifar10
  thanos check vectors.npz
  thanos check runs/a"""
)
def check(
    data: str,
    *,
    out: Out = None,
    config: Annotated[_Checked, Flat] = _Checked(),
) -> None:
    """Find every fault of images and labels before anything is trained, or of a run's files; exits 2 if there is one.

    Files that are missing, cut short or no images; rows without label, twice, or with an unknown split; superclasses
    that look misspelt or have too few images; test images that are training images; one picture under two labels.
    Of a run: files that are not as they were written, and what a person edited that cannot be meant.

    Parameters
    ----------
    data
        A data set's name, a folder SUPERCLASS[/SUBCLASS]/image, a CSV, a file of vectors, or a run directory.
    out
        A CSV for every file and what became of it: read, fault, skipped or left out, and why.
    """
    if "data" in config.model_fields_set:
        raise ConfigError("thanos check takes the data as its argument; drop --data.")
    if is_of_run(RunDir(Path(data))):
        if config.model_fields_set or out is not None:
            raise ConfigError(f"{data} is a run directory, which is checked as it is; drop the other options.")
        check_run(RunDir(Path(data)))
        return
    if config.skip_bad:
        raise ConfigError("thanos check lists what is bad and goes on; drop --skip-bad.")
    from thanos.data.check import check as look
    from thanos.data.check import report, write_fates

    checked = look(DataConfig(**config.model_dump(exclude_unset=True) | {"data": data}))
    report(checked, say)
    if out is not None:
        write_fates(checked, out)
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
        options = "".join(f" {token}" for token in console.TYPED[2:]) if console.TYPED[:1] == ["check"] else ""
        head = " --train-method thanos" if checked.images.size is None else ""
        say(f"no faults; next: thanos discover {data}{options}{head} -o runs/a")


def is_of_run(here: RunDir) -> bool:
    """Whether a folder is a run's, be it damaged."""
    return here.is_run or here.is_finished or bool(read_manifest(here.path))


def check_run(run: RunDir) -> None:
    """Say what of a run's files is as it was written."""
    from thanos.runs.whole import check_run as look

    found = look(run)
    for fault in found.faults:
        say(fault)
    if found.faults:
        many = "1 fault" if len(found.faults) == 1 else f"{len(found.faults)} faults"
        raise DataError(f"{many} in {run.path}.")
    if found.files:
        say(f"as they were written: {', '.join(found.files)}")
    else:
        say(f"all files can be read; {run.path} has no manifest.json, which would tell whether they are as they were")
        say(f"to have one, for the files as they are now: {run.command()}")
    say(f"may be edited, and can be read: {', '.join(found.edited)}")
