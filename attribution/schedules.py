"""The settings of a projection, and how they go along a search (StyleGAN2, Appendix D)."""

from dataclasses import dataclass, replace
from math import cos, inf, pi

MOST_STEPS = 1_000_000  # the losses of all steps are kept
CHECKPOINT_SHARES = (0.1, 0.2, 0.35, 0.5, 0.7)  # of the steps: where a search's distance is measured on the way
DEFAULT_STEPS = 100
ENCODED_STEPS = 30  # by default, where all searches begin at an encoder's w
PAPER_STEPS = 1000


@dataclass(frozen=True)
class ProjectionConfig:
    """Settings of a projection; the defaults are Appendix D's. The schedules scale with `steps`.

    noise_weight: of the noise maps' regularisation, 0 leaves only their normalisation. precision: "fp32", or "bf16" for
    feature maps and convolutions of the search (w, noise, Adam, losses and the final distance stay float32). rampup,
    rampdown, w_noise_until: shares of the steps. beta1, beta2: Adam's. Raises ValueError that names the setting.
    """

    steps: int = 1000
    noise_weight: float = 1e5
    precision: str = "fp32"
    max_lr: float = 0.1
    w_noise: float = 0.05
    rampup: float = 0.05
    rampdown: float = 0.25
    w_noise_until: float = 0.75
    beta1: float = 0.9
    beta2: float = 0.999

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps: found {self.steps!r}, expected a whole number from 1 to {MOST_STEPS:,}")
        for name in ("noise_weight", "max_lr", "w_noise"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a finite number of at least 0")
        for name in ("rampup", "rampdown", "w_noise_until"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a share of the steps above 0, up to 1")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number from 0 to below 1")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision: found {self.precision!r}, expected fp32 or bf16")

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Numbers of steps, ascending and below `steps`, after which the distance is measured on the way."""
        return tuple(sorted({round(share * self.steps) for share in CHECKPOINT_SHARES} - {0, self.steps}))


def method_config(
    method: str, steps: int | None, encoded: bool, precision: str = "fp32", noise_weight: float = 1e5
) -> ProjectionConfig:
    """The settings of a method; steps: None takes the method's. encoded: every candidate has an encoder.

    "paper" is Appendix D, "default" the same in a tenth of the steps. Its searches that begin at an encoder's w are
    close already: they take smaller steps with a shorter memory and no noise on w, which would lead away again.
    """
    own = PAPER_STEPS if method == "paper" else ENCODED_STEPS if encoded else DEFAULT_STEPS
    config = ProjectionConfig(own if steps is None else steps, noise_weight, precision)
    if method == "paper" or not encoded:
        return config
    return replace(config, max_lr=0.05, w_noise=0.0, beta1=0.8, beta2=0.99)


def require_method(method: str, has_encoder: bool) -> None:
    """Raise ValueError for the paper's procedure with a start that it doesn't have."""
    if method == "paper" and has_encoder:
        raise ValueError("--encoder: found one with --method paper, expected none: the paper's searches begin at mu_w")


def learning_rate(step: int, config: ProjectionConfig) -> float:
    """Learning rate of a step: linear ramp-up over the first 5 %, cosine ramp-down over the last 25 % (Appendix D)."""
    t = step / config.steps
    up = min(1.0, t / config.rampup)
    down = min(1.0, (1 - t) / config.rampdown)
    return config.max_lr * up * (0.5 - 0.5 * cos(pi * down))


def w_noise_strength(step: int, config: ProjectionConfig, sigma_w: float) -> float:
    """Deviation of the noise on w: 0.05 sigma_w t^2, t from 1 to 0 over the first 75 % (Appendix D)."""
    t = max(0.0, 1 - step / config.steps / config.w_noise_until)
    return config.w_noise * sigma_w * t**2
