"""Image files -> canonical pixels: 8-bit sRGB, upright, opaque; and from there to a generator's square.

Every change on the way is recorded, in order. Pillow is the only decoder. Its process-wide settings (pixel limit,
tolerance of truncation, warnings) are replaced while it works and restored after, under a lock.
"""

import hashlib
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, features

from generator.colour import Transform, composite, sample_layout, split_alpha, to_8_bit, to_srgb
from generator.containers import (
    FORMATS,
    ImageError,
    image_end,
    is_lossless_webp,
    nearest_jpeg_quality,
    no_image_error,
    one_line,
)

_LIBRARIES = {"PNG": "zlib", "JPEG": "libjpeg_turbo", "WEBP": "webp", "TIFF": "libtiff", "AVIF": "avif"}
_LIBRARIES["MPO"] = _LIBRARIES["JPEG"]
_TIFF_CODECS = {"jpeg": "jpeg", "tiff_jpeg": "jpeg", "webp": "webp"}

_ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MOST_WARNINGS = 20  # a hostile file can cause any number
_PILLOW_LOCK = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: images above max_pixels, files above max_bytes.

    seconds (of processor time) and max_memory bound the decoding of a file where it runs in a process of its own.
    """

    max_pixels: int = 50_000_000
    max_bytes: int = 512 * 2**20
    seconds: float = 60.0

    @property
    def max_memory(self) -> int:
        """Bytes of address space: what the largest image takes that the other limits admit, at 16 bits with alpha."""
        return 2**29 + 2 * self.max_bytes + 64 * self.max_pixels

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name}: found {value}, expected more than 0")


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Decoded:
    """Canonical pixels, uint8 [height, width, 3] sRGB, and where they came from.

    codec: "png" for every lossless format, else "jpeg", "webp", "avif" or "heif". jpeg_quality: 1-100, None where the
    file has no luminance table to tell it from. transforms: JSON-able dicts with a "step", in the order of their use.
    facts: what else the file says (`generator.facts`), None where nobody asked.
    """

    pixels: np.ndarray = field(repr=False, compare=False)
    width: int
    height: int
    format: str
    codec: str
    jpeg_quality: int | None
    transforms: tuple[Transform, ...]
    facts: dict[str, Any] | None = field(default=None, compare=False)


def pixels_sha256(pixels: np.ndarray) -> str:
    """SHA-256 (hex) of uint8 [H, W, 3] pixels: of b"<width>x<height>:" and then the RGB bytes, row by row."""
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, frame: int | None = None) -> Decoded:
    """The bytes of an image file -> canonical pixels. Raises ImageError, and nothing else, for any bytes.

    frame: which to take of a file with several frames or pages, counted from 1; None refuses such files.
    """
    try:
        with own_pillow_settings(limits) as caught:
            return _decode(data, limits, frame, caught)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        # Pillow's sentence begins with the count; the plugin that refused knows no more.
        count = re.search(r"\d+", str(error))
        raise _too_large(int(count[0]) if count else limits.max_pixels + 1, limits) from error
    except Image.UnidentifiedImageError as error:
        raise no_image_error(data, "its header makes no sense") from error
    except MemoryError as error:
        raise ImageError("refused", f"found an image that {out_of_memory(limits)}") from error
    except Exception as error:  # hostile bytes make the plugins raise anything, from KeyError to MemoryError
        raise no_image_error(data, str(error) or type(error).__name__) from error


@contextmanager
def own_pillow_settings(limits: Limits) -> Iterator[list[warnings.WarningMessage]]:
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


def out_of_memory(limits: Limits) -> str:
    """The end of the sentence about an image that takes too much memory."""
    return f"takes more memory to decode than there is, expected at most {limits.max_memory / 2**20:,.0f} MiB"


def _too_large(pixels: int, limits: Limits) -> ImageError:
    return ImageError("refused", f"found an image of {pixels:,} pixels, expected at most {limits.max_pixels:,}")


def open_image(data: bytes) -> ImageFile.ImageFile:
    """The image as Pillow opens it, from its header only. Raises whatever the plugins raise."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _open(data: bytes, limits: Limits, frame: int | None) -> ImageFile.ImageFile:
    """The opened image, or the chosen frame of several, neither larger than the limit."""
    image = open_image(data)
    _require_size(image, limits)
    if (frames := getattr(image, "n_frames", 1)) > 1:
        if frame is None:
            expected = "expected a single image, or the choice of one with --frame"
            raise ImageError("refused", f"found {frames} frames or pages in one file, {expected}")
        if frame > frames:
            raise ImageError("refused", f"found {frames} frames or pages in one file, expected at least {frame}")
        image.seek(frame - 1)
        _require_size(image, limits)
    return image


def _require_size(image: ImageFile.ImageFile, limits: Limits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise _too_large(image.width * image.height, limits)


def _decode(data: bytes, limits: Limits, frame: int | None, caught: list[warnings.WarningMessage]) -> Decoded:
    image = _open(data, limits, frame)
    file_format = str(image.format)
    end = image_end(data, file_format)
    if file_format == "PNG":
        open_image(data).verify()  # checksums: loading alone skips those of the image data
    codec, jpeg_quality = _codec(data, image)
    steps = [_decode_step(image)]
    if (frames := getattr(image, "n_frames", 1)) > 1:
        steps.append({"step": "frame", "frame": frame, "of": frames})
    rgb = _canonical_pixels(image, lambda: _open(data, limits, frame), steps)
    if end < len(data):
        digest = hashlib.sha256(data[end:]).hexdigest()
        steps.append({"step": "trailing_bytes", "count": len(data) - end, "sha256": digest})
    messages = [one_line(str(w.message)) for w in caught if not issubclass(w.category, Image.DecompressionBombWarning)]
    steps += [{"step": "decoder_warning", "message": m} for m in list(dict.fromkeys(messages))[:MOST_WARNINGS]]
    height, width, _ = rgb.shape
    return Decoded(rgb, width, height, file_format, codec, jpeg_quality, tuple(steps))


def _decode_step(image: ImageFile.ImageFile) -> Transform:
    """What was decoded with which library: JPEG decoding differs between versions."""
    libraries = {"pillow": PIL.__version__}
    if (library := _LIBRARIES.get(str(image.format))) and (version := features.version(library)):
        libraries[library] = version
    if image.format == "HEIF":
        import pillow_heif

        libraries |= {"pillow_heif": pillow_heif.__version__, "libheif": pillow_heif.libheif_version()}
    return {"step": "decode", "mode": image.mode, "size": list(image.size), "libraries": libraries}


def _codec(data: bytes, image: ImageFile.ImageFile) -> tuple[str, int | None]:
    """(codec, JPEG quality or None) of an opened, not yet loaded file."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        table = image.layer[0][3]
        return "jpeg", nearest_jpeg_quality(image.quantization[table])[0]
    if image.format == "WEBP":
        return ("png" if is_lossless_webp(data) else "webp"), None
    if image.format in ("AVIF", "HEIF"):
        return str(image.format).lower(), None
    return _TIFF_CODECS.get(str(image.info.get("compression")), "png"), None


def _canonical_pixels(
    image: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile], steps: list[Transform]
) -> np.ndarray:
    """Samples to 8 bits, colours to sRGB, alpha onto the background, then upright: uint8 [H, W, 3]."""
    layout = sample_layout(image)
    is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
    # Pillow turns a TIFF upright while it loads and then forgets the tag.
    orientation = image.tag_v2.get(_ORIENTATION_TAG) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    image.load()
    orientation = orientation if is_tiff else _exif_orientation(image, steps)
    if image.format == "HEIF":
        steps += _libheif_steps(image.info)
    icc = image.info.get("icc_profile")
    opaque, alpha = split_alpha(to_8_bit(image, layout, reopen, steps))
    rgb = np.asarray(to_srgb(opaque, icc, steps))
    if alpha is not None:
        rgb = composite(rgb, alpha, steps)
    if orientation in UPRIGHT:
        steps.append({"step": "exif_orientation", "orientation": orientation})
        if not is_tiff:
            rgb = np.asarray(Image.fromarray(rgb).transpose(UPRIGHT[orientation]))
    return np.ascontiguousarray(rgb)


def _libheif_steps(info: dict[Any, Any]) -> list[Transform]:
    """What libheif did by itself: it follows the container's rotation, not EXIF's, and makes 8 bits of more."""
    steps: list[Transform] = []
    if info.get("original_orientation") in UPRIGHT:
        rule = "as the HEIF container says, whatever EXIF says"
        steps.append({"step": "heif_orientation", "exif_orientation": info["original_orientation"], "rule": rule})
    if info.get("bit_depth", 8) > 8:
        steps.append({"step": "heif_to_8_bit", "bits": info["bit_depth"]})
    return steps


def _exif_orientation(image: ImageFile.ImageFile, steps: list[Transform]) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    except Exception as error:  # damaged EXIF raises anything, and is no reason to give up good pixels
        steps.append({"step": "exif_ignored", "reason": type(error).__name__})
        return None
