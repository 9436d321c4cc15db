"""Losses, regularisers and schedules against their formulas, explicit Jacobians and finite differences in float64."""

from itertools import pairwise
from math import exp, log, log1p

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from generator.networks import Generator, GeneratorConfig, build_discriminator
from training.config import TrainingConfig
from training.losses import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from training.schedules import ema_beta, lazy_adam

TINY = GeneratorConfig(resolution=8, z_dim=3, w_dim=2, mapping_layers=1, channel_base=8, channel_max=2)
LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(logits: list[float]) -> Tensor:
    return torch.tensor(logits, dtype=torch.float64)[:, None]


@given(LOGITS, LOGITS)
def test_logistic_losses_are_cross_entropies(real, fake):
    def cross_entropy(logit: float) -> float:
        return log1p(exp(-logit))  # -log sigmoid

    assert generator_loss(column(fake)).item() == pytest.approx(np.mean([cross_entropy(x) for x in fake]), abs=1e-8)
    expected = np.mean([cross_entropy(x) for x in real]) + np.mean([cross_entropy(-x) for x in fake])
    assert discriminator_loss(column(real), column(fake)).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_the_losses_are_finite_differences(name):
    of_d, of_g = LOSSES[name]
    real, fake = (torch.randn(5, 1, generator=seeded(i), dtype=torch.float64).requires_grad_() for i in (1, 2))
    assert torch.autograd.gradcheck(of_d, (real, fake))
    assert torch.autograd.gradcheck(of_g, (fake,))


@given(LOGITS, LOGITS)
def test_losses_to_compare_with(real, fake):
    x, y = column(real), column(fake)
    squares = np.mean([(a - 1) ** 2 for a in real]) / 2 + np.mean([b**2 for b in fake]) / 2
    assert lsgan_discriminator_loss(x, y).item() == pytest.approx(squares)
    assert lsgan_generator_loss(y).item() == pytest.approx(np.mean([(b - 1) ** 2 for b in fake]) / 2)
    drift = 0.001 * np.mean([a**2 for a in real])
    assert wasserstein_discriminator_loss(x, y).item() == pytest.approx(np.mean(fake) - np.mean(real) + drift)
    assert wasserstein_generator_loss(y).item() == pytest.approx(-np.mean(fake))


@pytest.mark.parametrize("slope", [0.25, 1.0, 3.0])
def test_the_gradient_penalty_wants_a_slope_of_one(slope):
    """Of a linear D its slope is known; and the penalty's own gradient is that of 10 (slope - 1)^2."""
    direction = torch.randn(3, 4, 4, dtype=torch.float64, generator=seeded(0))
    scale = torch.tensor(slope, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    penalty = gradient_penalty((x * direction / direction.norm() * scale).sum([1, 2, 3])[:, None], x)
    assert penalty.item() == pytest.approx(10 * (slope - 1) ** 2, abs=1e-9)
    penalty.backward()
    assert scale.grad is not None and scale.grad.item() == pytest.approx(20 * (slope - 1), abs=1e-9)


def test_r1_is_the_squared_slope_of_the_discriminator_by_finite_differences():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        D = build_discriminator(TINY, mbstd_group_size=1).double()  # one group an image: no image sees another
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=seeded(1))
    squares, step = torch.zeros(2, dtype=torch.float64), 1e-6
    with torch.no_grad():
        for pixel in np.ndindex(3, 8, 8):
            moved = torch.zeros_like(x)
            moved[(slice(None), *pixel)] = step
            squares += ((D(x + moved) - D(x - moved))[:, 0] / (2 * step)).square()
    x.requires_grad_()
    penalty = r1_penalty(D(x), x, gamma=0.6)
    assert penalty.item() == pytest.approx(0.3 * squares.mean().item(), rel=1e-5)

    # and the gradient that trains D, along a random direction of its weights
    weights = [p for p in D.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(penalty, weights, allow_unused=True)
    direction = [torch.randn(p.shape, dtype=torch.float64, generator=seeded(i)) for i, p in enumerate(weights)]
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True) if g is not None)

    def moved_penalty(t: float) -> float:
        values = {n: p + t * d for (n, p), d in zip(D.named_parameters(), direction, strict=True)}
        return r1_penalty(torch.func.functional_call(D, values, (x,)), x, gamma=0.6).item()

    assert slope == pytest.approx((moved_penalty(1e-5) - moved_penalty(-1e-5)) / 2e-5, rel=1e-4)


def test_path_length_is_that_of_the_explicit_jacobian():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        G = Generator(TINY).double()
    batch, r = 2, TINY.resolution
    ws = torch.randn(batch, G.num_ws, G.w_dim, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    noise = torch.randn(batch, 3, r, r, dtype=torch.float64, generator=seeded(2))
    lengths = path_lengths(G.synthesis(ws), ws, noise)
    for i in range(batch):
        jacobian = torch.autograd.functional.jacobian(lambda w: G.synthesis(w[None])[0], ws[i].detach())
        product = torch.einsum("chw,chwlk->lk", noise[i] / r, jacobian)  # J^T y, one row for each layer's w
        expected = product.square().sum(dim=1).mean().sqrt()
        assert lengths[i].item() == pytest.approx(expected.item(), rel=1e-9)

    # the penalty reaches the weights
    path_length_penalty(lengths, torch.zeros([], dtype=torch.float64), weight=2).backward()
    assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in G.synthesis.layers)


def test_path_length_penalty_is_the_squared_distance_from_the_target():
    lengths = torch.tensor([1.0, 4.0])
    assert path_length_penalty(lengths, torch.tensor(2.0), weight=3).item() == 3 * (1 + 4) / 2


@pytest.mark.parametrize("resolution", [16, 64, 1024])
def test_default_path_length_weight_is_the_papers(resolution):
    """Appendix B, eq. 1 weighs ||J^T y||^2; ours is divided by r^2 (y / r) and by num_ws (mean over layers)."""
    num_ws = Generator(GeneratorConfig(resolution=resolution, w_dim=1, channel_base=1024, channel_max=1)).num_ws
    gamma = log(2) / (resolution**2 * (log(resolution) - log(2)))
    assert TrainingConfig().path_length == pytest.approx(gamma * resolution**2 * num_ws)


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize(("interval", "lr", "beta2"), [(16, 0.0018823529, 0.9905854), (8, 0.0017777778, 0.9911062)])
def test_lazy_adam_has_the_numbers_of_appendix_b(interval, lr, beta2):
    # c = k / (k + 1); lambda' = c lambda; beta' = beta^c, with lambda 0.002, beta2 0.99, k = 16 (D) and 8 (G)
    settings = lazy_adam(0.002, (0.0, 0.99), interval)
    assert settings.lr == pytest.approx(lr, rel=1e-6)
    assert settings.betas == pytest.approx((0.0, beta2), rel=1e-6)


@given(batch=st.integers(1, 64), half_life=st.floats(1e3, 1e5))
def test_a_weight_halves_in_the_half_life(batch, half_life):
    late = ema_beta(10**9, batch, half_life, rampup=0.05)
    assert late ** (half_life / batch) == pytest.approx(0.5)


def test_the_average_forgets_the_first_networks():
    assert ema_beta(0, 16, 5000, rampup=0.05) == 0
    assert ema_beta(16, 16, 5000, rampup=0.05) == pytest.approx(0.5**20)
    rising = [ema_beta(images, 16, 5000, rampup=0.05) for images in range(16, 200_000, 16)]
    assert all(a <= b < 1 for a, b in pairwise(rising))
    assert rising[-1] == pytest.approx(0.5 ** (16 / 5000))
