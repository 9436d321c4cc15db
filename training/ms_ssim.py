"""Multi-scale structural similarity (Wang et al. 2003): how alike generated images are among themselves."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first
WINDOW, DEVIATION = 11, 1.5  # of the Gaussian, in pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SMALLEST = 2 ** (len(WEIGHTS) - 1)
PAIRS = 16  # in memory at once


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Similarity of pairs of images: uint8 [N, H, W, 3], [N, H, W, 3] -> float64 [N], 1 for equal images.

    Scales that are smaller than the window of 11 pixels get a window of their own size with a deviation in proportion,
    as Progressive GAN's figures at 128x128 need it too. Raises ValueError for other shapes, or a side below 16.
    """
    if a.shape != b.shape or a.ndim != 4 or a.shape[3] != 3 or min(a.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"ms_ssim: found images of shapes {a.shape} and {b.shape}, expected equal ones [N, H, W, 3] of at least "
            f"{SMALLEST} pixels"
        )
    chunks = [_similarity(_planes(a[i : i + PAIRS]), _planes(b[i : i + PAIRS])) for i in range(0, len(a), PAIRS)]
    return np.concatenate([chunk.numpy() for chunk in chunks]) if chunks else np.empty(0)


def _planes(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> float64 [N, 3, H, W]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float64)


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """The product over scales of contrast and structure, at the coarsest one of luminance too (eq. 7) -> [N]."""
    result = torch.ones(len(x), dtype=x.dtype)
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        luminance, contrast_structure = _ssim_factors(x, y)
        factor = contrast_structure * luminance if scale == len(WEIGHTS) - 1 else contrast_structure
        result *= factor.mean([1, 2, 3]).clamp(min=0) ** weight  # a negative correlation has no such power
    return result


def _ssim_factors(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, wherever the window lies inside the image (Wang et al. 2004, eq. 13)."""
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (var_x + var_y + C2)


def _blur(x: Tensor) -> Tensor:
    size = min(WINDOW, *x.shape[2:])
    places = torch.arange(size, dtype=x.dtype) - (size - 1) / 2
    window = torch.exp(-0.5 * (places / (DEVIATION * size / WINDOW)) ** 2)
    window = (window / window.sum()).expand(x.shape[1], 1, size)
    across = F.conv2d(x, window.unsqueeze(2), groups=x.shape[1])
    return F.conv2d(across, window.unsqueeze(3), groups=x.shape[1])
