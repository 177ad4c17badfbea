"""``thanos embed``: images to vectors."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thanos.cli.app import Of, Out, app, say
from thanos.config import SourceConfig
from thanos.errors import ConfigError
from thanos.inputs import Source
from thanos.storage import refuse_foreign

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thanos.embeddings import Embeddings
    from thanos.subclasses.called import Called
    from thanos.subclasses.keep import Places


@app.command(
    help_epilogue="""Examples:
  thanos embed runs/a
  thanos embed runs/a --data more-photos/ --out more.npz
  thanos embed runs/v --data new-vectors.npy --out new.npz
  thanos embed model.safetensors --data cifar10 --out cifar10.npz
  thanos embed vit_small_patch16_224 --pretrained vit.safetensors --data photos/ --size 224 --out photos.npz"""
)
def embed(
    source: Path,
    *,
    out: Out = None,
    of: Of = SourceConfig(),
) -> None:
    """Embed images with a trained encoder; writes one .npz that numpy reads.

    Without --data: the images the run was trained on, all splits. Of other images whose superclass is known also the
    discovered subclass, where thanos discover found some in the run.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file with its .json, or a timm model's name (with --data).
    out
        The .npz. Needed with --data; of a run's own images by default embeddings.npz (of the best weights:
        embeddings-best.npz) in the run directory.
    """
    from_ = Source(source, of, say)
    if from_.of_embeddings:
        raise ConfigError(f"{source} holds embeddings already; name what embeds images.")
    where = from_.out(out, "embeddings", suffix=".npz")
    from thanos.embeddings import embed as embed_images
    from thanos.embeddings import is_embeddings, write_embeddings

    kept = None if from_.run is None else from_.run.embeddings(from_.options.weights)  # may be replaced, if damaged
    refuse_foreign(where, lambda file: file == kept or is_embeddings(file), "thanos embed")
    known = None if from_.run is not None else from_.places()
    embeddings = embed_images(from_.encoder, from_.images)
    more = {} if known is None else placed(*known, embeddings)
    write_embeddings(embeddings, where, more)
    from_.list_skipped(where)
    say(f"{len(embeddings):,} embeddings of {from_.encoder.card.dim} dimensions in {where}")
    if more:
        say("with them the discovered subclass of each image: discovered, discovered_names, discovered_confidence")


def placed(places: "Places", called: "Called", embeddings: "Embeddings") -> "dict[str, NDArray[Any]]":
    """Which discovered subclass new images lie in, where their superclass is known; empty if that of none is."""
    import numpy as np

    from thanos.data.labels import ids_of

    superclass = places.ids_in(embeddings.superclass_names)[embeddings.superclass]
    if (superclass < 0).all():
        return {}
    name, confidence = places.place(embeddings.vectors, superclass, called)
    ids, names = ids_of(name)
    return {"discovered": ids, "discovered_names": np.array(names), "discovered_confidence": confidence}
