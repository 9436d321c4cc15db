"""Plain image similarities that the report shows beside LPIPS."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_squared_error(images: Tensor, targets: Tensor) -> Tensor:
    """[B, 3, H, W] in [-1, 1], twice -> [B]; images are clipped to [-1, 1] first."""
    return (images.clamp(-1, 1) - targets).square().mean([1, 2, 3])


def structural_similarity(images: Tensor, targets: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004): 11x11 Gaussian window of deviation 1.5, valid region, mean over channels -> [B].

    [B, 3, H, W] in [-1, 1], twice; the window shrinks for images below 11 pixels.
    """
    images = images.clamp(-1, 1)
    size = min(11, images.shape[-1] - 1 + images.shape[-1] % 2)
    x = torch.arange(size, dtype=images.dtype, device=images.device) - size // 2
    window = torch.exp(-x.square() / (2 * 1.5**2))
    window = torch.outer(window, window) / window.sum() ** 2
    moments = torch.cat([images, targets, images * images, targets * targets, images * targets], dim=1)
    kernel = window.expand(moments.shape[1], 1, size, size)
    mean_x, mean_y, xx, yy, xy = F.conv2d(moments, kernel, groups=moments.shape[1]).chunk(5, dim=1)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the range of values is 2
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    ssim = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return ssim.mean([1, 2, 3])
