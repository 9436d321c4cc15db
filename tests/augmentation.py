"""What the tests of the augmentations share: draws whose gates are under control, and images to warp."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from training.augment import BGC, _Draw, add_noise, band_gains, colour_matrix, cutout_mask, geometry_inverse

# sym6's centre is known to half a sample, so that what is not a whole translation may be off by 0.1 pixels; the fields
# have a slope of about 0.2 per pixel and direction
CLOSE = 0.03

WIDTH, HEIGHT = 64, 40
GEOMETRIC = ("x-flip", "90", "whole translation", "scale", "pre-rotation", "stretch", "post-rotation", "translation")
COLOUR = ("brightness", "contrast", "luma flip", "hue", "saturation")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Only(_Draw):
    """Opens one gate, counted from 0, for every image and no other; keeps what was drawn."""

    def __init__(self, batch: int, gate: int, seed: int = 0):
        super().__init__(batch, 0.5, rng(seed))
        self.gate, self.values, self.randoms = gate, list[Tensor](), list[Tensor]()

    def uniform(self, low: float = 0, high: float = 1) -> Tensor:
        self.randoms.append(super().uniform(low, high))
        return self.randoms[-1]

    def normal(self, std: float, *shape: int) -> Tensor:
        self.randoms.append(super().normal(std, *shape))
        return self.randoms[-1]

    def gated(self, value: Tensor, identity: float, p: float | None = None) -> Tensor:
        self.values.append(value)
        return value if len(self.values) - 1 == self.gate else torch.full_like(value, identity)

    @property
    def value(self) -> Tensor:
        """What went through the open gate."""
        return self.values[self.gate]


class All(Only):
    """Opens every gate for every image."""

    def gated(self, value: Tensor, identity: float, p: float | None = None) -> Tensor:
        self.values.append(value)
        return value


class Watched(_Draw):
    """Keeps, for every gate in turn, which images it was open for."""

    def __init__(self, batch: int, p: float, seed: int = 0):
        super().__init__(batch, p, rng(seed))
        self.open: list[Tensor] = []

    def gated(self, value: Tensor, identity: float, p: float | None = None) -> Tensor:
        self.open.append(super().gated(torch.ones_like(value), 0, p) == 1)
        return torch.where(self.open[-1], value, torch.full_like(value, identity))


def alone(name: str, batch: int = 4) -> tuple[Only, Tensor]:
    """One geometric or colour transformation, for certain: the draw and its forward matrices [B, 3, 3] or [B, 4, 4]."""
    if name in COLOUR:
        draw = Only(batch, COLOUR.index(name))
        return draw, colour_matrix(draw)
    draw = Only(batch, GEOMETRIC.index(name))
    return draw, torch.linalg.inv(geometry_inverse(draw, WIDTH, HEIGHT, BGC).double())


def all_stages(draw: _Draw) -> None:
    geometry_inverse(draw, WIDTH, HEIGHT, BGC)
    colour_matrix(draw)
    band_gains(draw)
    add_noise(torch.zeros(draw.batch, 3, 1, 1), draw)
    cutout_mask(draw, 1, 1)


def smooth(height: int, width: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """A random field without detail, of standard deviation 1, that goes on smoothly by reflection: [C, H, W]."""
    noise = np.random.default_rng(seed).normal(size=(channels, height, width))
    field = np.stack([ndimage.gaussian_filter(plane, 4, mode="mirror") for plane in noise])
    return field / field.std()


def by_scipy(image: np.ndarray, matrix: torch.Tensor) -> np.ndarray:
    """Cubic splines under M^-1, in scipy's order (y, x) about the centre of the pixel grid; the plane is mirrored."""
    inverse = np.linalg.inv(matrix[0].double().numpy())
    linear, shift = inverse[:2, :2][::-1, ::-1], inverse[:2, 2][::-1]
    centre = (np.array(image.shape[1:]) - 1) / 2
    offset = centre + shift - linear @ centre
    return np.stack([ndimage.affine_transform(plane, linear, offset, order=3, mode="mirror") for plane in image])


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.square(difference).mean()))
