"""A guide to alpha: the window of a planned run, in plain words. Needs no torch."""

from thanos.config import SuggestConfig
from thanos.errors import ConfigError
from thanos.methods.alpha import AlphaWindow, optimal_cosine, solve_alpha

NARROW = 0.05
"""A window of this width leaves little room for what the model leaves out."""


def suggestion(config: SuggestConfig) -> list[str]:
    """The window and the alpha, what the paper's 0.5 would do here, and a wider window where this one is narrow.

    Raises:
        ConfigError: where the loss has no window.
    """
    images = config.batch / config.superclasses
    try:
        window = solve_alpha(config.superclasses, config.batch, config.temperature, config.within_class_cosine)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    reached = optimal_cosine(window.alpha, config.superclasses, images, config.temperature)
    lines = [
        f"alpha {window.alpha:.3f} for a cosine of {reached:.2f} between images of one superclass",
        f"window {window.collapse:.3f} to {window.dissolve:.3f}: superclasses collapse below, dissolve above",
    ]
    if abs(reached - config.within_class_cosine) > 0.02:
        lines.append(
            f"a cosine of {config.within_class_cosine:g} is no optimum here, the best one jumps over it; this alpha is "
            f"the middle of the window"
        )
    lines.append(_at_half(window, config, images))
    width = window.dissolve - window.collapse
    if width < NARROW:
        quarter = max(2 * config.superclasses, config.batch // 4)
        wider = solve_alpha(config.superclasses, quarter, config.temperature, config.within_class_cosine)
        if wider.dissolve - wider.collapse > width:
            lines.append(
                f"the window is only {width:.3f} wide; `batch={quarter}` has {wider.dissolve - wider.collapse:.3f}"
            )
    return [
        *lines,
        f"to use it: thanos train --alpha auto --batch {config.batch} --temperature {config.temperature:g} "
        f"--within-class-cosine {config.within_class_cosine:g}",
    ]


def _at_half(window: AlphaWindow, config: SuggestConfig, images: float) -> str:
    if window.collapse >= 0.5:
        return "the paper's alpha of 0.5 collapses superclasses here (its released code clips, which prevents it)"
    if window.dissolve <= 0.5:
        return "the paper's alpha of 0.5 dissolves superclasses here"
    reached = optimal_cosine(0.5, config.superclasses, images, config.temperature)
    return f"the paper's alpha of 0.5 gives {reached:.2f} here"
