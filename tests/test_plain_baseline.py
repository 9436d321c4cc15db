"""The benchmarks' baseline computes what our own networks and losses compute; only then is it a fair one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attribution.noise import autocorrelation_penalty, renormalize_
from attribution.projector import LatentStatistics, ProjectionConfig
from generator import LPIPS
from generator.networks import Generator, GeneratorConfig
from tests.benchmarks.plain import PlainLPIPS, PlainProjector, noise_regularisation, synthesize

CONFIG = GeneratorConfig(resolution=32, z_dim=6, w_dim=5, mapping_layers=2, channel_base=256, channel_max=16)


def generator(config: GeneratorConfig = CONFIG) -> Generator:
    """None of its parts is at its trivial initial value."""
    G = Generator(config)
    for name, parameter in G.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.data += torch.randn(parameter.shape) / 2
    return G.requires_grad_(False)


def noise_maps(G: Generator, batch: int) -> list[Tensor]:
    return [torch.randn(batch, 1, layer.resolution, layer.resolution) for layer in G.synthesis.layers]


@pytest.mark.parametrize("clamp", [None, 1.0])
def test_the_images_are_ours(clamp):
    G = generator(replace(CONFIG, clamp=clamp))
    ws, noise = torch.randn(3, G.num_ws, G.w_dim), noise_maps(G, 3)
    torch.testing.assert_close(synthesize(G.synthesis, ws, noise), G.synthesis(ws, noise=noise), rtol=1e-4, atol=1e-4)


def test_one_w_serves_all_layers_and_noise_may_be_left_out():
    G, w = generator(), torch.randn(2, CONFIG.w_dim)
    found = synthesize(G.synthesis, w, [None] * len(G.synthesis.layers))
    torch.testing.assert_close(found, G.synthesis(w, noise="none"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_the_distance_is_ours(net):
    ours = LPIPS(net)
    plain = PlainLPIPS(ours)
    images, targets = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    found = plain.distance(images, plain.features(targets))
    torch.testing.assert_close(found, ours(images, targets), rtol=1e-4, atol=1e-6)


def test_the_noise_regularisation_is_ours():
    layers = [torch.randn(1, 1, r, r) for r in (4, 8, 8, 16, 32, 32)]
    stacks = [torch.cat([layer for layer in layers if layer.shape[-1] == r], 1) for r in (4, 8, 16, 32)]
    torch.testing.assert_close(noise_regularisation(layers), autocorrelation_penalty(stacks)[0])


def test_the_projector_comes_closer_and_normalises_its_noise():
    G, lpips = generator(), PlainLPIPS(LPIPS("alex"))
    for layer in G.synthesis.layers:
        layer.noise_strength.zero_()
    target = G.synthesis(torch.randn(1, CONFIG.w_dim)).clamp(-1, 1)
    config = ProjectionConfig(steps=30)
    statistics = LatentStatistics(torch.zeros(1, CONFIG.w_dim), 1.0)
    search = PlainProjector(G, target, config, lpips, statistics)
    distances = [search.step(step) for step in range(config.steps)]
    assert distances[-1] < distances[0] / 2
    normalised = [noise.detach().clone() for noise in search.noise]
    renormalize_(normalised)
    for found, expected in zip(search.noise, normalised, strict=True):
        torch.testing.assert_close(found.detach(), expected)
