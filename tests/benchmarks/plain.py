"""StyleGAN2's synthesis and projector written plainly from the papers: what our own speed is measured against.

Convolutions modulate and demodulate a copy of the weights for every sample and run as one grouped convolution
(StyleGAN2, section 2.2 and Appendix B); filters insert zeros, pad and run as depthwise convolutions; noise, bias and
activation are operations of their own; float32, NCHW. The tensors are those of one of our generators, so that the
images agree. The projector (Appendix D) takes one image at a time, and computes the target's features once.
"""

from collections.abc import Sequence
from math import sqrt
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.schedules import ProjectionConfig, learning_rate, w_noise_strength
from attribution.search import LatentStatistics, for_lpips
from generator import LPIPS, Generator
from generator.layers import EqualizedLinear
from generator.synthesis import SynthesisBlock, SynthesisLayer, SynthesisNetwork, ToRGB
from tests.benchmarks.operators import grouped


def affine(layer: EqualizedLinear, w: Tensor) -> Tensor:
    """The style of a layer: [B, w_dim] -> [B, I]."""
    return F.linear(w, layer.weight * layer.weight_gain, layer.bias * layer.lr_multiplier)


def leaky_relu(x: Tensor, bias: Tensor, clamp: float | None) -> Tensor:
    """Bias, leaky ReLU of slope 0.2 with its gain, and the clamp of networks that were trained with one."""
    x = F.leaky_relu(x + bias[None, :, None, None], 0.2) * sqrt(2)
    return x if clamp is None else x.clamp(-clamp, clamp)


def modulated_convolution(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    """StyleGAN2, eq. 1 and 3: [B, I, h, w], [O, I, k, k], [B, I] -> [B, O, h', w'], h' = 2 h + 1 with up."""
    batch, channels, height, width = x.shape
    out, _, kernel, _ = weight.shape
    weights = weight * style[:, None, :, None, None]  # [B, O, I, k, k]
    if demodulate:
        weights = weights * (weights.square().sum([2, 3, 4], keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * channels, height, width)
    if up:
        weights = weights.transpose(1, 2).reshape(batch * channels, out, kernel, kernel)
        x = F.conv_transpose2d(x, weights, stride=2, groups=batch)
    else:
        weights = weights.reshape(batch * out, channels, kernel, kernel)
        x = F.conv2d(x, weights, padding=kernel // 2, groups=batch)
    return x.reshape(batch, out, *x.shape[2:])


def convolution_layer(layer: SynthesisLayer, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
    """Modulated convolution, filter, noise, bias, activation."""
    x = modulated_convolution(x, layer.weight, affine(layer.affine, w), layer.up, demodulate=True)
    if layer.up:
        x = grouped(x, 1, 1, (1, 1), 4)
    if noise is not None:
        x = x + noise * layer.noise_strength
    return leaky_relu(x, layer.bias, layer.clamp)


def to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    """Modulated 1x1 convolution without demodulation."""
    rgb = modulated_convolution(x, layer.weight * layer.weight_gain, affine(layer.affine, w), False, demodulate=False)
    rgb = rgb + layer.bias[None, :, None, None]
    return rgb if layer.clamp is None else rgb.clamp(-layer.clamp, layer.clamp)


def synthesize(network: SynthesisNetwork, ws: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
    """w [B, w_dim] or [B, num_ws, w_dim] and a noise map (or None) for each layer -> images [B, 3, r, r]."""
    if ws.ndim == 2:
        ws = ws[:, None].expand(-1, network.num_ws, -1)
    x = network.const[None].repeat(len(ws), 1, 1, 1)
    image, place = None, 0
    for block in cast(list[SynthesisBlock], network.blocks):
        for conv in cast(list[SynthesisLayer], block.convs):
            x = convolution_layer(conv, x, ws[:, place], noise[place])
            place += 1
        rgb = to_rgb(block.to_rgb, x, ws[:, place])
        image = rgb if image is None else rgb + grouped(image, 2, 1, (2, 1), 4)
    assert image is not None  # there is always a block
    return image


class PlainLPIPS:
    """LPIPS as its paper has it, one operation after the other, with the bundled weights."""

    def __init__(self, lpips: LPIPS):
        self.network, self.heads = lpips.features_of, lpips.heads
        self.weights = {name: buffer.contiguous() for name, buffer in self.network.named_buffers()}

    def features(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> unit-normalised features of each stage."""
        x = (images - self.weights["shift"]) / self.weights["scale"]
        features = []
        for stage in self.network.spec.stages:
            for conv in stage:
                if conv.pool:
                    x = F.max_pool2d(x, conv.pool, stride=2)
                weight, bias = (self.weights[f"{kind}_{conv.index}"] for kind in ("weight", "bias"))
                x = F.relu(F.conv2d(x, weight, bias, stride=conv.stride, padding=conv.padding))
            features.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return features

    def distance(self, images: Tensor, target: list[Tensor]) -> Tensor:
        """[B, 3, H, W] and features of the target -> [B]."""
        total = images.new_zeros(len(images))
        for feature, other, head in zip(self.features(images), target, self.heads, strict=True):
            total = total + ((feature - other).square() * head[None, :, None, None]).sum(1).mean([1, 2])
        return total


def noise_regularisation(maps: Sequence[Tensor]) -> Tensor:
    """Sum of L_ij, one map [1, 1, r, r] after the other (Appendix D)."""
    total = maps[0].new_zeros([])
    for noise in maps:
        while True:
            total = total + (noise * noise.roll(1, 3)).mean().square() + (noise * noise.roll(1, 2)).mean().square()
            if noise.shape[-1] <= 8:
                break
            noise = F.avg_pool2d(noise, 2) * 2
    return total


class PlainProjector:
    """The search for one image, of a generator whose weights are frozen. target: [1, 3, r, r] in [-1, 1]."""

    def __init__(
        self,
        G: Generator,
        target: Tensor,
        config: ProjectionConfig,
        lpips: PlainLPIPS,
        statistics: LatentStatistics,
        seed: int = 0,
    ):
        self.synthesis, self.config, self.lpips, self.sigma = G.synthesis, config, lpips, statistics.sigma
        self.rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.target = lpips.features(for_lpips(target))
        self.w = statistics.mean.clone().requires_grad_()
        self.noise = [
            torch.randn(1, 1, layer.resolution, layer.resolution, generator=self.rng).requires_grad_()
            for layer in G.synthesis.layers
        ]
        self.adam = torch.optim.Adam([self.w, *self.noise])

    def step(self, step: int) -> float:
        """One step of the optimisation; returns the LPIPS that it started from."""
        self.adam.param_groups[0]["lr"] = learning_rate(step, self.config)
        strength = w_noise_strength(step, self.config, self.sigma)
        w = self.w + torch.randn(self.w.shape, generator=self.rng) * strength
        images = synthesize(self.synthesis, w, self.noise)
        distance = self.lpips.distance(for_lpips(images), self.target).sum()
        loss = distance + self.config.noise_weight * noise_regularisation(self.noise)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            for noise in self.noise:
                noise -= noise.mean()
                noise *= noise.square().mean().rsqrt()
        return distance.item()
