"""The residual discriminator (StyleGAN2, 4.1) with minibatch standard deviation (Progressive GAN, section 3)."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_ops import bias_act, convolve3x3, downsample2d, setup_filter, upfirdn2d
from generator.layers import RESAMPLING_TAPS, EqualizedLinear
from generator.mapping import MappingNetwork


class EqualizedConv(nn.Module):
    """Convolution with equalized learning rate; down: low-pass filter and stride 2."""

    filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        act: str = "lrelu",
        bias: bool = True,
        down: bool = False,
    ):
        super().__init__()
        self.act, self.down, self.kernel = act, down, kernel
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / sqrt(in_channels * kernel**2)
        self.register_buffer("filter", setup_filter(RESAMPLING_TAPS), persistent=False)

    def forward(self, x: Tensor, gain: float = 1, clamp: float | None = None, shift: Tensor | None = None) -> Tensor:
        """[B, I, h, w] -> [B, O, h, w], or half the size with down; gain multiplies the activation's own.

        shift: [B, O, 1, 1], added to the convolution's result, as further input channels that are constant would.
        """
        weight = (self.weight * self.weight_gain).to(x.dtype)
        if self.down and self.kernel == 1:  # a 1x1 convolution may as well come after the decimation
            x = F.conv2d(downsample2d(x, self.filter), weight)
        elif self.down:
            x = F.conv2d(upfirdn2d(x, self.filter, padding=2), weight, stride=2)
        elif self.kernel == 3:
            x = convolve3x3(x, weight)
        else:
            x = F.conv2d(x, weight)
        if shift is not None:
            x = x + shift.to(x.dtype)
        own_gain = sqrt(2) if self.act == "lrelu" else 1
        limit = None if clamp is None else clamp * gain
        return bias_act(x, self.bias, act=self.act, gain=own_gain * gain, clamp=limit)


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a linear skip, each scaled by 1/sqrt(2) so that their sum keeps its variance.

    residual: without it the skip is left out, and nothing is scaled.
    """

    def __init__(self, in_channels: int, out_channels: int, clamp: float | None, residual: bool = True):
        super().__init__()
        self.clamp, self.residual = clamp, residual
        self.conv0 = EqualizedConv(in_channels, in_channels, 3)
        self.conv1 = EqualizedConv(in_channels, out_channels, 3, down=True)
        if residual:
            self.skip = EqualizedConv(in_channels, out_channels, 1, act="linear", bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, r, r] -> [B, O, r/2, r/2]."""
        if not self.residual:
            return self.conv1(self.conv0(x, clamp=self.clamp), clamp=self.clamp)
        skip = self.skip(x, gain=sqrt(0.5), clamp=self.clamp)
        x = self.conv0(x, clamp=self.clamp)
        return skip + self.conv1(x, gain=sqrt(0.5), clamp=self.clamp)


def group_size_in(batch: int, group_size: int) -> int:
    """The group size that a batch allows: the largest of its divisors up to `group_size`."""
    return next(n for n in range(min(group_size, batch), 0, -1) if batch % n == 0)


def minibatch_stddev(x: Tensor, group_size: int, batches: int = 1) -> Tensor:
    """Append one feature map: the standard deviation over groups of the batch, averaged over features and pixels.

    [B, C, H, W] -> [B, C + 1, H, W]; group size: `group_size_in`; image i is in group i modulo their number. batches:
    x holds so many of them, of one size, one after another: no group has images of two.
    """
    height, width = x.shape[2:]
    batch = len(x) // batches
    size = group_size_in(batch, group_size)
    groups = x.float().reshape(batches, size, batch // size, -1)
    variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)  # var is many times slower along this axis
    stddev = (variance + 1e-8).sqrt().mean(2)  # [batches, batch / size]
    feature = stddev.repeat(1, size).to(x.dtype).reshape(-1, 1, 1, 1).expand(-1, -1, height, width)
    return torch.cat([x, feature], dim=1)


class Discriminator(nn.Module):
    """D: image (and label) -> logit, higher means more like the training images.

    half_from: as SynthesisNetwork's.
    """

    def __init__(
        self,
        resolution: int,
        channels: dict[int, int],
        c_dim: int = 0,
        mapping_layers: int = 8,
        mbstd_group_size: int = 4,
        clamp: float | None = None,
        residual: bool = True,
    ):
        super().__init__()
        self.resolution, self.c_dim, self.mbstd_group_size, self.clamp = resolution, c_dim, mbstd_group_size, clamp
        self.half_from = 4
        sizes = sorted((r for r in channels if 4 < r <= resolution), reverse=True)
        self.from_rgb = EqualizedConv(3, channels[resolution], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(channels[r], channels[r // 2], clamp, residual) for r in sizes)
        width = channels[4]
        features = width if c_dim else 1
        self.conv = EqualizedConv(width + 1, width, 3)
        self.fc = EqualizedLinear(width * 16, width, act="lrelu")
        self.out = EqualizedLinear(width, features)
        self.label_mapping = MappingNetwork(0, c_dim, width, 1, mapping_layers) if c_dim else None

    def forward(
        self, image: Tensor, c: Tensor | None = None, dtype: torch.dtype | None = None, batches: int = 1
    ) -> Tensor:
        """[B, 3, r, r] in [-1, 1] (and labels [B, c_dim]) -> logits [B, 1].

        dtype: of the feature maps and convolutions from resolution `half_from` up, None means that of the weights,
        which the logits always have. batches: see `minibatch_stddev`.
        """
        return self.judge(self.features(image, dtype, batches=batches), c)

    def features(
        self, image: Tensor, dtype: torch.dtype | None = None, shift: Tensor | None = None, batches: int = 1
    ) -> Tensor:
        """What the last layer sees: [B, 3, r, r] -> [B, width]. shift: see `EqualizedConv`, of the first layer."""
        full, resolution = self.fc.weight.dtype, self.resolution
        image = image.to(dtype or image.dtype).contiguous(memory_format=torch.channels_last)
        x = self.from_rgb(image, clamp=self.clamp, shift=shift)
        for block in self.blocks:
            x = block(x if resolution >= self.half_from else x.to(full))
            resolution //= 2
        x = x if resolution >= self.half_from else x.to(full)
        x = self.conv(minibatch_stddev(x, self.mbstd_group_size, batches), clamp=self.clamp)
        return self.fc(x.to(full).flatten(1))

    def judge(self, features: Tensor, c: Tensor | None = None) -> Tensor:
        """Logits [B, 1] from `features` [B, width] and labels [B, c_dim]."""
        x = self.out(features)
        if self.label_mapping is None:
            return x
        # projection discriminator: the embedded label scores the features
        label = self.label_mapping.map(x.new_zeros(len(x), 0), c)
        return (x * label).sum(dim=1, keepdim=True) / sqrt(x.shape[1])
