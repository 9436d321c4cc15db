"""How much each resolution adds to the image: the standard deviation of its tRGB output (StyleGAN2, Figure 8)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from generator.networks import Generator
from generator.synthesis import SynthesisBlock

SAMPLES = 256  # the figure has 1024
BATCH = 16
PREFIX = "contribution_"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 360, 56, 16, 88, 44
COLOURS = ("#1f5fa8", "#a94c08", "#3b7a3b", "#7a3f98", "#5f5d58", "#b01e4f", "#0e7c86", "#8a6d00", "#1b1b19")


@torch.no_grad()
def resolution_contributions(G: Generator, samples: int = SAMPLES, seed: int = 0) -> dict[str, float]:
    """{"contribution_4": ..., "contribution_8": ...}: each resolution's part, from 0 to 1; together 1.

    The standard deviation of the pixel values of each tRGB's output, over all pixels, colours and samples (psi 1, noise
    as stored), each at its own resolution, divided by the sum over the resolutions. Where no resolution varies, all are
    0. Leaves all random numbers as they were.
    """
    device, rng = G.mapping.w_avg.device, torch.Generator().manual_seed(seed)
    blocks = cast(list[SynthesisBlock], list(G.synthesis.blocks))
    counts = torch.zeros(len(blocks), dtype=torch.float64)
    sums, squares = torch.zeros_like(counts), torch.zeros_like(counts)

    def record(i: int, output: Tensor) -> None:
        values = output.detach().double()
        counts[i] += values.numel()
        sums[i] += values.sum().cpu()
        squares[i] += values.square().sum().cpu()

    hooks = [
        block.to_rgb.register_forward_hook(lambda _, __, output, i=i: record(i, output))
        for i, block in enumerate(blocks)
    ]
    try:
        for first in range(0, samples, BATCH):
            z = torch.randn(min(BATCH, samples - first), G.z_dim, generator=rng).to(device)
            classes = torch.arange(first, first + len(z), device=device)
            G(z, F.one_hot(classes % G.c_dim, G.c_dim).float() if G.c_dim else None)
    finally:
        for hook in hooks:
            hook.remove()
    deviations = (squares / counts - (sums / counts).square()).clip(min=0).sqrt()
    parts = deviations / deviations.sum().clip(min=1e-30)
    return {f"{PREFIX}{block.resolution}": round(part, 6) for block, part in zip(blocks, parts.tolist(), strict=True)}


def draw_contributions(lines: Sequence[dict[str, Any]]) -> str:
    """The lines of a log that have contributions -> an SVG: percent over thousands of images, a line a resolution."""
    drawn = [line for line in lines if any(name.startswith(PREFIX) for name in line)]
    names = [name for name in drawn[0] if name.startswith(PREFIX)] if drawn else []
    last = max((line["kimg"] for line in drawn), default=1)
    x = lambda kimg: LEFT + (WIDTH - LEFT - RIGHT) * kimg / last  # noqa: E731
    y = lambda part: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part  # noqa: E731
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><title>Contribution of each resolution to the image</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for percent in range(0, 101, 20):
        at = y(percent / 100)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#cfcbc2"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>')
    for kimg in (0, last / 2, last):
        parts.append(f'<text x="{x(kimg):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{kimg:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">thousands of images</text>')
    for i, name in enumerate(names):
        colour, side = COLOURS[i % len(COLOURS)], name.removeprefix(PREFIX)
        points = " ".join(f"{x(line['kimg']):.1f},{y(line[name]):.1f}" for line in drawn if name in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = TOP + 16 * (len(names) - i)
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{at}" fill="{colour}">{side} x {side}</text>')
    return "\n".join([*parts, "</svg>\n"])
