"""Re-rendering: what a stored w and its noise maps give, measured as the projector measures its results."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attribution.engine import Candidate
from attribution.evidence_files import StoredProjection
from attribution.noise import by_layer, draw_noise, layer_resolutions
from attribution.search import TOGETHER, for_lpips
from attribution.similarity import mean_squared_error, structural_similarity
from generator import LPIPS
from generator.images import to_pixels, to_unit


@dataclass(frozen=True)
class Measured:
    """A re-rendering: uint8 [r, r, 3] pixels, and the numbers of `Projection`."""

    pixels: np.ndarray
    lpips: float
    lpips_per_layer: list[float]
    lpips_start: float
    mse: float
    ssim: float


@torch.no_grad()
def rerender(
    candidate: Candidate, projections: Sequence[StoredProjection], targets: np.ndarray, lpips: LPIPS
) -> list[Measured]:
    """Make the images of stored projections again and measure them against their targets uint8 [B, r, r, 3].

    The batch is filled up as `project` fills it, so that the same machine gives the same bits.
    """
    G = candidate.generator
    device = G.mapping.w_avg.device
    filled = [*range(len(projections)), *[0] * (-len(projections) % TOGETHER)]
    rows = [projections[i] for i in filled]
    goals = to_unit(targets[filled]).to(device)
    features = lpips.features(for_lpips(goals))
    w = torch.stack([row.w for row in rows]).to(device)
    noise = [torch.stack(maps)[:, None].to(device) for maps in zip(*(row.noise for row in rows), strict=True)]
    images = G.synthesis(w, noise=noise)
    per_layer = lpips.per_layer(for_lpips(images), features)
    mean = candidate.statistics.mean.to(goals).repeat(len(rows), 1)
    at_start = G.synthesis(mean, noise=_first_noise(candidate, rows))
    start = lpips.per_layer(for_lpips(at_start), features).sum(1)
    mse, ssim = mean_squared_error(images, goals), structural_similarity(images, goals)
    pixels = to_pixels(images)
    return [
        Measured(
            pixels=pixels[i],
            lpips=per_layer[i].sum().item(),
            lpips_per_layer=per_layer[i].tolist(),
            lpips_start=start[i].item(),
            mse=mse[i].item(),
            ssim=ssim[i].item(),
        )
        for i in range(len(projections))
    ]


def _first_noise(candidate: Candidate, rows: Sequence[StoredProjection]) -> list[Tensor]:
    """The noise maps that each search began with, drawn from its seed."""
    G = candidate.generator
    counts = layer_resolutions([layer.resolution for layer in G.synthesis.layers])
    drawn = [draw_noise(counts, torch.Generator().manual_seed(row.seed), torch.float32) for row in rows]
    return by_layer([torch.stack(stack).to(G.mapping.w_avg.device) for stack in zip(*drawn, strict=True)])
