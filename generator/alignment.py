"""Faces in one place and of one size: the oriented crop of Progressive GAN's Appendix C, from landmarks."""

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from generator.colour import Transform
from generator.containers import ImageError

OVERSAMPLING = 4  # the paper's 4096 for 1024
FADE, BLUR = 1 / 8, 1 / 64  # of the crop's size; the paper names the steps without numbers


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A square in an image: centre (x, y), size, and the unit vectors to its right and its top edge.

    In pixels from the centre of the image's first pixel, x to the right, y down.
    """

    centre: np.ndarray
    size: float
    right: np.ndarray
    up: np.ndarray

    def transform(self, resolution: int) -> Transform:
        """The record of `align_face` with this crop: what it needs to be done again."""
        vectors = {name: getattr(self, name).tolist() for name in ("centre", "right", "up")}
        filters = {"filter": "bilinear, then box", "oversampling": _oversampling(self.size, resolution)}
        beyond = {"beyond_the_edges": "mirrored and blurred"}
        return {"step": "align_face", "size": self.size, **vectors, **filters, **beyond, "to": [resolution, resolution]}


def read_landmarks(path: Path) -> dict[str, Any]:
    """{"file": points} of a JSON file; `face_crop` judges the points. Raises ValueError for another form."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found no JSON that can be read ({error}), expected landmarks by file") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found a JSON {type(found).__name__}, expected an object with landmarks by file")
    return found


def face_crop(landmarks: Any) -> FaceCrop:
    """Where a face is to be cut out (Progressive GAN, Appendix C).

    landmarks: 68 points (x, y) in the usual order of iBUG 300-W, or 5: eyes, nose, corners of the mouth; of each pair
    the one that is left in an upright image first. They count pixels of the decoded image, which is turned as its EXIF
    orientation says. Raises ImageError ("refused") for others, or points in one place.
    """
    e0, e1, m0, m1 = _eyes_and_mouth(landmarks)
    across = e1 - e0  # x'
    upwards = (e0 + e1) / 2 - (m0 + m1) / 2  # y'
    size = max(4.0 * float(np.hypot(*across)), 3.6 * float(np.hypot(*upwards)))
    direction = across - rotate90(upwards)
    length = float(np.hypot(*direction))
    if length < 1e-6 * size or size == 0:
        raise ImageError("refused", "found landmarks of eyes and mouth in one place or line, expected those of a face")
    if across @ -rotate90(upwards) < 0:
        raise ImageError(
            "refused", "found the eyes or the mouth in mirrored order, expected the image's left one first"
        )
    right = direction / length
    return FaceCrop((e0 + e1) / 2 - 0.1 * upwards, size, right, rotate90(right))


def rotate90(v: np.ndarray) -> np.ndarray:
    """A quarter turn against the clock as seen, where y points down: right becomes up."""
    return np.array([v[1], -v[0]])


def _eyes_and_mouth(landmarks: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    try:
        points = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.shape not in ((68, 2), (5, 2)) or not np.isfinite(points).all() or np.abs(points).max() > 1e6:
        found = f"an array of shape {points.shape}" if points.size else "something else"
        raise ImageError("refused", f"found landmarks that are {found}, expected 68 or 5 points [x, y] in the image")
    if len(points) == 5:
        return points[0], points[1], points[3], points[4]
    return points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[48], points[54]


def align_face(pixels: np.ndarray, crop: FaceCrop, resolution: int) -> np.ndarray:
    """Cut a face out: uint8 [H, W, 3] -> uint8 [resolution, resolution, 3].

    Bilinear to at least four times the resolution, and never coarser than the image; then a box filter. What lies
    outside the image is mirrored and blurred the more, the further out. Raises ImageError ("refused") for a crop whose
    centre is outside the image, or that is more than twice as large as its shorter side.
    """
    height, width, _ = pixels.shape
    inside = -0.5 <= crop.centre[0] <= width - 0.5 and -0.5 <= crop.centre[1] <= height - 0.5
    if not inside or crop.size > 2 * min(width, height):
        x, y = crop.centre
        raise ImageError(
            "refused",
            f"found a face of size {crop.size:.0f} around ({x:.0f}, {y:.0f}) in {width} x {height} pixels, expected "
            "its centre inside and at most twice the shorter side",
        )
    corners = [crop.centre + crop.size / 2 * (a * crop.right + b * crop.up) for a in (-1, 1) for b in (-1, 1)]
    first, last = np.floor(np.min(corners, axis=0)).astype(int) - 1, np.ceil(np.max(corners, axis=0)).astype(int) + 1
    region = _extended(pixels, first, last, crop.size)
    side = resolution * _oversampling(crop.size, resolution)
    step_right, step_down = crop.size / side * crop.right, -crop.size / side * crop.up
    start = crop.centre - first - (side - 1) / 2 * (step_right + step_down)  # the centre of the result's first pixel
    matrix = np.stack([step_right, step_down, start], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(region, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(warped, (resolution, resolution), interpolation=cv2.INTER_AREA)


def _oversampling(size: float, resolution: int) -> int:
    return max(OVERSAMPLING, ceil(size / resolution))


def _extended(pixels: np.ndarray, first: np.ndarray, last: np.ndarray, size: float) -> np.ndarray:
    """The image from `first` to `last` (x, y), both included; beyond its edges mirrored and blurred (Figure 8 c, d)."""
    height, width, _ = pixels.shape
    columns, rows = np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1)
    region = pixels[np.ix_(_mirrored(rows, height), _mirrored(columns, width))]
    outside = np.maximum(_beyond(rows, height)[:, None], _beyond(columns, width))
    if not outside.any():
        return region
    blurred = cv2.GaussianBlur(region, (0, 0), BLUR * size)
    share = np.minimum(outside / (FADE * size), 1).astype(np.float32)[:, :, None]
    return (region + share * (blurred.astype(np.float32) - region)).round().astype(np.uint8)


def _mirrored(places: np.ndarray, n: int) -> np.ndarray:
    """Indices into n samples that repeat forwards and backwards, the samples at the ends once."""
    if n == 1:
        return np.zeros_like(places)
    turned = places % (2 * n - 2)
    return np.minimum(turned, 2 * n - 2 - turned)


def _beyond(places: np.ndarray, n: int) -> np.ndarray:
    """How far outside 0 to n - 1."""
    return np.maximum(np.maximum(-places, places - (n - 1)), 0)
