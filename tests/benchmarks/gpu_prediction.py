"""What a projection's step would take on a GPU, predicted on paper from counted FLOPs, bytes and launches.

    python -m tests.benchmarks.gpu_prediction [--batches 1,8,32] [--markdown FILE]

Configuration F at 256x256 and 1024x1024, LPIPS vgg at 256x256, 1000 steps an image. tests/benchmarks/counting.py writes
down every kernel of a step. A kernel takes as long as its arithmetic or its traffic, whichever is longer, at a share of
the device's peak that good kernels reach; the host takes a time to launch each. A step takes the longer of the sums. An
assumption, not a measurement: `pytest -m gpu -rP tests/test_gpu_prediction.py` measures the same on a GPU and prints
the ratio.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch

from generator.files import write_atomically
from generator.networks import CONFIG_F
from tests.benchmarks.counting import Kernel, step_kernels

STEPS = 1000
CONFIGS = {256: replace(CONFIG_F, resolution=256), 1024: CONFIG_F}
PRECISIONS = {"tf32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Device:
    """FLOP/s of dense matrix products by precision, bytes/s of memory, seconds of the host for each launch.

    reached: the share of both peaks that convolutions and memory-bound kernels are taken to reach.
    """

    name: str
    flops: dict[str, float]
    bandwidth: float
    launch: float
    reached: float


# Peaks: NVIDIA's data sheet of the H100 SXM5 (80 GB HBM3), without sparsity. The launch: in published accounts, an
# operation with autograd takes PyTorch's eager mode 5 to 25 microseconds on the host; 10 is assumed. That 60 % of the
# peaks is reached is assumed too.
H100 = Device("H100 SXM5", {"tf32": 494.7e12, "bf16": 989.4e12}, 3.35e12, 10e-6, 0.6)
GRAPH_LAUNCH = 1e-6  # of a kernel in a CUDA graph, assumed


@dataclass(frozen=True)
class Prediction:
    """Of a step of a batch. device: seconds of its kernels one after the other; host: seconds of launching them."""

    batch: int
    flops: int
    bytes: int
    launches: int
    arithmetic: float
    traffic: float
    device: float
    host: float

    @property
    def seconds(self) -> float:
        """The host launches while the device works."""
        return max(self.device, self.host)

    @property
    def bound(self) -> str:
        """What takes the longest."""
        if self.host > self.device:
            return "launches"
        return "arithmetic" if self.arithmetic > self.traffic else "memory"

    def images_per_hour(self, seconds: float) -> float:
        """Of whole projections, if a step takes so long."""
        return 3600 * self.batch / (seconds * STEPS)


def predict(kernels: Sequence[Kernel], batch: int, precision: str, device: Device) -> Prediction:
    """The roofline of each kernel, added up; arithmetic and traffic: of those kernels that each of them bounds."""
    arithmetic = traffic = 0.0
    for kernel in kernels:
        computing = kernel.flops / (device.flops[precision] * device.reached)
        moving = kernel.bytes / (device.bandwidth * device.reached)
        if computing > moving:
            arithmetic += computing
        else:
            traffic += moving
    return Prediction(
        batch,
        sum(kernel.flops for kernel in kernels),
        sum(kernel.bytes for kernel in kernels),
        len(kernels),
        arithmetic,
        traffic,
        arithmetic + traffic,
        device.launch * len(kernels),
    )


def prediction_of(resolution: int, precision: str, batch: int, device: Device = H100) -> Prediction:
    """Of configuration F at 256x256 or 1024x1024."""
    kernels = step_kernels(CONFIGS[resolution], "vgg", batch, PRECISIONS[precision])
    return predict(kernels, batch, precision, device)


def table(predictions: dict[tuple[int, str], list[Prediction]]) -> str:
    """Markdown: a row for each resolution, precision and batch."""
    lines = [
        "| resolution | precision | batch | TFLOP | GB moved | launches | ms: arithmetic-bound kernels "
        "| memory-bound kernels | launching | ms a step | bound by | images/h | with CUDA graphs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (resolution, precision), row in predictions.items():
        for p in row:
            graphs = max(p.device, GRAPH_LAUNCH * p.launches)
            times = " | ".join(f"{1e3 * t:.1f}" for t in (p.arithmetic, p.traffic, p.host, p.seconds))
            lines.append(
                f"| {resolution} | {precision} | {p.batch} | {p.flops / 1e12:.2f} | {p.bytes / 1e9:.1f} "
                f"| {p.launches} | {times} | {p.bound} | {p.images_per_hour(p.seconds):.0f} "
                f"| {p.images_per_hour(graphs):.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    options = parser.parse_args()
    batches = [int(n) for n in options.batches.split(",")]
    predictions = {
        (resolution, precision): [prediction_of(resolution, precision, batch) for batch in batches]
        for resolution, precision in product(CONFIGS, PRECISIONS)
    }
    peaks = " and ".join(f"{peak / 1e12:.1f} TFLOP/s in {precision}" for precision, peak in H100.flops.items())
    text = (
        f"{H100.name}: {peaks} (dense), {H100.bandwidth / 1e12:.2f} TB/s, of which {H100.reached:.0%} are taken to be "
        f"reached; {H100.launch * 1e6:.0f} us a launch, in a CUDA graph {GRAPH_LAUNCH * 1e6:.0f}. Configuration F, "
        f"LPIPS vgg, {STEPS} steps an image. Predicted, not measured.\n\n{table(predictions)}\n"
    )
    print(text)
    if options.markdown:
        write_atomically(options.markdown, text.encode())


if __name__ == "__main__":
    main()
