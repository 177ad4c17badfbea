"""Fingerprints: which settings a training or a finished row is of."""

import json
from hashlib import blake2b
from typing import Any

from thanos.config import DiscoverConfig, RobustConfig, TrainConfig, TransferConfig
from thanos.reproduce.rows import Row

STAGE_VERSION = 1
"""Raised when a last stage comes to do something else under the same settings: its grids, its clusters, its network."""
METHOD_VERSIONS = {"portfolio": 3}
"""As above, of one robust method: 3, the rule looks at training images too, each left out."""
_WHERE = {"root", "download", "accelerator"}
"""Settings that say where a run happens and not what it is."""


def fingerprint(config: TrainConfig) -> str:
    """Of every setting that decides a training's outcome; those at their defaults do not count.

    So a setting added later, whose default does what was done before, changes no fingerprint. A default that changes
    what it does must change its name or its value; a test pins the fingerprints of the scales.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude=_WHERE)
    if config.views is not None:  # given beside a data set's own views, a default counts
        settings["views"] = config.views.model_dump(mode="json", exclude_unset=True)
    return digest(settings)


def row_fingerprint(row: Row, base: TrainConfig, probe: TransferConfig) -> str:
    """Of a row's trainings, of its last stage, of how it is judged, and for a floor of what it embeds."""
    parts = [fingerprint(part.config(base)) for part in row.parts] or [str(row.floor), fingerprint(base)]
    judged: list[Any] = [probe.model_dump(mode="json", exclude_defaults=True)]
    if row.stage is not None:
        settings = [each and _as_ever(each) for each in (row.stage.config, row.stage.clusters)]
        judged = ["stage", STAGE_VERSION, *settings, row.stage.network]
        judged += [version for name, version in METHOD_VERSIONS.items() if name == row.stage.config.method]
    return digest([parts, row.weights, *judged])


def _as_ever(settings: RobustConfig | DiscoverConfig) -> dict[str, Any]:
    """Every setting, those that came later only where they are not at their default."""
    later = (("part", "auto"), ("without", None), ("number", "silhouette"))
    return {name: value for name, value in settings.model_dump(mode="json").items() if (name, value) not in later}


def digest(content: Any) -> str:
    """Twelve hexadecimal digits of a JSON value, whatever the order of its keys."""
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=6).hexdigest()
