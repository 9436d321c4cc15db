"""torch.compile against running the networks as they are: why neither searches nor trainings compile them.

    python -m tests.benchmarks.compiled [--markdown FILE]

A search in a 64x64 generator (512/256/128 channels, LPIPS vgg, batch 8), and a training step without lazy regularisers
of the bundled generators' recipe, batch 16. Compiled are what torch.compile can take whole: synthesis network, LPIPS
and discriminator. Warm-up: what the first two steps took beyond two later ones. Each row is measured in a process of
its own, its two ways one after the other. About five minutes on two idle cores; needs a C++ compiler.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

from attribution.projector import latent_statistics, project
from attribution.schedules import ProjectionConfig
from generator import LPIPS
from generator.allocation import keep_freed_memory
from generator.files import write_atomically
from tests.benchmarks.measuring import in_own_process, machine
from tests.benchmarks.projection import build
from tests.benchmarks.training import STRENGTH, Case, config_of
from training.dataset import TrainingImages
from training.state import TrainingState
from training.step import train_step

STEPS = 8
RECOMPILATIONS = 64  # of a function: it is one of every layer


@dataclass(frozen=True)
class Row:
    """Seconds of a step as it is and compiled, and of the compiled one's warm-up."""

    what: str
    precision: str
    plain: float
    compiled: float
    warm_up: float


def search(precision: str, compiled: bool) -> list[float]:
    """When each step of a search was over."""
    G, lpips, ends = build("64"), LPIPS("vgg"), [time.perf_counter()]
    statistics = latent_statistics(G)
    if compiled:
        G.synthesis.compile()
        lpips.per_layer = torch.compile(lpips.per_layer)  # type: ignore[method-assign]
    targets = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    project(
        G,
        targets,
        config=ProjectionConfig(steps=STEPS + 2, precision=precision),
        lpips=lpips,
        seeds=range(8),
        statistics=statistics,
        on_step=lambda step: ends.append(time.perf_counter()),
    )
    return ends


def training(precision: str, compiled: bool) -> list[float]:
    """When each step of a training was over."""
    config = config_of(Case("small-64", precision, baseline=False))
    pixels = np.random.default_rng(0).integers(0, 256, (256, 64, 64, 3), dtype=np.uint8)
    state, data = TrainingState(config), TrainingImages(pixels, "")
    state.p = STRENGTH
    if compiled:
        state.G.synthesis.compile()
        state.D.compile()
    ends = [time.perf_counter()]
    for _ in range(STEPS + 2):
        state.step = config.r1_interval * config.path_length_interval + 1  # no lazy regulariser
        train_step(state, data)
        ends.append(time.perf_counter())
    return ends


WAYS: dict[str, Callable[[str, bool], list[float]]] = {"search": search, "training": training}


def measure(case: tuple[str, str]) -> Row:
    """Run in a process of its own."""
    keep_freed_memory()  # as the command line does
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    seconds = [[b - a for a, b in pairwise(WAYS[case[0]](case[1], compiled))] for compiled in (False, True)]
    plain, compiled = (median(times[2:]) for times in seconds)
    return Row(*case, plain, compiled, sum(seconds[1][:2]) - 2 * compiled)


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| what | precision | s a step | compiled | times as fast | s of warm-up |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.what} | {row.precision} | {row.plain:.2f} | {row.compiled:.2f} "
            f"| {row.plain / row.compiled:.2f} | {row.warm_up:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    options = parser.parse_args()
    cases = [(what, precision) for what in WAYS for precision in ("fp32", "bf16")]
    text = f"{machine()}\n\n{table(list(in_own_process(measure, cases)))}\n"
    print(text)
    if options.markdown:
        write_atomically(options.markdown, text.encode())


if __name__ == "__main__":
    main()
