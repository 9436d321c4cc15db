"""The projector of StyleGAN2, section 5 and Appendix D: search W and the noise maps for an image.

Batched over images, independent per image: every sum, statistic and random draw belongs to one image, so that a
projection depends on nothing but its pixels, the generator, the settings and its seed.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.noise import by_layer
from attribution.schedules import ProjectionConfig
from attribution.search import Batch, LatentStatistics, Searcher, begin
from generator import LPIPS, Generator
from generator.encoder import Encoder

W_SAMPLES = 10_000
HISTORY_POINTS = 64


@dataclass(frozen=True)
class Projection:
    """What was found for one image.

    w [w_dim]; noise: one map [r, r] per layer; image [3, H, W], the float synthesis of both, without w noise;
    lpips: its distance to the target, the sum of lpips_per_layer; lpips_start: the distance at w = mu_w;
    mse, ssim: of the images in [-1, 1]; history: (step, LPIPS) along the search, with w noise; checkpoints: (steps,
    LPIPS) on the way, without.
    """

    w: Tensor
    noise: tuple[Tensor, ...]
    image: Tensor
    lpips: float
    lpips_per_layer: tuple[float, ...]
    lpips_start: float
    mse: float
    ssim: float
    steps: int
    seed: int
    history: tuple[tuple[int, float], ...]
    checkpoints: tuple[tuple[int, float], ...] = ()


@torch.no_grad()
def latent_statistics(G: Generator, label: int | None = None) -> LatentStatistics:
    """mu_w and sigma_w over 10,000 mapped latent codes of seed 0 (Appendix D).

    label: of a conditional generator, None draws labels uniformly. Raises ValueError for a label that G lacks.
    """
    if label is not None and not 0 <= label < G.c_dim:
        raise ValueError(f"label: found {label}, expected none or a class below {G.c_dim}")
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(W_SAMPLES, G.z_dim, generator=rng).to(G.mapping.w_avg)
    c = None
    if G.c_dim:
        labels = torch.randint(G.c_dim, [W_SAMPLES], generator=rng) if label is None else torch.full([W_SAMPLES], label)
        c = F.one_hot(labels, G.c_dim).to(z)
    w = G.mapping.map(z, c)
    mean = w.mean(0, keepdim=True)
    return LatentStatistics(mean, sqrt((w - mean).square().sum(1).mean().item()))


def image_seed(run_seed: int, pixels_sha256: str) -> int:
    """The seed of one image's projection: from the run's seed and the pixels, whatever the order of files."""
    return int(hashlib.sha256(f"{run_seed}:{pixels_sha256}".encode()).hexdigest()[:15], 16)


def project(
    G: Generator,
    targets: Tensor,
    *,
    config: ProjectionConfig,
    lpips: LPIPS,
    seeds: Sequence[int],
    statistics: LatentStatistics | None = None,
    encoder: Encoder | None = None,
    checkpoints: Sequence[int] = (),
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Projection]:
    """Project targets [B, 3, H, W] in [-1, 1] into G; seeds: one per image; on_step is called after each step.

    statistics: of G, where they are at hand already. encoder: of G; its w is where the search begins, instead of mu_w.
    checkpoints: numbers of steps after which the distance is measured on the way, which changes nothing else. Raises
    ValueError for targets of another size than G's images.
    """
    expected = (3, G.resolution, G.resolution)
    if targets.ndim != 4 or targets.shape[1:] != expected or len(seeds) != len(targets):
        raise ValueError(
            f"targets: found {tuple(targets.shape)} and {len(seeds)} seeds, expected [B, *{expected}] and B"
        )
    searcher = Searcher(G, config, lpips, statistics or latent_statistics(G), encoder)
    batch = begin(searcher, targets, seeds)
    batch.advance(config.steps, checkpoints, on_step)
    return results(batch)


def results(batch: Batch) -> list[Projection]:
    """What the searches of a batch have found so far."""
    projections = []
    for state, rendered in zip(batch.present_states(), batch.render(), strict=True):
        last = state.steps - 1
        points = sorted({round(j * last / (HISTORY_POINTS - 1)) for j in range(HISTORY_POINTS)})
        projections.append(
            Projection(
                w=state.w.cpu(),
                noise=tuple(layer[0, 0].cpu() for layer in by_layer([maps[None] for maps in state.noise])),
                image=rendered.image.cpu(),
                lpips=rendered.lpips,
                lpips_per_layer=tuple(rendered.per_layer.tolist()),
                lpips_start=state.start,
                mse=rendered.mse,
                ssim=rendered.ssim,
                steps=state.steps,
                seed=state.seed,
                history=tuple((step, state.losses[step].item()) for step in points),
                checkpoints=state.checkpoints,
            )
        )
    return projections
