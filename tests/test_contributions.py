"""What each resolution adds to the image, of generators for which it is known."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from generator.networks import Generator, GeneratorConfig
from training.contributions import draw_contributions, resolution_contributions

CONFIG = GeneratorConfig(resolution=16, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4)


def generator(config: GeneratorConfig = CONFIG) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator(config).eval().requires_grad_(False)


def blocks_of(G: Generator) -> list[Any]:
    return list(G.synthesis.blocks)


def silence(G: Generator, *blocks: int) -> None:
    for i in blocks:
        blocks_of(G)[i].to_rgb.weight.zero_()


def test_one_resolution_that_varies_has_all_of_it():
    G = generator()
    silence(G, 0, 2)
    blocks_of(G)[2].to_rgb.bias.fill_(7)  # the same everywhere: no contribution
    assert resolution_contributions(G) == {"contribution_4": 0, "contribution_8": 1, "contribution_16": 0}
    silence(G, 1)
    assert set(resolution_contributions(G).values()) == {0}


def test_contributions_are_in_proportion_to_the_deviations():
    """The image of one resolution alone has its deviation; made three times as strong, it counts three times."""
    G = generator()
    before = resolution_contributions(G)
    assert sum(before.values()) == pytest.approx(1, abs=2e-6)
    blocks_of(G)[2].to_rgb.weight.mul_(3)
    a, b, c = before.values()
    expected = np.array([a, b, 3 * c]) / (a + b + 3 * c)
    assert list(resolution_contributions(G).values()) == pytest.approx(expected, abs=5e-6)


def test_the_deviation_is_that_of_the_outputs():
    """Each tRGB alone at the end of the network: numpy's deviation of all its values."""
    G = generator()
    z = torch.randn(16, 4, generator=torch.Generator().manual_seed(3))
    ws = G.mapping(z)
    features, deviations, first = G.synthesis.const.expand(16, -1, -1, -1), [], 0
    maps = G.synthesis.noise_maps("const", 16)
    for block in blocks_of(G):
        n = len(block.convs)
        features, rgb = block(features, None, ws[:, first : first + n + 1], maps[first : first + n])
        deviations.append(rgb.numpy().astype(np.float64).std())
        first += n
    expected = np.array(deviations) / sum(deviations)
    assert list(resolution_contributions(G, samples=16, seed=3).values()) == pytest.approx(expected, abs=2e-6)


def test_the_network_and_the_random_numbers_stay_as_they_were():
    G = generator(replace(CONFIG, c_dim=3))
    before = torch.get_rng_state()
    first = resolution_contributions(G)
    assert resolution_contributions(G) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in G.modules())


def test_the_figure_has_a_line_for_each_resolution():
    lines = [
        {"kimg": 1.0, "loss_d": 1.0},
        {"kimg": 10.0, "contribution_4": 0.75, "contribution_8": 0.25},
        {"kimg": 20.0, "contribution_4": 0.5, "contribution_8": 0.5},
    ]
    root = ET.fromstring(draw_contributions(lines))
    curves = [e.attrib["points"].split() for e in root.iter() if e.tag.endswith("polyline")]
    (four, eight) = [[tuple(map(float, point.split(","))) for point in curve] for curve in curves]
    assert four[1] == eight[1] and four[0][0] == eight[0][0] < four[1][0]
    assert four[0][1] < four[1][1] == eight[1][1] < eight[0][1]  # y grows downwards
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert {"4 x 4", "8 x 8", "20", "100 %"} <= set(texts)
