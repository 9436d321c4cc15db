"""Mapping network f: z -> w, with the running mean of w and the truncation trick (StyleGAN, sections 2 and B)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from generator.layers import EqualizedLinear, normalize_second_moment


class MappingNetwork(nn.Module):
    """Map latent codes z (and class labels c) to the intermediate latent space W."""

    w_avg: Tensor

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_ws: int, num_layers: int, lr_multiplier: float = 0.01):
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.embed = EqualizedLinear(c_dim, w_dim) if c_dim else None
        widths = [z_dim + (w_dim if c_dim else 0)] + [w_dim] * num_layers
        self.layers = nn.ModuleList(
            EqualizedLinear(i, o, act="lrelu", lr_multiplier=lr_multiplier) for i, o in pairwise(widths)
        )
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """[B, z_dim] -> [B, num_ws, w_dim].

        c: [B, c_dim] one-hot labels, needed where c_dim > 0. truncation_psi: 1 leaves w, 0 gives w_avg;
        truncation_cutoff: only the first so many of num_ws are truncated, None means all.
        Raises ValueError for z or c of another shape.
        """
        w = self.broadcast(self.map(z, c))
        if truncation_psi == 1:
            return w
        truncated = self.w_avg.lerp(w, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], w[:, truncation_cutoff:]], dim=1)

    def map(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """[B, z_dim] -> [B, w_dim], one w an image, untruncated."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z: found shape {tuple(z.shape)}, expected [B, {self.z_dim}]")
        x = normalize_second_moment(z)
        if self.embed is not None:
            if c is None or c.shape != (len(z), self.c_dim):
                found = None if c is None else tuple(c.shape)
                raise ValueError(f"c: found {found}, expected labels of shape ({len(z)}, {self.c_dim})")
            x = torch.cat([x, normalize_second_moment(self.embed(c))], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x

    def broadcast(self, w: Tensor) -> Tensor:
        """[B, w_dim] -> [B, num_ws, w_dim], the same w for every layer."""
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)
