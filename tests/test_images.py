"""Images <-> tensors."""

import io

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from generator.images import encode_png, image_grid, to_pixels, to_unit


def test_every_byte_survives_the_round_trip():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    unit = to_unit(pixels)
    assert unit.shape == (1, 3, 16, 16) and unit.dtype == torch.float32
    assert unit.min() == -1 and unit.max() == 1
    np.testing.assert_array_equal(to_pixels(unit), pixels)


def test_pixels_are_rounded_to_the_nearest_and_clipped():
    values = torch.tensor([-3.0, -1.0, -1 + 0.9 / 255, -1 + 1.1 / 255, 0.0, 1.0, 7.0])
    pixels = to_pixels(values.expand(1, 3, 1, -1))
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 0, 1, 128, 255, 255]


def test_png_keeps_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), pixels)


@given(n=st.integers(1, 7), columns=st.integers(1, 4), gap=st.integers(0, 2))
def test_grid_shows_every_image_in_reading_order_on_white(n, columns, gap):
    height, width = 2, 3
    pixels = np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(height, 1).repeat(width, 2).repeat(3, 3)
    rows = -(-n // columns)
    expected = np.full((rows * height + (rows - 1) * gap, columns * width + (columns - 1) * gap, 3), 255)
    for (y, x, channel), _ in np.ndenumerate(expected):
        (row, v), (column, u) = divmod(y, height + gap), divmod(x, width + gap)
        i = row * columns + column
        if v < height and u < width and i < n:
            expected[y, x, channel] = i
    np.testing.assert_array_equal(image_grid(pixels, columns, gap), expected)
