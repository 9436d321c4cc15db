"""Sliced Wasserstein distance of image patches at every level of a Laplacian pyramid (Progressive GAN, section 5)."""

import cv2
import numpy as np

LOWEST = 16  # side of the pyramid's low-pass level
PATCH = 7
PATCHES = 128  # of one image and level
PROJECTIONS = 512
MOST = 16384  # images
BLOCK = 32  # projections that are in memory at once


def sliced_wasserstein(images_a: np.ndarray, images_b: np.ndarray, seed: int) -> dict[int, float]:
    """Distance of two sets of images by the side of the pyramid's level, finest first; times 1000, as in Table 1.

    images: uint8 [N, r, r, 3]; of both sets as many are drawn, at most 16384. What is drawn depends on the seed.
    Raises ValueError for other shapes, empty sets, or a side that is not a power of two of at least 8.
    """
    side = images_a.shape[1] if images_a.ndim == 4 else 0
    if (
        side < 8
        or side & (side - 1)
        or any(x.ndim != 4 or x.shape[1:] != (side, side, 3) for x in (images_a, images_b))
    ):
        raise ValueError(
            f"swd: found images of shapes {images_a.shape} and {images_b.shape}, expected [N, r, r, 3] with r a power "
            "of two of at least 8"
        )
    n = min(len(images_a), len(images_b), MOST)
    if not n:
        raise ValueError("swd: found no images, expected at least one in each set")
    draw = np.random.default_rng([seed, 0])
    images_a, images_b = (x[np.sort(draw.permutation(len(x))[:n])] for x in (images_a, images_b))
    distances = {}
    for level, size in enumerate(level_sizes(side)):
        rng = np.random.default_rng([seed, 1, level])
        a, b = (normalized(descriptors(images, level, rng)) for images in (images_a, images_b))
        distances[size] = 1000 * sliced_distance(a, b, rng)
    return distances


def level_sizes(side: int) -> list[int]:
    """Sides of the pyramid's levels, finest first, down to 16 (or to the image, where that is smaller)."""
    sizes = [side]
    while sizes[-1] > LOWEST:
        sizes.append(sizes[-1] // 2)
    return sizes


def laplacian_level(image: np.ndarray, level: int) -> np.ndarray:
    """One level of an image's Laplacian pyramid: uint8 [r, r, 3] -> float32 [r / 2^level, r / 2^level, 3].

    The difference to the upsampled next level; the lowest level is the low-pass image itself. Filters: 1 4 6 4 1 over
    16 in both directions (Burt & Adelson 1983), OpenCV's.
    """
    current: np.ndarray = image.astype(np.float32)
    for _ in range(level):
        current = cv2.pyrDown(current)
    if len(current) <= LOWEST:
        return current
    return current - cv2.pyrUp(cv2.pyrDown(current))


def descriptors(images: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """128 random patches of 7x7 of each image at one level: uint8 [N, r, r, 3] -> float32 [N * 128, 49, 3]."""
    patches = np.empty((len(images), PATCHES, PATCH, PATCH, 3), np.float32)
    for i, image in enumerate(images):
        pixels = laplacian_level(image, level)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(0, 1))
        rows, columns = rng.integers(len(windows), size=(2, PATCHES))
        patches[i] = windows[rows, columns].transpose(0, 2, 3, 1)
    return patches.reshape(len(images) * PATCHES, PATCH * PATCH, 3)


def normalized(patches: np.ndarray) -> np.ndarray:
    """Each colour channel of a set of patches [M, 49, 3] with mean 0 and deviation 1 -> [M, 147]."""
    mean = patches.mean(axis=(0, 1), dtype=np.float64)
    deviation = patches.std(axis=(0, 1), dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1).astype(patches.dtype)
    return ((patches - mean.astype(patches.dtype)) / scale).reshape(len(patches), -1)


def sliced_distance(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, projections: int = PROJECTIONS) -> float:
    """Mean over random directions of the Wasserstein-1 distance of the projections (Rabin et al. 2011).

    a, b: [M, D], as many points in each.
    """
    directions = rng.normal(size=(a.shape[1], projections))
    directions = (directions / np.linalg.norm(directions, axis=0)).astype(a.dtype)
    total = 0.0
    for first in range(0, projections, BLOCK):
        block = directions[:, first : first + BLOCK]
        # in one dimension the best transport pairs the points in their order
        gaps = np.abs(np.sort(a @ block, axis=0) - np.sort(b @ block, axis=0))
        total += float(gaps.mean(axis=0, dtype=np.float64).sum())
    return total / projections
