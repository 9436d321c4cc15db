"""The operators on this machine's CPU against the plain ways and against copying the same bytes, in one run.

    python -m tests.benchmarks.operators [--markdown FILE]

(a) zero insertion, padding and a grouped convolution, for upfirdn2d; (b) PyTorch's operations in turn, for bias_act;
(c) a copy of what is read and written; (d) an operator registered in the same way that does nothing but allocate its
result: what PyTorch itself takes for a call and its gradient, below which no operator gets. Every figure is the fastest
of several rounds, taken in turns; forward + backward includes the gradient to the image. Shapes: what the last layers
of configuration E (StyleGAN2, Table 1) do at three resolutions.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import bias_act, downsample2d, setup_filter, upfirdn2d, upsample2d
from cuda_ops.reference import layout
from generator.allocation import keep_freed_memory

CHANNELS = {64: 256, 256: 64, 1024: 16}
TAPS = setup_filter([1, 3, 3, 1])
ROUND_SECONDS = 0.4


@dataclass(frozen=True)
class Case:
    """One operation of the networks: ours and the plain way, on an image of a size."""

    name: str
    shape: Callable[[int], tuple[int, int, int]]  # resolution -> channels, height, width
    ours: Callable[[Tensor], Tensor]
    plain: Callable[[Tensor], Tensor]


def grouped(x: Tensor, up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    """(a): what upfirdn2d is without an operator of its own."""
    batch, channels, height, width = x.shape
    if up > 1:
        x = x.reshape(batch, channels, height, 1, width, 1)
        x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(batch, channels, height * up, width * up)
    x = F.pad(x, [*padding, *padding])
    kernel = (torch.outer(TAPS, TAPS) * gain).to(x.dtype).expand(channels, 1, 4, 4)
    return F.conv2d(x, kernel, stride=down, groups=channels)


def plain_bias_act(x: Tensor) -> Tensor:
    """(b)."""
    return F.leaky_relu(x + torch.ones(x.shape[1], dtype=x.dtype)[:, None, None], 0.2) * sqrt(2)


torch.library.define("latentprint_benchmark::nothing", "(Tensor x, Tensor f, int[] size) -> Tensor")


@torch.library.impl("latentprint_benchmark::nothing", "cpu")
def _(x: Tensor, f: Tensor, size: list[int]) -> Tensor:
    return torch.empty(size, dtype=x.dtype, memory_format=layout(x))


def _keep(ctx, inputs, output):
    ctx.save_for_backward(inputs[1])
    ctx.size = inputs[0].shape


def _backward(ctx, grad):
    (f,) = ctx.saved_tensors
    return torch.ops.latentprint_benchmark.nothing(grad, f, ctx.size), None, None


torch.library.register_autograd("latentprint_benchmark::nothing", _backward, setup_context=_keep)

CASES = (
    Case(
        "upsample image",
        lambda r: (3, r // 2, r // 2),
        lambda x: upsample2d(x, TAPS),
        lambda x: grouped(x, 2, 1, (2, 1), 4),
    ),
    Case(
        "filter features",
        lambda r: (CHANNELS[r], r + 1, r + 1),
        lambda x: upfirdn2d(x, TAPS, padding=1, gain=4),
        lambda x: grouped(x, 1, 1, (1, 1), 4),
    ),
    Case(
        "downsample features",
        lambda r: (CHANNELS[r], r, r),
        lambda x: downsample2d(x, TAPS),
        lambda x: grouped(x, 1, 2, (1, 1), 1),
    ),
    Case(
        "bias_act",
        lambda r: (CHANNELS[r], r, r),
        lambda x: bias_act(x, torch.ones(x.shape[1]), act="lrelu"),
        plain_bias_act,
    ),
)


@dataclass(frozen=True)
class Row:
    """Seconds of one case."""

    case: str
    resolution: int
    batch: int
    dtype: str
    backward: bool
    ours: float
    plain: float
    copy: float
    nothing: float


def fastest(calls: list[Callable[[], object]]) -> list[float]:
    """The shortest time of each call, over rounds that take them in turns."""
    best = [float("inf")] * len(calls)
    for call in calls:
        call()
    end = time.perf_counter() + ROUND_SECONDS * len(calls)
    while time.perf_counter() < end:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def measure(case: Case, resolution: int, batch: int, dtype: torch.dtype, backward: bool) -> Row:
    """One row of the table."""
    x = torch.randn(batch, *case.shape(resolution)).to(dtype)
    if x.shape[1] > 3:
        x = x.contiguous(memory_format=torch.channels_last)
    y = case.ours(x)
    gradient = torch.ones_like(y)
    passes = 2 if backward else 1

    def run(function: Callable[[Tensor], Tensor]) -> None:
        if backward:
            leaf = x.detach().requires_grad_()
            function(leaf).backward(gradient)
        else:
            function(x)

    def copy() -> None:  # moves as many bytes as reading the input and writing the result
        for _ in range(passes):
            (x if x.numel() > y.numel() else y).clone()

    def nothing(x: Tensor) -> Tensor:
        return torch.ops.latentprint_benchmark.nothing(x, TAPS, y.shape)

    times = fastest([lambda: run(case.ours), lambda: run(case.plain), copy, lambda: run(nothing)])
    return Row(case.name, resolution, batch, str(dtype)[6:], backward, *times)


def geometric_mean(values: list[float]) -> float:
    """exp of the mean logarithm."""
    return exp(sum(map(log, values)) / len(values))


def means(rows: list[Row]) -> str:
    """How ours compares in the geometric mean."""
    gain = geometric_mean([row.plain / row.ours for row in rows])
    cost = geometric_mean([row.ours / row.copy for row in rows])
    return f"{gain:.1f} times as fast as the plain way, {cost:.1f} times the copy"


def table(rows: list[Row]) -> str:
    """Markdown: for each operation the ratios, over all shapes, batches and dtypes."""
    lines = [
        "| operation | pass | plain / ours: mean | worst | ours / copy: mean | worst | nothing / copy: mean | worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.case for row in rows):
        for backward in (False, True):
            chosen = [row for row in rows if row.case == name and row.backward == backward]
            gain, cost = [r.plain / r.ours for r in chosen], [r.ours / r.copy for r in chosen]
            floor = [r.nothing / r.copy for r in chosen]
            what = "forward + backward" if backward else "forward"
            lines.append(
                f"| {name} | {what} | {geometric_mean(gain):.1f} | {min(gain):.2f} "
                f"| {geometric_mean(cost):.1f} | {max(cost):.1f} | {geometric_mean(floor):.1f} | {max(floor):.1f} |"
            )
    firs = [row for row in rows if row.case != "bias_act" and row.backward]
    lines.append(f"\nAll upfirdn2d, forward + backward: {means(firs)}.")
    large = [row for row in firs if row.copy > row.nothing]
    if large:
        lines.append(
            f"\nOf these the {len(large)} of {len(firs)} whose copy takes longer than an operator that does nothing: "
            f"{means(large)}."
        )
    return "\n".join(lines)


def main() -> None:
    """Print every row, then the table."""
    keep_freed_memory()  # as the command line does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    options = parser.parse_args()
    rows = []
    print("operation | resolution | batch | dtype | backward | ours ms | plain ms | copy ms | nothing ms")
    for case in CASES:
        for resolution in CHANNELS:
            for batch in (1, 8):
                for dtype in (torch.float32, torch.bfloat16):
                    for backward in (False, True):
                        row = measure(case, resolution, batch, dtype, backward)
                        rows.append(row)
                        times = " | ".join(f"{1e3 * t:.3f}" for t in (row.ours, row.plain, row.copy, row.nothing))
                        print(row.case, resolution, batch, row.dtype, backward, times, sep=" | ", flush=True)
    text = f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n\n{table(rows)}"
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
