"""Conditional models: labels reach G and D as ADA's CIFAR-10 paragraph has it, and make a difference."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generator import load_generator
from generator.files import read_provenance
from generator.networks import GeneratorConfig
from generator.sampling import sample_images
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.loop import train
from training.state import TrainingState
from training.step import train_step

BATCH = 8
NETWORK = GeneratorConfig(
    resolution=8, z_dim=4, c_dim=2, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4, clamp=256
)
CONFIG = TrainingConfig(
    network=NETWORK, batch=BATCH, kimg=3 * BATCH / 1000, gamma=0.1, r1_interval=2, path_length_interval=2
)
# black ones of class 0, white ones of class 1
PIXELS = np.zeros((8, 8, 8, 3), np.uint8)
PIXELS[4:] = 255
DATA = TrainingImages(PIXELS, "d" * 64, np.repeat([0, 1], 4), ("black", "white"))


def test_the_discriminator_is_a_projection():
    """D(x) = norm(embed(c)) . D'(x), here with unit mean squares: 1 / sqrt(n) makes the norm of the embedding 1."""
    D = TrainingState(CONFIG).D
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    c = F.one_hot(torch.tensor([0, 1, 1, 0]), 2).float()
    features: list[torch.Tensor] = []
    D.out.register_forward_hook(lambda module, args, output: features.append(output))
    logits = D(x, c)
    assert D.label_mapping is not None and D.label_mapping.embed is not None
    embed = D.label_mapping.embed
    embedded = c @ embed.weight.T / sqrt(2) + embed.bias
    expected = (embedded / embedded.norm(dim=1, keepdim=True) * features[0]).sum(1, keepdim=True)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_generator_maps_the_code_beside_the_embedded_label():
    """z' = concat(norm(z), norm(embed(c)))."""
    G = TrainingState(CONFIG).G
    z, c = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), F.one_hot(torch.tensor([0, 1, 1]), 2).float()
    assert G.mapping.embed is not None
    parts = z, c @ G.mapping.embed.weight.T / sqrt(2)
    joined = torch.cat([sqrt(4) * part / part.norm(dim=1, keepdim=True) for part in parts], 1)
    torch.testing.assert_close(G.mapping.map(z, c), G.mapping.layers[0](joined), rtol=1e-4, atol=1e-5)


def test_each_image_is_judged_with_its_own_label(monkeypatch):
    """A real one with its class, a generated one with the class that it was made for."""
    state = TrainingState(replace(CONFIG, style_mixing=0))
    made: list[torch.Tensor] = []
    judged: list[tuple[torch.Tensor, torch.Tensor]] = []
    state.G.mapping.register_forward_pre_hook(lambda module, args: made.append(args[1]))
    state.D.register_forward_pre_hook(lambda module, args: judged.append((args[0], args[1])))
    for _ in range(2):
        train_step(state, DATA)
    # first step: real and generated, R1, then G's; G makes for D, for itself, and for its path length
    (both, both_c), (r1_images, r1_c), (_, g_c) = judged[:3]
    real, (real_c, fake_c) = both[:BATCH], both_c.chunk(2)
    assert torch.equal((real.mean([1, 2, 3]) > 0).long(), real_c.argmax(1)) and torch.equal(real_c, r1_c)
    assert torch.equal(real, r1_images)
    assert torch.equal(fake_c, made[0]) and torch.equal(g_c, made[1]) and len(made[2]) == BATCH // 2
    assert all(c.sum(1).eq(1).all() for c in made)
    assert torch.cat(made).argmax(1).unique().tolist() == [0, 1]  # both classes come up


def test_a_conditional_run_learns_its_classes():
    # a seed whose run doesn't hang on rounding: others end anywhere between 0.2 and 2.4
    state = TrainingState(replace(CONFIG, lr=0.02, path_length=0, ema_kimg=0.1, style_mixing=0, seed=2))
    for _ in range(80):
        train_step(state, DATA)
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        black, white = (state.G_ema(z, F.one_hot(torch.full([8], i), 2).float()).mean().item() for i in (0, 1))
    assert white - black > 0.5


def test_parts_of_a_conditional_batch_are_the_same_batch():
    config = replace(CONFIG, mbstd_group_size=2)
    whole, parts = TrainingState(config), TrainingState(replace(config, accumulate=4))
    for _ in range(2):
        assert train_step(parts, DATA) == pytest.approx(train_step(whole, DATA), rel=1e-3, abs=1e-3)


def test_a_conditional_run_resumes_to_the_same_bits_and_names_its_classes(tmp_path):
    straight = train(CONFIG, DATA, tmp_path / "straight")
    train(replace(CONFIG, kimg=BATCH / 1000), DATA, tmp_path / "longer")
    longer = train(CONFIG, DATA, tmp_path / "longer")
    found, expected = load_generator(longer), load_generator(straight)
    assert found.c_dim == 2 and read_provenance(longer)["classes"] == ["black", "white"]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_a_conditional_run_starts_from_a_conditional_file(tmp_path):
    first = train(CONFIG, DATA, tmp_path / "first")
    second = train(replace(CONFIG, seed=1, freeze_d=1), DATA, tmp_path / "second", init=first)
    assert load_generator(second).c_dim == 2
    unconditional = replace(CONFIG, network=replace(NETWORK, c_dim=0))
    plain = TrainingImages(PIXELS, "e" * 64)
    with pytest.raises(ValueError, match="found a generator with c_dim 2, expected c_dim 0"):
        train(unconditional, plain, tmp_path / "third", init=first)


def test_a_label_is_the_same_for_every_seed(tmp_path):
    G = load_generator(train(CONFIG, DATA, tmp_path / "run"))
    zero, one, any_label = (sample_images(G, range(6), label=label) for label in (0, 1, None))
    for i in range(6):
        assert (any_label[i] == zero[i]).all() != (any_label[i] == one[i]).all()
    for label in (-1, 2):
        with pytest.raises(ValueError, match=rf"^label: found {label}, expected a class from 0 to 1"):
            sample_images(G, [0], label=label)
