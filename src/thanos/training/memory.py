"""What to do when memory does not suffice: name the batch that fits."""

import gc
from collections.abc import Callable

import torch

from thanos.config import TrainConfig
from thanos.data.samples import Samples
from thanos.errors import ConfigError
from thanos.training.bench import TrainingStep, is_out_of_memory


def largest_batch(fits: Callable[[int], bool], batch: int) -> int | None:
    """The first of batch / 2, batch / 4, ... for which ``fits`` says so; None if not even 2 does."""
    while batch >= 4:
        batch //= 2
        if fits(batch):
            return batch
    return None


def batch_that_fits(config: TrainConfig, images: Samples) -> int | None:
    """The largest half, quarter, ... of the batch whose step this device has memory for."""

    def fits(batch: int) -> bool:
        try:
            _two_steps(config.model_copy(update={"batch": batch}), images)
        except ConfigError:  # so small a batch that alpha has no solution
            return False
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            _release()
        return True

    _release()
    return largest_batch(fits, config.batch)


def _two_steps(config: TrainConfig, images: Samples) -> None:
    """The second one has the optimiser's state beside it."""
    step = TrainingStep(config, images)
    for _ in range(2):
        step()
    step.wait()


def _release() -> None:
    """What nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
