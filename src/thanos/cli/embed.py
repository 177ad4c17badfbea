"""``thanos embed``: images to vectors."""

from pathlib import Path

from thanos.cli.app import Of, Out, app
from thanos.config import SourceConfig
from thanos.errors import ConfigError
from thanos.inputs import Source


@app.command(
    help_epilogue="""Examples:
  thanos embed runs/a
  thanos embed runs/a --data more-photos/ --out more.npz
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

    Without --data: the images the run was trained on, all splits.

    Parameters
    ----------
    source
        A run directory, its last.ckpt, a .safetensors file with its .json, or a timm model's name (with --data).
    out
        The .npz. Needed with --data; of a run's own images by default embeddings.npz (of the best weights:
        embeddings-best.npz) in the run directory.
    """
    from_ = Source(source, of)
    if from_.of_embeddings:
        raise ConfigError(f"{source} holds embeddings already; name what embeds images.")
    where = from_.out(out, "embeddings", suffix=".npz")
    from thanos.verbs import embed_source

    embed_source(from_, where)
