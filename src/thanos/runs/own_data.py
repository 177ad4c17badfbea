"""What a run was trained on, read again from where it lies; and whether embeddings are of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from thanos import registry
from thanos.config import DataConfig
from thanos.errors import ConfigError, DataError
from thanos.runs.run_dir import RunDir

if TYPE_CHECKING:
    from thanos.data.samples import Samples
    from thanos.embeddings import Embeddings
    from thanos.runs.encoder_io import ModelCard


def own_data(run: RunDir, card: "ModelCard", path: Path) -> "Samples":
    """What a run was trained on.

    Args:
        run: Whose config.yaml says where it lies.
        card: Of its encoder.
        path: What was named, for messages.
    Raises:
        ConfigError: if nothing says where.
        DataError: if it is gone, or has changed.
    """
    from thanos.data.load import is_of_vectors, load_samples

    kind = "vectors" if card.size is None else "images"
    if path.suffix == ".safetensors" or not run.settings_file.is_file():
        raise ConfigError(f"{path} does not say which {kind} to take; say it with `data`.")
    known = {k: v for k, v in run.settings().items() if k in DataConfig.model_fields}
    for name in ("data", "labels"):
        place = str(known.get(name))
        no_path = (*registry.datasets(), "superclass", "subclass", "None")
        if place not in no_path and not Path(place).exists():
            raise DataError(
                f"the {kind if name == 'data' else name} of {path} were in {place}, which is gone. Put them back, or "
                f"write their new place into {run.settings_file} ({name}: ...)."
            )
    config = DataConfig(**known)
    if card.size is None and not is_of_vectors(config.data):
        raise DataError(
            f"{path} was trained on vectors that no file holds, from Python. Say with `data` which to take."
        )
    found = load_samples(config)
    if found.fingerprint != card.fingerprint:
        raise DataError(
            f"the {kind} of {path} have changed since training (fingerprint {card.fingerprint[:8]} then, "
            f"{found.fingerprint[:8]} now). Say with `data` which to take."
        )
    return found


def kept_embeddings(file: Path, weights: Path) -> "tuple[Embeddings | None, str]":
    """Embeddings that lie beside weights; None with what is wrong where they are gone, damaged or of others."""
    from thanos.embeddings import read_embeddings

    if not file.is_file():
        return None, "gone"
    try:
        embeddings = read_embeddings(file)
    except DataError:
        return None, "damaged"
    other = differs(embeddings, weights)
    return (None, other) if other else (embeddings, "")


def differs(embeddings: "Embeddings", weights: Path) -> str:
    """What is not of these weights and their data in the embeddings that lie beside them; empty: all is."""
    from thanos.embeddings import kept_fingerprint
    from thanos.runs.encoder_io import read_card

    if embeddings.fingerprint != read_card(weights.with_suffix(".json")).fingerprint:
        return "of other images than this run's"
    return "" if embeddings.encoder == kept_fingerprint(weights) else "of other weights than this run's"
