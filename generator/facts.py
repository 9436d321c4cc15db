"""What an image file says besides its pixels: metadata, quantisation tables, thumbnail, trailing bytes, C2PA.

Facts for the examiner to read. Metadata can be written by anyone: nothing here has a part in any verdict.
"""

import hashlib
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, JpegImagePlugin, TiffImagePlugin

from generator.containers import chunks, nearest_jpeg_quality, one_line
from generator.credentials import read_manifest
from generator.decoding import DEFAULT_LIMITS, UPRIGHT, Decoded, Limits, decode, open_image, own_pillow_settings

Facts = dict[str, Any]

_LONGEST_TEXT = 200
_THUMBNAIL_LIMITS = Limits(max_pixels=4_000_000)
THUMBNAIL_TOLERANCE = 25.0  # grey levels in the mean; the same picture, made small and coded again, is within 10

# Which application wrote the file, as EXIF has it.
_NAMED_TAGS = {
    "make": ExifTags.Base.Make,
    "model": ExifTags.Base.Model,
    "software": ExifTags.Base.Software,
    "date_time": ExifTags.Base.DateTime,
}
_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # of the box that holds a manifest in AVIF and HEIF
_C2PA_TIFF_TAG = 52545
_C2PA_GIF = b"\x21\xff\x0bC2PA_GIF"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"


def read_facts(data: bytes, decoded: Decoded) -> Facts:
    """The facts of a file that was decoded, JSON-able; never raises.

    Keys exif, icc, xmp, jpeg, thumbnail, trailing_bytes, c2pa: an object each, None where the file has none.
    enlarged_by: `block_side` of the pixels, None where that is 1. problems: which of all these could not be read.
    """
    names = ("exif", "icc", "xmp", "jpeg", "thumbnail", "trailing_bytes", "c2pa", "enlarged_by")
    facts: Facts = dict.fromkeys(names)
    problems: list[str] = []

    def collect(name: str, read: Callable[[], Any]) -> None:
        try:
            facts[name] = read()
        except Exception as error:  # hostile metadata raises anything, and is no reason to lose the rest
            problems.append(f"{name}: {type(error).__name__}")

    try:
        with own_pillow_settings(DEFAULT_LIMITS):
            image = open_image(data)
            exif, xmp = _blobs(data, image)
            collect("exif", lambda: _exif(image, exif))
            collect("icc", lambda: _icc(image.info.get("icc_profile")))
            collect("xmp", lambda: _blob(xmp))
            collect("jpeg", lambda: _jpeg(image))
            collect("c2pa", lambda: _c2pa(data, image, xmp))
    except Exception as error:
        problems.append(f"file: {type(error).__name__}")
        return facts | {"problems": problems}
    collect("thumbnail", lambda: _thumbnail(exif, decoded))
    collect("enlarged_by", lambda: side if (side := block_side(decoded.pixels)) > 1 else None)
    trailing = next((t for t in decoded.transforms if t["step"] == "trailing_bytes"), None)
    facts["trailing_bytes"] = trailing and {"count": trailing["count"], "sha256": trailing["sha256"]}
    return facts | {"problems": problems}


def _blobs(data: bytes, image: ImageFile.ImageFile) -> tuple[bytes | None, bytes | None]:
    """The bytes of EXIF and XMP; those of a PNG may follow the pixels, where Pillow has not been yet."""
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if image.format == "PNG":
        for name, content in chunks(data, "PNG"):
            if name == b"eXIf":
                exif = exif or content
            elif name == b"iTXt" and content.startswith(_XMP_KEYWORD):
                xmp = xmp or content[len(_XMP_KEYWORD) :]
    return exif, xmp.encode() if isinstance(xmp, str) else xmp


def _blob(blob: bytes | None) -> Facts | None:
    return {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()} if blob else None


def _exif(image: ImageFile.ImageFile, blob: bytes | None) -> Facts | None:
    tags: Any
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # whose own tags those of EXIF are
        tags = image.tag_v2
        if not any(tag in tags for tag in (*_NAMED_TAGS.values(), ExifTags.IFD.Exif)):
            return None
    else:
        if not blob:
            return None
        tags = Image.Exif()
        tags.load(blob)
    named = {name: _text(tags.get(tag)) for name, tag in _NAMED_TAGS.items()}
    return (_blob(blob) or {"bytes": None, "sha256": None}) | {"tags": len(tags)} | named


def _text(value: Any) -> str | None:
    """Text from the file, short and valid Unicode; None for anything else."""
    if not isinstance(value, str):
        return None
    return value.strip("\0 ")[:_LONGEST_TEXT].encode("utf-8", "backslashreplace").decode("utf-8") or None


def _icc(profile: bytes | None) -> Facts | None:
    if not profile:
        return None
    try:
        description = _text(ImageCms.getProfileDescription(ImageCms.getOpenProfile(io.BytesIO(profile))))
    except (ImageCms.PyCMSError, OSError, ValueError):
        description = None
    return (_blob(profile) or {}) | {"description": description}


def _jpeg(image: ImageFile.ImageFile) -> Facts | None:
    """Quantisation tables row by row in the order of their numbers; the quality is that of the luminance table."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    tables = image.quantization
    quality, standard = nearest_jpeg_quality(tables[image.layer[0][3]])
    return {
        "quality": quality,
        "standard_table": standard,
        "tables": [list(map(int, tables[key])) for key in sorted(tables)],
        "progressive": bool(image.info.get("progressive")),
        "subsampling": _SUBSAMPLING.get(JpegImagePlugin.get_sampling(image)),
    }


def _thumbnail(exif: bytes | None, decoded: Decoded) -> Facts | None:
    """EXIF's embedded thumbnail and how far it is from the image, in grey levels."""
    blob = _thumbnail_bytes(exif) if exif else None
    if not blob:
        return None
    thumbnail = decode(blob, _THUMBNAIL_LIMITS)
    pixels = thumbnail.pixels
    turn = next((t["orientation"] for t in decoded.transforms if t["step"] == "exif_orientation"), 1)
    if turn in UPRIGHT and not any(t["step"] == "exif_orientation" for t in thumbnail.transforms):
        pixels = np.asarray(Image.fromarray(pixels).transpose(UPRIGHT[turn]))
    difference = thumbnail_difference(pixels, decoded.pixels)
    return {
        "width": thumbnail.width,
        "height": thumbnail.height,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "mean_difference": round(difference, 2),
        "differs": difference > THUMBNAIL_TOLERANCE,
    }


def _thumbnail_bytes(exif: bytes) -> bytes | None:
    tags = Image.Exif()
    tags.load(exif)
    first = tags.get_ifd(ExifTags.IFD.IFD1)
    start, length = first.get(ExifTags.Base.JpegIFOffset), first.get(ExifTags.Base.JpegIFByteCount)
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    body = exif.removeprefix(b"Exif\0\0")
    return body[start : start + length]


def thumbnail_difference(thumbnail: np.ndarray, pixels: np.ndarray) -> float:
    """Mean absolute difference in grey levels (0-255) between a thumbnail and its image, both uint8 [H, W, 3].

    The image is made as small as the thumbnail, once with bars and once cropped where their shapes differ, as cameras
    and programs do; the smaller difference counts.
    """
    small, large = (Image.fromarray(p).convert("L") for p in (thumbnail, pixels))
    wide = large.width * small.height > small.width * large.height
    # With bars: the whole image fills the thumbnail's longer side.
    inner = (
        (small.width, max(1, round(small.width * large.height / large.width)))
        if wide
        else (max(1, round(small.height * large.width / large.height)), small.height)
    )
    left, top = (small.width - inner[0]) // 2, (small.height - inner[1]) // 2
    barred = small.crop((left, top, left + inner[0], top + inner[1]))
    # Cropped: the middle of the image has the thumbnail's shape.
    side = (
        (large.height * small.width / small.height, float(large.height))
        if wide
        else (float(large.width), large.width * small.height / small.width)
    )
    x, y = (large.width - side[0]) / 2, (large.height - side[1]) / 2
    middle = large.resize(small.size, Image.Resampling.BOX, box=(x, y, x + side[0], y + side[1]))
    pairs = ((barred, large.resize(inner, Image.Resampling.BOX)), (small, middle))
    return min(float(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).mean()) for a, b in pairs)


def block_side(pixels: np.ndarray) -> int:
    """The largest k for which uint8 [H, W, 3] pixels are k x k blocks of one colour each; 1 for a single colour.

    Above 1 a smaller image was enlarged by repeating its pixels.
    """
    rows = np.flatnonzero((pixels[1:] != pixels[:-1]).any(axis=(1, 2))) + 1
    columns = np.flatnonzero((pixels[:, 1:] != pixels[:, :-1]).any(axis=(0, 2))) + 1
    if len(rows) + len(columns) == 0:
        return 1
    return math.gcd(pixels.shape[0], pixels.shape[1], *map(int, rows), *map(int, columns))


def _c2pa(data: bytes, image: ImageFile.ImageFile, xmp: bytes | None) -> Facts | None:
    """Whether the file has a box for a C2PA manifest, or names one elsewhere; manifest: what the extra reads of it."""
    box, size = _c2pa_box(data, image)
    remote = b"dcterms:provenance" in (xmp or b"")
    if not box and not remote:
        return None
    facts: Facts = {"box": box, "bytes": size, "remote_reference": remote, "manifest": None, "problem": None}
    try:
        facts["manifest"] = read_manifest(data, str(image.format)) if box else None
    except Exception as error:  # c2pa's own exceptions, and what an odd manifest's JSON leads to
        facts["problem"] = one_line(str(error) or type(error).__name__)
    return facts


def _c2pa_box(data: bytes, image: ImageFile.ImageFile) -> tuple[str | None, int]:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        content = image.tag_v2.get(_C2PA_TIFF_TAG)
        return ("TIFF tag 52545", len(content)) if isinstance(content, bytes) else (None, 0)
    if image.format == "GIF":
        return ("GIF application extension", 0) if _C2PA_GIF in data else (None, 0)
    found = [(name, len(content)) for name, content in chunks(data, str(image.format)) if _is_c2pa(name, content)]
    names = {b"\xff\xeb": "JPEG APP11 (JUMBF)", b"caBX": "PNG caBX", b"C2PA": "WEBP C2PA", b"uuid": "uuid box"}
    return (names[found[0][0]], sum(size for _, size in found)) if found else (None, 0)


def _is_c2pa(name: bytes, content: bytes) -> bool:
    if name == b"\xff\xeb":  # ISO 19566-5: common identifier JP, box instance, sequence number, then the box
        return content[:2] == b"JP" and content[12:16] == b"jumb"
    return name in (b"caBX", b"C2PA") or (name == b"uuid" and content.startswith(_C2PA_UUID))
