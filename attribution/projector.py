"""The projector of StyleGAN2, section 5 and Appendix D: search W and the noise maps for an image.

Batched over images, independent per image: every sum, statistic and random draw belongs to one image, so that a
projection depends on nothing but its pixels, the generator, the settings and its seed.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, inf, pi, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.noise import autocorrelation_penalty, by_layer, draw_noise, layer_resolutions, renormalize_
from attribution.similarity import mean_squared_error, structural_similarity
from generator import LPIPS, Generator
from generator.encoder import Encoder

LPIPS_RESOLUTION = 256
W_SAMPLES = 10_000
HISTORY_POINTS = 64
MOST_STEPS = 1_000_000  # the losses of all steps are kept
TOGETHER = 4  # images in a search, or a multiple: in these sizes CPU libraries round an image alike, in others not


@dataclass(frozen=True)
class ProjectionConfig:
    """Settings of a projection; the defaults are Appendix D's. The schedules scale with `steps`.

    noise_weight: of the noise maps' regularisation, 0 leaves only their normalisation. precision: "fp32", or "bf16" for
    feature maps and convolutions of the search (w, noise, Adam, losses and the final distance stay float32). rampup,
    rampdown, w_noise_until: shares of the steps. Raises ValueError that names the setting.
    """

    steps: int = 1000
    noise_weight: float = 1e5
    precision: str = "fp32"
    max_lr: float = 0.1
    w_noise: float = 0.05
    rampup: float = 0.05
    rampdown: float = 0.25
    w_noise_until: float = 0.75

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps: found {self.steps!r}, expected a whole number from 1 to {MOST_STEPS:,}")
        for name in ("noise_weight", "max_lr", "w_noise"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a finite number of at least 0")
        for name in ("rampup", "rampdown", "w_noise_until"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a share of the steps above 0, up to 1")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision: found {self.precision!r}, expected fp32 or bf16")


@dataclass(frozen=True)
class Projection:
    """What was found for one image.

    w [w_dim]; noise: one map [r, r] per layer; image [3, H, W], the float synthesis of both, without w noise;
    lpips: its distance to the target, the sum of lpips_per_layer; lpips_start: the distance at w = mu_w;
    mse, ssim: of the images in [-1, 1]; history: (step, LPIPS) along the search, with w noise.
    """

    w: Tensor
    noise: tuple[Tensor, ...]
    image: Tensor
    lpips: float
    lpips_per_layer: tuple[float, ...]
    lpips_start: float
    mse: float
    ssim: float
    steps: int
    seed: int
    history: tuple[tuple[int, float], ...]


def learning_rate(step: int, config: ProjectionConfig) -> float:
    """Learning rate of a step: linear ramp-up over the first 5 %, cosine ramp-down over the last 25 % (Appendix D)."""
    t = step / config.steps
    up = min(1.0, t / config.rampup)
    down = min(1.0, (1 - t) / config.rampdown)
    return config.max_lr * up * (0.5 - 0.5 * cos(pi * down))


def w_noise_strength(step: int, config: ProjectionConfig, sigma_w: float) -> float:
    """Deviation of the noise on w: 0.05 sigma_w t^2, t from 1 to 0 over the first 75 % (Appendix D)."""
    t = max(0.0, 1 - step / config.steps / config.w_noise_until)
    return config.w_noise * sigma_w * t**2


@dataclass(frozen=True)
class LatentStatistics:
    """mu_w [1, w_dim] and sigma_w, the root mean square distance of w from it."""

    mean: Tensor
    sigma: float


@torch.no_grad()
def latent_statistics(G: Generator, label: int | None = None) -> LatentStatistics:
    """mu_w and sigma_w over 10,000 mapped latent codes of seed 0 (Appendix D).

    label: of a conditional generator, None draws labels uniformly. Raises ValueError for a label that G lacks.
    """
    if label is not None and not 0 <= label < G.c_dim:
        raise ValueError(f"label: found {label}, expected none or a class below {G.c_dim}")
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(W_SAMPLES, G.z_dim, generator=rng).to(G.mapping.w_avg)
    c = None
    if G.c_dim:
        labels = torch.randint(G.c_dim, [W_SAMPLES], generator=rng) if label is None else torch.full([W_SAMPLES], label)
        c = F.one_hot(labels, G.c_dim).to(z)
    w = G.mapping.map(z, c)
    mean = w.mean(0, keepdim=True)
    return LatentStatistics(mean, sqrt((w - mean).square().sum(1).mean().item()))


def image_seed(run_seed: int, pixels_sha256: str) -> int:
    """The seed of one image's projection: from the run's seed and the pixels, whatever the order of files."""
    return int(hashlib.sha256(f"{run_seed}:{pixels_sha256}".encode()).hexdigest()[:15], 16)


def for_lpips(images: Tensor) -> Tensor:
    """Area-downsample [B, 3, H, W] to 256^2 where it is larger (Appendix D)."""
    if images.shape[-1] <= LPIPS_RESOLUTION:
        return images
    return F.interpolate(images, size=(LPIPS_RESOLUTION, LPIPS_RESOLUTION), mode="area")


def project(
    G: Generator,
    targets: Tensor,
    *,
    config: ProjectionConfig,
    lpips: LPIPS,
    seeds: Sequence[int],
    statistics: LatentStatistics | None = None,
    encoder: Encoder | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Projection]:
    """Project targets [B, 3, H, W] in [-1, 1] into G; seeds: one per image; on_step is called after each step.

    statistics: of G, where they are at hand already. encoder: of G; its w is where the search begins, instead of mu_w.
    The batch is filled up to a multiple of TOGETHER: the search
    amplifies rounding, and this keeps a projection the same to the bit in every batch, where the libraries allow it.
    Raises ValueError for targets of another size than G's images.
    """
    expected = (3, G.resolution, G.resolution)
    if targets.ndim != 4 or targets.shape[1:] != expected or len(seeds) != len(targets):
        raise ValueError(
            f"targets: found {tuple(targets.shape)} and {len(seeds)} seeds, expected [B, *{expected}] and B"
        )
    filler = [0] * (-len(targets) % TOGETHER)
    images = [*range(len(targets)), *filler]
    statistics = statistics or latent_statistics(G)
    search = _Search(G, targets[images], config, lpips, [seeds[i] for i in images], statistics, encoder)
    losses = torch.zeros(config.steps, len(images), dtype=targets.dtype, device=targets.device)
    for step in range(config.steps):
        losses[step] = search.step(step)
        on_step(step)
    return search.results(losses, seeds)


class _Search:
    """w and noise maps of a batch while they are optimised."""

    def __init__(
        self,
        G: Generator,
        targets: Tensor,
        config: ProjectionConfig,
        lpips: LPIPS,
        seeds: Sequence[int],
        statistics: LatentStatistics,
        encoder: Encoder | None,
    ):
        self.G, self.config, self.lpips, self.sigma = G, config, lpips, statistics.sigma
        dtype, device = targets.dtype, targets.device
        self.targets = targets
        self.target = lpips.features(for_lpips(targets))
        self.working = torch.bfloat16 if config.precision == "bf16" else None
        self.working_target = [t.to(self.working) for t in self.target] if self.working else self.target
        counts = layer_resolutions([layer.resolution for layer in G.synthesis.layers])
        maps, w_noise = [], []
        noisy_steps = sum(w_noise_strength(step, config, 1) > 0 for step in range(config.steps))
        for seed in seeds:  # all draws of an image come from its own generator
            rng = torch.Generator().manual_seed(seed)
            maps.append(draw_noise(counts, rng, dtype))
            w_noise.append(torch.randn(noisy_steps, G.w_dim, generator=rng, dtype=dtype))
        self.w_noise = torch.stack(w_noise).to(device)
        self.noise = [torch.stack(stack).to(device).requires_grad_() for stack in zip(*maps, strict=True)]
        self.w = statistics.mean.to(targets).repeat(len(targets), 1).requires_grad_()
        self.at_mean = self.evaluate()[1].sum(1)
        if encoder is not None:
            self.w.data.copy_(encoder(targets))
        self.adam = torch.optim.Adam([self.w, *self.noise], lr=0, fused=True)

    def step(self, step: int) -> Tensor:
        """One step of Adam on LPIPS + noise_weight * sum L_ij; returns the LPIPS of each image [B]."""
        w = self.w
        strength = w_noise_strength(step, self.config, self.sigma)
        if strength > 0:
            w = w + strength * self.w_noise[:, step]
        images = self.G.synthesis(w, noise=by_layer(self.noise), dtype=self.working)
        distances = self.lpips.per_layer(for_lpips(images), self.working_target, self.working).sum(1)
        loss = distances.sum()
        if self.config.noise_weight:
            loss = loss + self.config.noise_weight * autocorrelation_penalty(self.noise).sum()
        gradients = torch.autograd.grad(loss, [self.w, *self.noise])
        for parameter, gradient in zip([self.w, *self.noise], gradients, strict=True):
            parameter.grad = gradient
        self.adam.param_groups[0]["lr"] = learning_rate(step, self.config)
        self.adam.step()
        renormalize_(self.noise)
        return distances.detach()

    @torch.no_grad()
    def evaluate(self) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] of the present w and noise maps, and their distances [B, layers], in full precision."""
        images = self.G.synthesis(self.w, noise=by_layer(self.noise))
        return images, self.lpips.per_layer(for_lpips(images), self.target)

    def results(self, losses: Tensor, seeds: Sequence[int]) -> list[Projection]:
        """One projection per seed; what filled the batch is left out."""
        images, per_layer = self.evaluate()
        noise = [layer.detach()[:, 0].cpu() for layer in by_layer(self.noise)]
        steps = self.config.steps
        points = sorted({round(i * (steps - 1) / (HISTORY_POINTS - 1)) for i in range(HISTORY_POINTS)})
        mse, ssim = mean_squared_error(images, self.targets), structural_similarity(images, self.targets)
        return [
            Projection(
                w=self.w.detach()[i].cpu().clone(),
                noise=tuple(layer[i].clone() for layer in noise),
                image=images[i].cpu(),
                lpips=per_layer[i].sum().item(),
                lpips_per_layer=tuple(per_layer[i].tolist()),
                lpips_start=self.at_mean[i].item(),
                mse=mse[i].item(),
                ssim=ssim[i].item(),
                steps=steps,
                seed=seeds[i],
                history=tuple((step, losses[step, i].item()) for step in points),
            )
            for i in range(len(seeds))
        ]
