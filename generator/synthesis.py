"""Synthesis network g: w -> image, with output skips (StyleGAN2, sections 2 and 4.1, Appendix B).

Weight modulation scales the *activations* instead of the weights (equal by linearity), so that all images of a batch
share one convolution: x -> x * style -> convolution -> * demodulation.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Literal, cast

import torch
from torch import Tensor, nn

from cuda_ops import bias_act, convolve3x3, scale_channels, setup_filter, synthesis_epilogue, upfirdn2d, upsample2d
from generator.layers import (
    RESAMPLING_TAPS,
    EqualizedLinear,
    Kept,
    convolve_transposed,
    demodulation,
    filter_energy,
    within_half_range,
)

Noise = Literal["const", "random", "none"] | Sequence[Tensor]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution (optionally upsampling by 2), noise, bias and leaky ReLU."""

    noise_const: Tensor
    filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int, up: bool, clamp: float | None):
        super().__init__()
        self.resolution, self.up, self.clamp = resolution, up, clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("filter", setup_filter(RESAMPLING_TAPS), persistent=False)
        self.kept = Kept()

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """[B, I, h, w], [B, w_dim], [B or 1, 1, r, r] or None -> [B, O, r, r]."""
        # modulation
        weight: Tensor = self.weight
        style = self.affine(w)
        if x.dtype == torch.float16:
            weight, style = within_half_range(weight, style)
            energy, weight = filter_energy(weight), weight.to(x.dtype)
        else:
            energy = self.kept.of(self.weight, "energy", filter_energy)
            weight = self.kept.of(self.weight, x.dtype, lambda weight: weight.to(x.dtype))
        x = scale_channels(x, style)
        # convolution; the equalized learning rate's constant would cancel in the demodulation
        if self.up:
            x = upfirdn2d(convolve_transposed(x, weight), self.filter, padding=1, gain=4)
        else:
            x = convolve3x3(x, weight, keep=None if self.weight.requires_grad else self.kept.of)
        # demodulation, noise, bias, activation
        return synthesis_epilogue(
            x, demodulation(energy, style), noise, self.noise_strength, self.bias, clamp=self.clamp
        )


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation (Appendix B)."""

    def __init__(self, in_channels: int, w_dim: int, clamp: float | None):
        super().__init__()
        self.clamp = clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[B, I, r, r], [B, w_dim] -> [B, 3, r, r], float32 or better."""
        x = scale_channels(x, self.affine(w) * self.weight_gain)
        # as a matrix product: the libraries' 1x1 convolution to so few channels rounds otherwise in other batch sizes
        x = (x.permute(0, 2, 3, 1) @ self.weight[:, :, 0, 0].t().to(x.dtype)).permute(0, 3, 1, 2)
        return bias_act(x.to(self.bias.dtype), self.bias, clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution: convolutions, then the RGB image added to the upsampled one of the resolution below."""

    filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int, clamp: float | None):
        super().__init__()
        self.resolution = resolution
        if resolution == 4:
            self.convs = nn.ModuleList([SynthesisLayer(out_channels, out_channels, w_dim, 4, up=False, clamp=clamp)])
        else:
            self.convs = nn.ModuleList(
                [
                    SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=True, clamp=clamp),
                    SynthesisLayer(out_channels, out_channels, w_dim, resolution, up=False, clamp=clamp),
                ]
            )
        self.to_rgb = ToRGB(out_channels, w_dim, clamp)
        self.register_buffer("filter", setup_filter(RESAMPLING_TAPS), persistent=False)

    def forward(
        self, x: Tensor, image: Tensor | None, ws: Tensor, noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Features [B, I, r/2, r/2], image [B, 3, r/2, r/2] or None, ws [B, convs + 1, w_dim] -> both at r.

        At 4x4 the features are the learned constant [B, O, 4, 4].
        """
        for i, conv in enumerate(self.convs):
            x = conv(x, ws[:, i], noise[i])
        rgb = self.to_rgb(x, ws[:, len(self.convs)])
        if image is not None:
            rgb = rgb + upsample2d(image, self.filter)
        return x, rgb


class SynthesisNetwork(nn.Module):
    """The skip generator: blocks of 4x4, 8x8, ... up to the output resolution.

    num_ws counts the layers' inputs: one w for each convolution and one for the last tRGB; the tRGB of every other
    block takes the same w as the first convolution of the next block. half_from: the lowest resolution at which the
    `dtype` that is asked for counts; below it the feature maps have that of the weights.
    """

    def __init__(self, w_dim: int, resolution: int, channels: dict[int, int], clamp: float | None = None):
        super().__init__()
        self.w_dim, self.resolution, self.half_from = w_dim, resolution, 4
        self.blocks = nn.ModuleList(
            SynthesisBlock(channels.get(r // 2, 0), channels[r], w_dim, r, clamp) for r in sorted(channels)
        )
        self.const = nn.Parameter(torch.randn(channels[4], 4, 4))
        self.num_ws = len(self.layers) + 1

    @property
    def layers(self) -> list[SynthesisLayer]:
        """All convolution layers, coarse to fine; each takes one noise map."""
        return [layer for layer in self.modules() if isinstance(layer, SynthesisLayer)]

    def noise_maps(self, noise: Noise, batch: int, generator: torch.Generator | None = None) -> list[Tensor | None]:
        """One map [B or 1, 1, r, r] per layer, or None without noise. Raises ValueError for maps of other shapes."""
        layers = self.layers
        if noise == "none":
            return [None] * len(layers)
        if noise == "const":
            return [layer.noise_const[None, None] for layer in layers]
        if noise == "random":
            device = layers[0].weight.device
            shapes = [(batch, 1, layer.resolution, layer.resolution) for layer in layers]
            return [torch.randn(shape, generator=generator, device=device) for shape in shapes]
        if isinstance(noise, str) or len(noise) != len(layers):
            found = repr(noise) if isinstance(noise, str) else f"{len(noise)} maps"
            raise ValueError(f"noise: found {found}, expected const, random, none or {len(layers)} maps")
        for layer, noise_map in zip(layers, noise, strict=True):
            r = layer.resolution
            if noise_map.shape not in ((batch, 1, r, r), (1, 1, r, r)):
                raise ValueError(
                    f"noise: found a map of shape {tuple(noise_map.shape)}, expected [{batch}, 1, {r}, {r}]"
                )
        return list(noise)

    def forward(
        self,
        ws: Tensor,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """w [B, w_dim] or [B, num_ws, w_dim] -> image [B, 3, resolution, resolution] in about [-1, 1], not clipped.

        noise: "const" takes the stored maps, "random" draws fresh ones (from `generator`, where given), "none" leaves
        noise out, a list gives one map [B or 1, 1, r, r] per layer. dtype: of the feature maps and convolutions from
        resolution `half_from` up, None means that of the weights; styles, demodulation and the image keep the weights'.
        Raises ValueError for another shape.
        """
        if ws.ndim == 2:
            ws = ws.unsqueeze(1).expand(-1, self.num_ws, -1)
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"w: found {tuple(ws.shape)}, expected [B, {self.w_dim}] or [B, {self.num_ws}, {self.w_dim}]"
            )
        maps = self.noise_maps(noise, len(ws), generator)
        const = self.const.to(dtype) if self.half_from <= 4 else self.const
        x = const.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image, first = None, 0
        for block in cast(list[SynthesisBlock], self.blocks):
            count = len(block.convs)
            if block.resolution >= self.half_from:
                x = x.to(dtype)
            x, image = block(x, image, ws[:, first : first + count + 1], maps[first : first + count])
            first += count
        assert image is not None  # there is always a block
        return image
