"""The StyleGAN2 generator and its settings: mapping and synthesis network in one module."""

from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from generator.discriminator import Discriminator
from generator.mapping import MappingNetwork
from generator.synthesis import SynthesisNetwork

# What a settings record may ask for: far above every published network, and enough to refuse nonsense by name.
LARGEST = {
    "z_dim": 65536,
    "c_dim": 65536,
    "w_dim": 65536,
    "mapping_layers": 64,
    "channel_base": 2**26,
    "channel_max": 65536,
}


@dataclass(frozen=True)
class GeneratorConfig:
    """What determines a StyleGAN2 generator's shapes and arithmetic.

    Feature maps at resolution r: min(channel_base / r, channel_max). clamp limits every convolution layer's output
    after its activation (networks trained in fp16 need it), None means no limit. Raises ValueError, naming the
    setting, for a value outside its range.
    """

    resolution: int = 1024
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    clamp: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "clamp" and type(value) is not int:
                raise ValueError(f"{name}: found {value!r}, expected a whole number")
        r = self.resolution
        if not 8 <= r <= 1024 or r & (r - 1):
            raise ValueError(f"resolution: found {r}, expected a power of two from 8 to 1024")
        smallest = {"c_dim": 0, "channel_base": r}
        for name, largest in LARGEST.items():
            found, least = getattr(self, name), smallest.get(name, 1)
            if not least <= found <= largest:
                raise ValueError(f"{name}: found {found}, expected {least} to {largest}")
        if self.clamp is not None and not (type(self.clamp) in (int, float) and 0 < self.clamp < inf):
            raise ValueError(f"clamp: found {self.clamp!r}, expected none or a finite number above 0")

    @property
    def channels(self) -> dict[int, int]:
        """Number of feature maps by resolution, 4 to the output's."""
        sizes = [2**i for i in range(2, self.resolution.bit_length())]
        return {r: min(self.channel_base // r, self.channel_max) for r in sizes}


# The published configurations (StyleGAN2, Table 1): F doubles the feature maps of E at 64x64 and above.
CONFIG_E = GeneratorConfig(channel_base=16384)
CONFIG_F = GeneratorConfig(channel_base=32768)


class Generator(nn.Module):
    """G: latent code z (and label c) -> image."""

    architecture = "stylegan2"

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.synthesis = SynthesisNetwork(config.w_dim, config.resolution, config.channels, config.clamp)
        self.mapping = MappingNetwork(
            config.z_dim, config.c_dim, config.w_dim, self.synthesis.num_ws, config.mapping_layers
        )
        self.z_dim, self.c_dim, self.w_dim = config.z_dim, config.c_dim, config.w_dim
        self.resolution, self.num_ws = config.resolution, self.synthesis.num_ws

    def forward(self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, noise: Any = "const") -> Tensor:
        """[B, z_dim] -> [B, 3, resolution, resolution] in about [-1, 1]."""
        return self.synthesis(self.mapping(z, c, truncation_psi), noise=noise)

    def settings(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self.config)


def build_discriminator(
    config: GeneratorConfig, mbstd_group_size: int = 4, residual: bool = True, label_layers: int | None = None
) -> Discriminator:
    """The discriminator that StyleGAN2 trains against a generator of this configuration.

    residual: whether its blocks have skips. label_layers: between a label's embedding and its product with the
    features, None means as many as G's mapping has.
    """
    return Discriminator(
        config.resolution,
        config.channels,
        c_dim=config.c_dim,
        mapping_layers=config.mapping_layers if label_layers is None else label_layers,
        mbstd_group_size=mbstd_group_size,
        clamp=config.clamp,
        residual=residual,
    )


def mix_styles(ws: Tensor, other: Tensor, crossover: int) -> Tensor:
    """Style mixing: the layers before `crossover` take ws, the others take `other` (both [B, num_ws, w_dim])."""
    return torch.cat([ws[:, :crossover], other[:, crossover:]], dim=1)
