"""What the speed benchmarks share: the convolution peak, processes for measurements, the account of the time."""

import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.context import BaseContext
from pathlib import Path
from statistics import median
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Item = TypeVar("Item")
Result = TypeVar("Result")

# 3x3 convolutions of the networks: channels in and out, side; eight images of each
PEAK_SHAPES = ((512, 16), (512, 32), (256, 64), (128, 128))
PEAK_BATCH = 8
PEAK_REPEATS = 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def in_own_process(measure: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """measure(item) for each item, in a fresh process each, one after the other: no item finds another's memory.

    Raises BrokenProcessPool where a process is killed, as for want of memory.
    """
    for item in items:
        with ProcessPoolExecutor(1, mp_context=_processes()) as pool:
            yield pool.submit(measure, item).result()


class InOwnProcess:
    """An object that lives in a process of its own: several can be asked in turns, and none finds another's memory."""

    def __init__(self, make: Callable[..., object], *arguments: object):
        self._pool = ProcessPoolExecutor(1, mp_context=_processes())
        self._pool.submit(_make, make, arguments).result()

    def call(self, method: str) -> Any:
        """object.method(). Raises BrokenProcessPool where the process is killed."""
        return self._pool.submit(_call, method).result()

    def close(self) -> None:
        """End the process, and free its memory; again: nothing."""
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_made: list[object] = []  # in its process


def _make(make: Callable[..., object], arguments: tuple[object, ...]) -> None:
    _made.append(make(*arguments))


def _call(method: str) -> object:
    return getattr(_made[0], method)()


def _processes() -> BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["attribution.projector", "generator.loading", "training.step"])
    return context


@dataclass(frozen=True)
class PeakRow:
    """FLOP/s of one shape of convolution."""

    channels: int
    side: int
    precision: str
    forward: float
    input_gradient: float


def convolution_peak(precision: str) -> list[PeakRow]:
    """The rates that this machine reaches at the networks' convolutions, each the best of a few, channels last."""
    return [_measure_shape(channels, side, precision) for channels, side in PEAK_SHAPES]


def _measure_shape(channels: int, side: int, precision: str) -> PeakRow:
    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape).to(DTYPES[precision]).contiguous(memory_format=torch.channels_last)

    x, weight = tensor(PEAK_BATCH, channels, side, side), tensor(channels, channels, 3, 3)
    gradient = tensor(PEAK_BATCH, channels, side, side)

    def forward() -> None:
        torch.conv2d(x, weight, padding=1)

    def backward() -> None:
        ones, zeros = [1, 1], [0, 0]
        torch.ops.aten.convolution_backward(
            gradient, x, weight, None, ones, ones, ones, False, zeros, 1, [True, False, False]
        )

    flops = 2 * PEAK_BATCH * channels**2 * 9 * side**2
    return PeakRow(channels, side, precision, *(flops / min(_times(f, PEAK_REPEATS)) for f in (forward, backward)))


def _times(call: Callable[[], None], repeats: int) -> list[float]:
    """Seconds of each call, after one that doesn't count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[1:]


def peaks_now() -> list[PeakRow]:
    """In both precisions, in processes of their own."""
    return [row for rows in in_own_process(convolution_peak, DTYPES) for row in rows]


def faster(first: Iterable[PeakRow], second: Iterable[PeakRow]) -> list[PeakRow]:
    """The better rates of two measurements, one at the start and one at the end of a run."""
    return [
        replace(a, forward=max(a.forward, b.forward), input_gradient=max(a.input_gradient, b.input_gradient))
        for a, b in zip(first, second, strict=True)
    ]


def highest(rows: Iterable[PeakRow], precision: str) -> float:
    """The convolution peak of a precision, FLOP/s."""
    return max(max(row.forward, row.input_gradient) for row in rows if row.precision == precision)


def peak_table(rows: Iterable[PeakRow]) -> str:
    """Markdown."""
    lines = [
        f"3x3 convolution, batch {PEAK_BATCH} | precision | forward | input gradient, GFLOP/s",
        "--- | --- | --- | ---",
    ]
    for row in rows:
        shape = f"{row.channels} channels, {row.side}x{row.side}"
        lines.append(f"{shape} | {row.precision} | {row.forward / 1e9:.0f} | {row.input_gradient / 1e9:.0f}")
    return "\n".join(f"| {line} |" for line in lines)


@dataclass(frozen=True)
class Steady:
    """What a step took once the warm-up was over: seconds (the median), minor page faults, seconds in the system."""

    seconds: float
    faults: float
    system_seconds: float


class StepClock:
    """Notes the end of every step; the first `warmup` don't count."""

    def __init__(self, warmup: int):
        self.warmup = warmup
        self.ends: list[float] = []
        self.usage: list[resource.struct_rusage] = []

    def __call__(self, step: int) -> None:
        self.ends.append(time.perf_counter())
        self.usage.append(resource.getrusage(resource.RUSAGE_SELF))

    def steady(self) -> Steady:
        """Over the steps after the warm-up."""
        ends, first, last = self.ends[self.warmup - 1 :], self.usage[self.warmup - 1], self.usage[-1]
        steps = len(ends) - 1
        return Steady(
            median(b - a for a, b in pairwise(ends)),
            (last.ru_minflt - first.ru_minflt) / steps,
            (last.ru_stime - first.ru_stime) / steps,
        )


def most_memory() -> int:
    """The most bytes that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def present_memory() -> int:
    """The bytes that this process has in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# what an operation of PyTorch belongs to; the first that fits
KINDS = {
    "convolutions, forward": ("aten::mkldnn_convolution", "aten::_convolution", "aten::_slow_conv"),
    "convolutions, backward": ("aten::convolution_backward", "aten::mkldnn_convolution_backward"),
    "Winograd's tiles": ("_Frozen", "_Convolution", "_WeightGradient"),
    "matrix products, Winograd's among them": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "Adam": ("Optimizer", "aten::_fused_adam"),
    "copies and fills": ("aten::copy_", "aten::fill_", "aten::zero_", "aten::cat", "aten::constant_pad", "aten::index"),
    "pooling, resampling": ("aten::max_pool", "aten::avg_pool", "aten::_adaptive", "aten::grid_sampl"),
    "own operators": ("latentprint::", "GeneratedBackwardFor_latentprint"),
    "pixel by pixel": (
        *("aten::" + name for name in ("mul", "add", "sub", "div", "pow", "rsqrt", "sqrt", "square", "lerp", "sgn")),
        *("aten::" + name for name in ("relu", "leaky_relu", "threshold", "clamp", "where", "softplus", "_foreach")),
        "_LayerDistance",
    ),
    "sums, means, norms": ("aten::sum", "aten::mean", "aten::linalg_vector_norm", "aten::var"),
}
# and what little else is a matrix product
CONVOLUTIONS = tuple(kind for kind in KINDS if "convolutions" in kind or "Winograd" in kind)
FILTERS = "filters (depthwise convolutions)"
REST = "the rest"


def profiler() -> profile:
    """Whose account `shares_of_time` gives; to be started and stopped, or entered."""
    return profile(activities=[ProfilerActivity.CPU], record_shapes=True)


def shares_of_time(profiled: profile) -> dict[str, float]:
    """By kind of operation, largest first; what has one channel a group counts as FILTERS."""
    shares: dict[str, float] = {}
    for event in profiled.key_averages(group_by_input_shape=True):
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), REST)
        if kind.startswith("convolutions") and _depthwise(event.input_shapes):
            kind = FILTERS
        shares[kind] = shares.get(kind, 0) + event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: t / total for kind, t in sorted(shares.items(), key=lambda item: -item[1])}


def _depthwise(shapes: list[list[int]]) -> bool:
    """Whether a convolution's inputs have a weight of one channel for each of its groups, [C, 1, k, k]."""
    return any(len(shape) == 4 and shape[1] == 1 and shape[0] > 1 and 1 < shape[2] < 16 for shape in shapes[1:3])


def account_table(accounts: dict[str, dict[str, float]]) -> str:
    """Markdown: a column for each account."""
    kinds = [*KINDS, FILTERS, REST]
    lines = [["share of the time", *accounts], ["---"] * (1 + len(accounts))]
    for kind in kinds:
        shares = [shares.get(kind, 0) for shares in accounts.values()]
        if any(shares):
            lines.append([kind, *(f"{share:.0%}" for share in shares)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The first line of a table's account."""
    return f"{torch.get_num_threads()} threads, {platform.machine()}, PyTorch {torch.__version__}"
