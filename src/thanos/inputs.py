"""What a command is pointed at: a run, a checkpoint, weights, a timm model or embeddings; read once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from thanos import registry
from thanos.config import OF_IMAGES, DataConfig, SourceConfig, TrainConfig, check_data
from thanos.console import command
from thanos.errors import ConfigError, DataError, OutputError
from thanos.names import nearest, timm_names
from thanos.runs.run_dir import ROBUST, RunDir, newest_first
from thanos.storage import SKIPPED, has_columns, is_writable, refuse_foreign, skipped_list, write_csv

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thanos.data.imageset import ImageSet
    from thanos.data.samples import Samples
    from thanos.embeddings import Embeddings
    from thanos.report.discover_page import Training
    from thanos.runs.encoder_io import Encoder
    from thanos.subclasses.called import Called
    from thanos.subclasses.keep import Places
    from thanos.training.fit import Run

FILES = (".ckpt", ".safetensors", ".npz")
"""Kinds of file that hold an encoder or embeddings; others may hold vectors."""


@dataclass(frozen=True)
class Source:
    """A path (or a timm model's name) with the options that go with it, checked before torch is imported.

    Raises:
        ConfigError: for what cannot be meant.
    """

    path: Path
    options: SourceConfig
    say: Callable[[str], None] = field(default=lambda line: None, repr=False)
    """Receives what is worth knowing of images and embeddings as they are read."""

    def __post_init__(self) -> None:
        path, given = self.path, self.options.model_fields_set
        wanted = "a run directory, a .ckpt, .safetensors or .npz file or a timm model's name is wanted"
        if not path.exists() and not self.by_name:
            near = nearest(str(path), (*registry.datasets(), *timm_names()))
            raise ConfigError(f"{wanted}; {path} does not exist{near}. Train one: thanos train --help")
        if path.is_file() and path.suffix not in FILES and not self.of_embeddings:
            of_others = "Images are named by `data`, a table of subclasses by `table`."
            raise ConfigError(f"{wanted}; {path} is a file of another kind. {of_others}")
        here = RunDir(path)
        if self._is_folder and not here.settings_file.is_file() and not here.has_weights:
            runs = sorted(each.name for each in path.glob("*") if RunDir(each).is_run)
            made = f"of images: thanos discover {quote(str(path))} -o NEW"
            told = f"runs in it: {', '.join(runs[:5])}" if runs else made
            raise ConfigError(f"a run directory holds a config.yaml and weights; {path} does not; {told}.")
        if self.options.pretrained and not self.by_name:
            raise ConfigError(f"`pretrained` holds weights of a timm model, and {path} is none by name; drop it.")
        if self.by_name and "data" not in given:
            raise ConfigError(f"{path} is a timm model's name; say with `data` which images it embeds.")
        if self.options.weights != "last" and not self._is_folder:
            raise ConfigError(f"`weights` chooses between the weights of a run directory; {path} has one set. Drop it.")
        reading = sorted(self._reading)
        if not reading:
            return
        if self.of_embeddings and ({"data", *OF_IMAGES} & {*reading} or not self._is_of_vectors):
            raise ConfigError(f"{path} holds embeddings already; drop `data` and the options of reading images.")
        if "data" not in given and not self.of_embeddings:
            named = ", ".join(f"`{name}`" for name in reading)
            raise ConfigError(f"{named} says how images are read; say which ones with `data`.")
        if not self.of_embeddings:
            check_data(self.options.data)

    @classmethod
    def of_run(
        cls, trained: "Run", config: TrainConfig, images: "Samples", say: Callable[[str], None] = lambda line: None
    ) -> "Source":
        """A run that was just trained, with what its training had in hand: nothing is read again."""
        source = cls(trained.folder, SourceConfig(), say)
        settings, encoder = config.model_dump(mode="json"), trained.encoder
        vars(source).update(images=images, _loaded=encoder, _metrics=trained.metrics, _settings=settings)
        return source

    @property
    def by_name(self) -> bool:
        """Whether it is a timm model's name."""
        return not self.path.exists() and str(self.path) in timm_names()

    @property
    def of_embeddings(self) -> bool:
        """Whether it holds embeddings, or other vectors."""
        return self.path.suffix == ".npz" or self._is_of_vectors

    @cached_property
    def _is_of_vectors(self) -> bool:
        from thanos.data.vector_files import holds_vectors

        return self.path.exists() and holds_vectors(self.path)

    @property
    def _is_folder(self) -> bool:
        """Whether it is (or should be) a run directory."""
        return self.path.is_dir() and not self._is_of_vectors

    @property
    def data(self) -> DataConfig | None:
        """The images that were named; None: a run's own."""
        if "data" not in self.options.model_fields_set:
            return None
        return DataConfig(**self.options.model_dump(include=self._reading))

    @property
    def run(self) -> RunDir | None:
        """The run directory whose own images are meant; None: anything else."""
        return RunDir(self.path) if self._is_folder and self.data is None else None

    @cached_property
    def title(self) -> str:
        """What a page about it is headed by."""
        if self.path.suffix != ".ckpt":
            return f"{self.path}{'' if self.data is None else f', images of {self.data.data}'}"
        from thanos.runs.checkpoint import read_checkpoint

        steps = read_checkpoint(self.path)["global_step"]
        return f"{self.path}: a training's state after {steps:,} steps; its end may look otherwise"

    def out(self, given: Path | None, name: str, *, suffix: str) -> Path:
        """Where an outcome goes: as given; in the run; beside a file of embeddings.

        Args:
            given: The place that was named, if one was.
            name: Of the outcome in a run directory; of the best weights' outcome ``-best`` stands behind it.
            suffix: Of the file.
        Raises:
            ConfigError: where there is no such place.
            OutputError: where nothing can be written.
        """
        if given is None:
            file = self.own(name, suffix)
            if file is None:
                raise ConfigError(f"`out` names the {suffix} to write; it is needed here.")
        elif given.suffix != suffix:
            raise ConfigError(f"`out` names a {suffix} file; got {given}. Call it {given.with_suffix(suffix)}.")
        else:
            file = given
        if not is_writable(file):
            raise OutputError(f"{file} cannot be written. Name another `out`.")
        home = file.parent
        kept = (RunDir(home).outcome(name, suffix, which) for which in ("last", "best"))
        if file != self.own(name, suffix) and file in kept and RunDir(home).is_run:
            raise OutputError(
                f"{file} is where the run {home} keeps what is made of its own images and weights; {self.path} would "
                f"put others there. Name another `out`."
            )
        if self.options.skip_bad and self.data is not None:
            refuse_foreign(skipped_list(file), has_columns(SKIPPED), "thanos")
        return file

    def own(self, name: str, suffix: str) -> Path | None:
        """The file of an outcome in the run, or beside the embeddings."""
        if self.run is not None:
            return self.run.outcome(name, suffix, self.options.weights)
        return self.path.with_name(f"{self.path.stem}-{name}{suffix}") if self.of_embeddings else None

    def discovered(self, table: Path | None, names: Path | None) -> tuple[Path | None, Path | None]:
        """A table of discovered subclasses and a person's names for it; None: neither.

        The table is the one given, else that of the run or of the embeddings; names are those given, else the table's.

        Raises:
            ConfigError: for names without a table.
        """
        if table is None and (own := self.own("subclasses", ".csv")) is not None and own.is_file():
            table = own
        if names is not None and table is None:
            raise ConfigError("`names` names the subclasses of a `table`; give both.")
        if names is None and table is not None and (beside := table.with_suffix(".yaml")).is_file():
            names = beside
        return table, names

    def is_own(self, table: Path) -> bool:
        """Whether it is where this keeps its own table of subclasses."""
        return table == self.own("subclasses", ".csv")

    def again(self, table: Path | None) -> str:
        """What is typed behind a command to evaluate this and the table's subclasses again."""
        words = [str(self.path)]
        words += [] if self.data is None else ["--data", self.data.data]
        words += [] if self.options.weights == "last" else ["--weights", self.options.weights]
        words += [] if table is None or self.is_own(table) else ["--table", str(table)]
        return " ".join(quote(word) for word in words)

    def classifier(self, given: Path | None) -> Path:
        """As given, else the newest of the embeddings' own, else training's. ConfigError: if there is none."""
        own = RunDir(self.path).classifiers(self.options.weights) if self._is_folder else []
        if self.of_embeddings:
            own = newest_first(self.path.with_name(f"{self.path.stem}-{name}.npz") for name in ROBUST)
        own = [file for file in [given] if file.is_file()] if given else own
        if not own:
            where = f"{given} does not exist" if given else f"{self.path} has none of its own"
            made = f"thanos robust {quote(str(self.path))}{f' --out {quote(str(given))}' if given else ''}"
            raise ConfigError(f"`classifier` names the .npz of thanos robust; {where}. Make one: {made}")
        if len(own) > 1:
            told = ", ".join(file.name for file in own)
            self.say(f"{len(own)} classifiers: {told}; the first, the newest, is used, unless `classifier` names one")
        return own[0]

    @cached_property
    def encoder(self) -> "Encoder":
        """Raises DataError or ConfigError if there is none."""
        from thanos.runs.encoder_io import balance_parts, timm_encoder

        if self.by_name:
            return timm_encoder(str(self.path), self.options.pretrained or True, self.images, self.say)
        if self.path.suffix == ".ckpt":  # until a run ends, its encoders stand side by side unbalanced
            balance_parts(self._loaded, self._own_images if self.home.settings_file.is_file() else self.images)
        return self._loaded

    @cached_property
    def _loaded(self) -> "Encoder":
        from thanos.runs.encoder_io import load_encoder

        encoder = load_encoder(self._weights if self._is_folder else self.path)
        there = RunDir(self.path).data().get("fingerprint", encoder.card.fingerprint) if self._is_folder else None
        if there not in (None, encoder.card.fingerprint):
            raise DataError(
                f"{self._weights} was trained on other images than {self.path} says of itself (data.json). Bring back "
                f"its own weights, or train it again: thanos train --config {self.home.settings_file} --out NEW"
            )
        return encoder

    @property
    def _weights(self) -> Path:
        return RunDir(self.path).weights(self.options.weights)

    @cached_property
    def images(self) -> "Samples":
        """Images, or vectors: those named, or those of the run.

        Raises:
            ConfigError: if none are known.
            DataError: if they have changed since the training, or cannot be read.
        """
        from thanos.data.load import load_samples

        if self.data is None:
            return self._own_images
        return self._told(load_samples(self.data.model_copy(update=self._taken_by_the_encoder()), to_embed=True))

    def _taken_by_the_encoder(self) -> dict[str, Any]:
        """How images must be read that were named without a word on it."""
        from thanos.data.load import is_of_vectors

        if self.by_name or "size" in self.options.model_fields_set or is_of_vectors(self.options.data):
            return {}
        card = self._loaded.card
        square = card.size is not None and card.size[0] == card.size[1]
        return {"size": card.size[0], "convert": card.channels == 3} if square and card.size else {}

    @cached_property
    def samples(self) -> "Samples | None":
        """Images, or vectors with labels and splits; None for embeddings that we wrote."""
        from thanos.data.load import load_samples
        from thanos.embeddings import is_written_by_us

        if not self.of_embeddings:
            return self.images
        if not self._is_of_vectors or (is_written_by_us(self.path) and not self._reading):
            return None
        given = self.options.model_dump(include=self._reading) | {"data": str(self.path)}
        return self._told(load_samples(DataConfig(**given), to_embed=True))

    @property
    def pictures(self) -> "ImageSet | None":
        """The images, where there are any beside the embeddings."""
        from thanos.data.imageset import ImageSet

        return self.samples if isinstance(self.samples, ImageSet) else None

    def two_views(self) -> "tuple[NDArray[np.float32], NDArray[np.float32]] | None":
        """Embeddings of two augmented views of some test images, each (n, dim); None without pictures."""
        if self.of_embeddings:
            return None
        try:
            images = self.images
        except DataError as error:
            self.say(f"without the alignment, which needs pictures: {error}")
            return None
        from thanos.evaluate.geometry import two_views

        return two_views(self.encoder, images)

    def keep(self, name: str, scores: dict[str, Any]) -> None:
        """Add scores of a run's own images to its numbers; on a read-only disk they are only said."""
        if self.run is not None:
            marked = scores | {"command": command(), "encoder": self.embeddings.encoder}
            if not self.run.add_metrics({f"{name}/{self.options.weights}": marked}):
                self.say(f"{self.run.path} cannot be written: {name} is not kept there")

    def kept(self) -> dict[str, Any]:
        """``geometry``, ``transfer`` and ``apart`` as a run keeps them of these weights; empty where it is none."""
        if self.run is None:
            return {}
        metrics = self.run.metrics()
        named = {name: metrics.get(f"{name}/{self.options.weights}") for name in ("geometry", "transfer", "apart")}
        return {key: each for key, each in named.items() if each and each.get("encoder") == self.embeddings.encoder}

    def training(self) -> "Training | None":
        """How a run was trained, for its page; None where it is none."""
        if (run := self.run) is None:
            return None
        from thanos.report.discover_page import Training

        logged, card, weights = run.logged(), self._loaded.card, run.weights(self.options.weights)
        return Training(str(run.path), self._settings, self._metrics, logged, card, weights)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """What decided the training of the run that it is (part of)."""
        return self.home.settings()

    @cached_property
    def _metrics(self) -> dict[str, Any]:
        return self.home.metrics()

    def list_skipped(self, out: Path) -> None:
        """Write which of the images that were named are left out, beside the outcome."""
        if self.data is not None and self.images.skipped:
            write_csv(skipped_list(out), [SKIPPED, *self.images.skipped])

    @property
    def space(self) -> str:
        """The mark of the space that its embeddings lie in, without embedding anything."""
        return self.embeddings.space if self.of_embeddings else self.encoder.fingerprint

    def places(self, names: Path | None = None) -> "tuple[Places, Called] | None":
        """What places new images in the discovered subclasses kept here, and their names; None: nothing is kept.

        Raises:
            DataError, ConfigError: if it is damaged, or the ``names`` are not of the subclasses here.
        """
        from thanos.runs.own_data import kept_embeddings
        from thanos.subclasses.keep import places_of

        own = self.own("subclasses", ".csv")
        table = RunDir(self.path).outcome("subclasses", ".csv", self.options.weights) if self._is_folder else own
        kept, weights = (read(self.options.weights) for read in (self.home.embeddings, self.home.weights))
        known = (lambda: self.embeddings) if self.of_embeddings else (lambda: kept_embeddings(kept, weights)[0])
        return places_of(table, names, lambda: self.space, known, str(self.path), self.say)

    @property
    def home(self) -> RunDir:
        """The run that it is (part of)."""
        return RunDir(self.path if self._is_folder else self.path.parent)

    @cached_property
    def _own_images(self) -> "Samples":
        from thanos.runs.own_data import own_data

        return own_data(self.home, self._loaded.card, self.path)

    @property
    def _reading(self) -> set[str]:
        """The options of reading that were given."""
        return self.options.model_fields_set & set(DataConfig.model_fields)

    def _told(self, images: "Samples") -> "Samples":
        """The same, after what is worth knowing of them was said."""
        for note in images.notes:
            self.say(note)
        return images

    @cached_property
    def embeddings(self) -> "Embeddings":
        """As they lie in the file or the run, or made now; a run keeps them.

        Those in a run that are of other images or other weights than the run's are neither taken nor written over.
        """
        from thanos.embeddings import embed, embeddings_of, read_embeddings, write_embeddings
        from thanos.runs.own_data import kept_embeddings

        if self.of_embeddings:
            return read_embeddings(self.path) if self.samples is None else embeddings_of(self.samples)
        kept = None if self.run is None else self.run.embeddings(self.options.weights)
        if kept is not None and kept.is_file():
            embeddings, other = kept_embeddings(kept, self._weights)
            if embeddings is not None:
                return embeddings
            self.say(f"{kept} is {other}: embedded anew for now; thanos embed {self.again(None)} replaces it")
        embeddings = embed(self.encoder, self.images)
        if kept is not None and not kept.exists() and is_writable(kept):
            write_embeddings(embeddings, kept)
        return embeddings
