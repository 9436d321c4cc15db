"""Schedules as pure functions of the training's progress."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdamSettings:
    """Learning rate and betas of one network's Adam."""

    lr: float
    betas: tuple[float, float]


def lazy_adam(lr: float, betas: tuple[float, float], interval: int) -> AdamSettings:
    """Adam for a loss whose regulariser runs every `interval` steps (StyleGAN2, Appendix B): c = k / (k + 1)."""
    c = interval / (interval + 1)
    return AdamSettings(lr * c, (betas[0] ** c, betas[1] ** c))


def ema_beta(images: int, batch: int, half_life: float, rampup: float) -> float:
    """Decay of the generator's moving average for one step.

    half_life: in images; it is no longer than `rampup` times the images seen so far, so that the average forgets
    the first networks (ADA, Appendix C: 0.05).
    """
    half_life = min(half_life, images * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))
