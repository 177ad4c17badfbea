"""What each verb can be told: one pydantic model per verb, with ranges and messages. Imports no torch."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from thanos import registry
from thanos.errors import ConfigError
from thanos.names import nearest
from thanos.storage import write_text

RobustMethod = Literal["erm", "reweight", "groupdro", "jtt", "dfr", "afr"]
Rule = Literal["worst-group", "worst-discovered", "worst-class"]
LISTINGS = (".csv", ".tsv", ".txt", ".npz")
"""Kinds of file that list images or hold them."""
SEEDS = 100
"""The most paired repetitions of a table."""
Fraction = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of every configuration: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        for field in cls.model_fields.values():  # --help breaks lines by itself
            field.description = field.description and " ".join(field.description.split())


class ViewSpec(Settings):
    """How a random view is drawn, image by image."""

    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Smallest share of the image's area a crop keeps; 1 turns cropping off."""
    flip: Fraction = 0.5
    """Probability of a left-right flip."""
    jitter: Fraction = 0.8
    """Probability of colour jitter."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    """Brightness factor is drawn from 1 +- this."""
    contrast: Annotated[float, Field(ge=0)] = 0.4
    """Contrast factor is drawn from 1 +- this."""
    saturation: Annotated[float, Field(ge=0)] = 0.4
    """Saturation factor is drawn from 1 +- this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Hue shift is drawn from +- this, in turns of the colour circle."""
    grey: Fraction = 0.2
    """Probability of turning grey."""


class DataConfig(Settings):
    """Which images and labels, and how they are read."""

    data: str = "digits"
    """A data set's name (digits, mnist, fashion-mnist, cifar10, cifar100, cifar100-u, tiny-imagenet; with groups:
    docs/robust.md), a folder SUPERCLASS[/SUBCLASS]/image, a CSV with columns path, superclass[, subclass][, group]
    [, split], or an .npz with the arrays images, superclass and, of these, any others. To embed, images alone will do:
    in one folder, or as a CSV with a path."""
    root: Path | None = None
    """Where the published data sets lie; default: $THANOS_DATA, else ~/.cache/thanos/data."""
    download: bool = False
    """Fetch a published data set that is not there."""
    size: Annotated[int, Field(ge=4)] | Literal["auto"] | None = None
    """Side in pixels that images are brought to; default: their own, if they all agree."""
    convert: bool = False
    """Bring images of mixed modes (grey, alpha, CMYK, 16 bit) to 8-bit RGB instead of stopping."""
    skip_bad: bool = False
    """Go on without unreadable images and rows, and list them in skipped.csv, instead of stopping."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images held out for validation, where the data name no such split."""
    train_limit: Annotated[int, Field(ge=1)] | None = None
    """Train on this many images, each superclass keeping its share (in cifar100-u each subclass), after validation is
    held out."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the validation split and of the training subset."""
    labels: Literal["superclass", "subclass"] | Path = "superclass"
    """A CSV with the labels of the images in the folder --data (columns: docs/own-data.md). Or what training is told:
    superclass, or subclass, the fine labels themselves, to see what they would give."""
    groups_from: Path | None = None
    """A table of discovered subclasses (thanos discover), which take the place of the images' groups."""
    groups_named: Path | None = None
    """A YAML file 'discovered subclass: your name' for that table; equal names merge."""


class TrainConfig(DataConfig):
    """Everything that decides a training run, and with it the run's outcome."""

    method: str = "thanos"
    """A row of the paper's Table 3: infonce, supcon, supcon+infonce, cauto, spread (SupCon + cNCE), supcon+cauto,
    thanos; cross-entropy on the superclass alone; or maskcon, a rival (its paper: --temperature 0.1, a --projector)."""
    encoder: str = "tiny"
    """tiny, paper-vit, resnet18-small, or any timm model by name."""
    pretrained: bool | Path = False
    """Start a timm model from its published weights (a download, once), or from a checkpoint on disk."""
    encoders: Literal["two", "one"] = "two"
    """For methods with an autoencoder beside a contrastive loss: two encoders side by side, as in the paper, or one
    encoder trained on everything at once."""
    projector: Annotated[int, Field(ge=0)] = 0
    """Width of a two-layer projector between embedding and contrastive loss; 0: none, as in the paper."""
    alpha: Fraction | Literal["auto", "follow"] = "auto"
    """Weight of spreading against attraction; auto solves for --within-class-cosine at this batch and temperature;
    follow starts there and then corrects alpha by the cosine measured as it trains."""
    within_class_cosine: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The degree of spread that auto and follow aim at: cosine between different images of one superclass."""
    temperature: Annotated[float, Field(ge=0.005)] = 0.5
    """Divisor of the cosine similarity."""
    contrast: Literal["cross-view", "all-view"] = "cross-view"
    """cross-view: anchors of one view against points of another (the paper). all-view: against all other views."""
    denominator: Literal["negatives", "all"] = "negatives"
    """SupCon's denominator: the positive and the negatives (the paper), or all points (Khosla et al.)."""
    views_per_image: Annotated[int, Field(ge=2)] = 2
    """Augmented views of each image in a batch."""
    released_loss: bool = False
    """Compute SupCon and spread as the paper's released code does (one direction, positives clipped)."""
    classify_weight: Annotated[float, Field(ge=0)] | None = None
    """Weight of the superclass cross-entropy on the embedding; default 1 as released, 0 for infonce and maskcon."""
    bank: Annotated[int, Field(ge=1)] = 4096
    """maskcon: earlier keys that a query meets."""
    key_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """maskcon: how slowly the encoder of the keys follows."""
    label_temperature: Annotated[float, Field(ge=0.005)] = 0.05
    """maskcon: divisor of the cosine between keys in its soft labels."""
    soft: Fraction = 0.5
    """maskcon: weight of the soft labels against the image's own other view."""
    reconstruction_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the autoencoder's mean squared error."""
    superclass_into: Literal["classifier", "decoder"] = "classifier"
    """How the autoencoder is class-conditional: a classifier on its embedding (released), or a decoder told the
    superclass (then the autoencoder has no classifier)."""
    robust: Literal["none", "groupdro", "reweight", "weighted"] = "none"
    """How the cross-entropy looks at the images' groups. groupdro: weights grow with a group's loss; reweight: every
    group weighs the same; weighted: as --group-weight says."""
    group_step: Annotated[float, Field(ge=0)] = 0.01
    """Step of groupdro's weights."""
    group_adjustment: Annotated[float, Field(ge=0)] = 0.0
    """groupdro adds this over the root of a group's images to its loss in the weights."""
    group_weight: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Weights of groups by name, for weighted; 1 for those not named."""
    select: Literal["neighbours", "worst-group", "worst-class"] = "neighbours"
    """Which validation score decides the best epoch: superclass accuracy of neighbours, or the classifier's accuracy on
    its worst group or superclass."""
    views: ViewSpec | None = None
    """Augmentation; what is not given is the data set's own."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Images in a batch, on each device."""
    sampling: Literal["shuffled", "class-balanced", "group-balanced"] = "shuffled"
    """Order of the images: a fresh shuffle every epoch, or every superclass or group equally often."""
    epochs: Annotated[int, Field(ge=1)] = 100
    """Passes over the training images."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak rate of AdamW; warms up linearly, then falls to zero along one cosine."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay."""
    warmup: Fraction = 0.05
    """Share of all steps spent warming up."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of initialisation, order, views and dropout."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients are added up before a step."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Arithmetic of the encoder; the losses always reduce in float32."""
    compile: bool = False
    """Compile the encoder (torch.compile): minutes at the start; needs a C++ compiler on a CPU, Triton on a GPU."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    """Lightning's accelerator."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """How many devices."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """How many machines."""

    @property
    def looks_at_groups(self) -> bool:
        """Whether training or its choice of the best epoch depends on the images' groups."""
        return self.robust != "none" or self.select == "worst-group" or self.sampling == "group-balanced"

    @property
    def classify(self) -> float:
        """The weight of the cross-entropy after defaults."""
        return registry.method(self.method).classify if self.classify_weight is None else self.classify_weight

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        method = _known_method("method", self.method)
        registry.encoder(self.encoder)
        if self.released_loss and (self.contrast != "cross-view" or self.denominator != "negatives"):
            raise ValueError("the released loss is cross-view with the paper's denominator; drop --released-loss.")
        if self.pretrained and registry.encoder(self.encoder) is not None:
            raise ValueError(f"{self.encoder} has no published weights; drop --pretrained or name a timm model.")
        if self.denominator == "all" and not method.denominators:
            raise ValueError(f"--denominator all is SupCon's; {self.method} has none such. Drop it.")
        fixed = (self.devices, self.nodes, self.contrast, self.views_per_image)
        if method.one_device and fixed != (1, 1, "cross-view", 2):
            raise ValueError(
                f"{self.method} trains on one device, on two views; drop --devices, --nodes, --contrast, "
                "--views-per-image."
            )
        if self.released_loss and not method.attracts:
            raise ValueError(f"the released quirks are in SupCon and spread; drop --released-loss for {self.method}.")
        looks = self.robust != "none" or self.select != "neighbours"
        if looks and (not method.serves_groups or self.classify == 0):
            raise ValueError("--robust and --select are about the classifier, and this run trains none. Drop them.")
        if (self.robust == "weighted") != bool(self.group_weight):
            raise ValueError("--robust weighted and --group-weight.NAME come together; give both or none.")
        if self.method == "cross-entropy" and self.classify == 0:
            raise ValueError("cross-entropy has no other term; give --classify-weight a value above 0.")
        return self


class AutoTrainConfig(Settings):
    """What a training from images can be told; what is not is chosen to suit images and device, with a reason."""

    train_method: str | None = None
    """How the encoder is trained: a row of the paper's Table 3; default: thanos."""
    encoder: str | None = None
    """tiny, paper-vit, resnet18-small, or any timm model by name."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the training images."""
    batch: Annotated[int, Field(ge=2)] | None = None
    """Images in a batch."""
    alpha: Fraction | Literal["auto", "follow"] = "auto"
    """Weight of spreading against attraction."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Arithmetic of the encoder."""

    @model_validator(mode="after")
    def _known_names(self) -> "AutoTrainConfig":
        if self.train_method is not None:
            _known_method("train_method", self.train_method)
        if self.encoder is not None:
            registry.encoder(self.encoder)
        return self


class RunConfig(Settings):
    """How a run is carried out: nothing here changes its outcome, so a resumed run may differ in it."""

    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode images too large to keep in memory."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of torch; default: all cores."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 2
    """Minutes between checkpoints."""
    logger: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Also log there; metrics.jsonl is always written."""
    quiet: bool = False
    """No progress."""


class SourceConfig(DataConfig):
    """Which of a run's weights, and which images; by default those it was trained on."""

    weights: Literal["last", "best"] = "last"
    """Of the last epoch, or of the best by validation superclass accuracy."""
    pretrained: bool | Path = False
    """A file of weights of the timm model that is named, or, where images are trained on first, of the --encoder to
    start from; without a file, the published ones (a download, once)."""


class TransferConfig(Settings):
    """How a frozen embedding is judged on fine labels."""

    probe: Literal["convex", "released", "none"] = "convex"
    """convex: logistic regression on clean embeddings, strength chosen on validation. released: a linear layer
    trained 100 epochs by AdamW on a fresh augmented view each epoch. none: neighbours only."""
    neighbours: Annotated[int, Field(ge=1)] = 20
    """k of the nearest-neighbour classifier."""
    probe_epochs: Annotated[int, Field(ge=1)] = 100
    """Epochs of the released probe."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the released probe."""


class DemoConfig(Settings):
    """The demonstration on scikit-learn's digits."""

    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Paired repetitions."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """Trainings side by side, the cores divided between them; default: one for each core, at most four."""
    epochs: Annotated[int, Field(ge=1)] = 60
    """Passes over the training images."""


class TableConfig(Settings):
    """What the paper's tables have in common."""

    method: tuple[str, ...] = ()
    """Rows; repeat for several. Default: all, with floors, controls and ceilings; a row brings its control."""
    seeds: Annotated[int, Field(ge=1, le=SEEDS)] = 3
    """Paired repetitions; split, images, initialisation and views follow the seed."""
    scale: str = "cpu"
    """cpu, paper-fast, resnet18, paper, or a .yaml file of the same form."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """Trainings side by side, the cores divided between them; default: one for each core, at most four; on a GPU 1."""
    root: Path | None = None
    """Where the published data sets lie; default: $THANOS_DATA, else ~/.cache/thanos/data."""
    download: bool = False
    """Fetch a published data set that is not there."""
    dry_run: bool = False
    """Print what would be run and how long the trainings take, measured on a few steps; run nothing."""


class Table3Config(TableConfig):
    """The paper's coarse-to-fine transfer experiment."""

    dataset: tuple[str, ...] = ("mnist", "cifar10", "cifar100", "cifar100-u", "tiny-imagenet")
    """Data sets, the paper's five or others by name; repeat for several."""

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if registry.dataset(name) is None:
                raise ValueError(
                    f"--dataset takes a data set's name; got {name!r}{nearest(name, registry.datasets())}."
                )
        return names


class Table4Config(TableConfig):
    """The paper's robustness experiment, on sets anyone can build."""

    dataset: tuple[
        Literal[
            "dominoes-95",
            "dominoes-99",
            "coloured-digits-large",
            "coloured-digits-medium",
            "coloured-digits-small",
            "patched-cifar10",
            "rare-cifar10",
            "rare-mnist",
        ],
        ...,
    ] = ("dominoes-95", "coloured-digits-medium", "rare-mnist", "rare-cifar10")
    """Sets; repeat for several."""


class DiscoverConfig(Settings):
    """How subclasses are looked for inside each superclass."""

    reduce: Literal["pca", "none", "hardness", "umap"] = "pca"
    """pca: principal components; hardness: the direction between the superclass and the others, then components;
    umap: an extra, `pip install thanos-repr[umap]`."""
    components: Annotated[int, Field(ge=1)] = 32
    """Dimensions after the reduction."""
    length: Literal["unit", "own"] = "unit"
    """Bring embeddings to unit length first, or leave them their own."""
    method: Literal["kmeans", "mixture"] = "kmeans"
    """k-means, or a Gaussian mixture (full covariances; diagonal ones above 20,000 images)."""
    clusters: Annotated[int, Field(ge=1)] | None = None
    """Clusters in each superclass; default: as many as the silhouette favours, or one where it favours none."""
    least: Annotated[int, Field(ge=1)] = 1
    """Smallest number of clusters that is tried; from 2 on, no superclass is left as one subclass."""
    most: Annotated[int, Field(ge=2)] = 10
    """Largest number of clusters that is tried."""
    overcluster: bool = False
    """Then split each cluster in five and keep the parts that stand apart (George, NeurIPS 2020); what was found to be
    one subclass stays one."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of clusterings and samples."""

    @field_validator("method", mode="before")
    @classmethod
    def _of_clustering(cls, method: Any) -> Any:
        if method in registry.methods():
            raise ValueError(
                f"--method is how images are clustered; --train-method {method} is how an encoder is trained."
            )
        return method

    @model_validator(mode="after")
    def _fits_together(self) -> "DiscoverConfig":
        if self.least > self.most:
            raise ValueError(f"--least is at most --most; got {self.least} and {self.most}.")
        return self


class RobustConfig(Settings):
    """How a model that serves every group is made from embeddings."""

    method: RobustMethod = "groupdro"
    """groupdro: the worst group's loss made as small as it gets; reweight: every group weighs the same; jtt: what a
    first model gets wrong counts more; dfr: refitted on group-balanced validation images; afr: refitted on what a first
    model is least sure of; erm: the plain model, to compare with."""
    groups: Literal["given", "discovered", "none"] = "discovered"
    """What the method may know: the images' own groups, clusters found inside each superclass, or nothing."""
    select: Literal["auto", "worst-group", "worst-discovered", "worst-class"] = "auto"
    """Which validation score chooses among its settings; auto: worst-group with given groups, worst-discovered with
    discovered ones, worst-class with none."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draws of dfr and afr."""

    @property
    def rule(self) -> Rule:
        """The selection after defaults."""
        rules: dict[str, Rule] = {"given": "worst-group", "discovered": "worst-discovered", "none": "worst-class"}
        return rules[self.groups] if self.select == "auto" else self.select

    @property
    def sees_groups(self) -> bool:
        """Whether true groups play any part before the test."""
        return self.groups == "given" or self.rule == "worst-group"

    @model_validator(mode="after")
    def _fits_together(self) -> "RobustConfig":
        if self.groups == "none" and self.method in ("groupdro", "reweight", "dfr"):
            raise ValueError(f"{self.method} works on groups; pass --groups given or discovered, or use jtt or afr.")
        if self.method == "dfr" and self.select != "auto":
            raise ValueError(
                "dfr chooses its penalty by its own groups on halves of the validation images; drop --select."
            )
        if self.rule == "worst-discovered" and self.groups != "discovered":
            raise ValueError("--select worst-discovered watches discovered groups; pass --groups discovered.")
        return self


class SuggestConfig(Settings):
    """A run that is being planned."""

    superclasses: Annotated[int, Field(ge=2)]
    """How many superclasses."""
    batch: Annotated[int, Field(ge=2)] = 128
    """Images in the batch that the loss sees."""
    temperature: Annotated[float, Field(ge=0.005)] = 0.5
    """Divisor of the cosine similarity."""
    within_class_cosine: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The wanted cosine between different images of one superclass."""


class LaunchConfig(Settings):
    """Where a plan's trainings happen."""

    launcher: Literal["here", "slurm", "local"] = "here"
    """here: on this machine, --jobs at a time. slurm: a job for each data set and seed, by submitit, on a file system
    that all machines see. local: submitit's own trial of that on this machine."""
    hours: Annotated[float, Field(gt=0)] = 24
    """Time limit of a job."""
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs of a Slurm job."""
    partition: str | None = None
    """Slurm's partition."""


def _known_method(setting: str, name: str) -> registry.MethodSpec:
    try:
        return registry.method(name)
    except ValueError as error:
        raise ValueError(f"--{setting.replace('_', '-')} {error}") from None


def check_data(name: str) -> None:
    """Raise ConfigError unless ``name`` is a data set, a folder, or a file of a kind that lists or holds images."""
    path = Path(name)
    if path.is_file() and path.suffix.lower() not in LISTINGS:
        raise ConfigError(
            f"images are given as a folder SUPERCLASS/image, a table ({', '.join(LISTINGS[:-1])}) or an .npz; "
            f"{name!r} is one file of another kind. Give the folder that it is in, or a table that lists it."
        )
    if registry.dataset(name) is not None or path.exists():
        return
    known = registry.datasets()
    raise ConfigError(
        f"--data takes a data set ({', '.join(known)}), a folder, a CSV or an .npz; {name!r} is none of "
        f"these and no such path exists{nearest(name, known)}."
    )


def save(config: BaseModel, path: Path) -> None:
    """Write every setting, also the defaults, as YAML that ``--config`` reads back."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


LARGEST, DEEPEST = 16 * 2**20, 20
"""Bytes of a YAML file that is read, and levels of what is nested in it."""


class _Refused(yaml.composer.ComposerError):
    """YAML that is not read here."""


class _PlainLoader(yaml.SafeLoader):
    """Plain values, lists and mappings: a few lines of references to references would hold more than any memory."""

    _depth = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    mark = key.start_mark
                    raise _Refused(problem=f"{key.value!r} stands there twice", problem_mark=mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor} refers to another part of the file; write it out"
            raise _Refused(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
        if self._depth >= DEEPEST:
            raise _Refused(problem=f"it is more than {DEEPEST} levels deep", problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def read_yaml(path: Path, wanted: str = "settings like 'epochs: 10'") -> dict[str, Any]:
    """A YAML file's keys and values.

    Args:
        path: The file.
        wanted: What it should hold, for messages.
    Raises:
        ConfigError: if the file is missing, is no YAML, or holds no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} does not exist.")
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"a YAML file of {wanted} is wanted; {path} is larger than {LARGEST / 2**20:.0f} MB.")
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        hint = "" if isinstance(error, _Refused) else " Put names with a colon, a bracket or a # in quotes."
        raise ConfigError(
            f"a YAML file of {wanted} is wanted; line {line} of {path} cannot be read as YAML: {error.problem}.{hint}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # also a date that is none
        first = str(error).replace("\n", " ")
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} cannot be read as YAML: {first}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"a YAML file of {wanted} is wanted; {path} holds {repr(content)[:60]}.")
    return content


def explain(error: ValidationError, prefix: str = "--") -> str:
    """pydantic's complaint as one line in the user's words: the setting, what it takes, what came."""
    faults: dict[str, tuple[list[str], Any]] = {}
    for fault in error.errors():
        where = ".".join(str(key).replace("_", "-") for key in fault["loc"] if not _is_union_branch(key))
        if not where or fault["type"] == "value_error":
            faults[fault["msg"].removeprefix("Value error, ")] = ([], None)
            continue
        if fault["type"] == "missing":
            faults[f"{prefix}{where} is needed."] = ([], None)
            continue
        wanted = fault["msg"].removeprefix("Input should be ").split(", unable")[0]
        if fault["type"] == "literal_error" and isinstance(fault["input"], str):
            wanted += nearest(fault["input"], re.findall(r"'([^']+)'", wanted))
        faults.setdefault(where, ([], fault["input"]))[0].append(wanted)
    return " ".join(
        f"{prefix}{where} should be {' or '.join(wanted)}; got {came!r}." if wanted else where
        for where, (wanted, came) in faults.items()
    )


def _is_union_branch(key: Any) -> bool:
    return isinstance(key, str) and (key.startswith(("constrained-", "literal[")) or key in ("int", "float"))
