"""The search for w and noise maps: states of single images, and batches of them that take steps together.

A state belongs to one image and is all that its search needs to go on, in whatever batch: a search can stop at any
step, and another image takes its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.noise import autocorrelation_penalty, by_layer, draw_noise, layer_resolutions, renormalize_
from attribution.schedules import ProjectionConfig, learning_rate, w_noise_strength
from attribution.similarity import mean_squared_error, structural_similarity
from generator import LPIPS, Generator
from generator.encoder import Encoder

LPIPS_RESOLUTION = 256
PIXELS_TOGETHER = 4 * 256**2  # of the images whose LPIPS is differentiated at once: more cost memory and gain no time
TOGETHER = 4  # images in a search, or a multiple: in these sizes CPU libraries round an image alike, in others not


@dataclass(frozen=True)
class LatentStatistics:
    """mu_w [1, w_dim] and sigma_w, the root mean square distance of w from it."""

    mean: Tensor
    sigma: float


@dataclass(frozen=True)
class Searcher:
    """What all searches in one generator share. encoder: of G, where they begin; None: at mu_w.

    multiple: batches are filled up to one of it.
    """

    G: Generator
    config: ProjectionConfig
    lpips: LPIPS
    statistics: LatentStatistics
    encoder: Encoder | None = None
    multiple: int = TOGETHER


@dataclass(frozen=True)
class SearchState:
    """The search for one image after some steps.

    target [3, H, W] in [-1, 1]; w [w_dim]; noise: maps [n, r, r] by resolution; moments: Adam's two for w and each of
    noise, none before the first step; w_noise [noisy steps, w_dim]: the noise on w, drawn at the start; start: LPIPS at
    mu_w; losses [steps so far]; checkpoints: (steps, LPIPS) on the way.
    """

    target: Tensor
    seed: int
    w: Tensor
    noise: tuple[Tensor, ...]
    moments: tuple[tuple[Tensor, Tensor], ...]
    w_noise: Tensor
    start: float
    losses: Tensor
    checkpoints: tuple[tuple[int, float], ...] = ()

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.losses)


@dataclass(frozen=True)
class Rendered:
    """A state's image [3, H, W] without noise on w, and what it is to the target, in full precision.

    per_layer: the layers' shares of the distance; mse, ssim: of the images in [-1, 1].
    """

    image: Tensor
    per_layer: Tensor
    mse: float
    ssim: float

    @property
    def lpips(self) -> float:
        """The distance."""
        return self.per_layer.sum().item()


def for_lpips(images: Tensor) -> Tensor:
    """Area-downsample [B, 3, H, W] to 256^2 where it is larger (Appendix D)."""
    if images.shape[-1] <= LPIPS_RESOLUTION:
        return images
    return F.interpolate(images, size=(LPIPS_RESOLUTION, LPIPS_RESOLUTION), mode="area")


def begin(searcher: Searcher, targets: Tensor, seeds: Sequence[int], features: list[Tensor] | None = None) -> "Batch":
    """The searches before the first step; all random draws of an image come from a generator with its seed.

    features: a batch's of the same targets, where there is one.
    """
    G, config = searcher.G, searcher.config
    counts = layer_resolutions([layer.resolution for layer in G.synthesis.layers])
    noisy_steps = sum(w_noise_strength(step, config, 1) > 0 for step in range(config.steps))
    states = []
    for target, seed in zip(targets, seeds, strict=True):
        rng = torch.Generator().manual_seed(seed)
        maps = tuple(m.to(targets.device) for m in draw_noise(counts, rng, targets.dtype))
        w_noise = torch.randn(noisy_steps, G.w_dim, generator=rng, dtype=targets.dtype).to(targets.device)
        w = searcher.statistics.mean.to(targets)[0]
        states.append(SearchState(target, seed, w, maps, (), w_noise, 0.0, targets.new_zeros(0)))
    batch = Batch(searcher, states, features)
    batch.states = [replace(state, start=found.lpips) for state, found in zip(states, batch.render(), strict=True)]
    if searcher.encoder is not None:
        batch.w.data.copy_(searcher.encoder(batch.targets))
        batch.rendered = (-1, [])
    return batch


class Batch:
    """w and noise maps of several searches, all at one step, while they are optimised together.

    Filled up to a multiple of TOGETHER: the search amplifies rounding, and this keeps a projection the same to the bit
    in every batch, where the libraries allow it. states: as they came in; `present_states` gives them as they are now.
    features: LPIPS's of the targets, filled up likewise, from another generator's batch of them. step: how many steps
    the searches have taken.
    """

    def __init__(self, searcher: Searcher, states: Sequence[SearchState], features: list[Tensor] | None = None):
        self.searcher, self.states = searcher, list(states)
        filled = [*states, *[states[0]] * (-len(states) % searcher.multiple)]
        self.working = torch.bfloat16 if searcher.config.precision == "bf16" else None
        self.targets = torch.stack([state.target for state in filled])
        self.features = features or searcher.lpips.features(for_lpips(self.targets))
        self.working_features = [f.to(self.working) for f in self.features] if self.working else self.features
        self.w_noise = torch.stack([state.w_noise for state in filled])
        self.w = torch.stack([state.w for state in filled]).requires_grad_()
        stacks = zip(*(state.noise for state in filled), strict=True)
        self.noise = [torch.stack(maps).requires_grad_() for maps in stacks]
        betas = searcher.config.beta1, searcher.config.beta2
        self.adam = torch.optim.Adam([self.w, *self.noise], lr=0, betas=betas, fused=True)
        if states[0].moments:
            self._restore_moments(filled)
        self.losses = [torch.stack([state.losses for state in filled], dim=1)]
        self.checkpoints: list[tuple[int, list[float]]] = []
        self.step = states[0].steps
        self.rendered: tuple[int, list[Rendered]] = (-1, [])

    def advance(
        self, until: int, checkpoints: Sequence[int] = (), on_step: Callable[[int], None] = lambda step: None
    ) -> None:
        """Take the steps up to `until`, and measure the distances at those of `checkpoints` that are on the way."""
        first = self.step
        taken = self.targets.new_zeros(until - first, len(self.targets))
        self.losses.append(taken)
        while self.step < until:
            taken[self.step - first] = self._take_step(self.step)
            on_step(self.step)
            self.step += 1
            if self.step in checkpoints:
                self.checkpoints.append((self.step, [found.lpips for found in self.render()]))

    def _take_step(self, step: int) -> Tensor:
        """One step of Adam on LPIPS + noise_weight * sum L_ij; returns the LPIPS of each image [B]."""
        config, w = self.searcher.config, self.w
        strength = w_noise_strength(step, config, self.searcher.statistics.sigma)
        if strength > 0:
            w = w + strength * self.w_noise[:, step]
        images = self.searcher.G.synthesis(w, noise=by_layer(self.noise), dtype=self.working)
        distances, towards = self._distances(images.detach())
        terms: list[Tensor] = [images]
        weights: list[Tensor | None] = [towards]
        if config.noise_weight:
            terms.append(config.noise_weight * autocorrelation_penalty(self.noise).sum())
            weights.append(None)
        gradients = torch.autograd.grad(terms, [self.w, *self.noise], weights)
        for parameter, gradient in zip([self.w, *self.noise], gradients, strict=True):
            parameter.grad = gradient
        self.adam.param_groups[0]["lr"] = learning_rate(step, config)
        self.adam.step()
        renormalize_(self.noise)
        return distances

    def _distances(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """LPIPS of each image [B], and its gradient in the images, of so many at once as PIXELS_TOGETHER allows."""
        lpips, size = self.searcher.lpips, max(TOGETHER, PIXELS_TOGETHER // images[0, 0].numel())
        distances, gradients = [], []
        for first in range(0, len(images), size):
            part = images[first : first + size].requires_grad_()
            target = [f[first : first + size] for f in self.working_features]
            found = lpips.per_layer(for_lpips(part), target, self.working).sum(1)
            gradients.append(torch.autograd.grad(found.sum(), part)[0])
            distances.append(found.detach())
        return torch.cat(distances), torch.cat(gradients)

    @torch.no_grad()
    def render(self) -> list[Rendered]:
        """The present images and distances, in full precision."""
        if self.rendered[0] != self.step:
            self.rendered = (self.step, self._render())
        return self.rendered[1]

    def _render(self) -> list[Rendered]:
        images = self.searcher.G.synthesis(self.w, noise=by_layer(self.noise))
        per_layer = self.searcher.lpips.per_layer(for_lpips(images), self.features)
        mse, ssim = mean_squared_error(images, self.targets), structural_similarity(images, self.targets)
        return [Rendered(images[i], per_layer[i], mse[i].item(), ssim[i].item()) for i in range(len(self.states))]

    def present_states(self) -> list[SearchState]:
        """The states of all searches, to go on with in this batch or another."""
        parameters, losses = [self.w, *self.noise], torch.cat(self.losses)
        kept = [self.adam.state[p] for p in parameters] if self.adam.state else []
        return [
            replace(
                before,
                w=self.w.detach()[i].clone(),
                noise=tuple(maps.detach()[i].clone() for maps in self.noise),
                moments=tuple((k["exp_avg"][i].clone(), k["exp_avg_sq"][i].clone()) for k in kept),
                losses=losses[:, i],
                checkpoints=before.checkpoints + tuple((step, distances[i]) for step, distances in self.checkpoints),
            )
            for i, before in enumerate(self.states)
        ]

    def _restore_moments(self, states: Sequence[SearchState]) -> None:
        for place, parameter in enumerate([self.w, *self.noise]):
            self.adam.state[parameter] = {
                "step": torch.tensor(float(states[0].steps), device=parameter.device),
                "exp_avg": torch.stack([state.moments[place][0] for state in states]),
                "exp_avg_sq": torch.stack([state.moments[place][1] for state in states]),
            }
