"""Noise maps of a projection: drawn, regularised and renormalised per image (StyleGAN2, Appendix D).

Maps of one resolution lie in one tensor [B, n, r, r], so that a pass over a resolution is one pass for all its layers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 8  # the pyramid of a larger map ends at 8x8


def layer_resolutions(noise_resolutions: Sequence[int]) -> dict[int, int]:
    """Number of layers by resolution: [4, 8, 8] -> {4: 1, 8: 2}."""
    return {r: list(noise_resolutions).count(r) for r in sorted(set(noise_resolutions))}


def draw_noise(counts: dict[int, int], rng: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """N(0, I) maps of one image, [n, r, r] per resolution, coarse to fine."""
    return [torch.randn(n, r, r, generator=rng, dtype=dtype) for r, n in counts.items()]


def by_layer(maps: Sequence[Tensor]) -> list[Tensor]:
    """[B, n, r, r] per resolution -> [B, 1, r, r] per layer, the form that synthesis takes."""
    return [layer for stack in maps for layer in stack.split(1, dim=1)]


def autocorrelation_penalty(maps: Sequence[Tensor]) -> Tensor:
    """Sum of L_ij over maps i and scales j, for each image: [B, n, r, r] per resolution -> [B].

    L_ij = (mean n(x, y) n(x - 1, y))^2 + (mean n(x, y) n(x, y - 1))^2 with circular shifts. Each map above 8x8 also
    counts at every scale down to 8x8, by 2x2 means times 2, which keep unit variance.
    """
    penalty = maps[0].new_zeros(len(maps[0]))
    finer: Tensor | None = None  # all maps of the next finer resolution, averaged ones included
    for stack in reversed(maps):
        if finer is not None:
            stack = torch.cat([F.avg_pool2d(finer, 2) * 2, stack], dim=1)
        penalty = penalty + _squared_autocorrelations(stack)
        finer = stack if stack.shape[-1] > SMALLEST else None
    return penalty


def _squared_autocorrelations(stack: Tensor) -> Tensor:
    """[B, n, r, r] -> [B], the sum over the maps."""
    horizontal = (stack * stack.roll(1, dims=3)).mean([2, 3])
    vertical = (stack * stack.roll(1, dims=2)).mean([2, 3])
    return (horizontal.square() + vertical.square()).sum(1)


@torch.no_grad()
def renormalize_(maps: Sequence[Tensor]) -> None:
    """Bring every map of every image to zero mean and unit variance, in place."""
    for stack in maps:
        stack.sub_(stack.mean([2, 3], keepdim=True))
        stack.mul_(stack.square().mean([2, 3], keepdim=True).rsqrt_())
