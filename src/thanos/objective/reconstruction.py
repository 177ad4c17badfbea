"""The autoencoder's loss; it becomes class-conditional by a classifier or a told decoder, see methods.py."""

from torch import Tensor
from torch.nn.functional import mse_loss


def reconstruction_loss(reconstruction: Tensor, view: Tensor) -> Tensor:
    """Mean squared error over pixels and channels against the normalised view that was encoded.

    Args:
        reconstruction: The decoder's output, shape (batch, channel, height, width).
        view: What the encoder saw, same shape, in units of the data set's standard deviation.
    Returns:
        Scalar, >= 0; 1 is about what the mean image scores.
    Raises:
        ValueError: if the shapes differ.
    """
    if reconstruction.shape != view.shape:
        raise ValueError(
            f"a reconstruction has its view's shape; got {tuple(reconstruction.shape)} for {tuple(view.shape)}."
        )
    return mse_loss(reconstruction.float(), view.float())
