"""The benchmarks' baseline computes what our own networks and losses compute; only then is it a fair one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from attribution.noise import autocorrelation_penalty, renormalize_
from attribution.schedules import ProjectionConfig
from attribution.search import LatentStatistics
from cuda_ops import setup_filter, upfirdn2d
from generator import LPIPS
from generator.networks import Generator, GeneratorConfig, build_discriminator
from tests.benchmarks.plain import PlainLPIPS, PlainProjector, noise_regularisation, synthesize
from tests.benchmarks.plain_training import PlainTrainer, depthwise, discriminate
from training.augment import BGC
from training.config import TrainingConfig
from training.wavelets import SYM6

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


@pytest.mark.parametrize("factors", [{"up": 2, "padding": [6, 5, 6, 5], "gain": 4.0}, {"down": 2, "flip_filter": True}])
def test_the_augmentations_filter_is_ours(factors):
    x, f = torch.randn(2, 3, 16, 18), setup_filter(SYM6)
    torch.testing.assert_close(depthwise(x, f, **factors), upfirdn2d(x, f, **factors), rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_the_logits_are_ours(clamp, residual):
    D = build_discriminator(replace(CONFIG, clamp=clamp), mbstd_group_size=2, residual=residual)
    for name, parameter in D.named_parameters():
        if name.endswith("bias"):
            parameter.data += torch.randn(parameter.shape) / 2
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(discriminate(D, images), D(images), rtol=1e-4, atol=1e-4)


def test_the_plain_trainer_trains_all_that_ours_does():
    config = TrainingConfig(network=CONFIG, batch=4, augment=BGC, mbstd_group_size=2)
    trainer = PlainTrainer(config, np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), p=0.5)
    networks = (trainer.G, trainer.D, trainer.G_ema)
    before = [{name: p.detach().clone() for name, p in network.named_parameters()} for network in networks]
    trainer()
    trainer()
    for network, old in zip(networks, before, strict=True):
        assert all(not torch.equal(p, old[name]) for name, p in network.named_parameters())
    assert trainer.path_length_mean > 0
    assert trainer.step == 2
