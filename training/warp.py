"""Geometry of the augmentations: one accumulated 3x3 matrix per image, one antialiased resampling (ADA, Appendix B)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import setup_filter, upfirdn2d
from training.wavelets import SYM6

TAPS = len(SYM6)
# the outputs' low-pass filter reaches TAPS / 2 - 1 samples, of half a pixel, beyond the image
REACH = (TAPS // 2 - 1) / 2
# sym6 is lopsided: its centre, sum n h[n] / sum h[n], is tap 5.1, not 5.5. So a sample at twice the resolution shows
# what lies half a sample, a quarter of a pixel, ahead of its place: without this a flip would move the image by 0.4
LAG = 0.25


def translation(x: Tensor, y: Tensor) -> Tensor:
    """[B], [B] in pixels -> [B, 3, 3]."""
    matrix = torch.eye(3, device=x.device, dtype=x.dtype).repeat(len(x), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """[B], [B] factors -> [B, 3, 3]."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def rotation(angle: Tensor) -> Tensor:
    """[B] in radians, from the x axis towards the y axis -> [B, 3, 3]."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [torch.stack(row, 1) for row in ([cos, -sin, zero], [sin, cos, zero], [zero, zero, zero + 1])]
    return torch.stack(rows, 1)


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Move every point p of an image to M p; sampled at twice the resolution so that nothing aliases.

    images: [B, C, H, W], float32 or float64; inverse: [B, 3, 3], M^-1 in pixels from the centre of the image, x to the
    right and y down. The plane beyond the image is tiled with its reflections (ADA, Appendix C.5.2). Whole-pixel
    translations, and so the identity, are exact up to rounding: sym6 is orthogonal to its even shifts. Differentiable
    in images. Raises ValueError for images of fewer than 2 x 2 pixels.
    """
    height, width = images.shape[2:]
    low_pass = setup_filter(SYM6).to(images.device)
    images = images.contiguous()  # few channels: what follows would copy, and back, images that are 17 times as large
    x = reflect(images, *_margins(inverse, width, height))
    x = upfirdn2d(x, low_pass, up=2, padding=[TAPS // 2, TAPS // 2 - 1] * 2, gain=4)
    grid = _grid(inverse.to(images.dtype), (height, width), x.shape[2:])
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return upfirdn2d(x, low_pass, down=2, flip_filter=True)


def reflect(images: Tensor, x: int, y: int) -> Tensor:
    """Continue [B, C, H, W] by x and y pixels beyond its borders by reflection, again and again where it is smaller.

    Raises ValueError for images of fewer than 2 x 2 pixels, which have nothing to reflect.
    """
    if min(images.shape[2:]) < 2:
        raise ValueError(f"images: found {images.shape[2]} x {images.shape[3]} pixels, expected at least 2 x 2")
    while x or y:
        step_x, step_y = min(x, images.shape[3] - 1), min(y, images.shape[2] - 1)
        images = F.pad(images, [step_x, step_x, step_y, step_y], mode="reflect")
        x, y = x - step_x, y - step_y
    return images


def _margins(inverse: Tensor, width: int, height: int) -> tuple[int, int]:
    """Pixels beyond each border that a batch looks at, filter support included; half an image (see _grid) at most."""
    half = inverse.new_tensor([width / 2 + REACH, height / 2 + REACH])
    seen = (inverse[:, :2, :2].abs() @ half + inverse[:, :2, 2].abs()).amax(0).tolist()
    support = TAPS // 4 + 1
    pads = [math.ceil(min(seen[i], size - 1) - size / 2) + support for i, size in enumerate((width, height))]
    return max(pads[0], 0), max(pads[1], 0)


def _grid(inverse: Tensor, size: tuple[int, int], source: torch.Size) -> Tensor:
    """Where, in the padded image at twice the resolution, the outputs' samples lie: [B, h, w, 2] in [-1, 1]."""
    height, width = size
    first = 0.25 - REACH + LAG
    x, y = (((torch.arange(2 * (n + 2 * REACH)) - n) / 2 + first).to(inverse) for n in (width, height))
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    seen = inverse[:, :2, :2] @ points.flatten(1) + inverse[:, :2, 2:]
    seen = seen.reshape(len(inverse), 2, len(y), len(x)).permute(0, 2, 3, 1)
    # the tiling repeats itself every 2 (size - 1) pixels: look at the period in the middle, no more of it is padded
    period = seen.new_tensor([2 * (width - 1), 2 * (height - 1)])
    seen = seen - period * (seen / period).round()
    # pixels -> grid_sample's units: half the padded image is 1; the padded image has the same centre
    return (seen - LAG) * 4 / seen.new_tensor([source[1], source[0]])
