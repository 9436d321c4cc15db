"""The projection encoder: image -> w, one look instead of many steps, and its file.

It belongs to one generator, whose SHA-256 its file records, and is trained on that generator's own samples.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generator.discriminator import DiscriminatorBlock, EqualizedConv
from generator.files import WithoutMemory, matched_tensors, read_safetensors, save_network
from generator.layers import EqualizedLinear

ENCODER_FORMAT = "latentprint.encoder/1"
LARGEST_SIDE = 64  # of the image that it looks at: w is about the whole, the search sees the pixels
LARGEST_WIDTH = 65536


@dataclass(frozen=True)
class EncoderConfig:
    """What determines an encoder's shapes; feature maps at resolution r: min(channel_base / r, channel_max).

    resolution: of the image that it looks at, a power of two from 8 to 64. Raises ValueError that names the setting.
    """

    w_dim: int
    resolution: int = LARGEST_SIDE
    channel_base: int = 2048
    channel_max: int = 256

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is not int or not 1 <= value <= LARGEST_WIDTH:
                raise ValueError(f"{name}: found {value!r}, expected a whole number from 1 to {LARGEST_WIDTH}")
        if not 8 <= self.resolution <= LARGEST_SIDE or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution: found {self.resolution}, expected a power of two from 8 to {LARGEST_SIDE}")

    @property
    def channels(self) -> dict[int, int]:
        """Number of feature maps by resolution, 4 to the input's."""
        sizes = [2**i for i in range(2, self.resolution.bit_length())]
        return {r: max(1, min(self.channel_base // r, self.channel_max)) for r in sizes}


class Encoder(nn.Module):
    """The discriminator's residual blocks, with w in the place of the logit.

    What the last layer says is measured in the deviations of w's coordinates from their mean, which the buffers hold.
    """

    w_mean: Tensor
    w_deviation: Tensor

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        channels = config.channels
        sizes = sorted((r for r in channels if r > 4), reverse=True)
        self.from_rgb = EqualizedConv(3, channels[config.resolution], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(channels[r], channels[r // 2], None) for r in sizes)
        self.conv = EqualizedConv(channels[4], channels[4], 3)
        self.fc = EqualizedLinear(channels[4] * 16, channels[4] * 2, act="lrelu")
        self.out = EqualizedLinear(channels[4] * 2, config.w_dim)
        self.register_buffer("w_mean", torch.zeros(config.w_dim))
        self.register_buffer("w_deviation", torch.ones(config.w_dim))

    def standardized(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[B, 3, H, H] in [-1, 1], H at least `resolution` -> (w - mean) / deviation [B, w_dim].

        dtype: of the feature maps and convolutions, None means that of the weights.
        """
        x = F.interpolate(images, size=(self.config.resolution,) * 2, mode="area")
        x = self.from_rgb(x.to(dtype or x.dtype).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return self.out(self.fc(self.conv(x).to(self.fc.weight.dtype).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, H] in [-1, 1] -> w [B, w_dim]."""
        return self.w_mean + self.w_deviation * self.standardized(images)


@dataclass(frozen=True)
class EncoderFile:
    """An encoder as it lies in a file. generator_sha256: of the generator file that it was trained for."""

    encoder: Encoder
    generator_sha256: str
    provenance: dict[str, Any]


def save_encoder(encoder: Encoder, path: str | Path, generator_sha256: str, provenance: dict[str, Any]) -> None:
    """Write an encoder file (latentprint.encoder/1) atomically."""
    metadata = {
        "format": ENCODER_FORMAT,
        "generator_sha256": generator_sha256,
        "config": json.dumps(asdict(encoder.config), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    save_network(encoder, path, metadata)


def load_encoder(path: str | Path) -> EncoderFile:
    """Read an encoder file: frozen, in eval mode.

    Raises ValueError, naming the file, for another kind of file, settings that no encoder has, or tensors that are
    missing, unexpected, misshapen or not finite.
    """
    metadata, tensors = read_safetensors(path, "an encoder file")
    if metadata.get("format") != ENCODER_FORMAT:
        raise ValueError(f"{path}: found format {metadata.get('format')!r}, expected {ENCODER_FORMAT!r}")
    try:
        with WithoutMemory():  # settings may ask for more than there is; the file's tensors take the places
            encoder = Encoder(EncoderConfig(**json.loads(metadata["config"])))
        provenance, sha256 = json.loads(metadata["provenance"]), metadata["generator_sha256"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found settings that no encoder has ({error})") from error
    encoder.load_state_dict(matched_tensors(path, tensors, encoder), assign=True)
    return EncoderFile(encoder.eval().requires_grad_(False), sha256, provenance)
