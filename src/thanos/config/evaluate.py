"""How embeddings are judged and clustered, and how a classifier is made that is fair to groups."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from thanos import registry
from thanos.config.base import Settings

RobustMethod = Literal["erm", "reweight", "groupdro", "groupdro-auroc", "jtt", "dfr", "afr", "dpe"]
GROUPED_METHODS: tuple[RobustMethod, ...] = ("reweight", "groupdro", "groupdro-auroc", "dfr")
"""Those that work on groups."""
Rule = Literal["worst-group", "worst-discovered", "worst-class"]


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


class DiscoverConfig(Settings):
    """How subclasses are looked for inside each superclass."""

    reduce: Literal["pca", "none", "hardness", "umap"] = "pca"
    """pca: principal components; hardness: the direction between the superclass and the others, then components;
    umap: an extra, `pip install thanos-repr[umap]`."""
    components: Annotated[int, Field(ge=1)] = 32
    """Dimensions after the reduction."""
    length: Literal["unit", "own"] = "unit"
    """Bring embeddings to unit length first, or leave them their own."""
    part: Literal["auto", "whole", "features", "head"] = "auto"
    """Of embeddings with a backbone's features beside a head's (--keep-features): which are clustered; auto: the head's
    where its clusters clearly stand out further from clouds without any, else the features."""
    method: Literal["kmeans", "mixture"] = "kmeans"
    """k-means, or a Gaussian mixture (full covariances; diagonal ones above 20,000 images)."""
    clusters: Annotated[int, Field(ge=1)] | None = None
    """Clusters in each superclass; default: as many as ``number`` finds, which may be one."""
    number: Literal["silhouette", "merging"] = "silhouette"
    """silhouette: the number of the highest silhouette, if clouds without clusters have a lower one: few clear
    clusters. merging: many small clusters, merged as long as one is not worth its price or would not be found again,
    if there is more than one cloud at all: as many as there are (docs/discover.md)."""
    least: Annotated[int, Field(ge=1)] = 1
    """Smallest number of clusters that is tried; from 2 on, no superclass is left as one subclass."""
    most: Annotated[int, Field(ge=2)] | None = None
    """Largest number of clusters that is tried; default: 10, by merging 60."""
    overcluster: bool = False
    """Then split each cluster in five and keep the parts that stand apart (George, NeurIPS 2020); what was found to be
    one subclass stays one."""
    without: str | None = None
    """Take out of the vectors first what these explain linearly, split by commas: properties that the page names
    (brightness, sharpness, camera), or columns of the table (hospital)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of clusterings and samples."""

    @property
    def largest(self) -> int:
        """``most`` after defaults."""
        return self.most or {"merging": 60, "silhouette": 10}[self.number]

    @field_validator("method", mode="before")
    @classmethod
    def _of_clustering(cls, method: Any) -> Any:
        if method in registry.methods():
            raise ValueError(
                f"`method` is how images are clustered; `train_method={method}` is how an encoder is trained."
            )
        return method

    @model_validator(mode="after")
    def _fits_together(self) -> "DiscoverConfig":
        if self.least > self.largest:
            raise ValueError(f"`least` is at most `most`; got {self.least} and {self.largest}.")
        return self


class RobustConfig(Settings):
    """How a model that serves every group is made from embeddings."""

    method: Literal[RobustMethod, "portfolio"] = "portfolio"
    """portfolio: groups are inferred in several ways, and a rule that sees no group picks among heads on them; the
    default unless `groups` or `select` is given, which groupdro then takes. groupdro: the worst group's loss made as
    small as it gets; groupdro-auroc: that of the worst pair of groups of two superclasses, for a score by AUROC;
    reweight: every group weighs the same; jtt: what a first model gets wrong counts more; dfr: refitted on
    group-balanced validation images; afr: refitted on what a first model is least sure of; dpe: an ensemble of diverse
    prototypes; erm: the plain model, to compare with."""
    groups: Literal["given", "discovered", "none"] = "discovered"
    """What the method may know: the images' own groups, clusters found inside each superclass, or nothing."""
    select: Literal["auto", "worst-group", "worst-discovered", "worst-class"] = "auto"
    """Which validation score chooses among its settings; auto: worst-group with given groups, worst-discovered with
    discovered ones, worst-class with none."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draws of dfr, afr, dpe and the portfolio."""

    @property
    def rule(self) -> Rule:
        """The selection after defaults."""
        rules: dict[str, Rule] = {"given": "worst-group", "discovered": "worst-discovered", "none": "worst-class"}
        return rules[self.groups] if self.select == "auto" else self.select

    @property
    def sees_groups(self) -> bool:
        """Whether true groups play any part before the test."""
        return self.groups == "given" or self.rule == "worst-group"

    @model_validator(mode="before")
    @classmethod
    def _settles_the_method(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        asked = (values.get("groups", "none"), values.get("select", "auto")) != ("none", "auto")
        values = {"method": "groupdro" if asked else "portfolio"} | values
        return {"groups": "none"} | values if values["method"] == "portfolio" else values

    @model_validator(mode="after")
    def _fits_together(self) -> "RobustConfig":
        if self.method == "portfolio" and (self.groups != "none" or self.select != "auto"):
            raise ValueError("portfolio infers groups and chooses by them itself; drop `groups` and `select`.")
        if self.groups == "none" and self.method in GROUPED_METHODS:
            raise ValueError(
                f"{self.method} works on groups; pass `groups=given` or discovered, or use jtt, afr or dpe."
            )
        if self.method == "dfr" and self.select != "auto":
            raise ValueError(
                "dfr chooses its penalty by its own groups on halves of the validation images; drop `select`."
            )
        if self.rule == "worst-discovered" and self.groups != "discovered":
            raise ValueError("`select=worst-discovered` watches discovered groups; pass `groups=discovered`.")
        return self
