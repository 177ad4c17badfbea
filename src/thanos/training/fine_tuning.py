"""Training from pretrained weights: rates by layer, what stands still and for how long, whose statistics hold.

The groups of parameters are timm's own (``timm.optim``, ``group_matcher``). All is a function of the configuration and
of the number of the batch, and nothing of it is state: a training that goes on needs no more than its checkpoint.

A backbone that stands still (``head_first``) asks for no gradient. Over several processes it does, since DDP decides
once which parameters it brings together, and its gradient is thrown away: slower, and the same outcome.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from thanos.config import TrainConfig
from thanos.encoders.heads import KeyBank
from thanos.errors import ConfigError

Groups = list[dict[str, Any]]
"""Of parameters, as torch's optimisers take them."""


class FineTuning:
    """How the pretrained encoders of a method's branches learn, beside heads that start from nothing.

    Blocks that ``unfreeze`` leaves as they are lose their ``requires_grad`` here: before DDP wraps them.

    Args:
        config: Of a training with ``pretrained``.
        branches: What it trains.
        steps: Of the optimiser, in the whole training.
    Raises:
        ConfigError: if an encoder has no such blocks or layers, or ``head_first`` finds no head.
    """

    def __init__(self, config: TrainConfig, branches: nn.ModuleDict, steps: int):
        self._config = config
        self._encoders: list[nn.Module] = [branch.encoder for branch in branches.values()]  # type: ignore[misc]
        for encoder in self._encoders:
            if config.layer_decay < 1 or config.unfreeze is not None:
                _check_layers(config, encoder)
            if config.unfreeze is not None:
                leave_but_last(encoder, config.unfreeze)
        self.trained = [p for encoder in self._encoders for p in encoder.parameters() if p.requires_grad]
        """The parameters of the backbones that learn."""
        known = {id(parameter) for encoder in self._encoders for parameter in encoder.parameters()}
        self._heads = [p for p in branches.parameters() if p.requires_grad and id(p) not in known]
        self.still_steps = round(config.head_first * steps)
        """Steps of the optimiser during which the backbones stand still."""
        if config.head_first > 0:
            _check_heads(config, branches)
        self._norms = [each for branch in branches.values() for each in self._norms_of(branch)]
        self._still = self._at_rest(0)
        self.set_modes()

    def _norms_of(self, branch: nn.Module) -> Iterator[tuple[_BatchNorm, bool]]:
        """Every batch norm of an encoder, and of a slow copy of it, and whether its statistics may ever move."""
        encoder = branch.encoder
        assert isinstance(encoder, nn.Module)
        bank = getattr(branch, "bank", None)
        modules = [encoder.modules()] + ([bank.slow[0].modules()] if isinstance(bank, KeyBank) else [])
        for first, *copies in zip(*modules, strict=True):
            if isinstance(first, _BatchNorm):
                moves = self._config.batch_norm == "adapt" and all(p.requires_grad for p in first.parameters())
                yield from ((each, moves) for each in (first, *copies))

    def _at_rest(self, number: int) -> bool:
        return number // self._config.accumulate < self.still_steps

    def at(self, number: int) -> None:
        """Before batch ``number``: let the backbones stand still, or learn."""
        still = self._at_rest(number)
        if not (distributed.is_available() and distributed.is_initialized()):
            for parameter in self.trained:
                parameter.requires_grad_(not still)
        if still != self._still:
            self._still = still
            self.set_modes()

    def set_modes(self) -> None:
        """In training, batch norm goes by its running statistics, and leaves them, wherever these are to hold."""
        for norm, moves in self._norms:
            norm.train(moves and not self._still)

    def drop_gradients(self) -> None:
        """Of backbones that stand still, after the way back; the optimiser passes over parameters without any."""
        if self._still:
            for parameter in self.trained:
                parameter.grad = None

    def groups(self) -> Groups:
        """Of the backbones by layer and decay, then the heads; each with its peak rate."""
        config = self._config
        groups = [group for encoder in self._encoders for group in backbone_groups(encoder, config)]
        for group in groups:
            group["lr"] = config.learning_rate * config.backbone_rate * group.pop("lr_scale", 1.0)
        return [*groups, {"params": self._heads}] if self._heads else groups

    def schedules(self, groups: Groups, base: Callable[[int], float], warmup: int) -> list[Callable[[int], float]]:
        """A factor of the rate by step for every group: ``base`` for heads; a backbone that stood still warms up."""

        def moving(step: int) -> float:
            since = step - self.still_steps
            return 0.0 if since < 0 else base(step) * min(1.0, (since + 1) / max(1, warmup))

        backbone = moving if self.still_steps else base
        heads = len(groups) - bool(self._heads)
        return [backbone if number < heads else base for number in range(len(groups))]


def backbone_groups(encoder: nn.Module, config: TrainConfig) -> Groups:
    """timm's groups of what learns in an encoder: by layer where rates differ, biases and norms without decay."""
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # type: ignore[attr-defined]

    spared = encoder.no_weight_decay() if hasattr(encoder, "no_weight_decay") else ()  # type: ignore[operator]
    by_layer = partial(param_groups_layer_decay, layer_decay=config.layer_decay)
    grouped = by_layer if config.layer_decay < 1 else param_groups_weight_decay
    groups: Groups = grouped(encoder, config.weight_decay, no_weight_decay_list=spared)
    return groups


def blocks_of(encoder: nn.Module) -> list[list[str]]:
    """The names of a timm model's parameters: of the stem, of each block or stage in turn, of what lies behind them."""
    from timm.models._manipulate import group_with_matcher

    behind = "?"  # no parameter's name: it goes where timm puts what belongs to no block
    named: list[tuple[str, Tensor | None]] = [*encoder.named_parameters(), (behind, None)]
    matcher = encoder.group_matcher(coarse=True)  # type: ignore[operator]
    found = group_with_matcher(iter(named), matcher)
    return [[name for name in found[number] if name != behind] for number in sorted(found)]


def leave_but_last(encoder: nn.Module, count: int) -> None:
    """Let the last ``count`` blocks learn, with what lies behind them, and the rest be as it is.

    Raises:
        ConfigError: if there are not more than so many.
    """
    *blocks, behind = blocks_of(encoder)
    if count >= len(blocks):
        raise ConfigError(
            f"`unfreeze` takes at most the {len(blocks) - 1} blocks that this encoder has above its stem; got "
            f"{count}. Drop it to train all of it."
        )
    learn = {name for names in (*blocks[len(blocks) - count :], behind) for name in names}
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name in learn)


def _check_layers(config: TrainConfig, encoder: nn.Module) -> None:
    if not hasattr(encoder, "group_matcher"):
        name = "layer_decay" if config.unfreeze is None else "unfreeze"
        raise ConfigError(f"`{name}` asks timm for layers, and it knows none of {config.encoder}; drop it.")


def _check_heads(config: TrainConfig, branches: nn.ModuleDict) -> None:
    """Raise ConfigError where nothing would learn while the backbone stands still."""
    for branch in branches.values():
        inside = {id(parameter) for parameter in branch.encoder.parameters()}  # type: ignore[union-attr]
        if not any(p.requires_grad and id(p) not in inside for p in branch.parameters()):
            raise ConfigError(
                f"`head_first` trains heads first, and this run of {config.method} has none on its encoder; drop it, "
                f"or give it a `projector` or a `classify_weight`."
            )


def of_training(config: TrainConfig, branches: nn.ModuleDict, steps: int) -> FineTuning | None:
    """What a training from pretrained weights asks for; None for any other.

    Raises:
        ConfigError: as :class:`FineTuning`.
    """
    return FineTuning(config, branches, steps) if config.pretrained and not config.frozen else None
