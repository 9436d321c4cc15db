"""The random numbers of a training step: a stream for each purpose, from (seed, step) alone."""

import numpy as np
import torch
from torch import Tensor

from training.state import TrainingState

# what a step draws random numbers for: each has its own stream; the order is part of every run's result
PURPOSES = (
    "flips",
    "D images",
    "augment real",
    "augment generated",
    "G images",
    "augment G",
    "path length",
    "mixtures",
    "translate real",
    "translate generated",
    "near D images",
    "near G images",
    "judge real",
    "judge generated",
    "judge mixtures",
    "judge R1",
    "judge G",
)


def stream(state: TrainingState, purpose: str) -> torch.Generator:
    """The step's stream of random numbers for a purpose, from its beginning, the same on every process."""
    return _generator(state, [state.config.seed, 2, state.step, PURPOSES.index(purpose)])


def image_streams(state: TrainingState, purpose: str, rows: Tensor) -> list[torch.Generator]:
    """One stream for each of these images of the batch, where drawing for all of them would take too much memory."""
    words = [state.config.seed, 2, state.step, PURPOSES.index(purpose)]
    return [_generator(state, [*words, row]) for row in rows.tolist()]


def _generator(state: TrainingState, words: list[int]) -> torch.Generator:
    entropy = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator(state.path_length_mean.device).manual_seed(int(entropy >> 1))
