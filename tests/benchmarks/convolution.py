"""The networks' 3x3 convolutions on this machine's CPU: Winograd's algorithm against the library's, in one run.

    python -m tests.benchmarks.convolution [--markdown FILE]

Eight images of each shape of the generators, discriminators and VGG16 that takes Winograd's way. Every time is the
fastest of several rounds, taken in turns. Frozen: filters that a search transforms once; trained: the filters'
transformation and their gradient included. Errors against float64: relative, in the Euclidean norm.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import convolve3x3
from cuda_ops.convolution import FEWEST_PIXELS
from generator.allocation import keep_freed_memory
from generator.layers import Kept
from tests.benchmarks.measuring import DTYPES, machine
from tests.benchmarks.operators import fastest

BATCH = 8
SHAPES = ((128, 128), (128, 32), (256, 64), (256, 16), (512, 32), (512, 16), (512, 8))  # channels, side
Convolve = Callable[[Tensor, Tensor], Tensor]


def library(x: Tensor, weight: Tensor) -> Tensor:
    """PyTorch's."""
    return F.conv2d(x, weight, padding=1)


def searched(convolve: Convolve, x: Tensor, weight: Tensor) -> None:
    """Forward, and the gradient to the image."""
    x = x.detach().requires_grad_()
    y = convolve(x, weight)
    y.backward(y.detach())


def trained(convolve: Convolve, x: Tensor, weight: Tensor) -> None:
    """Forward, and the gradients to the image and the filters."""
    searched(convolve, x, weight.detach().requires_grad_())


def error(found: Tensor, x: Tensor, weight: Tensor) -> float:
    """Of the first image's result."""
    expected = library(x[:1].double(), weight.double())
    return float((found[:1].double() - expected).norm() / expected.norm())


def row(channels: int, side: int, precision: str) -> list[str]:
    """One line of the table."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, channels, side, side, generator=rng).to(DTYPES[precision])
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, generator=rng).to(DTYPES[precision]) / (3 * channels**0.5)
    kept = Kept()

    def frozen(x: Tensor, weight: Tensor) -> Tensor:
        return convolve3x3(x, weight, keep=kept.of)

    times = fastest([lambda: searched(frozen, x, weight), lambda: searched(library, x, weight)])
    cells = [f"{1e3 * t:.1f}" for t in times] + [f"{times[1] / times[0]:.2f}"]
    if side**2 >= FEWEST_PIXELS:
        times = fastest([lambda: trained(convolve3x3, x, weight), lambda: trained(library, x, weight)])
        cells += [f"{1e3 * t:.1f}" for t in times] + [f"{times[1] / times[0]:.2f}"]
    else:
        cells += ["", "", ""]
    errors = [f"{error(convolve(x, weight), x, weight):.1e}" for convolve in (frozen, library)]
    return [f"{channels} channels, {side}x{side}", precision, *cells, *errors]


def main() -> None:
    """Print the table."""
    keep_freed_memory()  # as the command line does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    options = parser.parse_args()
    head = [f"{BATCH} images", "precision"]
    head += [f"{kind}, {what}" for kind in ("frozen", "trained") for what in ("ms", "the library's", "times as fast")]
    lines = [[*head, "error", "the library's"], ["---"] * (len(head) + 2)]
    lines += [row(channels, side, precision) for channels, side in SHAPES for precision in DTYPES]
    text = f"{machine()}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
