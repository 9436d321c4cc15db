"""Training throughput on this machine, against a plain trainer and the convolution peak.

    python -m tests.benchmarks.training [--only small-64,ada-256] [--markdown FILE]

The bundled generators' recipe (small-64) and ada-256's networks at 64x64, batch 16, augmentation on with p = 0.2,
random pixels; ours in fp32 and bf16, the plain trainer (tests/benchmarks/plain_training.py) in fp32, each in a process
of its own, in turns. A step with nothing lazy, one with the path length penalty and one with both regularisers are
timed after a warm-up; images/s is that of a whole cycle of the lazy intervals. GFLOP/s: what training/estimate.py
counts of a training image, regularisers averaged over the steps, as the library computes it: what Winograd's algorithm
saves is counted, too. About nine minutes on two idle cores.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from generator.allocation import keep_freed_memory
from generator.files import write_atomically
from tests.benchmarks.measuring import (
    InOwnProcess,
    account_table,
    faster,
    highest,
    machine,
    most_memory,
    peak_table,
    peaks_now,
    profiler,
    shares_of_time,
)
from tests.benchmarks.plain_training import PlainTrainer
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.estimate import estimate
from training.presets import resolve
from training.state import TrainingState
from training.step import train_step

BATCH, STRENGTH = 16, 0.2
ROUNDS = {"small-64": 12, "ada-256": 1}  # of the three kinds of step
AIM = 3.0
# what a public trainer did of small-64 on two cores of such a peak
PUBLIC_RATE, PUBLIC_PEAK = 12.0, 225e9


@dataclass(frozen=True)
class Case:
    """What one row measures."""

    preset: str
    precision: str
    baseline: bool


@dataclass(frozen=True)
class Row:
    """Seconds of a step without regularisers, and of each of those beside it; bytes; the account of a plain step."""

    case: Case
    step: float
    r1: float
    path_length: float
    memory: int
    account: dict[str, float]

    @property
    def rate(self) -> float:
        """Images per second, regularisers counted as often as they run."""
        config = config_of(self.case)
        cycle = self.step + self.r1 / config.r1_interval + self.path_length / config.path_length_interval
        return config.batch / cycle


def config_of(case: Case) -> TrainingConfig:
    """The preset at 64x64."""
    asked = {"resolution": 64, "batch": BATCH, "precision": case.precision, "accumulate": 1}
    return replace(resolve(case.preset, asked), x_flip=False)


class Trial:
    """A trainer in a process of its own, which times its steps when it is told to."""

    def __init__(self, case: Case):
        keep_freed_memory()  # as the command line does; for the plain trainer too, which is no fair one without
        self.case, config = case, config_of(case)
        pixels = np.random.default_rng(0).integers(0, 256, (256, 64, 64, 3), dtype=np.uint8)
        self.run, self.at = (_plain if case.baseline else _ours)(config, pixels)
        # a step at which R1 and path length run, one with the latter alone, one without either
        both = config.r1_interval * config.path_length_interval
        assert config.path_length_interval % config.r1_interval  # else no step has the path length alone
        self.kinds = {"both": both, "path length": config.path_length_interval, "neither": both + 1}
        self.seconds: dict[str, list[float]] = {kind: [] for kind in self.kinds}
        self.at(both)
        self.run()

    def take_round(self) -> None:
        """Time a step of each kind."""
        for kind, step in self.kinds.items():
            self.at(step)
            start = time.perf_counter()
            self.run()
            self.seconds[kind].append(time.perf_counter() - start)

    def row(self) -> Row:
        """The medians, and the account of a plain step."""
        self.at(self.kinds["neither"])
        with profiler() as seen:
            self.run()
        neither, path_length, all_three = (median(self.seconds[kind]) for kind in ("neither", "path length", "both"))
        account = shares_of_time(seen)
        return Row(self.case, neither, all_three - path_length, path_length - neither, most_memory(), account)


def measure(preset: str) -> list[Row]:
    """The three trainers, round by round in turns: what else goes on in the machine meets all of them alike."""
    ways = (("fp32", True), ("fp32", False), ("bf16", False))
    with ExitStack() as stack:
        trials = [stack.enter_context(InOwnProcess(Trial, Case(preset, *way))) for way in ways]
        for _ in range(ROUNDS[preset]):
            for trial in trials:
                trial.call("take_round")
        rows = []
        for trial in reversed(trials):  # an account takes memory, and the plain trainer has most: the others end first
            rows.append(trial.call("row"))
            trial.close()
        return rows[::-1]


Control = tuple[Callable[[], object], Callable[[int], None]]  # takes a step; says which step is the next


def _ours(config: TrainingConfig, pixels: np.ndarray) -> Control:
    state, data = TrainingState(config), TrainingImages(pixels, "")
    state.p = STRENGTH
    return lambda: train_step(state, data), lambda step: setattr(state, "step", step)


def _plain(config: TrainingConfig, pixels: np.ndarray) -> Control:
    trainer = PlainTrainer(config, pixels, STRENGTH)
    return trainer, lambda step: setattr(trainer, "step", step)


def result_table(rows: list[Row], peaks: dict[str, float]) -> str:
    """Markdown: a row for each case."""
    lines = [
        "| networks | trainer | images/s | times the plain one (aim 3) | s: step | R1 | path length "
        "| GFLOP an image | GFLOP/s | of the peak | MiB at most |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    plain = {row.case.preset: row.rate for row in rows if row.case.baseline}
    for row in rows:
        flops = estimate(config_of(row.case)).flops_train
        lines.append(
            f"| {row.case.preset} | {'plain' if row.case.baseline else f'ours, {row.case.precision}'} "
            f"| {row.rate:.1f} | {row.rate / plain[row.case.preset]:.2f} "
            f"| {row.step:.2f} | {row.r1:.2f} | {row.path_length:.2f} | {flops / 1e9:.1f} "
            f"| {flops * row.rate / 1e9:.0f} | {flops * row.rate / peaks[row.case.precision]:.0%} "
            f"| {row.memory / 2**20:.0f} |"
        )
    return "\n".join(lines)


def verdict(rows: list[Row], peak: float) -> str:
    """What was aimed at and whether the plain trainer is a fair one, in sentences."""
    sentences = []
    for preset in dict.fromkeys(row.case.preset for row in rows):
        own = [row for row in rows if row.case.preset == preset]
        best = max((row for row in own if not row.case.baseline), key=lambda row: row.rate)
        times = best.rate / next(row.rate for row in own if row.case.baseline)
        sentences.append(f"{preset}: {times:.2f} times the plain trainer in {best.case.precision}, aim {AIM:g}.")
    for row in rows:
        if row.case.baseline and row.case.preset == "small-64":
            public = PUBLIC_RATE * peak / PUBLIC_PEAK
            sentences.append(
                f"The plain trainer makes {row.rate / public:.2f} times a public one's images/s, scaled by the peak."
            )
    return " ".join(sentences)


def main() -> None:
    """Print a line for every row as it comes, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROUNDS))
    parser.add_argument("--markdown", type=Path, help="write the tables here too")
    options = parser.parse_args()
    peak_rows = peaks_now()
    rows = []
    for preset in options.only.split(","):
        for row in measure(preset):
            print(row.case, f"{row.rate:.2f} images/s", flush=True)
            rows.append(row)
    peak_rows = faster(peak_rows, peaks_now())
    peaks = {precision: highest(peak_rows, precision) for precision in ("fp32", "bf16")}
    accounts = {
        f"{row.case.preset}, {'plain' if row.case.baseline else row.case.precision}": row.account for row in rows
    }
    reached = " and ".join(f"{peak / 1e9:.0f} GFLOP/s in {precision}" for precision, peak in peaks.items())
    parts = [
        f"{machine()}, batch {BATCH}, augmentation with p = {STRENGTH}. Convolution peak: {reached}.",
        result_table(rows, peaks),
        verdict(rows, peaks["fp32"]),
        peak_table(peak_rows),
        account_table(accounts),
    ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.markdown:
        write_atomically(options.markdown, text.encode())


if __name__ == "__main__":
    main()
