"""Wide samples, profiles and transparency -> 8-bit sRGB, against explicit arithmetic and known colours."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from generator.decoding import decode
from tests.image_files import PIXELS, chunk, png, refusal, saved, step

RNG = np.random.default_rng(1)
RED = np.full((4, 4, 3), (255, 0, 0), np.uint8)


def png_16(samples: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png((width, height, 16, colour_type), rows, extra)


def tiff(samples: np.ndarray, order: str = "<", tags: dict[int, int] | None = None, deflate: bool = False) -> bytes:
    """An interleaved TIFF by hand, uncompressed or deflated; `tags` replaces or adds SHORT tags."""
    height, width, bands = samples.shape
    body = samples.astype(f"{order}u{samples.itemsize}").tobytes()
    body = zlib.compress(body) if deflate else body
    entries = {256: width, 257: height, 259: 8 if deflate else 1, 262: 1 if bands == 1 else 2, 277: bands, 278: height}
    entries |= tags or {}
    rows = [(tag, 3, 1, value) for tag, value in entries.items()]
    rows += [(273, 4, 1, 8), (279, 4, 1, len(body))]
    bits = struct.pack(order + f"{bands}H", *[samples.dtype.itemsize * 8] * bands)
    rows.append((258, 3, bands, 8 + len(body) if bands > 2 else samples.dtype.itemsize * 8))
    directory = struct.pack(order + "H", len(rows))
    for tag, kind, count, value in sorted(rows):
        inline = struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value)
        directory += struct.pack(order + "HHI", tag, kind, count) + inline
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(body) + len(bits))
    return start + body + bits + directory + b"\0\0\0\0"


def scaled(samples: np.ndarray) -> np.ndarray:
    return np.round(samples.astype(np.float64) * 255 / 65535).astype(np.uint8)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    a = alpha[..., None] / 255.0
    return np.round(colour * a + 255 * (1 - a)).astype(np.uint8)


def swapped_profile() -> bytes:
    """sRGB with the red and green primaries exchanged: pure red in it is pure green in sRGB."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return icc.replace(b"rXYZ", b"----", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"----", b"gXYZ", 1)


def cyan_is_black_profile() -> bytes:
    """A CMYK profile in which full cyan alone is black and every other ink is invisible."""
    nodes = b"".join(bytes([0, 128, 128]) if i >= 8 else bytes([255, 128, 128]) for i in range(16))
    identity, matrix = bytes(range(256)), struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + nodes + identity * 3
    size = 132 + 12 + len(lut)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp")
    head += bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D) + bytes(48)
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut


@pytest.mark.parametrize(("bands", "colour_type"), [(1, 0), (3, 2), (2, 4), (4, 6)])
def test_16_bit_png_is_scaled_not_truncated(bands, colour_type):
    samples = RNG.integers(0, 65536, (5, 7, bands), dtype=np.uint16)
    decoded = decode(png_16(samples, colour_type))
    colour = np.repeat(scaled(samples[..., :1]), 3, -1) if bands < 3 else scaled(samples[..., :3])
    expected = on_white(colour, scaled(samples[..., -1])) if bands in (2, 4) else colour
    assert np.array_equal(decoded.pixels, expected)
    assert step(decoded, "scale_16_bit")


def test_every_16_bit_value_goes_to_the_nearest_8_bit_one():
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.array_equal(decode(png_16(samples, 0)).pixels[..., :1], scaled(samples))
    assert np.array_equal(decode(png_16(np.repeat(samples, 3, -1), 2)).pixels, np.repeat(scaled(samples), 3, -1))


def test_8_bit_pixels_survive_16_bits():
    assert np.array_equal(decode(png_16(PIXELS.astype(np.uint16) * 257, 2)).pixels, PIXELS)


def test_16_bit_png_key_colour_is_compared_in_16_bits():
    samples = np.full((1, 2, 3), 0x1234, np.uint16)
    samples[0, 1, 2] += 1
    decoded = decode(png_16(samples, 2, chunk(b"tRNS", struct.pack(">3H", *samples[0, 0]))))
    assert decoded.pixels.tolist() == [[[255, 255, 255], [0x12, 0x12, 0x12]]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("bands", [1, 3])
def test_16_bit_tiff_is_scaled_not_truncated(order, deflate, bands):
    samples = RNG.integers(0, 65536, (5, 7, bands), dtype=np.uint16)
    decoded = decode(tiff(samples, order, deflate=deflate))
    assert np.array_equal(decoded.pixels, np.broadcast_to(scaled(samples), (5, 7, 3)))


@pytest.mark.parametrize("tags", [{262: 0}, {339: 2}])
def test_16_bit_tiff_that_pillow_misreads_is_refused(tags):
    error = refusal(tiff(np.zeros((2, 2, 1), np.uint16), tags=tags))
    assert error.kind == "refused" and "16-bit" in error.message


def test_signed_samples_are_refused():
    assert refusal(tiff(np.zeros((2, 2, 1), np.uint8), tags={339: 2})).kind == "refused"
    assert decode(tiff(np.full((2, 2, 1), 7, np.uint8))).pixels.max() == 7


def test_32_bit_samples_are_refused():
    error = refusal(saved(Image.new("F", (3, 3)), "TIFF"))
    assert error.kind == "refused" and "32-bit" in error.message


def test_icc_profile_changes_colours_and_is_recorded():
    decoded = decode(saved(RED, icc_profile=swapped_profile()))
    assert np.abs(decoded.pixels.astype(int) - (0, 255, 0)).max() <= 1
    assert step(decoded, "icc")["profile_sha256"] == hashlib.sha256(swapped_profile()).hexdigest()


def test_icc_profile_of_srgb_changes_nothing_and_keeps_alpha():
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(decode(saved(PIXELS, icc_profile=icc)).pixels.astype(int) - PIXELS).max() <= 1
    clear = np.dstack([RED, np.zeros((4, 4), np.uint8)])
    assert (decode(saved(clear, icc_profile=icc)).pixels == 255).all()


def test_grey_pixels_may_carry_an_rgb_profile():
    decoded = decode(saved(Image.new("L", (4, 4), 90), icc_profile=swapped_profile()))
    assert step(decoded, "icc") and np.abs(decoded.pixels.astype(int) - 90).max() <= 1


def test_cmyk_goes_through_its_profile():
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    decoded = decode(saved(image, "TIFF", icc_profile=cyan_is_black_profile()))
    assert decoded.pixels.max() <= 2
    assert step(decoded, "icc")["from"] == "CMYK"


def test_cmyk_without_profile_uses_the_plain_formula_and_says_so():
    decoded = decode(saved(Image.new("CMYK", (2, 2), (255, 0, 0, 51)), "TIFF"))
    assert decoded.pixels[0, 0].tolist() == [0, 204, 204]
    assert step(decoded, "cmyk_without_profile")


@pytest.mark.parametrize("icc", [b"not a profile", cyan_is_black_profile()])
def test_profile_that_does_not_fit_is_ignored_and_recorded(icc):
    decoded = decode(saved(PIXELS, "TIFF", icc_profile=icc))
    assert np.array_equal(decoded.pixels, PIXELS)
    assert step(decoded, "icc_ignored")["profile_sha256"] == hashlib.sha256(icc).hexdigest()


@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_is_composited_on_white_and_flagged(bands):
    samples = RNG.integers(0, 256, (9, 8, bands), dtype=np.uint8)
    decoded = decode(saved(samples))
    colour = np.repeat(samples[..., :1], 3, -1) if bands == 2 else samples[..., :3]
    assert np.array_equal(decoded.pixels, on_white(colour, samples[..., -1]))
    flag = step(decoded, "alpha_composite")
    assert flag["background"] == [255, 255, 255]
    assert flag["transparent_pixels"] == (samples[..., -1] < 255).sum()


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_transparent_palette_entry_becomes_white(file_format):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    decoded = decode(saved(image, file_format, transparency=1))
    assert decoded.pixels.tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert step(decoded, "alpha_composite")["transparent_pixels"] == 1


@pytest.mark.parametrize(("depth", "row", "key"), [(1, 0b10000000, 1), (2, 0b10010000, 2), (4, 0x93, 9)])
def test_key_grey_of_a_png_with_few_bits(depth, row, key):
    decoded = decode(png((2, 1, depth, 0), bytes([0, row]), chunk(b"tRNS", struct.pack(">H", key))))
    other = {1: 0, 2: 1 * 85, 4: 3 * 17}[depth]
    assert decoded.pixels.tolist() == [[[255] * 3, [other] * 3]]
