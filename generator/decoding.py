"""Image files -> canonical pixels: 8-bit sRGB, upright, opaque; and from there to a generator's square.

Every change on the way is recorded, in order. Pillow is the only decoder. Its process-wide settings (pixel limit,
tolerance of truncation, warnings) are replaced while it works and restored after, under a lock.
"""

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import PIL
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, features

from generator.colour import Transform, composite, sample_layout, split_alpha, to_8_bit, to_srgb
from generator.containers import (
    FORMATS,
    ImageError,
    estimate_jpeg_quality,
    image_end,
    is_lossless_webp,
    no_image_error,
)

_LIBRARIES = {"PNG": "zlib", "JPEG": "libjpeg_turbo", "WEBP": "webp", "TIFF": "libtiff", "AVIF": "avif"}
_TIFF_CODECS = {"jpeg": "jpeg", "tiff_jpeg": "jpeg", "webp": "webp"}

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_LOCK = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: images above max_pixels, files above max_bytes."""

    max_pixels: int = 50_000_000
    max_bytes: int = 512 * 2**20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Decoded:
    """Canonical pixels, uint8 [height, width, 3] sRGB, and where they came from.

    codec: "png" for every lossless format, else "jpeg", "webp" or "avif". jpeg_quality: 1-100, None where the file has
    no luminance table to tell it from. transforms: JSON-able dicts with a "step", in the order they were applied.
    """

    pixels: np.ndarray = field(repr=False, compare=False)
    width: int
    height: int
    format: str
    codec: str
    jpeg_quality: int | None
    transforms: tuple[Transform, ...]


def pixels_sha256(pixels: np.ndarray) -> str:
    """SHA-256 (hex) of uint8 [H, W, 3] pixels: of b"<width>x<height>:" and then the RGB bytes, row by row."""
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """The bytes of an image file -> canonical pixels. Raises ImageError, and nothing else, for any bytes."""
    try:
        with _own_pillow_settings(limits) as caught:
            return _decode(data, limits, caught)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        # Pillow's sentence begins with the count; the plugin that refused knows no more.
        count = re.search(r"\d+", str(error))
        raise _too_large(int(count[0]) if count else limits.max_pixels + 1, limits) from error
    except Image.UnidentifiedImageError as error:
        raise no_image_error(data, "its header makes no sense") from error
    except Exception as error:  # hostile bytes make the plugins raise anything, from KeyError to MemoryError
        raise no_image_error(data, str(error) or type(error).__name__) from error


@contextmanager
def _own_pillow_settings(limits: Limits) -> Iterator[list[warnings.WarningMessage]]:
    """Pillow refuses above limits.max_pixels and on truncation; yields the list that its warnings go to."""
    with _PILLOW_LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        # Pillow raises above twice its limit, and only warns below.
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = (limits.max_pixels + 1) // 2, False
        try:
            yield caught
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _too_large(pixels: int, limits: Limits) -> ImageError:
    return ImageError("refused", f"found an image of {pixels:,} pixels, expected at most {limits.max_pixels:,}")


def _open(data: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _decode(data: bytes, limits: Limits, caught: list[warnings.WarningMessage]) -> Decoded:
    image = _open(data)
    if image.width * image.height > limits.max_pixels:
        raise _too_large(image.width * image.height, limits)
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ImageError("refused", f"found {frames} frames or pages in one file, expected a single image")
    file_format = str(image.format)
    end = image_end(data, file_format)
    if file_format == "PNG":
        _open(data).verify()  # checksums: loading alone skips those of the image data
    codec, jpeg_quality = _codec(data, image)
    steps = [_decode_step(image)]
    rgb = _canonical_pixels(data, image, steps)
    if end < len(data):
        digest = hashlib.sha256(data[end:]).hexdigest()
        steps.append({"step": "trailing_bytes", "count": len(data) - end, "sha256": digest})
    messages = [str(w.message) for w in caught if not issubclass(w.category, Image.DecompressionBombWarning)]
    steps += [{"step": "decoder_warning", "message": message} for message in dict.fromkeys(messages)]
    height, width, _ = rgb.shape
    return Decoded(rgb, width, height, file_format, codec, jpeg_quality, tuple(steps))


def _decode_step(image: ImageFile.ImageFile) -> Transform:
    """What was decoded with which library: JPEG decoding differs between versions."""
    libraries = {"pillow": PIL.__version__}
    if (library := _LIBRARIES.get(str(image.format))) and (version := features.version(library)):
        libraries[library] = version
    return {"step": "decode", "mode": image.mode, "size": list(image.size), "libraries": libraries}


def _codec(data: bytes, image: ImageFile.ImageFile) -> tuple[str, int | None]:
    """(codec, JPEG quality or None) of an opened, not yet loaded file."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        table = image.layer[0][3]
        return "jpeg", estimate_jpeg_quality(image.quantization[table])
    if image.format == "WEBP":
        return ("png" if is_lossless_webp(data) else "webp"), None
    if image.format == "AVIF":
        return "avif", None
    return _TIFF_CODECS.get(str(image.info.get("compression")), "png"), None


def _canonical_pixels(data: bytes, image: ImageFile.ImageFile, steps: list[Transform]) -> np.ndarray:
    """Samples to 8 bits, colours to sRGB, alpha onto the background, then upright: uint8 [H, W, 3]."""
    layout = sample_layout(image)
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    # Pillow turns a TIFF upright while it loads and then forgets the tag.
    orientation = image.tag_v2.get(_ORIENTATION_TAG) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    image.load()
    orientation = orientation if is_tiff else _exif_orientation(image, steps)
    icc = image.info.get("icc_profile")
    opaque, alpha = split_alpha(to_8_bit(image, layout, lambda: _open(data), steps))
    rgb = np.asarray(to_srgb(opaque, icc, steps))
    if alpha is not None:
        rgb = composite(rgb, alpha, steps)
    if orientation in _UPRIGHT:
        steps.append({"step": "exif_orientation", "orientation": orientation})
        if not is_tiff:
            rgb = np.asarray(Image.fromarray(rgb).transpose(_UPRIGHT[orientation]))
    return np.ascontiguousarray(rgb)


def _exif_orientation(image: ImageFile.ImageFile, steps: list[Transform]) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    except Exception as error:  # damaged EXIF raises anything, and is no reason to give up good pixels
        steps.append({"step": "exif_ignored", "reason": type(error).__name__})
        return None


def square_side(width: int, height: int, shape: str) -> int:
    """The side in pixels of the square that `fit_square` makes of an image, before it is resized.

    Raises ImageError ("refused") for an image that is not square where shape is "refuse", ValueError for an unknown
    shape.
    """
    if shape not in ("refuse", "crop", "letterbox"):
        raise ValueError(f"shape: found {shape!r}, expected refuse, crop or letterbox")
    if shape == "refuse" and width != height:
        raise ImageError(
            "refused", f"found {width} x {height} pixels, expected a square image unless --crop or --letterbox is given"
        )
    return min(width, height) if shape == "crop" else max(width, height)


def fit_square(pixels: np.ndarray, resolution: int, shape: str = "refuse") -> tuple[np.ndarray, tuple[Transform, ...]]:
    """uint8 [H, W, 3] -> (uint8 [resolution, resolution, 3], what was done), never stretched.

    "crop" takes the centre square; "letterbox" puts black bars beside the whole image, which loses less than one row or
    column of the result where the bars' edge does not fall on a pixel. Resizing is Pillow's antialiased Lanczos.
    Raises ImageError ("refused") for an image that is not square and shape "refuse".
    """
    height, width, _ = pixels.shape
    side = square_side(width, height, shape)
    steps: list[Transform] = []
    image = Image.fromarray(pixels)
    if shape == "crop" and width != height:
        left, top = (width - side) // 2, (height - side) // 2
        steps.append({"step": "crop", "box": [left, top, left + side, top + side]})
        image = image.crop((left, top, left + side, top + side))
    inner = max(1, image.width * resolution // side), max(1, image.height * resolution // side)
    if inner != image.size:
        # The centre part whose shape is exactly the inner one's.
        x = max(0.0, (image.width - inner[0] * side / resolution) / 2)
        y = max(0.0, (image.height - inner[1] * side / resolution) / 2)
        box = (x, y, image.width - x, image.height - y)
        steps.append({"step": "resize", "filter": "lanczos", "box": list(box), "to": list(inner)})
        image = image.resize(inner, Image.Resampling.LANCZOS, box=box)
    if inner[0] != inner[1]:
        corner = (resolution - inner[0]) // 2, (resolution - inner[1]) // 2
        steps.append({"step": "letterbox", "bars": [0, 0, 0], "corner": list(corner)})
        canvas = Image.new("RGB", (resolution, resolution))
        canvas.paste(image, corner)
        image = canvas
    return np.asarray(image), tuple(steps)
