"""Decoded pixels -> the square of a generator: cropped or letterboxed where that is asked for, never stretched."""

import numpy as np
from PIL import Image

from generator.colour import Transform
from generator.containers import ImageError


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
