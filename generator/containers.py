"""What an image file's bytes say without decoding: its format, where its image ends, how lossy its coding was."""

import codecs
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from PIL import features


def _register_heif() -> bool:
    """Whether the extra `heif` is installed; then Pillow reads HEIC files through it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


FORMATS = (
    *("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"),
    *(["AVIF"] if features.check("avif") else []),
    *(["HEIF"] if _register_heif() else []),
)
EXPECTED = f"expected a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"

_KNOWN = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)
# What folders hold besides the formats that are read.
_FOREIGN = (
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive inside a folder or archive"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x01\x00", "an icon"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# A JPEG marker followed by a segment, or EOI: not stuffing (00), fill (FF), TEM (01), RSTn or SOI (D0-D8).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]", re.DOTALL)

# The luminance table of JPEG's Annex K, row by row.
_LUMINANCE = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


class ImageError(ValueError):
    """A file that gives no pixels. kind: "unreadable" | "refused"; message: one sentence, found X, expected Y."""

    def __init__(self, kind: Literal["unreadable", "refused"], message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def one_line(text: str) -> str:
    """What a decoder said, which may quote the file: printable ASCII on one line, 200 characters at most."""
    plain = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in plain)[:200]


def no_image_error(data: bytes, reason: str) -> ImageError:
    """The error for bytes that the decoder rejected: damaged, of a format that is not read, or no image at all.

    reason: what the decoder said, for a damaged file.
    """
    if name := _known_format(data):
        return ImageError("unreadable", f"found a damaged {name} file ({one_line(reason)}), expected a complete image")
    foreign = _foreign_format(data)
    if foreign is None:
        return ImageError("unreadable", f"found no image that can be recognised, {EXPECTED}")
    return ImageError("unreadable" if foreign in ("nothing", "text") else "refused", f"found {foreign}, {EXPECTED}")


def _known_format(data: bytes) -> str | None:
    for signature, name in _KNOWN:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if "HEIF" in FORMATS and data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return "AVIF" if data[4:12] in (b"ftypavif", b"ftypavis") else None


def _foreign_format(data: bytes) -> str | None:
    if not data:
        return "nothing"
    for signature, name in _FOREIGN:
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return "a HEIF image (read with the extra heif)" if data[8:12] in _HEIF_BRANDS else "a video"
    return "text" if _is_text(data[:1024]) else None


def _is_text(head: bytes) -> bool:
    try:
        # Incremental: the head may end inside a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)


def image_end(data: bytes, file_format: str) -> int:
    """The offset just after the image's last byte: PNG, JPEG and WEBP; len(data) for other formats, which don't say.

    Raises ImageError where the file stops before its image's end.
    """
    end: int | None = len(data)
    if file_format == "PNG":
        end = _png_end(data)
    elif file_format == "JPEG":
        end = _jpeg_end(data)
    elif file_format == "WEBP":
        end = 8 + int.from_bytes(data[4:8], "little")
    if end is None or end > len(data):
        raise ImageError("unreadable", f"found a truncated {file_format} file, expected a complete image")
    return end


def _png_end(data: bytes) -> int | None:
    position = 8
    while position + 12 <= len(data):
        chunk = data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        if chunk == b"IEND":
            return position
    return None


def _jpeg_end(data: bytes) -> int | None:
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        if match[0] == b"\xff\xd9":
            return match.end()
        # Skipping whole segments passes over the EOI of an embedded thumbnail.
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return None


def chunks(data: bytes, file_format: str) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of a file's top-level parts: PNG and WEBP chunks, JPEG segments before the pixels, AVIF boxes.

    HEIF is as AVIF; other formats have none. A part that the file's end cuts is the last, and short.
    """
    if file_format == "PNG":
        yield from _tagged(data, 8, "big", name_first=False, size_of_rest=4)
    elif file_format == "WEBP":
        yield from _tagged(data, 12, "little", name_first=True, size_of_rest=0)
    elif file_format in ("JPEG", "MPO"):
        yield from _jpeg_segments(data)
    elif file_format in ("AVIF", "HEIF"):
        yield from _boxes(data)


def _tagged(
    data: bytes, position: int, order: Literal["big", "little"], name_first: bool, size_of_rest: int
) -> Iterator[tuple[bytes, bytes]]:
    """Parts with a name and a size of 4 bytes each, padded to even lengths where the name comes first (RIFF)."""
    while position + 8 <= len(data):
        head = data[position : position + 4], data[position + 4 : position + 8]
        name, size = (head[0], head[1]) if name_first else (head[1], head[0])
        length = int.from_bytes(size, order)
        yield name, data[position + 8 : position + 8 + length]
        position += 8 + length + size_of_rest + (length % 2 if name_first else 0)


def _jpeg_segments(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 2
    while (match := _JPEG_MARKER.search(data, position)) and match[0] not in (b"\xff\xd9", b"\xff\xda"):
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        yield match[0], data[match.end() + 2 : match.end() + length]
        position = match.end() + max(length, 2)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """ISO/IEC 14496-12: size, type, and where size is 1 a longer size; 0 is up to the end."""
    position = 0
    while position + 8 <= len(data):
        size, start = int.from_bytes(data[position : position + 4], "big"), position + 8
        if size == 1:
            size, start = int.from_bytes(data[position + 8 : position + 16], "big"), position + 16
        end = len(data) if size == 0 else position + size
        if end < start:
            return
        yield data[position + 4 : position + 8], data[start:end]
        position = end


def is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP's pixels are in a VP8L (lossless) chunk rather than in VP8 (lossy)."""
    return next((name == b"VP8L" for name, _ in chunks(data, "WEBP") if name in (b"VP8L", b"VP8 ")), False)


def nearest_jpeg_quality(luminance: Sequence[int]) -> tuple[int, bool]:
    """The libjpeg quality, 1-100, whose standard luminance table is nearest; whether the tables are equal.

    luminance: the file's 64 quantisers, row by row; nearest in sum of absolute differences. Exact for files by libjpeg;
    an equivalent for other tables.
    """
    qualities = np.arange(1, 101)
    scale = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = ((_LUMINANCE * scale[:, None] + 50) // 100).clip(1, 255)
    distances = np.abs(tables - np.array(luminance)).sum(axis=1)
    return int(qualities[distances.argmin()]), bool(distances.min() == 0)
