"""What decides a training, and how it is carried out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from thanos import registry
from thanos.config.base import Fraction, Settings
from thanos.config.data import DataConfig, ViewSpec

OF_FEATURES = ("feature_noise", "feature_dropout", "feature_neighbours")
"""Settings that say nothing of images: about features and vectors."""
_OF_FROZEN = ("head", "frozen_grid", "frozen_views", "keep_features", *OF_FEATURES)
"""Settings that say nothing without ``frozen``, but for vectors."""
_OF_FINE_TUNING = ("backbone_rate", "layer_decay", "head_first", "batch_norm", "unfreeze")
"""Settings that say nothing unless pretrained weights are trained."""


class TrainConfig(DataConfig):
    """Everything that decides a training run, and with it the run's outcome."""

    method: str = "thanos"
    """How the encoder is trained, mostly as a row of the paper's Table 3: {methods}. spread is SupCon + cNCE; maskcon
    is a rival (its paper: --temperature 0.1, a --projector)."""
    encoder: str = "tiny"
    """{encoders}, or any timm model by name; of vectors mlp, unless another is named."""
    pretrained: bool | Path = False
    """Start a timm model from a checkpoint on disk; without a file from the weights of an installed package (extra
    photos: tf_efficientnet_lite0), else from its published ones (a download, once)."""
    frozen: bool = False
    """Keep a pretrained timm model as it is, and train a small network on its features, which are computed once."""
    head: str = "mlp"
    """frozen: that network, mlp-HIDDEN-DIM; mlp is mlp-256-64."""
    frozen_grid: Annotated[int, Field(ge=0, le=16)] = 0
    """frozen: beside the last layer's features take a middle one's, averaged over the cells of a grid of so many a
    side: shape and place, for images far from photographs; 0: none."""
    frozen_views: Annotated[int, Field(ge=0)] = 4
    """frozen: augmented views of each image whose features are computed beside its own; 0: noise alone tells views
    apart."""
    feature_noise: Annotated[float, Field(ge=0)] = 0.3
    """frozen, vectors: standard deviation of the noise on a view's features, in standard deviations of each."""
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """frozen, vectors: probability that a feature is missing from a view."""
    feature_neighbours: Annotated[int, Field(ge=0)] = 0
    """frozen, vectors: a view may be one of so many nearest images of its superclass, by their features, instead."""
    keep_features: bool = False
    """frozen: the embedding is the features with the head's beside them, so that it never holds less than they do."""
    backbone_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    """pretrained: the weights' share of --learning-rate, which the new heads learn at."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """pretrained: factor of the rate from each layer to the one below it (timm's); 0.75 is usual for transformers."""
    head_first: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """pretrained: share of all steps at the start in which the heads learn and the weights stand still."""
    batch_norm: Literal["fixed", "adapt"] = "fixed"
    """pretrained: fixed keeps the weights' own running statistics (batches are small, or of other images); adapt takes
    those of the batches."""
    unfreeze: Annotated[int, Field(ge=1)] | None = None
    """pretrained: train the last so many blocks or stages (timm's) and leave those below as they are; default: all."""
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
    group_weight: dict[str, Annotated[float, Field(gt=0)]] = {}  # noqa: RUF012
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
        own = registry.encoder(self.encoder)
        if own is not None and not own.learns:
            raise ValueError(f"`encoder={self.encoder}` has no weights to train; got it alone. Name another.")
        if self.released_loss and (self.contrast != "cross-view" or self.denominator != "negatives"):
            raise ValueError("the released loss is cross-view with the paper's denominator; drop `released_loss`.")
        if self.pretrained and registry.encoder(self.encoder) is not None:
            raise ValueError(f"{self.encoder} has no published weights; drop `pretrained` or name a timm model.")
        if self.frozen and not self.pretrained:
            raise ValueError("`frozen` keeps pretrained weights; name a timm `encoder` and pass `pretrained`.")
        usual = ((name, type(self).model_fields[name].default) for name in _OF_FROZEN)
        free = OF_FEATURES if self._may_have_vectors() else ()
        idle = [n for n, default in usual if not self.frozen and n not in free and getattr(self, n) != default]
        if idle:
            raise ValueError(f"`{idle[0]}` is about the features of a frozen encoder; pass `frozen`, or drop it.")
        head = registry.encoder(self.head)
        if head is None or head.takes != "vectors" or not head.learns:
            raise ValueError(f"`head` takes one of {', '.join(registry.encoders('vectors'))}; got {self.head!r}.")
        if self.denominator == "all" and not method.denominators:
            raise ValueError(f"`denominator=all` is SupCon's; {self.method} has none such. Drop it.")
        fixed = (self.devices, self.nodes, self.contrast, self.views_per_image)
        if method.one_device and fixed != (1, 1, "cross-view", 2):
            raise ValueError(
                f"{self.method} trains on one device, on two views; drop `devices`, `nodes`, `contrast`, "
                "`views_per_image`."
            )
        if self.released_loss and not method.attracts:
            raise ValueError(f"the released quirks are in SupCon and spread; drop `released_loss` for {self.method}.")
        looks = self.robust != "none" or self.select != "neighbours"
        if looks and (not method.serves_groups or self.classify == 0):
            raise ValueError("`robust` and `select` are about the classifier, and this run trains none. Drop them.")
        if (self.robust == "weighted") != bool(self.group_weight):
            raise ValueError("`robust=weighted` and `group_weight` come together; give both or none.")
        if set(method.steps) == {"classifier"} and self.classify == 0:
            raise ValueError(f"{self.method} has no other term; give `classify_weight` a value above 0.")
        return self

    def _may_have_vectors(self) -> bool:
        """Whether what is trained on could be vectors; what it is shows when it is read."""
        named = registry.encoder(self.encoder)
        a_file = registry.dataset(self.data) is None and Path(self.data).suffix != ""
        return a_file or Path(self.data).is_dir() or (named is not None and named.takes == "vectors")

    @model_validator(mode="after")
    def _fine_tunes_weights(self) -> "TrainConfig":
        fields = type(self).model_fields
        idle = [name for name in _OF_FINE_TUNING if getattr(self, name) != fields[name].default]
        if idle and (self.frozen or not self.pretrained):
            way = "`frozen` trains none; drop one" if self.frozen else "pass `pretrained`, or drop it"
            raise ValueError(f"`{idle[0]}` is about training pretrained weights; {way}.")
        return self


class AutoTrainConfig(Settings):
    """What a training from images can be told; what is not is chosen to suit images and device, with a reason."""

    train_method: str | None = None
    """How the encoder is trained: {methods}; default: spread on frozen features, from pixels thanos."""
    encoder: str | None = None
    """{encoders}, or any timm model by name."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the training images."""
    batch: Annotated[int, Field(ge=2)] | None = None
    """Images in a batch."""
    frozen: bool = False
    """Keep a pretrained timm model as it is, and train a small network on its features."""
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
    """How a run is carried out: a resumed run may differ in it. ``threads`` alone changes the outcome."""

    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode images too large to keep in memory."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of torch; default: all cores. Sums of another number are rounded otherwise, so the weights differ."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 2
    """Minutes between checkpoints."""
    logger: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Also log there; metrics.jsonl is always written."""
    quiet: bool = False
    """No progress."""


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


def _known_method(setting: str, name: str) -> registry.MethodSpec:
    try:
        return registry.method(name)
    except ValueError as error:
        raise ValueError(f"`{setting}` {error}") from None
