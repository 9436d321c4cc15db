"""Perceptual path length: how far an image moves, as LPIPS sees it, for a small step in W."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generator.lpips import LPIPS
from generator.networks import Generator
from generator.sampling import derive_seed

EPSILON = 1e-4
LARGEST = 256  # LPIPS sees larger images reduced to this
BATCH = 8


@torch.no_grad()
def perceptual_path_lengths(G: Generator, n: int, seed: int, epsilon: float = EPSILON) -> np.ndarray:
    """PPL of n samples of a generator, float64 [n]; their mean is the generator's (StyleGAN2, section 3.2 and Table 1).

    LPIPS-VGG between the images at w and at lerp(w, w', epsilon), over epsilon^2: path endpoints in W, both ends of the
    step with the same noise, label and full image, no sample left out. (Public figures often leave out the lowest and
    highest percent.) float32 costs a sample about one percent and their mean less. Sample i depends on (seed, i) alone.
    """
    device = G.mapping.w_avg.device
    lpips = LPIPS("vgg").to(device)
    chunks = []
    for first in range(0, n, BATCH):
        rngs = [torch.Generator().manual_seed(derive_seed("ppl", seed, i)) for i in range(first, min(first + BATCH, n))]
        w, other, noise = _draw(G, rngs, device)
        start = _seen(G.synthesis(w, noise=noise))
        end = _seen(G.synthesis(torch.lerp(w, other, epsilon), noise=noise))
        chunks.append(lpips(start, end).cpu().double().numpy() / epsilon**2)
    return np.concatenate(chunks) if chunks else np.empty(0)


def _draw(G: Generator, rngs: list[torch.Generator], device: torch.device) -> tuple[Tensor, Tensor, list[Tensor]]:
    """One path per random generator: w [B, num_ws, w_dim], the w' it leads to, and noise maps."""
    z = torch.cat([torch.randn(1, 2, G.z_dim, generator=rng) for rng in rngs]).to(device)
    c = None
    if G.c_dim:
        labels = torch.cat([torch.randint(G.c_dim, [1], generator=rng) for rng in rngs])
        c = F.one_hot(labels, G.c_dim).float().to(device)
    per_image = [G.synthesis.noise_maps("random", 1, rng) for rng in rngs]
    noise = [torch.cat(maps).to(device) for maps in zip(*per_image, strict=True)]
    return G.mapping(z[:, 0], c), G.mapping(z[:, 1], c), noise


def _seen(images: Tensor) -> Tensor:
    return F.interpolate(images, size=(LARGEST, LARGEST), mode="area") if images.shape[2] > LARGEST else images
