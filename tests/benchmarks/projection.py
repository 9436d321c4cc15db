"""A projection's step on this machine, against a baseline written plainly from the paper and the convolution peak.

    python -m tests.benchmarks.projection [--only 64,256,emoji] [--lpips vgg,alex] [--precision fp32,bf16]
        [--batches 1,4,8,16] [--seconds 2] [--markdown FILE]

Generators of 64x64 (512/256/128 channels) and 256x256 (channel base 16384) with random weights, and the bundled
emoji-a. Every row is measured in a process of its own; ours fills a batch of one up to four, and keeps freed memory, as
the command line does. Time per step: the median
once the warm-up is over, set-up and final evaluation left out. GFLOP/s: the FLOPs of the convolutions of synthesis and
LPIPS network, forward and to the input, counted by tests/benchmarks/counting.py, over the time of the whole step;
counted as the library computes them, of which Winograd's algorithm saves up to 5 in 9: it can exceed the peak.
Memory: the most that was ever in use, less what was in use before the search, when networks and images were there.
About eight minutes on two idle cores; on a busy machine all figures are wrong, the shares of the peak most of all.
"""

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from attribution.demo import demo_candidates
from attribution.projector import latent_statistics, project
from attribution.schedules import ProjectionConfig
from generator import LPIPS, load_generator
from generator.allocation import keep_freed_memory
from generator.files import write_atomically
from generator.networks import Generator, GeneratorConfig
from tests.benchmarks.counting import convolution_flops
from tests.benchmarks.measuring import (
    CONVOLUTIONS,
    Steady,
    StepClock,
    account_table,
    faster,
    highest,
    in_own_process,
    machine,
    most_memory,
    peak_table,
    peaks_now,
    present_memory,
    profiler,
    shares_of_time,
)
from tests.benchmarks.plain import PlainLPIPS, PlainProjector

CONFIGS = {
    "64": GeneratorConfig(resolution=64, channel_base=8192),
    "256": GeneratorConfig(resolution=256, channel_base=16384),
}
GENERATORS = (*CONFIGS, "emoji")
# what public projectors of one image take for a step with LPIPS vgg on two cores of such a peak
PUBLIC_SECONDS, PUBLIC_PEAK = {"64": 0.37, "256": 1.66}, 225e9
# the aims: batch from which on they count, times the baseline's speed by precision
AIMS = {"64": (8, {"fp32": 3.6, "bf16": 7.0}), "256": (4, {"fp32": 1.9, "bf16": 3.6})}
AIM_OF_PEAK = 0.7
ACCOUNTED = {"64": 8, "256": 4, "emoji": 8}  # batch whose account is given


@dataclass(frozen=True)
class Case:
    """What one row measures; a baseline takes one image at a time in fp32. steps: after the warm-up."""

    generator: str
    lpips: str
    precision: str
    batch: int
    baseline: bool
    steps: int


@dataclass(frozen=True)
class Row:
    """Of one case: seconds and faults of a step of the whole batch, bytes beyond the weights, account or {}."""

    case: Case
    steady: Steady
    memory: int
    account: dict[str, float]


def build(name: str) -> Generator:
    """One of GENERATORS; random weights with some noise in the images, so that no part of a step is idle."""
    if name == "emoji":
        return load_generator(demo_candidates()["emoji-a"])
    torch.manual_seed(0)
    G = Generator(CONFIGS[name])
    for layer in G.synthesis.layers:
        layer.noise_strength.data.fill_(0.1)
    return G.eval().requires_grad_(False)


def measure(case: Case) -> Row:
    """Run in a process of its own."""
    if not case.baseline:
        keep_freed_memory()
    G, lpips = build(case.generator), LPIPS(case.lpips)
    targets = torch.rand(case.batch, 3, G.resolution, G.resolution) * 2 - 1
    statistics = latent_statistics(G)
    clock = StepClock(warmup=1 if case.generator == "256" else 2)
    config = ProjectionConfig(steps=clock.warmup + case.steps, precision=case.precision)
    before = present_memory()
    if case.baseline:
        search = PlainProjector(G, targets, config, PlainLPIPS(lpips), statistics)
        for step in range(config.steps):
            search.step(step)
            clock(step)
    else:
        seeds = range(case.batch)
        project(G, targets, config=config, lpips=lpips, seeds=seeds, statistics=statistics, on_step=clock)
    memory = most_memory() - before
    shares: dict[str, float] = {}
    if not case.baseline and case.lpips == "vgg" and case.batch == ACCOUNTED[case.generator]:
        seen = profiler()
        project(
            G,
            targets,
            config=ProjectionConfig(steps=2, precision=case.precision),
            lpips=lpips,
            seeds=range(case.batch),
            statistics=statistics,
            on_step=lambda step: seen.stop() if step else seen.start(),  # the second step
        )
        shares = shares_of_time(seen)
    return Row(case, clock.steady(), memory, shares)


def steps_for(flops: int, batch: int, rate: float, seconds: float) -> int:
    """So many steps as take about that long at half the peak, which is `rate`."""
    return min(max(round(seconds * rate / 2 / (flops * batch)), 1), 20)


def result_table(rows: list[Row], flops: dict[tuple[str, str], int], peaks: dict[str, float]) -> str:
    """Markdown: a row for each case, its speed beside the baseline's of the same generator and LPIPS network."""
    baselines = {(r.case.generator, r.case.lpips): r.steady.seconds for r in rows if r.case.baseline}
    lines = [
        "| generator | LPIPS | precision | batch | ms per image and step | times the baseline | GFLOP/s | of the peak "
        "| MiB beyond the weights | page faults per step | system time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        case, each = row.case, row.steady.seconds / row.case.batch
        rate = flops[case.generator, case.lpips] / each
        lines.append(
            f"| {case.generator} | {case.lpips} | {case.precision} | {'baseline' if case.baseline else case.batch} "
            f"| {1e3 * each:.1f} | {baselines[case.generator, case.lpips] / each:.2f} "
            f"| {rate / 1e9:.0f} | {rate / peaks[case.precision]:.0%} | {row.memory / 2**20:.0f} "
            f"| {row.steady.faults:.0f} | {row.steady.system_seconds / row.steady.seconds:.0%} |"
        )
    return "\n".join(lines)


def aim_table(rows: list[Row], flops: dict[tuple[str, str], int], peaks: dict[str, float]) -> str:
    """Markdown: what was aimed at, LPIPS vgg, beside what the best batch of those that count reached."""
    lines = ["| generator | precision | times the baseline: aim | reached | of the peak: aim | reached |"]
    lines.append("|---|---|---|---|---|---|")
    baselines = {(r.case.generator, r.case.lpips): r.steady.seconds for r in rows if r.case.baseline}
    for name, (smallest, aims) in AIMS.items():
        for precision, aim in aims.items():
            times = [
                row.steady.seconds / row.case.batch
                for row in rows
                if (row.case.generator, row.case.lpips, row.case.precision) == (name, "vgg", precision)
                and not row.case.baseline
                and row.case.batch >= smallest
            ]
            if times:
                of_peak = flops[name, "vgg"] / min(times) / peaks[precision]
                lines.append(
                    f"| {name}, batch {smallest} or more | {precision} | {aim} "
                    f"| {baselines[name, 'vgg'] / min(times):.2f} | {AIM_OF_PEAK:.0%} | {of_peak:.0%} |"
                )
    return "\n".join(lines)


def memory_aim(rows: list[Row]) -> str:
    """What a batch of eight takes at 256x256, in a sentence; "" where it was not measured."""
    for row in rows:
        case = row.case
        if (case.generator, case.lpips, case.precision, case.batch) == ("256", "vgg", "fp32", 8):
            return f"Batch 8 at 256x256 takes {row.memory / 2**30:.2f} GiB beyond the weights; aim: below 3."
    return ""


def rate_row(rows: list[Row], flops: dict[tuple[str, str], int], peaks: dict[str, float]) -> str:
    """The last row of the account: how fast the convolutions alone run in it."""
    cells = []
    for row in rows:
        if row.account:
            share = sum(row.account.get(kind, 0) for kind in CONVOLUTIONS)
            seconds = row.steady.seconds / row.case.batch * share
            rate = flops[row.case.generator, row.case.lpips] / seconds
            cells.append(f"{rate / peaks[row.case.precision]:.0%}")
    return " | ".join(["\n| *these first four alone, of the peak*", *cells]) + " |" if cells else ""


def fairness_table(rows: list[Row], peak: float) -> str:
    """Markdown: the baseline beside the public projectors' time, scaled to this machine's fp32 peak."""
    lines = ["| generator | baseline, s per step | public, scaled | ratio |", "|---|---|---|---|"]
    for row in rows:
        if row.case.baseline and row.case.lpips == "vgg" and row.case.generator in PUBLIC_SECONDS:
            public = PUBLIC_SECONDS[row.case.generator] * PUBLIC_PEAK / peak
            found = row.steady.seconds
            lines.append(f"| {row.case.generator} | {found:.3f} | {public:.3f} | {found / public:.2f} |")
    return "\n".join(lines)


def config_of(name: str) -> GeneratorConfig:
    """The settings of one of GENERATORS."""
    return CONFIGS[name] if name in CONFIGS else build(name).config


def main() -> None:
    """Print a line for every row as it comes, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GENERATORS), help="generators")
    parser.add_argument("--lpips", default="vgg,alex")
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument("--batches", default="1,4,8,16")
    parser.add_argument("--seconds", type=float, default=2, help="for a row, about; one step at least")
    parser.add_argument("--markdown", type=Path, help="write the tables here too")
    options = parser.parse_args()
    names, nets, precisions = (options.only.split(","), options.lpips.split(","), options.precision.split(","))
    batches = [int(n) for n in options.batches.split(",")]

    peak_rows = peaks_now()
    peaks = {precision: highest(peak_rows, precision) for precision in ("fp32", "bf16")}
    flops = {(name, net): convolution_flops(config_of(name), net) for name, net in product(names, nets)}
    cases = []
    for (name, net), count in flops.items():
        cases.append(Case(name, net, "fp32", 1, True, steps_for(count, 1, peaks["fp32"] / 2, options.seconds)))
        for precision, batch in product(precisions, batches):
            steps = steps_for(count, batch, peaks[precision], options.seconds)
            cases.append(Case(name, net, precision, batch, False, steps))
    rows = []
    for row in in_own_process(measure, cases):
        print(row.case, row.steady, f"{row.memory / 2**20:.0f} MiB", flush=True)
        rows.append(row)
    peak_rows = faster(peak_rows, peaks_now())
    peaks = {precision: highest(peak_rows, precision) for precision in ("fp32", "bf16")}
    accounts = {
        f"{row.case.generator}, {row.case.precision}, batch {row.case.batch}": row.account
        for row in rows
        if row.account
    }
    counted = ", ".join(f"{name} with {net} {count / 1e9:.1f}" for (name, net), count in flops.items())
    reached = " and ".join(f"{peak / 1e9:.0f} GFLOP/s in {precision}" for precision, peak in peaks.items())
    parts = [
        f"{machine()}. Convolution peak: {reached}. GFLOP of an image's step: {counted}.",
        result_table(rows, flops, peaks),
        aim_table(rows, flops, peaks),
        memory_aim(rows),
        fairness_table(rows, peaks["fp32"]),
        peak_table(peak_rows),
        account_table(accounts) + rate_row(rows, flops, peaks),
    ]
    text = "\n\n".join(part for part in parts if part and part.count("\n") != 1) + "\n"  # no tables without rows
    print(text)
    if options.markdown:
        write_atomically(options.markdown, text.encode())


if __name__ == "__main__":
    main()
