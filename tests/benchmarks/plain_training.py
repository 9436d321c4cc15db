"""A plain trainer: one step of StyleGAN2 with ADA, written from the papers without any of our fast ways.

Networks as in tests/benchmarks/plain.py; every loss has its own forward pass; Adam and the moving average go from
parameter to parameter; float32, NCHW. Losses, lazy regularisers (StyleGAN2, Appendix B) and augmentation are ours: what
the formulas are is not what is measured; but the augmentation's filters are depthwise convolutions here, too. So is the
mapping network, which is a few small products.
"""

from collections.abc import Sequence
from math import sqrt
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generator.discriminator import Discriminator, DiscriminatorBlock, EqualizedConv, minibatch_stddev
from generator.images import to_unit
from generator.networks import Generator, build_discriminator, mix_styles
from tests.benchmarks.operators import grouped
from tests.benchmarks.plain import leaky_relu, synthesize
from training import warp
from training.augment import adjust_p, augment
from training.config import TrainingConfig
from training.losses import discriminator_loss, generator_loss, path_length_penalty, path_lengths, r1_penalty
from training.schedules import ema_beta, lazy_adam


def convolution(layer: EqualizedConv, x: Tensor, clamp: float | None) -> Tensor:
    """Filter where it halves the size, convolution, bias and activation."""
    weight = layer.weight * layer.weight_gain
    if layer.down:
        margin = 2 if layer.kernel == 3 else 1  # the result is centred, and half the size
        x = F.conv2d(grouped(x, 1, 1, (margin, margin), 1), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=layer.kernel // 2)
    if layer.bias is None:
        return x if clamp is None else x.clamp(-clamp, clamp)
    return leaky_relu(x, layer.bias, clamp)


def block(layer: DiscriminatorBlock, x: Tensor) -> Tensor:
    """Two convolutions, and the skip where there is one."""
    y = convolution(layer.conv1, convolution(layer.conv0, x, layer.clamp), layer.clamp)
    return (y + convolution(layer.skip, x, layer.clamp)) / sqrt(2) if layer.residual else y


def depthwise(
    x: Tensor, f: Tensor, up: int = 1, down: int = 1, padding: Sequence[int] = (0, 0, 0, 0), flip_filter=False, gain=1.0
) -> Tensor:
    """upfirdn2d with separable taps and no cropping: zeros inserted, then a depthwise convolution along each axis."""
    batch, channels, height, width = x.shape
    if up > 1:
        x = x.reshape(batch, channels, height, 1, width, 1)
        x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(batch, channels, height * up, width * up)
    x = F.pad(x, list(padding))
    taps = ((f if flip_filter else f.flip(0)) * sqrt(gain)).to(x.dtype)
    planes = x.reshape(batch * channels, 1, *x.shape[2:])  # quicker than groups of three
    planes = F.conv2d(planes, taps[None, None, None], stride=(1, down))
    planes = F.conv2d(planes, taps[None, None, :, None], stride=(down, 1))
    return planes.reshape(batch, channels, *planes.shape[2:])


def discriminate(D: Discriminator, images: Tensor) -> Tensor:
    """[B, 3, r, r] -> logits [B, 1], of a discriminator without labels."""
    x = convolution(D.from_rgb, images, D.clamp)
    for layer in D.blocks:
        assert isinstance(layer, DiscriminatorBlock)
        x = block(layer, x)
    x = convolution(D.conv, minibatch_stddev(x, D.mbstd_group_size), D.clamp).flatten(1)
    x = F.linear(x, D.fc.weight * D.fc.weight_gain, D.fc.bias * D.fc.lr_multiplier)
    x = F.leaky_relu(x, 0.2) * sqrt(2)
    return F.linear(x, D.out.weight * D.out.weight_gain, D.out.bias * D.out.lr_multiplier)


class PlainTrainer:
    """Networks, optimisers and running means of a run; pixels: uint8 [N, r, r, 3]; p: where the augmentation starts."""

    def __init__(self, config: TrainingConfig, pixels: np.ndarray, p: float):
        torch.manual_seed(config.seed)
        self.config, self.pixels, self.p = config, pixels, p
        self.G, self.G_ema = Generator(config.network), Generator(config.network)
        self.D = build_discriminator(config.network, config.mbstd_group_size, config.residual_d)
        self.G_ema.load_state_dict(self.G.state_dict())
        self.G_ema.requires_grad_(False)
        self.opt_G = self._adam(self.G, config.path_length_interval)
        self.opt_D = self._adam(self.D, config.r1_interval)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.path_length_mean = torch.zeros([])
        self.signs: list[float] = []
        self.step = 0

    def _adam(self, network: torch.nn.Module, interval: int) -> torch.optim.Adam:
        settings = lazy_adam(self.config.lr, (0.0, 0.99), interval)
        return torch.optim.Adam(network.parameters(), lr=settings.lr, betas=settings.betas, eps=1e-8)

    def __call__(self) -> None:
        """One step: D, its R1 every so often, G, its path lengths every so often, the moving averages."""
        config = self.config
        real = to_unit(self.pixels[np.random.default_rng(self.step).integers(0, len(self.pixels), config.batch)])
        self._train_discriminator(real)
        if self.step % config.r1_interval == 0:
            self._regularise_discriminator(real)
        self._train_generator()
        if self.step % config.path_length_interval == 0:
            self._regularise_generator()
        self.step += 1
        self._average()

    def _ws(self, batch: int) -> Tensor:
        ws = self.G.mapping(torch.randn(batch, self.G.z_dim, generator=self.rng))
        if torch.rand([], generator=self.rng) < self.config.style_mixing:
            others = self.G.mapping(torch.randn(batch, self.G.z_dim, generator=self.rng))
            crossover = int(torch.randint(1, self.G.num_ws, [], generator=self.rng))
            ws = mix_styles(ws, others, crossover)
        return ws

    def _images(self, ws: Tensor) -> Tensor:
        return synthesize(self.G.synthesis, ws, self.G.synthesis.noise_maps("random", len(ws), self.rng))

    def _logits(self, images: Tensor) -> Tensor:
        return discriminate(self.D, self._augmented(images))

    def _augmented(self, images: Tensor) -> Tensor:
        with patch.object(warp, "upfirdn2d", depthwise):
            return augment(images, self.p, self.rng, self.config.augment)

    def _train_discriminator(self, real: Tensor) -> None:
        with torch.no_grad():
            fake = self._images(self._ws(len(real)))
        real_logits = self._logits(real)
        discriminator_loss(real_logits, self._logits(fake)).backward()
        self._take_step(self.opt_D)
        self.signs.append(real_logits.detach().sign().mean().item())
        if len(self.signs) == self.config.ada_interval:
            shown = self.config.ada_interval * self.config.batch
            r_t = sum(self.signs) / self.config.ada_interval
            self.p = adjust_p(self.p, r_t, shown, self.config.ada_target, self.config.ada_kimg)
            self.signs = []

    def _regularise_discriminator(self, real: Tensor) -> None:
        real = self._augmented(real).requires_grad_()
        penalty = r1_penalty(discriminate(self.D, real), real, self.config.gamma)
        (penalty * self.config.r1_interval).backward()
        self._take_step(self.opt_D)

    def _train_generator(self) -> None:
        self.D.requires_grad_(False)
        ws = self._ws(self.config.batch)
        generator_loss(self._logits(self._images(ws))).backward()
        self.D.requires_grad_(True)
        self._take_step(self.opt_G)
        with torch.no_grad():
            self.G.mapping.w_avg.lerp_(ws[:, 0].mean(0), 1 - 0.998)

    def _regularise_generator(self) -> None:
        config = self.config
        ws = self._ws(max(config.batch // config.path_length_shrink, 1))
        images = self._images(ws)
        lengths = path_lengths(images, ws, torch.randn(images.shape, generator=self.rng))
        penalty = path_length_penalty(lengths, self.path_length_mean, config.path_length)
        (penalty * config.path_length_interval).backward()
        self._take_step(self.opt_G)
        self.path_length_mean.lerp_(lengths.detach().mean(), config.path_length_decay)

    @staticmethod
    def _take_step(optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def _average(self) -> None:
        config = self.config
        shown = self.step * config.batch
        beta = ema_beta(shown, config.batch, config.ema_kimg * 1000, config.ema_rampup)
        for average, parameter in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
            average.lerp_(parameter, 1 - beta)
