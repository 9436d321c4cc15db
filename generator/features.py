"""ImageNet features of VGG16 and AlexNet, as LPIPS and the generator metrics need them; bundled, never downloaded."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from cuda_ops import convolve3x3
from generator.files import file_sha256
from generator.images import to_unit
from generator.layers import Kept

WEIGHTS = Path(__file__).parent / "weights"
# the mean and deviation of ImageNet's training images, for inputs in [-1, 1] (LPIPS, version 0.1)
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of the feature stack: its index in torchvision's numbering, stride, padding; pooling before it."""

    index: int
    stride: int = 1
    padding: int = 1
    pool: int = 0


@dataclass(frozen=True)
class FeatureSpec:
    """The stages whose outputs LPIPS compares, the weight file, its SHA-256, and the smallest side it can take."""

    file: str
    sha256: str
    smallest: int
    stages: tuple[tuple[ConvSpec, ...], ...]


FEATURES = {
    "vgg": FeatureSpec(
        "lpips_vgg16.safetensors",
        "8d867b28d7b7eddc6caa37d6c80a8c93aa925ce17d4dae682ed58ca9756c70c1",
        16,
        (
            (ConvSpec(0), ConvSpec(2)),
            (ConvSpec(5, pool=2), ConvSpec(7)),
            (ConvSpec(10, pool=2), ConvSpec(12), ConvSpec(14)),
            (ConvSpec(17, pool=2), ConvSpec(19), ConvSpec(21)),
            (ConvSpec(24, pool=2), ConvSpec(26), ConvSpec(28)),
        ),
    ),
    "alex": FeatureSpec(
        "lpips_alexnet.safetensors",
        "339fb1c7deb0067b0d46a1986516ae12f38e960c90ffead72a2386b5040033f9",
        31,
        (
            (ConvSpec(0, stride=4, padding=2),),
            (ConvSpec(3, padding=2, pool=3),),
            (ConvSpec(6, pool=3),),
            (ConvSpec(8),),
            (ConvSpec(10),),
        ),
    ),
}


class FeatureNetwork(nn.Module):
    """Images -> the rectified features of five stages; weights frozen."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str):
        super().__init__()
        if net not in FEATURES:
            raise ValueError(f"lpips: found {net!r}, expected one of {', '.join(FEATURES)}")
        self.spec = FEATURES[net]
        path = _checked_weights(self.spec)
        for name, tensor in load_file(path).items():  # net.slice1.0.weight -> weight_0
            _, _, index, kind = name.split(".")
            self.register_buffer(f"{kind}_{index}", tensor.contiguous(memory_format=_layout(tensor)))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))
        self.kept = Kept()

    def forward(self, images: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> five feature maps [B, C_l, H_l, W_l].

        dtype: of the convolutions and features, None means that of the weights. Raises ValueError for images that are
        too small for the network's strides.
        """
        if min(images.shape[2:]) < self.spec.smallest:
            raise ValueError(
                f"lpips: found images of {images.shape[2]}x{images.shape[3]}, expected at least {self.spec.smallest}"
            )
        dtype = dtype or self.shift.dtype
        x = ((images - self.shift) / self.scale).to(dtype).contiguous(memory_format=torch.channels_last)
        features = []
        for stage in self.spec.stages:
            for conv in stage:
                if conv.pool:
                    x = F.max_pool2d(x, conv.pool, stride=2)
                weight, bias = self._in(dtype, f"weight_{conv.index}"), self._in(dtype, f"bias_{conv.index}")
                if weight.shape[2] == 3:
                    x = convolve3x3(x, weight, bias, partial(self._keep, conv.index)).relu_()
                else:
                    x = F.conv2d(x, weight, bias, conv.stride, conv.padding).relu_()
            features.append(x)
        return features

    def _keep(self, index: int, source: Tensor, name: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        return self.kept.of(source, (index, name, source.dtype), make)

    def _in(self, dtype: torch.dtype, name: str) -> Tensor:
        return self.kept.of(getattr(self, name), (name, dtype), lambda weights: weights.to(dtype))


def _checked_weights(spec: FeatureSpec) -> Path:
    """The bundled weight file. Raises ValueError where it is missing or not what was shipped."""
    path = WEIGHTS / spec.file
    found = file_sha256(path) if path.is_file() else "no file"
    if found != spec.sha256:
        raise ValueError(f"{path}: found SHA-256 {found[:12]}, expected {spec.sha256[:12]}: reinstall latentprint")
    return path


def check_weights() -> dict[str, str]:
    """The word "intact", or what is wrong, for each bundled weight file."""
    facts = {}
    for net, spec in FEATURES.items():
        try:
            _checked_weights(spec)
            facts[f"lpips {net}"] = "intact"
        except ValueError as error:
            facts[f"lpips {net}"] = str(error)
    return facts


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


@torch.no_grad()
def vgg16_features(images: np.ndarray, batch: int = 32, device: torch.device | str = "cpu") -> np.ndarray:
    """The last rectified stage of VGG16, averaged over the image: uint8 [N, H, W, 3] -> float32 [N, 512]."""
    network = FeatureNetwork("vgg").to(device)
    parts = (to_unit(images[i : i + batch]).to(device) for i in range(0, len(images), batch))
    return torch.cat([network(part)[-1].mean([2, 3]).cpu() for part in parts]).numpy()
