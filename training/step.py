"""One training step: discriminator, generator, their lazy regularisers, and the moving averages.

A batch is worked on in parts: one, or several after another (accumulation), or on several processes. Every random
number is drawn for the whole batch, and every loss is weighted by its part's share, so that the sums over the parts are
those of the undivided batch up to rounding.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generator.images import to_unit
from training.augment import adjust_p, augment
from training.critic import Judged, discriminator_terms, generator_terms, judge, nearby
from training.dataset import TrainingImages, batch_indices
from training.latents import Latents, draw_latents
from training.losses import LOSSES, gradient_penalty, path_length_penalty, path_lengths, r1_penalty
from training.schedules import ema_beta
from training.spectral import iterate, working_tensors
from training.state import TrainingState, frozen
from training.streams import stream

W_AVG_DECAY = 0.998  # StyleGAN, Appendix C


def train_step(state: TrainingState, data: TrainingImages) -> dict[str, float]:
    """Train D, then G, on one batch, update the averages, and return the step's figures."""
    for network in (state.G, state.D):
        iterate(network)
    figures = _step_discriminator(state, data)
    if state.images >= state.config.warmup_kimg * 1000:
        figures |= _step_generator(state, data)
        if state.config.path_length and state.step % state.config.path_length_interval == 0:
            figures |= _regularise_path_length(state, data)
    state.step += 1
    _update_average(state)
    return figures


def _augmented(state: TrainingState, images: Tensor, rows: Tensor, purpose: str) -> Tensor:
    config = state.config
    if not config.augment:
        return images
    return augment(images, state.p, stream(state, purpose), config.augment, rows, config.batch)


def _adjust_augmentation(state: TrainingState, sign: float) -> None:
    config = state.config
    state.signs.append(sign)
    if len(state.signs) == config.ada_interval:
        r_t = sum(state.signs) / config.ada_interval
        state.p = adjust_p(state.p, r_t, config.ada_interval * config.batch, config.ada_target, config.ada_kimg)
        state.signs = []


def _real_images(state: TrainingState, data: TrainingImages, indices: np.ndarray, rows: Tensor) -> Tensor:
    """These images of a batch; indices: the whole batch's."""
    images = to_unit(data.pixels[indices[rows.cpu().numpy()]]).to(rows.device)
    if not state.config.x_flip:
        return images
    rng = stream(state, "flips")
    flip = torch.rand(len(indices), 1, 1, 1, generator=rng, device=rng.device)[rows] < 0.5
    return torch.where(flip, images.flip(3), images)


def _one_hot(state: TrainingState, data: TrainingImages, indices: np.ndarray) -> Tensor | None:
    """The labels of these training images [n, c_dim]; None for an unconditional model."""
    if data.labels is None:
        return None
    numbers = torch.as_tensor(data.labels[indices], device=state.path_length_mean.device)
    return F.one_hot(numbers, state.config.network.c_dim).float()


def _draw(state: TrainingState, data: TrainingImages, batch: int, rng: torch.Generator) -> Latents:
    """Generated images get the labels of training images drawn at random."""
    latents = draw_latents(state.G, batch, state.config.style_mixing, rng)
    if data.labels is None:
        return latents
    drawn = torch.randint(len(data), [batch], generator=rng, device=rng.device)
    return replace(latents, labels=_one_hot(state, data, drawn.cpu().numpy()))


class _Sums:
    """Figures summed over the parts of a batch: each part's mean counts by its share of the images."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add(self, share: float, **means: Tensor) -> None:
        for name, mean in means.items():
            term = mean.detach() * share
            self.values[name] = self.values[name] + term if name in self.values else term


def _finish(state: TrainingState, optimizer: torch.optim.Optimizer, sums: _Sums) -> None:
    """Add up gradients and figures over the processes, and take the optimiser's step."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    state.workers.add_up([*gradients, *sums.values.values()])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _step_discriminator(state: TrainingState, data: TrainingImages) -> dict[str, float]:
    config = state.config
    indices = batch_indices(len(data), config.batch, state.step, config.seed)
    latents, sums = _draw(state, data, config.batch, stream(state, "D images")), _Sums()
    near = nearby(state, latents, "near D images")
    reals: list[tuple[Tensor, Tensor | None]] = []
    discriminator_loss, _ = LOSSES[config.loss]
    for rows in state.parts:
        share = len(rows) / config.batch
        fake = _generated(state, latents, rows)
        real = _augmented(state, _real_images(state, data, indices, rows), rows, "augment real")
        labels, fake_labels = _one_hot(state, data, indices[rows.cpu().numpy()]), latents.labels_of(rows)
        labels_of_both = None if labels is None or fake_labels is None else torch.cat([labels, fake_labels])
        both = judge(state, torch.cat([real, fake]), labels_of_both, rows, "real", "generated", dtype=config.dtype)
        real_logits, fake_logits = both.chunk(2)
        loss = discriminator_loss(real_logits, fake_logits)
        judged = Judged(real, labels, real_logits), Judged(fake, fake_labels, fake_logits)
        terms = discriminator_terms(state, rows, *judged, near=partial(_generated, state, near, rows))
        if config.loss == "wgan-gp":
            mixed = _mixtures(state, real, fake, rows)
            terms["gradient_penalty"] = gradient_penalty(judge(state, mixed, labels, rows, "mixtures"), mixed)
        (sum(terms.values(), loss) * share).backward()
        # r_t is ADA's measure of overfitting: E[sign(D(real))] (ADA, eq. 1)
        sums.add(share, loss_d=sum(terms.values(), loss), r_t=real_logits.sign().mean(), **terms)
        reals.append((real, labels))
    _finish(state, state.opt_D, sums)
    figures = {name: value.item() for name, value in sums.values.items()}
    if config.adaptive:
        figures["p"] = state.p
        _adjust_augmentation(state, figures["r_t"])
    if config.gamma and state.step % config.r1_interval == 0:
        figures |= _regularise_discriminator(state, reals)
    return figures


def _made(state: TrainingState, latents: Latents, rows: Tensor) -> Tensor:
    return latents.images(state.G, latents.ws(state.G, rows), rows, state.config.dtype)


@torch.no_grad()
def _generated(state: TrainingState, latents: Latents, rows: Tensor) -> Tensor:
    """Generated images as D learns from them."""
    return _augmented(state, _made(state, latents, rows), rows, "augment generated")


def _mixtures(state: TrainingState, real: Tensor, fake: Tensor, rows: Tensor) -> Tensor:
    """A random point between each real image and a generated one."""
    rng = stream(state, "mixtures")
    weight = torch.rand(state.config.batch, 1, 1, 1, generator=rng, device=rng.device)[rows]
    return real.lerp(fake, weight).requires_grad_()


def _regularise_discriminator(state: TrainingState, reals: Sequence[tuple[Tensor, Tensor | None]]) -> dict[str, float]:
    config, sums = state.config, _Sums()
    for rows, (real, labels) in zip(state.parts, reals, strict=True):
        share = len(rows) / config.batch
        real = real.detach().requires_grad_()
        logits = judge(state, real, labels, rows, "R1", dtype=config.penalty_dtype)
        penalty = r1_penalty(logits, real, config.gamma)
        (penalty * config.r1_interval * share).backward()
        sums.add(share, r1=penalty)
    _finish(state, state.opt_D, sums)
    return {"r1": sums.values["r1"].item()}


def _step_generator(state: TrainingState, data: TrainingImages) -> dict[str, float]:
    config, G, sums = state.config, state.G, _Sums()
    latents = _draw(state, data, config.batch, stream(state, "G images"))
    near = nearby(state, latents, "near G images")
    _, generator_loss = LOSSES[config.loss]
    for rows in state.parts:
        share = len(rows) / config.batch
        ws = latents.ws(G, rows)
        with frozen(state.D, state.auxiliary):
            made = latents.images(G, ws, rows, config.dtype)
            shown = _augmented(state, made, rows, "augment G")
            loss = generator_loss(judge(state, shown, latents.labels_of(rows), rows, "G", dtype=config.dtype))
            terms = generator_terms(state, made, shown, near=partial(_made, state, near, rows))
            loss = sum(terms.values(), loss)
            (loss * share).backward()
        sums.add(share, loss_g=loss, w=ws[:, 0].mean(0), **terms)
    _finish(state, state.opt_G, sums)
    with torch.no_grad():
        G.mapping.w_avg.lerp_(sums.values["w"], 1 - W_AVG_DECAY)
    return {name: value.item() for name, value in sums.values.items() if name != "w"}


def _regularise_path_length(state: TrainingState, data: TrainingImages) -> dict[str, float]:
    """The penalty's target is the mean length before this step, which any division of the batch has at hand."""
    config, sums, rng = state.config, _Sums(), stream(state, "path length")
    batch = max(config.batch // config.path_length_shrink, 1)
    latents = _draw(state, data, batch, rng)
    y = torch.randn(batch, 3, state.G.resolution, state.G.resolution, generator=rng, device=rng.device)
    for rows in state.share_evenly(batch):
        share = len(rows) / batch
        # a process without images does its part on one that counts nothing: it has to add the same gradients up
        rows = rows if len(rows) else torch.zeros_like(state.parts[0][:1])
        ws = latents.ws(state.G, rows)
        lengths = path_lengths(latents.images(state.G, ws, rows, config.penalty_dtype), ws, y[rows])
        penalty = path_length_penalty(lengths, state.path_length_mean, config.path_length)
        (penalty * config.path_length_interval * share).backward()
        sums.add(share, path_length=lengths.mean(), path_length_penalty=penalty)
    _finish(state, state.opt_G, sums)
    state.path_length_mean.lerp_(sums.values["path_length"], config.path_length_decay)
    return {name: value.item() for name, value in sums.values.items()}


@torch.no_grad()
def _update_average(state: TrainingState) -> None:
    """Of the weights that G works with: the average is a plain network, as its file is."""
    config, average = state.config, state.G_ema
    beta = ema_beta(state.images, config.batch, config.ema_kimg * 1000, config.ema_rampup)
    parameters, buffers = dict(average.named_parameters()), dict(average.named_buffers())
    torch._foreach_lerp_(list(parameters.values()), working_tensors(state.G, list(parameters)), 1 - beta)
    for buffer, current in zip(buffers.values(), working_tensors(state.G, list(buffers)), strict=True):
        buffer.copy_(current)
