"""Face crops: known rectangles, features that land where they must, and Pillow's warp of the same corners."""

import json

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from generator.alignment import align_face, face_crop, read_landmarks, rotate90
from generator.containers import ImageError

# eyes, nose, corners of the mouth; x' = (20, 0), y' = (0, -25), so that s = max(4 * 20, 3.6 * 25) = 90
UPRIGHT = np.array([[40, 50], [60, 50], [50, 60], [43, 75], [57, 75]], float)


def moved(points: np.ndarray, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """Turned against the clock as seen, scaled about the first image pixel, then shifted."""
    c, s = np.cos(angle), np.sin(angle)
    return scale * points @ np.array([[c, -s], [s, c]]) + shift


def as_68(five: np.ndarray) -> np.ndarray:
    """68 points whose eyes average to the given ones; all others far away."""
    points = np.full((68, 2), -500.0)
    ring = 2 * np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], axis=1)
    points[36:42], points[42:48] = five[0] + ring, five[1] + ring
    points[48], points[54] = five[3], five[4]
    return points


def test_the_crop_of_an_upright_face():
    crop = face_crop(UPRIGHT.tolist())
    np.testing.assert_allclose(crop.centre, (50, 52.5))
    assert crop.size == pytest.approx(90)
    np.testing.assert_allclose(crop.right, (1, 0), atol=1e-12)
    np.testing.assert_allclose(crop.up, (0, -1), atol=1e-12)


def test_wide_eyes_decide_the_size():
    wide = UPRIGHT.copy()
    wide[:2, 0] = 35, 65  # 4 * 30 > 3.6 * 25
    assert face_crop(wide.tolist()).size == pytest.approx(120)


@given(
    angle=st.floats(-np.pi, np.pi),
    scale=st.floats(0.1, 10),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_the_crop_moves_with_the_face(angle, scale, shift):
    crop = face_crop(moved(UPRIGHT, angle, scale, shift).tolist())
    np.testing.assert_allclose(crop.centre, moved(np.array([50, 52.5]), angle, scale, shift), atol=1e-6)
    assert crop.size == pytest.approx(90 * scale)
    np.testing.assert_allclose(crop.right, moved(np.array([1.0, 0]), angle, 1, (0, 0)), atol=1e-9)
    np.testing.assert_allclose(crop.up, moved(np.array([0, -1.0]), angle, 1, (0, 0)), atol=1e-9)


def test_68_points_give_the_crop_of_the_five_they_contain():
    crop, expected = face_crop(as_68(UPRIGHT).tolist()), face_crop(UPRIGHT.tolist())
    for name in ("centre", "size", "right", "up"):
        np.testing.assert_allclose(getattr(crop, name), getattr(expected, name), atol=1e-9)


def test_a_quarter_turn_takes_right_to_up():
    np.testing.assert_array_equal(rotate90(np.array([1.0, 0.0])), [0, -1])
    np.testing.assert_array_equal(rotate90(np.array([0.0, -1.0])), [-1, 0])


def dots(points: np.ndarray, width: int, height: int, radius: float) -> np.ndarray:
    """White Gaussian dots on black."""
    y, x = np.mgrid[:height, :width]
    total = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in points)
    return np.repeat((255 * np.clip(total, 0, 1)).round().astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.5])
@pytest.mark.parametrize("resolution", [32, 128])
def test_features_land_where_the_upright_crop_has_them(angle, resolution):
    scale = 4.0
    centre = np.array([260.0, 250.0])
    shift = centre - moved(np.array([50, 52.5]), angle, scale, (0, 0))
    points = moved(UPRIGHT, angle, scale, tuple(shift))
    image = dots(points[[0, 1, 3, 4]], 520, 500, 8)
    found = align_face(image, face_crop(points.tolist()), resolution)[:, :, 0].astype(float)
    # from the crop's left and top edges (5 and 7.5) to pixels, whose centres are at halves
    expected = (UPRIGHT[[0, 1, 3, 4]] - (5, 7.5)) / 90 * resolution - 0.5
    reach = 0.06 * resolution
    y, x = np.mgrid[:resolution, :resolution]
    for px, py in expected:
        near = found * (np.hypot(x - px, y - py) < reach)
        assert near.sum() > 0
        np.testing.assert_allclose(scipy.ndimage.center_of_mass(near), (py, px), atol=0.15)
    outside = np.min([np.hypot(x - px, y - py) for px, py in expected], axis=0) > 2 * reach
    assert found[outside].max() < 3


@pytest.mark.parametrize(("angle", "scale"), [(0.3, 2.0), (-1.2, 0.5), (0.0, 3.3)])
def test_the_warp_is_that_of_pillow(angle, scale):
    """Pillow's quadrilateral at the same oversampling, then its box filter."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), (500, 400), interpolation=cv2.INTER_CUBIC)
    shift = np.array([250.0, 200.0]) - moved(np.array([50, 52.5]), angle, scale, (0, 0))
    crop = face_crop(moved(UPRIGHT, angle, scale, tuple(shift)).tolist())
    corners = [crop.centre + 0.5 + crop.size / 2 * (a * crop.right + b * crop.up) for a, b in CORNERS]
    large = Image.fromarray(image).transform(
        (320, 320), Image.Transform.QUAD, tuple(np.concatenate(corners)), Image.Resampling.BILINEAR
    )
    expected = np.asarray(large.resize((32, 32), Image.Resampling.BOX)).astype(float)
    assert np.abs(align_face(image, crop, 32) - expected).mean() < 1.0


CORNERS = [(-1, 1), (-1, -1), (1, -1), (1, 1)]  # left top, left bottom, right bottom, right top


def test_small_crops_of_large_images_do_not_alias():
    """A fine chequerboard becomes grey, not a pattern."""
    image = np.indices((800, 800)).sum(axis=0)[:, :, None].repeat(3, axis=2) % 2 * 255
    crop = face_crop(moved(UPRIGHT, 0.0, 8.0, (0, 0)).tolist())
    found = align_face(image.astype(np.uint8), crop, 16).astype(float)
    assert np.abs(found - 127.5).max() < 6


def test_outside_the_image_the_crop_is_mirrored_and_blurred():
    """The face at the left edge of a picture of stripes: its mirror near the edge, less contrast further out."""
    stripes = (np.arange(200) // 3 % 2 * 255).astype(np.uint8)
    image = np.repeat(np.broadcast_to(stripes, (220, 200))[:, :, None], 3, axis=2)
    crop = face_crop(moved(UPRIGHT, 0.0, 2.0, (-80.5, 0)).tolist())
    assert (crop.centre[0], crop.size) == pytest.approx((19.5, 180))  # pixel 0 of the result is at x = -70
    found = align_face(image, crop, 180)[90, :, 0].astype(float)
    # four bilinear samples in a pixel, averaged: 1/8 of each neighbour
    smoothed = scipy.ndimage.convolve(stripes.astype(float), np.array([1, 6, 1]) / 8, mode="mirror")
    np.testing.assert_allclose(found[70:170], smoothed[:100], atol=1)
    np.testing.assert_allclose(found[67:70], smoothed[3:0:-1], atol=40)
    assert np.ptp(found[10:40]) < 0.2 * 255 < np.ptp(found[55:70])
    assert found[10:40].mean() == pytest.approx(127.5, abs=10)


@pytest.mark.parametrize(
    "points",
    [
        None,
        "eyes",
        [],
        [[1, 2]] * 4,
        [[1, 2, 3]] * 5,
        [[1, 2], [3]],
        {"eyes": 1},
        [[float("nan"), 0]] * 5,
        [[1e300, 0]] * 5,
        [[10**400, 0]] * 5,
    ],
)
def test_other_landmarks_are_refused(points):
    with pytest.raises(ImageError, match=r"^found landmarks that are .* expected 68 or 5 points \[x, y\]"):
        face_crop(points)


def test_landmarks_in_one_place_or_mirrored_are_refused():
    with pytest.raises(ImageError, match=r"^found landmarks of eyes and mouth in one place"):
        face_crop([[3, 3]] * 5)
    with pytest.raises(ImageError, match=r"^found the eyes or the mouth in mirrored order"):
        face_crop(UPRIGHT[[1, 0, 2, 4, 3]].tolist())


@pytest.mark.parametrize(("scale", "shift"), [(1.0, (100, 0)), (1.0, (0, -60)), (3.0, (-120, -100)), (1e4, (0, 0))])
def test_crops_that_miss_the_image_or_dwarf_it_are_refused(scale, shift):
    with pytest.raises(ImageError, match=r"^found a face of size .* in 110 x 100 pixels, expected its centre inside"):
        align_face(np.zeros((100, 110, 3), np.uint8), face_crop(moved(UPRIGHT, 0.0, scale, shift).tolist()), 32)


def test_images_of_one_row_have_no_mirror_but_a_result():
    crop = face_crop(moved(UPRIGHT, 0.0, 0.01, (4.5, -0.525)).tolist())
    assert (align_face(np.full((1, 20, 3), 9, np.uint8), crop, 8) == 9).all()


def test_landmarks_by_file(tmp_path):
    path = tmp_path / "landmarks.json"
    path.write_text(json.dumps({"a.jpg": UPRIGHT.tolist()}))
    assert face_crop(read_landmarks(path)["a.jpg"]).size == pytest.approx(90)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "found no JSON that can be read"),
        (b"\xff\xfe\xfa", "found no JSON that can be read"),
        (b"[" * 100000, "found no JSON that can be read"),
        (b"[1, 2]", "found a JSON list, expected an object"),
        (None, "found no JSON that can be read"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, message):
    path = tmp_path / "landmarks.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"landmarks\.json: {message}"):
        read_landmarks(path)
