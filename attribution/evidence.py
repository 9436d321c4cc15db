"""Evidence: the settings of the decision, and what a calibration says of the distances of one image."""

from dataclasses import dataclass

from attribution.likelihood import LARGEST_LOG10

Bounds = tuple[float, float]


@dataclass(frozen=True)
class DecisionSettings:
    """alpha: false-positive rate; delta: risk that it is exceeded; epsilon: smallest p of a fitting candidate.

    lambda_ and mu: log10 LR asked for against the alternative and against the other candidates. Raises ValueError.
    """

    alpha: float = 0.01
    delta: float = 0.05
    epsilon: float = 0.05
    lambda_: float = 2.0
    mu: float = 1.0

    def __post_init__(self) -> None:
        for name in ("alpha", "delta", "epsilon"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"--{name}: found {getattr(self, name)}, expected a probability between 0 and 1")
        for name in ("lambda_", "mu"):
            if not 0 <= (found := getattr(self, name)) <= LARGEST_LOG10:
                raise ValueError(
                    f"--{name.strip('_')}: found {found}, expected a log10 likelihood ratio from 0 to {LARGEST_LOG10:g}"
                )


@dataclass(frozen=True)
class Evidence:
    """What the calibration says of one image. Tuples are in the order of the candidates.

    k_star: index of the candidate of the score's maximum. pairwise: bounded log10 p(d|H_k*)/p(d|H_j) by index j;
    log10_margin: the smallest of these, None with one candidate. group: k_star, every j below mu, and those of one
    lineage with k_star, sorted.
    """

    score: float
    threshold: float
    k_star: int
    p_value_generated: tuple[float, ...]
    log10_lr_unbounded: tuple[float, ...]
    log10_lr: tuple[float, ...]
    log10_lr_bounds: tuple[Bounds, ...]
    p_value_real: float
    pairwise: dict[int, float]
    log10_margin: float | None
    group: tuple[int, ...]
