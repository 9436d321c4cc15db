"""The places of our networks' layers, for the tables that say how each format calls them."""

from dataclasses import dataclass

from generator.networks import GeneratorConfig


@dataclass(frozen=True)
class Convolution:
    """A convolution layer of g: its running number from 0, resolution, number in its block, and our name."""

    number: int
    resolution: int
    index: int
    ours: str

    @property
    def up(self) -> bool:
        """Whether it upsamples."""
        return self.resolution > 4 and self.index == 0


@dataclass(frozen=True)
class ToRGBLayer:
    """A tRGB layer of g: its running number from 0, resolution, and our name."""

    number: int
    resolution: int
    ours: str


@dataclass(frozen=True)
class DiscriminatorBlockPlace:
    """A residual block of D: its number from the image down, the resolution it takes, and our name."""

    number: int
    resolution: int
    ours: str


def convolutions(config: GeneratorConfig) -> list[Convolution]:
    """All convolution layers, coarse to fine."""
    found: list[Convolution] = []
    for block, resolution in enumerate(sorted(config.channels)):
        for index in range(1 if resolution == 4 else 2):
            found.append(Convolution(len(found), resolution, index, f"synthesis.blocks.{block}.convs.{index}"))
    return found


def rgb_layers(config: GeneratorConfig) -> list[ToRGBLayer]:
    """All tRGB layers, coarse to fine."""
    return [ToRGBLayer(i, r, f"synthesis.blocks.{i}.to_rgb") for i, r in enumerate(sorted(config.channels))]


def discriminator_blocks(config: GeneratorConfig) -> list[DiscriminatorBlockPlace]:
    """The residual blocks of D, fine to coarse."""
    resolutions = sorted((r for r in config.channels if r > 4), reverse=True)
    return [DiscriminatorBlockPlace(i, r, f"blocks.{i}") for i, r in enumerate(resolutions)]
