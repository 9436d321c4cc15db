"""Sliced Wasserstein distance: the pyramid against its definition, the distance against SciPy and closed forms."""

import numpy as np
import pytest
import scipy.ndimage
from scipy.stats import wasserstein_distance

from training import sliced_wasserstein as module
from training.sliced_wasserstein import (
    descriptors,
    laplacian_level,
    level_sizes,
    normalized,
    sliced_distance,
    sliced_wasserstein,
)

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[:, :, None] / 256


def pictures(n: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def reduced(image: np.ndarray) -> np.ndarray:
    return scipy.ndimage.convolve(image.astype(np.float64), KERNEL, mode="mirror")[::2, ::2]


def test_the_lowest_level_is_the_low_pass_image():
    image = pictures(1, 64)[0]
    np.testing.assert_allclose(laplacian_level(image, 2), reduced(reduced(image)), atol=1e-3)


def test_other_levels_are_the_difference_to_the_upsampled_next_one():
    image = pictures(1, 32)[0]
    between = np.zeros((32, 32, 3))
    between[::2, ::2] = 4 * reduced(image)
    upsampled = scipy.ndimage.convolve(between, KERNEL, mode="mirror")
    inside = slice(0, 29)  # the mirror at the lower and right edge has nothing to reflect there: libraries differ
    found = laplacian_level(image, 0)
    np.testing.assert_allclose(found[inside, inside], (image - upsampled)[inside, inside], atol=1e-3)
    flat = np.full((32, 32, 3), 77, np.uint8)
    np.testing.assert_allclose(laplacian_level(flat, 0), 0, atol=1e-4)


def test_levels_go_down_to_sixteen():
    assert level_sizes(64) == [64, 32, 16]
    assert level_sizes(16) == [16] and level_sizes(8) == [8]


def test_descriptors_are_patches_of_their_image():
    image = pictures(1, 16)
    found = descriptors(image, 0, np.random.default_rng(0)).reshape(-1, 7, 7, 3)
    assert len(found) == 128
    windows = {image[0, y : y + 7, x : x + 7].astype(np.float32).tobytes() for y in range(10) for x in range(10)}
    seen = {patch.tobytes() for patch in found}
    assert seen <= windows and len(seen) > 50


def test_channels_are_normalized_over_the_whole_set():
    patches = np.random.default_rng(0).normal(3, [1, 2, 5], size=(40, 49, 3)).astype(np.float32)
    found = normalized(patches).reshape(40, 49, 3)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(0, 1)), 1, atol=1e-5)
    np.testing.assert_array_equal(normalized(np.full((4, 49, 3), 9, np.float32)), 0)


@pytest.mark.parametrize("projections", [1, 40])
def test_the_distance_is_the_mean_of_scipys_over_the_same_directions(projections):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 5)), rng.normal(size=(30, 5)) + 0.5
    found = sliced_distance(a, b, np.random.default_rng(7), projections)
    directions = np.random.default_rng(7).normal(size=(5, projections))
    directions /= np.linalg.norm(directions, axis=0)
    expected = np.mean([wasserstein_distance(a @ d, b @ d) for d in directions.T])
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_shift_costs_its_mean_length_along_the_directions():
    """E|<v, d>| of a unit vector d in the plane is |v| 2 / pi."""
    a = np.random.default_rng(0).normal(size=(50, 2))
    v = np.array([3.0, 4.0])
    found = sliced_distance(a, a + v, np.random.default_rng(1), 4000)
    assert found == pytest.approx(5 * 2 / np.pi, rel=0.03)


def test_equal_sets_are_near_and_others_far():
    a = pictures(24, 32)
    smooth = scipy.ndimage.gaussian_filter(a.astype(float), (0, 3, 3, 0)).astype(np.uint8)
    near, far = sliced_wasserstein(a, pictures(24, 32, 1), 0), sliced_wasserstein(a, smooth, 0)
    assert list(near) == list(far) == [32, 16]
    assert far[32] > 2 * near[32]
    assert near == sliced_wasserstein(a, pictures(24, 32, 1), 0) != sliced_wasserstein(a, pictures(24, 32, 1), 1)


def test_of_both_sets_as_many_images_are_drawn_from_all(monkeypatch):
    a, same = pictures(6, 16), pictures(1, 16, 1)
    expected = sliced_wasserstein(a, same.repeat(6, axis=0), 0)
    assert sliced_wasserstein(a, same.repeat(9, axis=0), 0) == expected
    monkeypatch.setattr(module, "MOST", 5)
    assert sliced_wasserstein(a, same.repeat(6, axis=0), 0) != expected
    late = np.concatenate([same.repeat(5, axis=0), pictures(40, 16, 2)])
    assert sliced_wasserstein(a, late, 0) != sliced_wasserstein(a, same.repeat(5, axis=0), 0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 16, 16, 3), (2, 32, 32, 3)),
        ((2, 4, 4, 3), (2, 4, 4, 3)),
        ((2, 24, 24, 3), (2, 24, 24, 3)),
        ((16, 16), (9,)),
    ],
)
def test_other_shapes_are_refused(a, b):
    with pytest.raises(ValueError, match=r"^swd: found images of shapes .* power of two"):
        sliced_wasserstein(np.zeros(a, np.uint8), np.zeros(b, np.uint8), 0)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"^swd: found no images"):
        sliced_wasserstein(np.zeros((0, 16, 16, 3), np.uint8), pictures(2, 16), 0)
