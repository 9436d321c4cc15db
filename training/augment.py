"""Adaptive discriminator augmentation: the pipeline of 18 transformations, and the controller of its strength p.

Karras et al. 2020 (ADA), section 3 and Appendix B. Everything that D sees, real or generated, passes through `augment`;
each transformation happens to an image with probability p, independently, which keeps it from leaking into G.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.warp import reflect, rotation, scaling, translation, warp
from training.wavelets import band_filters

CATEGORIES = ("blit", "geometry", "colour", "filter", "noise", "cutout")
BGC = ("blit", "geometry", "colour")  # what the published experiments use
LUMA = torch.tensor([1.0, 1.0, 1.0, 0.0]) / math.sqrt(3)
BAND_POWER = torch.tensor([10.0, 1.0, 1.0, 1.0]) / 13  # expected power of natural images per band


def augment(
    images: Tensor,
    p: float,
    rng: torch.Generator,
    categories: Sequence[str] = BGC,
    rows: Tensor | None = None,
    whole: int = 0,
) -> Tensor:
    """Transform each image [B, 3, H, W] in [-1, 1] at random, with strength p in [0, 1].

    rows, whole: the images are these [B] of a batch of `whole`, whose random numbers are drawn in full, so that an
    image's transformation does not depend on how the batch is divided.

    A stage that happens to no image of the batch is left out, so that p = 0 is the identity to the bit. Differentiable
    in images. rng is on the images' device. Raises ValueError for images of another form or of fewer than 2 x 2 pixels,
    an unknown category, or a p outside [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 2 or not images.is_floating_point():
        found = f"{images.dtype} of shape {tuple(images.shape)}"
        raise ValueError(f"images: found {found}, expected floating point [B, 3, H, W] of at least 2 x 2 pixels")
    unknown = [name for name in categories if name not in CATEGORIES]
    if unknown:
        raise ValueError(f"categories: found {unknown[0]!r}, expected some of {', '.join(CATEGORIES)}")
    if not 0 <= p <= 1:
        raise ValueError(f"p: found {p}, expected a probability")
    if p == 0:
        return images
    draw = _Draw(len(images), p, rng, rows, whole)
    if "blit" in categories or "geometry" in categories:
        inverse = geometry_inverse(draw, images.shape[3], images.shape[2], categories)
        if not _is_identity(inverse):
            images = warp(images, inverse)
    if "colour" in categories:
        images = apply_colour(images, colour_matrix(draw))
    if "filter" in categories:
        images = apply_bands(images, band_gains(draw))
    if "noise" in categories:
        images = add_noise(images, draw)
    if "cutout" in categories:
        images = apply_cutout(images, cutout_mask(draw, *images.shape[2:]))
    return images


def _is_identity(matrices: Tensor) -> bool:
    return torch.equal(matrices, torch.eye(matrices.shape[-1], device=matrices.device).expand_as(matrices))


class _Draw:
    """Random parameters of one batch: each with its own gate per image, the identity where the gate is closed."""

    def __init__(self, batch: int, p: float, rng: torch.Generator, rows: Tensor | None = None, whole: int = 0):
        self.batch, self.p, self.rng = batch, p, rng
        self.rows, self.whole = rows, whole if rows is not None else batch

    def uniform(self, low: float = 0, high: float = 1) -> Tensor:
        return self._part(torch.rand(self.whole, generator=self.rng, device=self.rng.device)) * (high - low) + low

    def normal(self, std: float, *shape: int) -> Tensor:
        return self._part(torch.randn(self.whole, *shape, generator=self.rng, device=self.rng.device)) * std

    def integer(self, n: int) -> Tensor:
        return self._part(torch.randint(n, [self.whole], generator=self.rng, device=self.rng.device)).float()

    def _part(self, drawn: Tensor) -> Tensor:
        return drawn if self.rows is None else drawn[self.rows]

    def gated(self, value: Tensor, identity: float, p: float | None = None) -> Tensor:
        gate = self.uniform() < (self.p if p is None else p)
        return torch.where(gate, value, torch.full_like(value, identity))


def geometry_inverse(draw: _Draw, width: int, height: int, categories: Sequence[str]) -> Tensor:
    """M^-1 of blitting and geometry, first transformation first: [B, 3, 3], M = T_n ... T_2 T_1."""
    inverse = torch.eye(3, device=draw.rng.device).repeat(draw.batch, 1, 1)
    if "blit" in categories:
        inverse = inverse @ scaling(1 - 2 * draw.gated(draw.integer(2), 0), torch.ones_like(inverse[:, 0, 0]))
        inverse = inverse @ rotation(draw.gated(draw.integer(4), 0) * -(math.pi / 2)).round()
        gate = draw.gated(torch.ones_like(inverse[:, 0, 0]), 0)  # one gate for x and y
        x, y = (draw.uniform(-0.125, 0.125) * size for size in (width, height))
        inverse = inverse @ translation(-x.round() * gate, -y.round() * gate)
    if "geometry" in categories:
        p_rot = 1 - math.sqrt(1 - draw.p)  # either rotation happens with probability p
        scale = draw.gated(2 ** draw.normal(0.2), 1)
        inverse = inverse @ scaling(1 / scale, 1 / scale)
        inverse = inverse @ rotation(-draw.gated(draw.uniform(-math.pi, math.pi), 0, p_rot))
        scale = draw.gated(2 ** draw.normal(0.2), 1)
        inverse = inverse @ scaling(1 / scale, scale)
        inverse = inverse @ rotation(-draw.gated(draw.uniform(-math.pi, math.pi), 0, p_rot))
        gate = draw.gated(torch.ones_like(scale), 0)
        x, y = (draw.normal(0.125) * size for size in (width, height))
        inverse = inverse @ translation(-x * gate, -y * gate)
    return inverse


def colour_matrix(draw: _Draw) -> Tensor:
    """The colour transformations in homogeneous RGB, accumulated: [B, 4, 4]."""
    luma = LUMA.to(draw.rng.device)
    onto_luma = torch.outer(luma, luma)
    eye = torch.eye(4, device=luma.device)
    brightness = draw.gated(draw.normal(0.2), 0)
    matrix = eye.repeat(draw.batch, 1, 1)
    matrix[:, :3, 3] = brightness[:, None]
    contrast = draw.gated(2 ** draw.normal(0.5), 1)
    matrix = torch.diag_embed(torch.stack([contrast] * 3 + [torch.ones_like(contrast)], 1)) @ matrix
    flip = draw.gated(draw.integer(2), 0)
    matrix = (eye - 2 * onto_luma * flip[:, None, None]) @ matrix
    matrix = _hue_rotation(draw.gated(draw.uniform(-math.pi, math.pi), 0)) @ matrix
    saturation = draw.gated(2 ** draw.normal(1), 1)[:, None, None]
    colour = torch.diag(torch.tensor([1.0, 1, 1, 0], device=luma.device)) - onto_luma
    unscaled = torch.diag(torch.tensor([0.0, 0, 0, 1], device=luma.device))
    return (onto_luma + colour * saturation + unscaled) @ matrix


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotation of RGB about the luma axis (Rodrigues' formula): [B] -> [B, 4, 4]."""
    v = LUMA[:3].to(angle.device)
    cross = torch.linalg.cross(v.expand(3, 3), torch.eye(3, device=angle.device), dim=1).T  # cross @ x = v x x
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    matrix = torch.eye(4, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, :3, :3] = torch.eye(3, device=angle.device) * cos + cross * sin + torch.outer(v, v) * (1 - cos)
    return matrix


def apply_colour(images: Tensor, matrix: Tensor) -> Tensor:
    """[B, 3, H, W], [B, 4, 4] -> [B, 3, H, W]; the identity leaves the images alone."""
    if _is_identity(matrix):
        return images
    matrix = matrix.to(images.dtype)
    pixels = torch.baddbmm(matrix[:, :3, 3:], matrix[:, :3, :3], images.flatten(2))
    return pixels.reshape(images.shape)


def band_gains(draw: _Draw) -> Tensor:
    """Gain of each frequency band: [B, 4]. To amplify one band scales all, to keep the power expected of an image."""
    power = BAND_POWER.to(draw.rng.device)
    gains = torch.ones(draw.batch, 4, device=power.device)
    for band in range(4):
        gain = torch.ones_like(gains)
        gain[:, band] = draw.gated(2 ** draw.normal(1), 1)
        gains = gains * gain / (gain.square() @ power).sqrt()[:, None]
    return gains


def apply_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Amplify the bands of each image [B, 3, H, W] along both axes, continued by reflection; ones leave it alone."""
    if torch.equal(gains, torch.ones_like(gains)):
        return images
    batch, channels, height, width = images.shape
    taps = (gains.to(images.dtype) @ band_filters().to(images)).repeat_interleave(channels, 0)
    margin = taps.shape[1] // 2
    x = reflect(images, margin, margin).reshape(1, batch * channels, height + 2 * margin, width + 2 * margin)
    x = F.conv2d(x, taps[:, None, None, :], groups=batch * channels)
    return F.conv2d(x, taps[:, None, :, None], groups=batch * channels).reshape(images.shape)


def add_noise(images: Tensor, draw: _Draw) -> Tensor:
    """Add white RGB noise of a random strength per image."""
    sigma = draw.gated(draw.normal(0.1).abs(), 0)
    noise = draw.normal(1, *images.shape[1:])  # drawn in any case: what is drawn later must not depend on sigma
    if not sigma.any():
        return images
    return images + (noise * sigma[:, None, None, None]).to(images.dtype)


def cutout_mask(draw: _Draw, height: int, width: int) -> Tensor:
    """0 in a rectangle of half the width and height about a random centre, else 1: [B, 1, H, W]."""
    size = draw.gated(torch.full([draw.batch], 0.5, device=draw.rng.device), 0)[:, None, None, None]
    x_centre, y_centre = draw.uniform()[:, None, None, None], draw.uniform()[:, None, None, None]
    x = ((torch.arange(width, device=size.device) + 0.5) / width).reshape(1, 1, 1, -1)
    y = ((torch.arange(height, device=size.device) + 0.5) / height).reshape(1, 1, -1, 1)
    inside = ((x - x_centre).abs() < size / 2) & ((y - y_centre).abs() < size / 2)
    return 1 - inside.float()


def apply_cutout(images: Tensor, mask: Tensor) -> Tensor:
    """[B, 3, H, W], [B, 1, H, W] of 0 and 1 -> [B, 3, H, W], 0 where the mask is; ones leave the images alone."""
    return images if mask.all() else images * mask.to(images.dtype)


def adjust_p(p: float, r_t: float, images: int, target: float, ramp_kimg: float) -> float:
    """The controller: p after `images` more real images, for which r_t = E[sign(D(real))] was found (ADA, section 3).

    It rises where r_t is above the target and falls otherwise, at the rate that leads from 0 to 1 in ramp_kimg thousand
    images; it stays in [0, 1].
    """
    step = images / (ramp_kimg * 1000)
    return min(max(p + (step if r_t > target else -step), 0.0), 1.0)
