"""What files say of themselves: where they end, what they are instead of images, how they were coded."""

import hashlib
import io
import struct

import numpy as np
import pytest
from PIL import Image

from generator.containers import FORMATS, no_image_error, one_line
from generator.decoding import decode
from tests.image_files import PIXELS, names, refusal, saved, step

EXIF = Image.Exif()
EXIF[0x0112] = 1


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_anywhere_is_unreadable(file_format):
    data = saved(PIXELS, file_format)
    for length in range(len(data)):
        assert refusal(data[:length]).kind == "unreadable"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_trailing_bytes_are_recorded_and_change_no_pixel(file_format):
    data = saved(PIXELS, file_format)
    decoded, longer = decode(data), decode(data + b"PK\x03\x04hidden\xff\xd9")
    assert "trailing_bytes" not in names(decoded)
    assert step(longer, "trailing_bytes")["count"] == 12
    assert step(longer, "trailing_bytes")["sha256"] == hashlib.sha256(b"PK\x03\x04hidden\xff\xd9").hexdigest()
    assert np.array_equal(decoded.pixels, longer.pixels)


def test_a_thumbnails_end_is_not_the_jpegs_end():
    thumbnail = saved(PIXELS, "JPEG")
    segment = b"\xff\xe5" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = saved(PIXELS, "JPEG")
    assert "trailing_bytes" not in names(decode(data[:2] + segment + data[2:]))


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (b"", "unreadable", "nothing"),
        ("Grüße, no image\n".encode(), "unreadable", "text"),
        (b"\x00\x01\x02\x03", "unreadable", "no image"),
        (b"\x89PNG\r\n\x1a\nrubbish", "unreadable", "damaged PNG"),
        (b"\xff\xd8\xff\xe0rubbish", "unreadable", "damaged JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "unreadable" if "HEIF" in FORMATS else "refused", "HEIF"),
        (b"%PDF-1.7", "refused", "PDF"),
        (saved(PIXELS, "PPM"), "unreadable", "no image"),
        (saved(PIXELS, "ICO"), "refused", "icon"),
    ],
)
def test_what_is_no_image_is_named_in_one_sentence(data, kind, word):
    error = refusal(data)
    assert error.kind == kind and word in error.message
    assert error.message.startswith("found ") and ", expected a" in error.message and "\n" not in error.message


def test_what_a_decoder_says_is_told_on_one_line():
    assert one_line("a\n b\x1b\u202e" + "x" * 300) == "a b?\\u202e" + "x" * 190
    error = no_image_error(b"\x89PNG\r\n\x1a\n", "two\nlines\r\n")
    assert error.message == "found a damaged PNG file (two lines), expected a complete image"


@pytest.mark.parametrize(
    ("file_format", "options", "codec"),
    [
        ("GIF", {}, "png"),
        ("WEBP", {"lossless": True}, "png"),
        ("WEBP", {"lossless": True, "exif": EXIF}, "png"),
        ("WEBP", {}, "webp"),
        ("WEBP", {"exif": EXIF}, "webp"),
        pytest.param("AVIF", {}, "avif", marks=pytest.mark.skipif("AVIF" not in FORMATS, reason="no libavif")),
        ("TIFF", {"compression": "jpeg"}, "jpeg"),
        ("TIFF", {"compression": "tiff_lzw"}, "png"),
    ],
)
def test_codec_says_whether_pixels_were_lost(file_format, options, codec):
    decoded = decode(saved(PIXELS, file_format, **options))
    assert (decoded.format, decoded.codec, decoded.jpeg_quality) == (file_format, codec, None)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_quality_is_read_from_the_luminance_table(options):
    for quality in range(30, 99):
        assert decode(saved(PIXELS, "JPEG", quality=quality, **options)).jpeg_quality == quality
    grey = decode(saved(Image.fromarray(PIXELS).convert("L"), "JPEG", quality=75, **options))
    assert grey.jpeg_quality == 75 and grey.pixels.shape == (5, 7, 3)


def test_jpeg_quality_of_a_foreign_table_is_the_nearest():
    table = np.array(Image.open(io.BytesIO(saved(PIXELS, "JPEG", quality=80))).quantization[0])  # type: ignore[attr-defined]
    nearly = (table + np.arange(64) % 2).tolist()
    assert abs((decode(saved(PIXELS, "JPEG", qtables=[nearly, nearly])).jpeg_quality or 0) - 80) <= 2
