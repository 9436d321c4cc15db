"""Decoding as a whole: orientation, limits, frames, hostile bytes."""

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from generator.containers import FORMATS, ImageError
from generator.decoding import Limits, decode, pixels_sha256
from tests.image_files import PIXELS, chunk, names, png, refusal, saved, step


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_plain_lossless_files_keep_every_pixel_and_need_no_transform(file_format):
    decoded = decode(saved(PIXELS, file_format))
    assert np.array_equal(decoded.pixels, PIXELS) and decoded.pixels.flags["C_CONTIGUOUS"]
    assert (decoded.width, decoded.height, decoded.format, decoded.codec) == (7, 5, file_format, "png")
    assert names(decoded) == ["decode"] and step(decoded, "decode")["libraries"]["pillow"]


def test_pixel_hash_is_over_size_and_rgb_bytes():
    assert pixels_sha256(PIXELS) == hashlib.sha256(b"7x5:" + PIXELS.tobytes()).hexdigest()
    assert pixels_sha256(PIXELS.transpose(1, 0, 2)) != pixels_sha256(PIXELS)


# Where the stored first row and first column are to be seen, from the EXIF standard.
SIDES = {
    **{1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left")},
    **{5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom")},
}


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_puts_first_row_and_column_where_the_standard_says(orientation, file_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    upright = decode(saved(PIXELS, file_format, exif=exif, **options)).pixels
    edges = {"top": upright[0], "bottom": upright[-1], "left": upright[:, 0], "right": upright[:, -1]}
    first_row, first_column = (edges[side] for side in SIDES[orientation])
    row_side, column_side = SIDES[orientation]
    along_row, along_column = column_side in ("left", "top"), row_side in ("left", "top")
    assert np.array_equal(first_row if along_row else first_row[::-1], PIXELS[0])
    assert np.array_equal(first_column if along_column else first_column[::-1], PIXELS[:, 0])


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_orientation_is_applied_and_recorded_only_where_it_turns(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, tagged = decode(saved(PIXELS, "JPEG")), decode(saved(PIXELS, "JPEG", exif=exif))
    assert ("exif_orientation" in names(tagged)) == (orientation == 6)
    assert (tagged.width, tagged.height) == ((5, 7) if orientation == 6 else (7, 5))
    assert np.array_equal(tagged.pixels, np.rot90(plain.pixels, -1) if orientation == 6 else plain.pixels)


def test_truncation_is_an_error_even_where_the_process_tolerates_it(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert "truncated" in refusal(saved(PIXELS, "BMP")[:-9]).message
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("side", [20_000, 10_000, 7_100])
def test_a_bomb_is_refused_by_its_header_alone(side):
    before = Image.MAX_IMAGE_PIXELS
    error = refusal(png((side, side, 8, 2), b""))
    assert error.kind == "refused"
    assert f"{side * side:,} pixels" in error.message and "50,000,000" in error.message
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_webp_bomb_is_refused_before_its_canvas_is_allocated():
    exif = Image.Exif()
    exif[0x0112] = 1
    data = bytearray(saved(PIXELS, "WEBP", exif=exif))
    assert data[12:16] == b"VP8X"
    data[24:30] = (16_000 - 1).to_bytes(3, "little") * 2
    assert refusal(bytes(data)).kind == "refused"


def test_a_png_whose_checksum_does_not_hold_is_unreadable():
    rows = b"".join(b"\0" + row.tobytes() for row in PIXELS)  # noise: zlib stores it as it is
    data = png((7, 5, 8, 2), rows)
    assert np.array_equal(decode(data).pixels, PIXELS)
    pixel, checksum = data.index(PIXELS[2].tobytes()), len(data) - 13  # 12 bytes of IEND follow
    for place in (pixel, checksum):
        changed = bytearray(data)
        changed[place] ^= 1
        assert refusal(bytes(changed)).kind == "unreadable"


def test_the_pixel_limit_is_exact():
    assert refusal(saved(np.zeros((6, 6, 3), np.uint8)), Limits(max_pixels=35)).kind == "refused"
    assert decode(saved(PIXELS), Limits(max_pixels=35)).width == 7
    assert refusal(saved(PIXELS), Limits(max_pixels=34)).kind == "refused"


def test_more_pixels_than_pillow_warns_about_decode_in_silence(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert names(decode(saved(PIXELS), Limits(max_pixels=40))) == ["decode"]


MANY = ["GIF", "PNG", "WEBP", "TIFF", "MPO", *(["AVIF"] if "AVIF" in FORMATS else [])]


def frames_of(file_format: str) -> tuple[list[np.ndarray], bytes]:
    """Three grey frames of different brightness, and a file of them."""
    frames = [np.full((16, 16, 3), value, np.uint8) for value in (20, 120, 220)]
    images = [Image.fromarray(frame) for frame in frames]
    return frames, saved(images[0], file_format, save_all=True, append_images=images[1:])


@pytest.mark.parametrize("file_format", MANY)
def test_animated_and_multi_page_files_are_refused_with_their_count(file_format):
    error = refusal(frames_of(file_format)[1])
    assert error.kind == "refused" and "3 frames" in error.message and "--frame" in error.message


@pytest.mark.parametrize("file_format", MANY)
def test_a_chosen_frame_is_decoded_and_recorded(file_format):
    frames, data = frames_of(file_format)
    for number, frame in enumerate(frames, 1):
        decoded = decode(data, frame=number)
        assert np.abs(decoded.pixels.astype(int) - frame).max() <= 3
        assert step(decoded, "frame") == {"step": "frame", "frame": number, "of": 3}
    with pytest.raises(ImageError, match="found 3 frames or pages in one file, expected at least 4") as caught:
        decode(data, frame=4)
    assert caught.value.kind == "refused"


def test_the_choice_of_a_frame_leaves_single_images_alone():
    assert decode(saved(PIXELS), frame=2) == decode(saved(PIXELS))


def test_a_later_page_above_the_limit_is_refused_too():
    pages = [Image.new("RGB", (4, 4)), Image.new("RGB", (40, 40))]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert decode(data, Limits(max_pixels=100), frame=1).width == 4
    with pytest.raises(ImageError, match="1,600 pixels"):
        decode(data, Limits(max_pixels=100), frame=2)


@pytest.mark.skipif("HEIF" not in FORMATS, reason="the extra heif is not installed")
def test_heif_is_read_where_its_extra_is_installed():
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.full((16, 24, 3), 90, np.uint8)
    decoded = decode(saved(grey, "HEIF", exif=exif.tobytes()))
    assert (decoded.format, decoded.codec, decoded.jpeg_quality) == ("HEIF", "heif", None)
    assert np.abs(decoded.pixels.astype(int) - 90).max() <= 3
    assert (decoded.width, decoded.height) == (16, 24)  # the writer put EXIF's rotation into the container
    assert step(decoded, "heif_orientation")["exif_orientation"] == 6
    assert {"pillow", "pillow_heif", "libheif"} <= step(decoded, "decode")["libraries"].keys()


def test_a_16_bit_animation_is_refused():
    animation = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">5I2H2B", 0, 1, 1, 0, 0, 1, 1, 0, 0)
    )
    with pytest.raises(ImageError, match="PNG animation of 16-bit samples"):
        decode(png((1, 1, 16, 2), bytes(7), animation), frame=1)


def test_a_warning_of_pillow_becomes_a_record_not_a_warning():
    animation_without_frames = chunk(b"acTL", bytes(8))
    decoded = decode(png((1, 1, 8, 0), b"\0\x80", animation_without_frames))
    assert "APNG" in step(decoded, "decoder_warning")["message"]
    assert decoded.pixels.tolist() == [[[128, 128, 128]]]


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]), st.data())
def test_damaged_files_give_pixels_or_the_error_class(file_format, data):
    original = saved(PIXELS, file_format)
    damaged = bytearray(original)
    damaged[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode(bytes(damaged), Limits(max_pixels=10_000))
    except ImageError:
        return
    assert decoded.pixels.shape == (decoded.height, decoded.width, 3)
    assert json.loads(json.dumps(decoded.transforms)) == list(decoded.transforms)
    if file_format == "PNG":  # its checksums cover everything that carries pixels
        assert np.array_equal(decoded.pixels, PIXELS)


SIGNATURES = [saved(PIXELS, name)[:n] for name in FORMATS for n in (0, 12, 40)]


@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
def test_any_bytes_give_pixels_or_the_error_class(signature, rest):
    try:
        assert decode(signature + rest, Limits(max_pixels=10_000)).pixels.dtype == np.uint8
    except ImageError as error:
        assert error.message.encode("utf-8") and error.kind in ("unreadable", "refused")
