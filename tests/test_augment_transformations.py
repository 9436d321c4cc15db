"""The 18 augmentations one by one, and their order, against independent implementations."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation
from torch import Tensor

from tests.augmentation import CLOSE, COLOUR, GEOMETRIC, HEIGHT, WIDTH, All, Only, alone, by_scipy, rms, smooth
from training.augment import (
    BGC,
    add_noise,
    apply_bands,
    apply_colour,
    apply_cutout,
    band_gains,
    colour_matrix,
    cutout_mask,
    geometry_inverse,
)
from training.warp import warp
from training.wavelets import band_filters


def plane(sx: np.ndarray, sy: np.ndarray) -> np.ndarray:
    return np.stack([np.diag([x, y, 1]) for x, y in zip(sx, sy, strict=True)])


def turn(angles: np.ndarray) -> np.ndarray:
    """About z, by scipy."""
    return Rotation.from_rotvec(np.stack([0 * angles, 0 * angles, angles], 1)).as_matrix()


def move(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.array([[1, 0, a], [0, 1, b], [0, 0, 1]]) for a, b in zip(x, y, strict=True)])


GEOMETRIC_TRUTH: dict[str, Callable[[Only], np.ndarray]] = {
    "x-flip": lambda d: plane(np.where(d.value == 1, -1, 1), np.ones(d.batch)),
    "90": lambda d: turn(d.value.double().numpy() * math.pi / 2),
    "whole translation": lambda d: move(*(np.round(d.randoms[i].numpy() * n) for i, n in enumerate((WIDTH, HEIGHT)))),
    "scale": lambda d: plane(d.value.numpy(), d.value.numpy()),
    "pre-rotation": lambda d: turn(d.value.double().numpy()),
    "stretch": lambda d: plane(d.value.numpy(), 1 / d.value.numpy()),
    "post-rotation": lambda d: turn(d.value.double().numpy()),
    "translation": lambda d: move(*(d.randoms[i].numpy() * n for i, n in ((-2, WIDTH), (-1, HEIGHT)))),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_geometric_transformation_alone(name):
    draw, matrix = alone(name, batch=32)
    np.testing.assert_allclose(matrix.numpy(), GEOMETRIC_TRUTH[name](draw), atol=2e-5)
    assert not torch.equal(matrix, torch.eye(3, dtype=matrix.dtype).expand_as(matrix))


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_geometric_transformation_of_an_image(name):
    """Of rectangles that go on by reflection; scipy resamples under the independent matrix."""
    draw, _ = alone(name)
    images = np.stack([smooth(HEIGHT, WIDTH, seed=seed) for seed in range(draw.batch)])
    ours = warp(torch.tensor(images), geometry_inverse(Only(draw.batch, draw.gate), WIDTH, HEIGHT, BGC))
    for image, out, matrix in zip(images, ours.numpy(), GEOMETRIC_TRUTH[name](draw), strict=True):
        assert rms(out - by_scipy(image, torch.tensor(matrix)[None])) < CLOSE
    assert rms(ours.numpy() - images) > 3 * CLOSE


def test_geometric_transformations_are_done_in_the_published_order():
    """M = T_8 ... T_1: of a draw with every gate open, against the product of each one alone."""
    draw = All(8, 0)
    total = torch.linalg.inv(geometry_inverse(draw, WIDTH, HEIGHT, BGC).double()).numpy()
    expected = np.eye(3)
    for gate, name in enumerate(GEOMETRIC):
        draw.gate = gate
        expected = GEOMETRIC_TRUTH[name](draw) @ expected
    np.testing.assert_allclose(total, expected, atol=1e-3)
    blits = torch.linalg.inv(geometry_inverse(All(8, 0), WIDTH, HEIGHT, ["blit"]).double())
    assert torch.equal(blits, blits.round()) and blits.abs().amax([1, 2]).min() >= 1


def orthonormal() -> np.ndarray:
    """Rows: the luma axis, and two axes across it."""
    basis = np.linalg.qr(np.array([[1.0, 1, 0], [1, -1, 1], [1, 0, -2]]))[0].T
    return basis * np.sign(basis[0, 0])


def colour_truth(name: str, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """The transformation of pixels [3, N]."""
    basis = orthonormal()
    np.testing.assert_allclose(basis[0], np.ones(3) / np.sqrt(3))
    match name:
        case "brightness":
            return lambda x: x + value
        case "contrast":
            return lambda x: x * value
        case "luma flip":
            return lambda x: basis.T @ np.diag([1 - 2 * value, 1, 1]) @ basis @ x
        case "hue":
            return Rotation.from_rotvec(value * np.ones(3) / np.sqrt(3)).as_matrix().__matmul__
        case _:
            return lambda x: x.mean(0) + value * (x - x.mean(0))


@pytest.mark.parametrize("name", COLOUR)
def test_a_colour_transformation_alone(name):
    draw, matrix = alone(name)
    images = torch.rand(4, 3, 5, 7) * 2 - 1
    ours = apply_colour(images, matrix)
    for image, out, value in zip(images.double(), ours, draw.value.double(), strict=True):
        theirs = colour_truth(name, value.item())(image.flatten(1).numpy()).reshape(3, 5, 7)
        np.testing.assert_allclose(out, theirs, atol=2e-6)
    assert not torch.equal(ours, images)


def test_colour_transformations_are_done_in_the_published_order():
    draw = All(6, 0)
    images = torch.rand(6, 3, 2, 2)
    ours = apply_colour(images, colour_matrix(draw))
    for i in range(6):
        pixels = images[i].double().flatten(1).numpy()
        for name, values in zip(COLOUR, draw.values, strict=True):
            pixels = colour_truth(name, values[i].item())(pixels)
        np.testing.assert_allclose(ours[i].flatten(1), pixels, atol=1e-5)


def test_a_third_of_a_turn_of_hue_exchanges_the_channels():
    class Third(Only):
        def uniform(self, low: float = 0, high: float = 1) -> Tensor:
            return torch.full([self.batch], 2 * math.pi / 3)

    images = torch.rand(1, 3, 4, 4)
    turned = apply_colour(images, colour_matrix(Third(1, COLOUR.index("hue"))))
    torch.testing.assert_close(turned, images.roll(1, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("band", range(4))
def test_a_band_alone(band):
    """Its gain against the others' is the one drawn, and an image with the expected spectrum keeps its power."""
    draw = Only(16, band)
    gains = band_gains(draw).double()
    power = np.array([10, 1, 1, 1]) / 13
    np.testing.assert_allclose(gains.numpy() ** 2 @ power, 1, rtol=1e-5)
    others = [i for i in range(4) if i != band]
    for other in others:
        torch.testing.assert_close(gains[:, band] / gains[:, other], draw.value.double(), rtol=1e-5, atol=0)
    assert torch.equal(draw.value, 2 ** draw.randoms[band])


def test_bands_multiply():
    """With every gate open, the gains are the products of what each band does alone."""
    draw = All(8, 0)
    expected = np.ones((8, 4))
    gains = band_gains(draw).numpy()
    for band, values in enumerate(draw.values):
        for i, s in enumerate(values.double().numpy()):
            each = np.where(np.arange(4) == band, s, 1)
            expected[i] *= each / math.sqrt((np.array([10, 1, 1, 1]) * each**2).sum() / 13)
    np.testing.assert_allclose(gains, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (9, 30), (30, 9)])  # the filters reach 21 pixels beyond the image
def test_bands_are_filtered_along_both_axes(size):
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    gains = torch.tensor([[0.5, 2, 1, 0.3], [1, 1.5, 0.2, 4]])
    ours = apply_bands(images, gains)
    for image, gain, out in zip(images.numpy(), gains.double(), ours.numpy(), strict=True):
        taps = (gain @ band_filters()).numpy()
        theirs = ndimage.convolve1d(ndimage.convolve1d(image, taps, axis=1, mode="mirror"), taps, axis=2, mode="mirror")
        np.testing.assert_allclose(out, theirs, atol=1e-12)


def test_noise_is_white_and_of_the_drawn_strength():
    draw = Only(6, 0)
    images = torch.rand(6, 3, 64, 64)
    noise = (add_noise(images, draw) - images).double()
    torch.testing.assert_close(noise.std([1, 2, 3]), draw.value.double(), rtol=0.03, atol=0)
    assert torch.equal(draw.value, draw.randoms[0].abs())
    for image, sigma in zip(noise.numpy(), draw.value.numpy(), strict=True):
        assert stats.kstest(image.ravel() / sigma, "norm").pvalue > 1e-3
        shifted = [np.roll(image, 1, axis) for axis in range(3)]
        assert all(abs((image * other).mean()) < 0.04 * sigma**2 for other in shifted)


@pytest.mark.parametrize("size", [(32, 32), (20, 36)])
def test_cutout_is_a_rectangle_of_half_the_size(size):
    height, width = size
    draw = Only(200, 0)
    mask = cutout_mask(draw, height, width)[:, 0].numpy()
    x, y = (r.numpy() for r in draw.randoms)
    for i in range(draw.batch):
        across = np.abs((np.arange(width) + 0.5) / width - x[i]) < 0.25
        down = np.abs((np.arange(height) + 0.5) / height - y[i]) < 0.25
        assert np.array_equal(mask[i] == 0, np.outer(down, across))
    inside = (np.abs(x - 0.5) < 0.2) & (np.abs(y - 0.5) < 0.2)
    np.testing.assert_allclose((1 - mask[inside]).mean((1, 2)), 0.25, atol=0.02)
    images = torch.rand(200, 3, height, width) + 1
    assert np.array_equal(apply_cutout(images, torch.tensor(mask)[:, None]) == 0, np.stack([mask == 0] * 3, 1))
