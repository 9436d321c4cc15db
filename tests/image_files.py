"""Real image files for the tests of decoding: by Pillow where it can write them, by hand where it can't."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from generator.containers import ImageError
from generator.decoding import Decoded, Limits, decode

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def saved(image: Image.Image | np.ndarray, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def png(header: tuple[int, int, int, int], rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: header is (width, height, bit depth, colour type), rows the filtered scanlines."""
    ihdr = struct.pack(">IIBBBBB", *header, 0, 0, 0)
    chunks = chunk(b"IHDR", ihdr) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def step(decoded: Decoded, name: str) -> dict:
    found = [t for t in decoded.transforms if t["step"] == name]
    assert len(found) == 1, decoded.transforms
    return found[0]


def names(decoded: Decoded) -> list[str]:
    return [t["step"] for t in decoded.transforms]


def refusal(data: bytes, limits: Limits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, limits or Limits())
    return caught.value
