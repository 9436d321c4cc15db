"""The square for a generator: cropped, letterboxed, resized, never stretched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.containers import ImageError
from generator.squares import fit_square, square_side
from tests.image_files import PIXELS


def test_square_of_the_right_size_is_left_alone():
    square = PIXELS[:5, :5]
    fitted, transforms = fit_square(square, 5)
    assert np.array_equal(fitted, square) and transforms == ()


@pytest.mark.parametrize("shape", [(5, 7), (7, 5)])
def test_other_shapes_are_refused_unless_asked_for(shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    with pytest.raises(ImageError, match=f"found {shape[1]} x {shape[0]} pixels, expected a square") as caught:
        fit_square(pixels, 5)
    assert caught.value.kind == "refused"
    with pytest.raises(ValueError, match="expected refuse, crop or letterbox"):
        square_side(5, 5, "stretch")


def test_crop_takes_the_centre():
    fitted, transforms = fit_square(PIXELS, 5, "crop")
    assert np.array_equal(fitted, PIXELS[:, 1:6])
    assert [t["step"] for t in transforms] == ["crop"]
    tall = np.ascontiguousarray(PIXELS.transpose(1, 0, 2))
    assert np.array_equal(fit_square(tall, 5, "crop")[0], tall[1:6])


def test_letterbox_keeps_the_whole_image_between_black_bars():
    fitted, transforms = fit_square(PIXELS, 7, "letterbox")
    assert np.array_equal(fitted[1:6], PIXELS)
    assert not fitted[0].any() and not fitted[6].any()
    assert [t["step"] for t in transforms] == ["letterbox"]


def test_resizing_is_antialiased_and_bars_stay_black():
    board = np.indices((48, 64)).sum(0) % 2 * 255
    fitted, _ = fit_square(np.repeat(board[..., None], 3, -1).astype(np.uint8), 16, "letterbox")
    assert not fitted[:2].any() and not fitted[14:].any()
    assert np.abs(fitted[3:13, 1:15].astype(int) - 127).max() <= 12


def test_a_letterboxed_slope_keeps_its_steepness_where_rows_do_not_fit_exactly():
    ramp = np.broadcast_to(2 * np.arange(63)[:, None, None], (63, 96, 3)).astype(np.uint8)
    fitted, _ = fit_square(ramp, 16, "letterbox")  # 10.5 rows of 6 pixels each
    assert abs(int(fitted[10, 8, 0]) - int(fitted[5, 8, 0]) - 5 * 6 * 2) <= 1


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 32), st.sampled_from(["crop", "letterbox"]))
def test_nothing_is_ever_stretched(width, height, resolution, shape):
    fitted, transforms = fit_square(np.full((height, width, 3), 200, np.uint8), resolution, shape)
    assert fitted.shape == (resolution, resolution, 3)
    assert shape == "letterbox" or (fitted == 200).all()
    for resize in (t for t in transforms if t["step"] == "resize"):
        left, top, right, bottom = resize["box"]
        if min(resize["to"]) > 1:
            assert (right - left) * resize["to"][1] == pytest.approx((bottom - top) * resize["to"][0])
