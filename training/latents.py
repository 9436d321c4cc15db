"""What a batch of generated images is made from, drawn for the whole batch so that any part can make its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.networks import Generator, mix_styles


@dataclass(frozen=True)
class Latents:
    """codes: one [B, z_dim], or two with the layer from which the second one's style counts (StyleGAN, section 3.1).

    labels: [B, c_dim] or None; noise: one map [B, 1, r, r] a layer.
    """

    codes: Sequence[Tensor]
    labels: Tensor | None
    crossover: int
    noise: Sequence[Tensor]

    def ws(self, G: Generator, rows: Tensor) -> Tensor:
        """w of these images [rows, num_ws, w_dim]."""
        c = self.labels_of(rows)
        ws, *others = (G.mapping(z[rows], c) for z in self.codes)
        return mix_styles(ws, others[0], self.crossover) if others else ws

    def images(self, G: Generator, ws: Tensor, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """These images [rows, 3, r, r] from their w; dtype: see SynthesisNetwork."""
        return G.synthesis(ws, noise=[noise[rows] for noise in self.noise], dtype=dtype)

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """The labels of these images."""
        return None if self.labels is None else self.labels[rows]


def draw_latents(G: Generator, batch: int, style_mixing: float, rng: torch.Generator) -> Latents:
    """Draw what makes a batch, but for labels; with probability `style_mixing` all of its images mix two styles."""
    z = torch.randn(2 if style_mixing else 1, batch, G.z_dim, generator=rng, device=rng.device)
    crossover = 0
    if style_mixing and torch.rand([], generator=rng, device=rng.device) < style_mixing:
        crossover = int(torch.randint(1, G.num_ws, [], generator=rng, device=rng.device))
    codes = z.unbind() if crossover else z[:1].unbind()
    noise = [m for m in G.synthesis.noise_maps("random", batch, rng) if m is not None]
    return Latents(codes, None, crossover, noise)
