"""Whether an encoder takes images, or vectors, of a kind."""

from typing import TYPE_CHECKING

from thanos.data.samples import Samples
from thanos.errors import DataError

if TYPE_CHECKING:
    from thanos.runs.encoder_io import ModelCard


def check_taken(card: "ModelCard", images: Samples) -> None:
    """Raise DataError unless an encoder takes images, or vectors, of this kind."""
    if (images.channels, images.size) == (card.channels, card.size):
        return
    if card.size is None or images.size is None:
        wanted = f"vectors of {card.channels}" if card.size is None else f"images of {card.size[0]}x{card.size[1]}"
        raise DataError(
            f"the encoder takes {wanted}; {images.name} has {images.kind} of {images.shown_size}. Give it such as it "
            f"was trained on."
        )
    (height, width), came = card.size, images.size
    way = f"Pass `size={height}`" if height == width else "Bring them to that size"
    raise DataError(
        f"the encoder takes {card.channels}-channel images of {height}x{width}; {images.name} has "
        f"{images.channels} of {came[0]}x{came[1]}. {way}"
        f"{' `convert`' if images.channels != card.channels else ''}."
    )
