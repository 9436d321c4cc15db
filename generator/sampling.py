"""Seeded samples of a generator: image i depends on its seed alone, never on its batch mates."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from generator.images import to_pixels
from generator.networks import Generator

BATCH = 16


def derive_seed(*parts: str | int) -> int:
    """A seed below 2^60 from any names and numbers; different parts give independent seeds."""
    return int(hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()[:15], 16)


@torch.no_grad()
def sample_images(
    G: Generator, seeds: Sequence[int], psi: float = 1.0, noise: str = "random", label: int | None = None
) -> np.ndarray:
    """One image per seed: uint8 [N, r, r, 3]. psi: truncation; noise: "random" (seeded), "const" or "none".

    A conditional generator gets this label, or for None one drawn uniformly from the same seed. Seeds are below 2^63.
    Raises ValueError for a label that the generator doesn't have.
    """
    if label is not None and not 0 <= label < G.c_dim:
        expected = f"a class from 0 to {G.c_dim - 1}" if G.c_dim else "none: the generator is not conditional"
        raise ValueError(f"label: found {label}, expected {expected}")
    device = G.mapping.w_avg.device
    chunks = []
    for first in range(0, len(seeds), BATCH):
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds[first : first + BATCH]]
        z = torch.cat([torch.randn(1, G.z_dim, generator=rng) for rng in rngs])
        c = None
        if G.c_dim:
            labels = torch.cat([torch.randint(G.c_dim, [1], generator=rng) for rng in rngs])
            labels = labels if label is None else torch.full_like(labels, label)
            c = F.one_hot(labels, G.c_dim).float().to(device)
        ws = G.mapping(z.to(device), c, truncation_psi=psi)
        maps = noise if noise != "random" else _noise_of(G, rngs, device)
        chunks.append(to_pixels(G.synthesis(ws, noise=maps)))
    return np.concatenate(chunks) if chunks else np.empty((0, G.resolution, G.resolution, 3), np.uint8)


def _noise_of(G: Generator, rngs: Sequence[torch.Generator], device: torch.device) -> list[torch.Tensor]:
    per_image = [G.synthesis.noise_maps("random", 1, rng) for rng in rngs]
    return [torch.cat(maps).to(device) for maps in zip(*per_image, strict=True)]
