"""One training step: discriminator, generator, their lazy regularisers, and the moving averages."""

from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from generator.images import to_unit
from generator.networks import Generator, mix_styles
from training.augment import adjust_p, augment
from training.dataset import TrainingImages, batch_indices
from training.losses import discriminator_loss, generator_loss, path_length_penalty, path_lengths, r1_penalty
from training.schedules import ema_beta
from training.state import TrainingState

W_AVG_DECAY = 0.998  # StyleGAN, Appendix C


def train_step(state: TrainingState, data: TrainingImages) -> dict[str, float]:
    """Train D, then G, on one batch, update the averages, and return the step's figures."""
    config, device = state.config, state.path_length_mean.device
    entropy = np.random.SeedSequence([config.seed, 2, state.step]).generate_state(1, np.uint64)[0]
    rng = torch.Generator(device).manual_seed(int(entropy >> 1))
    figures = _step_discriminator(state, _real_batch(state, data, rng), rng)
    if state.images >= config.warmup_kimg * 1000:
        figures |= _step_generator(state, rng)
    state.step += 1
    _update_average(state)
    return figures


def _augmented(state: TrainingState, images: Tensor, rng: torch.Generator) -> Tensor:
    return augment(images, state.p, rng, state.config.augment) if state.config.augment else images


def _adjust_augmentation(state: TrainingState, sign: float) -> None:
    config = state.config
    state.signs.append(sign)
    if len(state.signs) == config.ada_interval:
        r_t = sum(state.signs) / config.ada_interval
        state.p = adjust_p(state.p, r_t, config.ada_interval * config.batch, config.ada_target, config.ada_kimg)
        state.signs = []


def _real_batch(state: TrainingState, data: TrainingImages, rng: torch.Generator) -> Tensor:
    config = state.config
    images = to_unit(data.pixels[batch_indices(len(data), config.batch, state.step, config.seed)]).to(rng.device)
    if not config.x_flip:
        return images
    flip = torch.rand(len(images), 1, 1, 1, generator=rng, device=rng.device) < 0.5
    return torch.where(flip, images.flip(3), images)


def _working_dtype(state: TrainingState) -> torch.dtype | None:
    return torch.bfloat16 if state.config.precision == "bf16" else None


def _sample_ws(G: Generator, batch: int, style_mixing: float, rng: torch.Generator) -> Tensor:
    """w of random latent codes [batch, num_ws, w_dim], some with two styles (StyleGAN, section 3.1)."""
    z = torch.randn(2 if style_mixing else 1, batch, G.z_dim, generator=rng, device=rng.device)
    ws = G.mapping(z[0])
    if style_mixing and torch.rand([], generator=rng, device=rng.device) < style_mixing:
        crossover = int(torch.randint(1, G.num_ws, [], generator=rng, device=rng.device))
        ws = mix_styles(ws, G.mapping(z[1]), crossover)
    return ws


@contextmanager
def _frozen(network: torch.nn.Module):
    """Spare the weight gradients of the network that this loss does not train."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _step_discriminator(state: TrainingState, real: Tensor, rng: torch.Generator) -> dict[str, float]:
    config, dtype = state.config, _working_dtype(state)
    with torch.no_grad():
        ws = _sample_ws(state.G, config.batch, config.style_mixing, rng)
        fake = state.G.synthesis(ws, noise="random", generator=rng, dtype=dtype)
    real, fake = _augmented(state, real, rng), _augmented(state, fake, rng)
    real_logits, fake_logits = state.D(real, dtype=dtype), state.D(fake, dtype=dtype)
    loss = discriminator_loss(real_logits, fake_logits)
    loss.backward()
    state.opt_D.step()
    state.opt_D.zero_grad(set_to_none=True)
    # r_t is ADA's measure of overfitting: E[sign(D(real))] (ADA, eq. 1)
    figures = {"loss_d": loss.item(), "r_t": real_logits.sign().mean().item()}
    if config.augment:
        figures["p"] = state.p
        _adjust_augmentation(state, figures["r_t"])
    if config.gamma and state.step % config.r1_interval == 0:
        real = real.detach().requires_grad_()
        penalty = r1_penalty(state.D(real), real, config.gamma)
        (penalty * config.r1_interval).backward()
        state.opt_D.step()
        state.opt_D.zero_grad(set_to_none=True)
        figures["r1"] = penalty.item()
    return figures


def _step_generator(state: TrainingState, rng: torch.Generator) -> dict[str, float]:
    config, dtype, G = state.config, _working_dtype(state), state.G
    ws = _sample_ws(G, config.batch, config.style_mixing, rng)
    with _frozen(state.D):
        fake = _augmented(state, G.synthesis(ws, noise="random", generator=rng, dtype=dtype), rng)
        loss = generator_loss(state.D(fake, dtype=dtype))
        loss.backward()
    state.opt_G.step()
    state.opt_G.zero_grad(set_to_none=True)
    with torch.no_grad():
        G.mapping.w_avg.lerp_(ws[:, 0].detach().mean(0), 1 - W_AVG_DECAY)
    figures = {"loss_g": loss.item()}
    if config.path_length and state.step % config.path_length_interval == 0:
        batch = max(config.batch // config.path_length_shrink, 1)
        ws = _sample_ws(G, batch, config.style_mixing, rng)
        images = G.synthesis(ws, noise="random", generator=rng)
        lengths = path_lengths(images, ws, torch.randn(images.shape, generator=rng, device=rng.device))
        with torch.no_grad():
            state.path_length_mean.lerp_(lengths.mean(), config.path_length_decay)
        penalty = path_length_penalty(lengths, state.path_length_mean, config.path_length)
        (penalty * config.path_length_interval).backward()
        state.opt_G.step()
        state.opt_G.zero_grad(set_to_none=True)
        figures |= {"path_length": lengths.mean().item(), "path_length_penalty": penalty.item()}
    return figures


@torch.no_grad()
def _update_average(state: TrainingState) -> None:
    config = state.config
    beta = ema_beta(state.images, config.batch, config.ema_kimg * 1000, config.ema_rampup)
    torch._foreach_lerp_(list(state.G_ema.parameters()), list(state.G.parameters()), 1 - beta)
    for average, buffer in zip(state.G_ema.buffers(), state.G.buffers(), strict=True):
        average.copy_(buffer)
