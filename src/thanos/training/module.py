"""The LightningModule: calls the steps, logs their terms, measures the spread; knows no formula."""

import math
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from thanos.data.batches import Batch
from thanos.errors import ConfigError
from thanos.evaluate.geometry import class_cosines
from thanos.evaluate.knn import neighbour_accuracy
from thanos.methods.alpha import AlphaWindow
from thanos.methods.branch import StepSettings, steps_of, total
from thanos.objective.robust import group_means
from thanos.runs.encoder_io import CARD_IN_CHECKPOINT
from thanos.training.fine_tuning import Groups, of_training
from thanos.views import clean_view

DIVERGED = "{}: training diverges. Lower `learning_rate`, or raise `temperature` or `warmup`."
FOLLOWING = 20.0
"""Gain of alpha = follow: a measured cosine off by 0.05 for a whole run would move alpha by the width of its window."""
HIGHEST = 0.99
"""Largest alpha that following reaches: at 1 nothing would attract."""


class TrainingModule(LightningModule):
    """One method's branches under one optimiser.

    ``alpha`` is a scalar buffer where it follows the measured spread, else None.

    Every random draw of batch k (views, dropout) is seeded from (seed, k, rank), and alike for every branch: two
    encoders trained side by side equal the same two trained alone.
    """

    alpha: Tensor | None

    def __init__(
        self,
        settings: StepSettings,
        branches: nn.ModuleDict,
        *,
        total_batches: int,
        log_every: int,
        window: AlphaWindow | None = None,
        group_losses: nn.ModuleDict | None = None,
        card: str = "",
    ):
        super().__init__()
        self.settings, self.branches = settings, branches
        self._steps = steps_of(settings.config)
        self._total_batches, self.log_every = total_batches, log_every
        self._optimizer_steps = -(-total_batches // settings.config.accumulate)
        self._tuning = of_training(settings.config, branches, self._optimizer_steps)
        self._card = card
        """The facts about the encoder, kept in every checkpoint, so that it can be used as it is."""
        self._clean: list[tuple[Tensor, Tensor]] = []
        self._right: list[tuple[Tensor, Tensor]] = []
        self.group_losses = group_losses
        """By branch, from losses (batch,) and groups (batch,) to one number; None: the mean, whatever the groups."""
        self.batches_done = 0
        self.latest: dict[str, Tensor] = {}
        """What was measured since the metrics file was last written."""
        self._window = window
        self.register_buffer("alpha", torch.tensor(settings.alpha) if settings.config.alpha == "follow" else None)
        self.newest: dict[str, Tensor] = {}
        """The newest value of every number."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batches_done = batch.number + 1
        if self._tuning is not None:
            self._tuning.at(batch.number)
        losses, log = [], self.batches_done % self.log_every == 0
        for name, step in self._steps.items():
            seed = draw_seed(self.settings.config.seed, batch.number, self.global_rank)
            self._seed_dropout(seed)
            branch, rng = self.branches[name], Generator().manual_seed(seed)
            terms = step(branch, batch.images, batch.superclass, self._settings_now(name, batch), rng)  # type: ignore[arg-type]
            losses.append(total(terms, self.settings.config.method))
            projection = terms.pop("projection", None)
            if log:
                self._record({f"train/{term}": value.detach() for term, value in terms.items()})
                if projection is not None:
                    rows = normalize(projection.detach()[0].float(), dim=-1)
                    within, between = class_cosines(rows, batch.superclass)
                    self._record(
                        {
                            "spread/within": within.nanmean(),
                            "spread/within_largest": within.nan_to_num(-1).max(),
                            "spread/between": between,
                        }
                    )
                    self._correct_alpha(within.nanmean())
        loss = torch.stack(losses).sum()
        if log:
            self._record({"train/loss": loss.detach()})
            if not loss.isfinite():
                raise ConfigError(DIVERGED.format(f"the loss is {loss.item()} at step {self.batches_done:,}"))
        return loss

    def _settings_now(self, name: str, batch: Batch) -> StepSettings:
        settings = self.settings if self.alpha is None else replace(self.settings, alpha=self.alpha.clone())
        if self.group_losses is None:
            return settings
        loss = self.group_losses[name]
        assert isinstance(loss, nn.Module)
        return replace(settings, weigh=partial(loss, group=batch.group))

    def _correct_alpha(self, within: Tensor) -> None:
        """Integral control: while superclasses are too tight alpha grows, while they are too loose it falls."""
        if self.alpha is None or self._window is None:
            return
        if self.trainer.world_size > 1:
            within = self.trainer.strategy.reduce(within, reduce_op="mean")
        self._record({"spread/alpha": self.alpha.clone()})
        if self.batches_done > self._total_batches / 10:  # before, superclasses have not formed yet
            width, updates = self._window.dissolve - self._window.collapse, self._total_batches / self.log_every
            error = (within - self.settings.config.within_class_cosine).nan_to_num(0.0)
            self.alpha.add_(FOLLOWING * width / updates * error).clamp_(0, HIGHEST)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD_IN_CHECKPOINT] = self._card

    def _seed_dropout(self, seed: int) -> None:
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # seeding every kind of device takes milliseconds
        else:
            torch.manual_seed(seed)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        view = clean_view(batch.images, mean=self.settings.mean, std=self.settings.std)
        embedded = [branch.embed(view).float() for branch in self.branches.values()]  # type: ignore[operator]
        parts = [normalize(part, dim=1) for part in embedded]
        self._clean.append((torch.cat(parts, dim=1), batch.superclass))
        if self.settings.config.select != "neighbours":
            said = next(
                branch.classifier(part)  # type: ignore[operator]
                for branch, part in zip(self.branches.values(), embedded, strict=True)
                if hasattr(branch, "classifier")
            )
            right = said.argmax(dim=1) == batch.superclass
            kind = batch.superclass if self.settings.config.select == "worst-class" else batch.group
            assert kind is not None
            self._right.append((right[kind >= 0].float(), kind[kind >= 0]))

    def on_validation_epoch_end(self) -> None:
        """The evidence that needs no fine label: superclass accuracy of each image's neighbours, and the spread."""
        embedding = normalize(torch.cat([e for e, _ in self._clean]), dim=1)
        if not embedding.isfinite().all():
            raise ConfigError(DIVERGED.format(f"embeddings are not finite after step {self.batches_done:,}"))
        superclass = torch.cat([s for _, s in self._clean])
        self._clean.clear()
        within, between = class_cosines(embedding, superclass)
        if self._right:
            right, kind = (torch.cat(parts) for parts in zip(*self._right, strict=True))
            self._right.clear()
            accuracy, count = group_means(right, kind, int(kind.max()) + 1)
            name = self.settings.config.select.replace("-", "_")
            self._record({f"validation/{name}_accuracy": accuracy[count > 0].min()})
        self._record(
            {
                "validation/superclass_accuracy": neighbour_accuracy(embedding, superclass),
                "validation/within_class_cosine": within.nanmean(),
                "validation/between_class_cosine": between,
            }
        )

    def _record(self, values: dict[str, Tensor]) -> None:
        self.latest |= values
        self.newest |= values
        if self.trainer.loggers or not self.training:  # costly; the best epoch is chosen from what validation logs
            self.log_dict(values, batch_size=1)

    def train(self, mode: bool = True) -> "TrainingModule":
        super().train(mode)
        if mode and self._tuning is not None:
            self._tuning.set_modes()
        return self

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._tuning is not None:
            self._tuning.drop_gradients()

    def parameter_groups(self) -> Groups:
        """As the optimiser has them."""
        return [{"params": [*self.branches.parameters()]}] if self._tuning is None else self._tuning.groups()

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        config, steps, groups = self.settings.config, self._optimizer_steps, self.parameter_groups()
        fused = self.device.type == "cpu" or None  # a third of the time; elsewhere torch chooses
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
        warmup = round(config.warmup * steps)

        def factor(step: int) -> float:
            return warmup_cosine(step, steps, warmup)

        factors = factor if self._tuning is None else self._tuning.schedules(groups, factor, warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Factor of the rate at ``step``: linear up over ``warmup`` steps, then one half cosine that ends at zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def draw_seed(seed: int, number: int, rank: int) -> int:
    """A 63-bit seed for one batch of one process; a function of its arguments only."""
    digest = blake2b(f"{seed} {number} {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
