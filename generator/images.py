"""Images <-> tensors. Pillow is the only decoder; uint8 <-> [-1, 1] happens here and nowhere else."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_unit(pixels: np.ndarray | Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in [-1, 1]; 0 is -1 and 255 is 1."""
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1


def to_pixels(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] in about [-1, 1] -> uint8 [B, H, W, 3]: clipped and rounded to the nearest."""
    scaled = ((images.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> the bytes of an RGB PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def image_grid(pixels: np.ndarray, columns: int, gap: int = 0) -> np.ndarray:
    """uint8 [N, H, W, 3] -> one picture [rows * H, columns * W, 3], row by row, white where images are missing."""
    n, height, width, _ = pixels.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = image
    return canvas
