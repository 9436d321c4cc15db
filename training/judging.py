"""Judging the averaged generator while it is trained, and keeping the best one so far."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from training.dataset import TrainingImages
from training.metrics import check_metrics, evaluate_generator
from training.run_log import RunLog
from training.state import TrainingState

LARGER_IS_BETTER = ("is", "precision", "recall")
MOST_SAMPLES = 5000
SEED = 0  # the same samples' codes every time


@dataclass(frozen=True)
class Judging:
    """Every kimg thousand images the averaged generator is judged by these metrics; the first one names the best.

    inception: a weights file for fid, kid and is; cache: a folder that keeps the training images' features. As many
    samples are generated as there are training images, at most 5000, and at least the ten that the metrics need.
    Raises ValueError, naming the option.
    """

    kimg: float
    metrics: tuple[str, ...]
    inception: Path | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not 0.001 <= self.kimg < math.inf:
            raise ValueError(f"--evaluate-kimg: found {self.kimg}, expected at least 0.001 (one image)")
        check_metrics(self.metrics, self.inception)

    def judge(self, state: TrainingState, data: TrainingImages) -> dict[str, float]:
        """The figures of the averaged generator against the training images. Leaves all random numbers as they were."""
        n = max(min(len(data), MOST_SAMPLES), 10)
        with torch.random.fork_rng(devices=[]):
            return evaluate_generator(state.G_ema, data.pixels, self.metrics, n, SEED, self.inception, self.cache)

    def is_best(self, figures: dict[str, float], log: RunLog) -> bool:
        """Whether no generator of this run's log, which doesn't have these figures yet, was as good."""
        name = self.metrics[0]
        sign = -1 if name in LARGER_IS_BETTER else 1
        return all(sign * figures[name] < sign * line[name] for line in log.lines if name in line)
