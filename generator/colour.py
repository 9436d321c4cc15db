"""An opened Pillow image -> 8-bit sRGB without alpha. Each function appends what it did to `steps`."""

import hashlib
import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin

from generator.containers import ImageError, one_line

Transform = dict[str, Any]

BACKGROUND = (255, 255, 255)

# Pillow unpacks one byte of each 16-bit colour sample. Naming the other byte order makes it unpack the other byte.
_LITTLE, _BIG = ("RGB;16L", "RGBA;16L"), ("RGB;16B", "RGBA;16B")
_NATIVE = ("RGB;16N", "RGBA;16N")
_LOW_BYTES = dict(zip(_LITTLE + _BIG, _BIG + _LITTLE, strict=True))
_LOW_BYTES |= dict(zip(_NATIVE, _BIG if sys.byteorder == "little" else _LITTLE, strict=True))
_GREY_16 = ("I;16", "I;16B", "I;16N")

# Modes without and with transparency that keep every 8-bit value; a key colour or palette alpha becomes a band.
_OPAQUE = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBX": "RGB", "YCbCr": "RGB", "CMYK": "CMYK"}
_ALPHA = {"1": "LA", "L": "LA", "LA": "LA", "La": "LA", "P": "RGBA", "PA": "RGBA"}
_ALPHA |= {"RGB": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}


def sample_layout(image: ImageFile.ImageFile) -> str:
    """How a PNG's or TIFF's samples are stored, in Pillow's rawmode names, read before the image is loaded.

    "" for other formats: theirs are 8 bits wide for Pillow. Raises ImageError where Pillow would misread them.
    """
    if image.format not in ("PNG", "TIFF"):
        return ""
    args = image.tile[0].args
    layout = str(args[0] if isinstance(args, tuple) else args)
    if image.format == "PNG" and "16" in layout and getattr(image, "n_frames", 1) > 1:
        raise ImageError("refused", "found a PNG animation of 16-bit samples, expected samples of 8 bits")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
        sample_formats = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
        # Pillow neither inverts 16-bit WhiteIsZero nor reads 16-bit samples in planes.
        plain_16 = (
            bits == 16
            and layout in (*_LOW_BYTES, *_GREY_16)
            and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (1, 2)
            and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 1
        )
        if sample_formats != {1} or not (bits <= 8 or plain_16):
            found = f"{bits}-bit samples (format {max(sample_formats)}, layout {layout})"
            raise ImageError("refused", f"found a TIFF with {found}, expected 8 bits, or 16 in grey or interleaved RGB")
    return layout


def to_8_bit(
    image: ImageFile.ImageFile, layout: str, reopen: Callable[[], ImageFile.ImageFile], steps: list[Transform]
) -> Image.Image:
    """A loaded image -> the same with 8-bit samples; 16-bit ones are scaled by 255 / 65535 and rounded.

    layout: `sample_layout` of the image. reopen: opens the file again, for the bytes that Pillow drops.
    """
    if layout in _LOW_BYTES:
        high, low = np.asarray(image), np.asarray(_read_as(reopen(), _LOW_BYTES[layout]))
        wide = high.astype(np.uint16) << 8 | low
    elif layout == "LA;16B":
        four = np.asarray(_read_as(reopen(), "RGBA")).astype(np.uint16)
        wide = four[..., 0::2] << 8 | four[..., 1::2]
    elif image.mode in _GREY_16:
        wide = np.asarray(image).astype(np.uint16)[..., None]
    else:
        if layout in ("L;2", "L;4") and isinstance(image.info.get("transparency"), int):
            # Pillow scales the samples to 0-255 but not the key that they are compared with.
            image.info["transparency"] *= {"L;2": 85, "L;4": 17}[layout]
        return image
    key = image.info.get("transparency")
    if key is not None:
        alpha = np.where((wide == key).all(axis=-1, keepdims=True), 0, 65535).astype(np.uint16)
        wide = np.concatenate([wide, alpha], axis=-1)
    steps.append({"step": "scale_16_bit", "rule": "round(v * 255 / 65535)"})
    # 65535 / 255 = 257: the nearest whole number to v / 257, within 16 bits.
    narrow = (wide // 257 + (wide % 257 > 128)).astype(np.uint8)
    return Image.fromarray(narrow.squeeze(-1) if narrow.shape[-1] == 1 else narrow)


def _read_as(image: ImageFile.ImageFile, layout: str) -> Image.Image:
    """The image with its samples unpacked as another layout of the same width."""
    for i, tile in enumerate(image.tile):
        args = (layout, *tile.args[1:]) if isinstance(tile.args, tuple) else layout
        image.tile[i] = tile._replace(args=args)
    image.load()
    return image


def split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Any 8-bit image -> (its colours in mode L, RGB or CMYK; alpha uint8 [H, W], None where it has none).

    Raises ImageError for a mode without one meaning in 8 bits, such as LAB or 32-bit samples.
    """
    transparent = image.has_transparency_data
    mode = (_ALPHA if transparent else _OPAQUE).get(image.mode)
    if mode is None:
        raise ImageError("refused", f"found pixels of mode {image.mode}, expected grey, RGB, palette or CMYK")
    image = image.convert(mode)
    if not transparent:
        return image, None
    *colours, alpha = image.split()
    return Image.merge(mode[:-1], colours), np.asarray(alpha)


def to_srgb(image: Image.Image, icc: bytes | None, steps: list[Transform]) -> Image.Image:
    """Colours in mode L, RGB or CMYK -> RGB in sRGB, by the embedded ICC profile (perceptual intent) where it fits.

    Without a usable profile grey and RGB count as sRGB already and CMYK is converted by Pillow's plain formula.
    """
    if icc:
        digest = hashlib.sha256(icc).hexdigest()
        try:
            converted = _apply_profile(image, icc)
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            steps.append({"step": "icc_ignored", "profile_sha256": digest, "reason": one_line(str(error))})
        else:
            steps.append({"step": "icc", "profile_sha256": digest, "from": image.mode, "intent": "perceptual"})
            return converted
    if image.mode == "CMYK":
        steps.append({"step": "cmyk_without_profile", "rule": "(255 - K) * (255 - C) / 255"})
    return image.convert("RGB")


def _apply_profile(image: Image.Image, icc: bytes) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    if image.mode == "L" and profile.profile.xcolor_space.strip() == "RGB":
        image = image.convert("RGB")
    # A profile for other colours than the image's is an error of littlecms.
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:
        raise ValueError("the profile gave no image")
    return converted


def composite(rgb: np.ndarray, alpha: np.ndarray, steps: list[Transform]) -> np.ndarray:
    """uint8 [H, W, 3] over the white background by alpha, uint8 [H, W], rounded to the nearest."""
    weight = alpha[..., None].astype(np.uint16)  # products stay below 256^2
    blended = rgb * weight + np.array(BACKGROUND, np.uint16) * (255 - weight)
    transparent = int((alpha < 255).sum())
    steps.append({"step": "alpha_composite", "background": list(BACKGROUND), "transparent_pixels": transparent})
    return ((blended + 127) // 255).astype(np.uint8)
