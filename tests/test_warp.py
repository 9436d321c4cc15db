"""Warping against scipy, OpenCV and NumPy, the tiling by reflection, and gradients."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.augmentation import CLOSE, by_scipy, rms, smooth
from training.warp import reflect, rotation, scaling, translation, warp


def warped(image: np.ndarray, matrix: torch.Tensor) -> np.ndarray:
    """Apply M [1, 3, 3] to one image [C, H, W]."""
    return warp(torch.tensor(image)[None], matrix.double().inverse())[0].numpy()


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def test_a_point_moves_to_m_times_the_point():
    """The centre of mass of a blob, in pixels from the centre of the image, x to the right and y down."""
    y, x = np.mgrid[:64, :48] - np.array([31.5, 23.5])[:, None, None]
    start = np.array([6.0, -9.0, 1.0])
    blob = np.exp(-((x - start[0]) ** 2 + (y - start[1]) ** 2) / 8)[None]
    for matrix in (
        translation(*one(3.3, 11.6)),
        scaling(*one(1.25, 0.8)),
        scaling(*one(-1, 1)),
        rotation(*one(0.7)),
        translation(*one(-4.2, 0.5)) @ rotation(*one(-2)) @ scaling(*one(1.2, 1.2)),
    ):
        moved = warped(blob, matrix)[0]
        centre = np.array([(x * moved).sum(), (y * moved).sum()]) / moved.sum()
        np.testing.assert_allclose(centre, (matrix[0].double().numpy() @ start)[:2], atol=0.15)


@pytest.mark.parametrize("size", [(16, 16), (8, 12), (7, 5), (2, 3)])
def test_the_identity_is_exact(size):
    image = torch.rand(3, 2, *size)
    torch.testing.assert_close(warp(image, torch.eye(3).expand(3, 3, 3)), image, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(16, 16), (11, 6)])
def test_whole_translations_are_exact_and_go_on_by_reflection_for_ever(size):
    """Also far beyond the image's own size, where NumPy reflects again and again."""
    height, width = size
    image = np.random.default_rng(0).normal(size=(1, *size))
    far = 60
    plane = np.pad(image, [(0, 0), (far, far), (far, far)], mode="reflect")
    for x, y in ((1, 0), (0, -2), (3, 5), (-width, height), (25, -31), (-40, 50)):
        ours = warped(image, translation(*one(x, y)))
        theirs = plane[:, far - y : far - y + height, far - x : far - x + width]
        np.testing.assert_allclose(ours, theirs, atol=1e-6, err_msg=f"{x}, {y}")


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (40, 24)])
def test_mirroring_is_numpys_flip(size):
    image = smooth(*size)
    assert rms(warped(image, scaling(*one(-1, 1))) - image[:, :, ::-1]) < CLOSE
    assert rms(warped(image, scaling(*one(1, -1))) - image[:, ::-1]) < CLOSE


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_numpys_rot90(quarters):
    """NumPy turns anticlockwise as seen; x towards y, y down, is clockwise."""
    image = smooth(32, 32)
    ours = warped(image, rotation(*one(-quarters * math.pi / 2)).round())
    assert rms(ours - np.rot90(image, quarters, (1, 2))) < CLOSE


def test_two_mirrorings_are_the_identity():
    image = smooth(32, 32)
    mirror = scaling(*one(-1, 1))
    assert rms(warped(warped(image, mirror), mirror) - image) < 0.01


@pytest.mark.parametrize("size", [(48, 48), (32, 56)])
@pytest.mark.parametrize(
    "matrix",
    [
        scaling(*one(1.4, 1.4)),
        scaling(*one(0.7, 0.7)),
        scaling(*one(1.3, 1 / 1.3)),
        rotation(*one(0.5)),
        rotation(*one(-2.2)),
        translation(*one(3.37, -2.81)),
        translation(*one(4.5, 1.5)) @ rotation(*one(1)) @ scaling(*one(0.8, 1.25)) @ rotation(*one(-0.3)),
        scaling(*one(0.2, 0.25)),  # sees several tiles of the plane
        translation(*one(130.4, -75.2)) @ rotation(*one(0.4)),  # sees none of the middle one
    ],
)
def test_a_warp_is_scipys(size, matrix):
    image = smooth(*size)
    ours, theirs = warped(image, matrix), by_scipy(image, matrix)
    assert rms(ours - theirs) < (CLOSE if matrix[0, :2, :2].det() > 0.1 else 0.15)
    assert rms(theirs - image) > 0.15  # the comparison can fail


def test_a_rotation_is_opencvs():
    image = (smooth(48, 48, channels=1) / 8 + 0.5).astype(np.float32)  # OpenCV's cubic clips to [0, 1]
    affine = cv2.getRotationMatrix2D((23.5, 23.5), 35, 1.2)  # anticlockwise, enlarged
    theirs = cv2.warpAffine(image[0], affine, (48, 48), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    ours = warped(image, rotation(*one(-math.radians(35))) @ scaling(*one(1.2, 1.2)))
    assert rms(ours[0] - theirs) < CLOSE / 8 < 10 * CLOSE / 8 < rms(image[0] - theirs)


def test_a_warp_does_not_alias():
    """The finest stripes, shrunk below what pixels can show, turn grey rather than coarse."""
    stripes = np.tile([1.0, -1.0], (1, 64, 32))
    ours = warped(stripes, scaling(*one(0.55, 0.55)))
    nearest = by_nearest(stripes, 0.55)
    assert rms(ours[:, 16:-16, 16:-16]) < 0.2 < 0.9 < rms(nearest)


def by_nearest(image: np.ndarray, factor: float) -> np.ndarray:
    places = np.round((np.arange(64) - 31.5) / factor + 31.5).astype(int) % 64
    return image[:, places][:, :, places]


def test_each_image_has_its_own_matrix():
    images = torch.tensor(np.stack([smooth(16, 16, seed=seed) for seed in range(3)]))
    matrices = torch.cat([rotation(*one(angle)) for angle in (0.3, 0, 2)])
    together = warp(images, matrices)
    for i in range(3):
        torch.testing.assert_close(together[i], warp(images[i : i + 1], matrices[i : i + 1])[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(6, 6), (5, 8)])
def test_gradients_are_finite_differences(size):
    images = torch.rand(2, 1, *size, dtype=torch.float64, requires_grad=True)
    inverse = torch.cat([rotation(*one(0.4)) @ scaling(*one(1.3, 1.3)), translation(*one(9.3, -7.1))])
    assert torch.autograd.gradcheck(lambda x: warp(x, inverse), images)


def test_float32_is_as_good_as_float64():
    image = torch.rand(2, 3, 24, 24)
    inverse = torch.cat([rotation(*one(0.4)), translation(*one(3.3, -2.1))]).float()
    torch.testing.assert_close(warp(image, inverse), warp(image.double(), inverse).float(), rtol=0, atol=2e-5)


def test_batches_may_be_channels_last():
    image = torch.rand(2, 3, 12, 12)
    inverse = rotation(torch.tensor([0.4, -1]))
    other = warp(image.to(memory_format=torch.channels_last), inverse)
    torch.testing.assert_close(other, warp(image, inverse), rtol=0, atol=1e-6)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 30), st.integers(0, 30))
def test_reflection_is_numpys(height, width, x, y):
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    theirs = np.pad(image[0, 0].numpy(), [(y, y), (x, x)], mode="reflect")
    assert np.array_equal(reflect(image, x, y)[0, 0].numpy(), theirs)


@pytest.mark.parametrize("size", [(1, 8), (8, 1)])
def test_a_line_has_nothing_to_reflect(size):
    with pytest.raises(ValueError, match=r"^images: found . x . pixels, expected at least 2 x 2"):
        warp(torch.zeros(1, 3, *size), torch.eye(3)[None])
