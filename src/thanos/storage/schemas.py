"""What the JSON files hold that commands read back: shape, types, ranges. Further keys are let through."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Some = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
"""What is a cosine but for rounding."""
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("every name stands there once")
    return names


Names = Annotated[list[str], AfterValidator(_unique)]


class Kept(BaseModel):
    """Base of what commands leave in JSON: a number is no text, and is finite."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class RunData(Kept):
    """A run's data.json."""

    fingerprint: Annotated[str, Field(min_length=1)]
    counts: dict[str, dict[str, Count]]
    """By split and superclass."""
    name: str = ""
    images: Count = 0
    size: Annotated[list[Some], Field(min_length=2, max_length=2)] | None = None
    channels: Some = 1
    subclasses: Names = []
    groups: Names = []
    notes: list[str] = []


class Provenance(Kept):
    """On what numbers were made."""

    versions: dict[str, str] = {}
    hardware: str = ""
    commit: str | None = None


class Final(Kept):
    """The last numbers of a training."""

    __pydantic_extra__: dict[str, float]
    superclass_accuracy: Share = Field(default=0.0, alias="validation/superclass_accuracy")
    worst_group_accuracy: Share = Field(default=0.0, alias="validation/worst_group_accuracy")
    worst_class_accuracy: Share = Field(default=0.0, alias="validation/worst_class_accuracy")
    within: Cosine = Field(default=0.0, alias="validation/within_class_cosine")
    between: Cosine = Field(default=0.0, alias="validation/between_class_cosine")


class Reading(Kept):
    """Fine accuracy by one reader."""

    accuracy: Share
    balanced_accuracy: Share
    frequency_weighted_accuracy: Share
    n: Some
    interval: Interval


class Measured(Kept):
    """What a command added to a run's numbers."""

    command: str
    encoder: str = ""


class KeptTransfer(Measured):
    """Of ``thanos transfer``."""

    neighbours: Reading | None = None
    probe: Reading | None = None


class KeptGeometry(Measured):
    """Of ``thanos geometry``."""

    n: Some = 1
    within_class_cosine: Cosine | None = None
    between_class_cosine: Cosine | None = None
    spread: float | None = None
    subclass_purity: Share | None = None


class KeptApart(Measured):
    """How much a split flatters that tears things apart."""

    differences: Annotated[list[float], Field(min_length=1)]
    things: Some
    whole: Share
    torn: Share
    n: Some


class RunMetrics(Kept):
    """A run's metrics.json."""

    final: Final
    provenance: Provenance
    alpha: float | None = None
    steps: Count = 0
    seconds: Annotated[float, Field(ge=0)] | None = None
    features_seconds: Annotated[float, Field(ge=0)] = 0.0
    alarms: list[str] = []
    transfer_last: KeptTransfer | None = Field(default=None, alias="transfer/last")
    transfer_best: KeptTransfer | None = Field(default=None, alias="transfer/best")
    geometry_last: KeptGeometry | None = Field(default=None, alias="geometry/last")
    geometry_best: KeptGeometry | None = Field(default=None, alias="geometry/best")
    apart_last: KeptApart | None = Field(default=None, alias="apart/last")
    apart_best: KeptApart | None = Field(default=None, alias="apart/best")


class Built(Kept):
    """How many images of each group a data set had when it was built."""

    counts: dict[str, list[Count]]


class RecordKey(Kept):
    """What a finished row of a table is found by."""

    row: str
    dataset: str
    seed: int
    fingerprint: str


class Demonstration(Kept):
    """The metrics.json of ``thanos demo``."""

    methods: dict[str, Any]
    paired_differences: dict[str, Any]


class LoggedLine(Kept):
    """A line of a run's metrics.jsonl."""

    __pydantic_extra__: dict[str, float]
    step: Count


class Marks(Kept):
    """What an outcome was made of."""

    images: str
    encoder: str


class Tree(Kept):
    """Coarser and finer cuts of a superclass."""

    leaves: Names
    merges: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]
    found: Some


class SuperclassFacts(Kept):
    """How the subclasses of a superclass were found."""

    clusters: Some
    images: Some
    sizes: list[Count]
    variance_kept: Annotated[float, Field(ge=0, le=1.001)] | None = None
    silhouette: dict[str, Cosine] | None = None
    unstructured: Annotated[list[float], Field(min_length=1)] | None = None
    holds: dict[str, Share] = {}
    p: Share | None = None
    excess: float | None = None
    tree: Tree | None = None


class Recovered(Kept):
    """What subclasses recover of the true ones."""

    adjusted_mutual_information: float
    n: Some


class Found(Kept):
    """The JSON beside a table of discovered subclasses."""

    command: str = ""
    settings: dict[str, Any] = {}
    superclasses: dict[str, SuperclassFacts] = {}
    recovery: dict[str, Recovered] = {}
    of: Marks | None = None
    shape: list[Some] | None = None
    subclasses: str | None = None


class GroupShare(Kept):
    """A group's accuracy."""

    accuracy: Share
    n: Some
    interval: Interval
    small: bool


class Groups(Kept):
    """Accuracies by group."""

    groups: Annotated[dict[str, GroupShare], Field(min_length=1)]


class ClassifierScores(Kept):
    """What a classifier scores on test images."""

    groups: Groups | None = None
    discovered_groups: Groups | None = None


class Selection(Kept):
    """How a classifier was chosen."""

    accuracy: Share = 0.0


class Difference(Kept):
    """Of accuracies on test images."""

    difference: float
    interval: Interval


class Gained(Kept):
    """What a classifier gives and takes against the plain one."""

    all_images: Difference
    worst: Difference


class Classifier(Kept):
    """The JSON beside a classifier of ``thanos robust``."""

    command: str = ""
    names: str | None = None
    selection: Selection = Selection()
    scores: ClassifierScores = ClassifierScores()
    gain: Gained | None = None
    of: Marks | None = None
    subclasses: str | None = None


class Candidate(Kept):
    """One head of a portfolio on one way to infer groups."""

    candidate: str
    score: float
    validation_accuracy: Share
    worst_inferred_group: Share
    test_accuracy: Share | None = None
    test_worst_group: Share | None = None


class PortfolioSelection(Selection):
    """What the rule of a portfolio picked."""

    reason: str
    rule: str
    aside: dict[str, str]
    table: Annotated[list[Candidate], Field(min_length=1)]


class Change(Difference):
    """Of the worst group's accuracy against plain ERM."""

    of: str
    small: bool


class PortfolioGain(Gained):
    """What the pick brings."""

    worst: Change


class PlainClassifier(Kept):
    """What a classifier of ``thanos robust`` is held against."""

    scores: ClassifierScores


class Picked(Classifier):
    """The JSON beside the classifier that a portfolio picked."""

    selection: PortfolioSelection
    plain: PlainClassifier
    gain: PortfolioGain
