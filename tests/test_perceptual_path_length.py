"""Perceptual path length against its definition in float64."""

import copy

import numpy as np
import pytest
import torch

from generator import LPIPS
from generator.networks import Generator, GeneratorConfig
from generator.sampling import derive_seed
from training import perceptual_path_length as module
from training.perceptual_path_length import perceptual_path_lengths

CONFIG = GeneratorConfig(resolution=16, z_dim=6, w_dim=4, mapping_layers=2, channel_base=64, channel_max=4)


@pytest.fixture
def G() -> Generator:
    G = Generator(CONFIG).eval().requires_grad_(False)
    for layer in G.synthesis.layers:
        layer.noise_strength.data.fill_(0.05)
    return G


@torch.no_grad()
def by_definition(G: Generator, seed: int, epsilon: float = 1e-4) -> float:
    """d(g(f(z)), g(lerp(f(z), f(z'), epsilon))) / epsilon^2 of the first sample, in float64."""
    double = copy.deepcopy(G).double()
    rng = torch.Generator().manual_seed(derive_seed("ppl", seed, 0))
    start, end = torch.randn(1, 2, G.z_dim, generator=rng).double()[0].split(1)
    noise = [m.double() for m in double.synthesis.noise_maps("random", 1, rng) if m is not None]
    w, other = double.mapping(start), double.mapping(end)
    images = [double.synthesis(w + t * (other - w), noise=noise) for t in (0, epsilon)]
    return LPIPS("vgg").double()(*images).item() / epsilon**2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_is_that_of_the_definition(G, seed):
    assert perceptual_path_lengths(G, 1, seed)[0] == pytest.approx(by_definition(G, seed), rel=0.05)


def test_the_score_hardly_depends_on_a_small_step(G):
    """A metric's distance is quadratic in the step: what is left after the division is a squared speed."""
    np.testing.assert_allclose(
        perceptual_path_lengths(G, 3, 0, epsilon=1e-3), perceptual_path_lengths(G, 3, 0, epsilon=3e-4), rtol=0.05
    )


def test_a_sample_depends_on_its_seed_and_number_alone(G, monkeypatch):
    expected = perceptual_path_lengths(G, 5, 0)
    assert expected.shape == (5,) and (expected > 0).all() and len(set(expected)) == 5
    monkeypatch.setattr(module, "BATCH", 2)
    np.testing.assert_allclose(perceptual_path_lengths(G, 3, 0), expected[:3], rtol=0.05)
    assert perceptual_path_lengths(G, 1, 1)[0] != pytest.approx(expected[0], rel=0.05)
    assert perceptual_path_lengths(G, 0, 0).shape == (0,)


def test_a_conditional_generator_gets_one_label_for_both_ends():
    """Its labels decide everything: were they drawn anew for the second end, the distance would not vanish."""
    G = Generator(GeneratorConfig(**vars(CONFIG) | {"c_dim": 5})).eval().requires_grad_(False)
    G.mapping.get_parameter("layers.0.weight")[:, : CONFIG.z_dim] = 0
    np.testing.assert_allclose(perceptual_path_lengths(G, 4, 0), 0, atol=1e-3)


def test_large_images_are_seen_at_256(monkeypatch):
    G = Generator(GeneratorConfig(512, 4, 0, 4, 1, 512, 1)).eval().requires_grad_(False)
    seen: list[torch.Tensor] = []

    def one(self: LPIPS, *images: torch.Tensor) -> torch.Tensor:
        seen.extend(images)
        return torch.ones(1)

    monkeypatch.setattr(module.LPIPS, "forward", one)
    assert perceptual_path_lengths(G, 1, 0)[0] == pytest.approx(1e8)
    assert [image.shape for image in seen] == [(1, 3, 256, 256)] * 2
