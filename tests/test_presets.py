"""The presets against the tables of the papers, and what can be asked for in their place."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from generator.discriminator import DiscriminatorBlock
from generator.files import WithoutMemory
from generator.networks import GeneratorConfig, build_discriminator
from training.presets import PRESETS, auto, resolve

# ADA, Figure 24, row by row
COLUMNS = ("stylegan2-f", "ada-256", "ada-512", "ada-1024", "cifar")
FIGURE_24: dict[str, tuple[Any, ...]] = {
    "resolution": (1024, 256, 512, 1024, 32),
    "training length": (25e6, 25e6, 25e6, 25e6, 100e6),
    "minibatch size": (32, 64, 64, 32, 64),
    "minibatch stddev": (4, 8, 8, 4, 32),
    "x-flips": (False, False, True, True, False),  # of configuration F: on for FFHQ alone
    "learning rate x 1000": (2, 2.5, 2.5, 2, 2.5),
    "R1": (10, 1, 0.5, 2, 0.01),
    "G moving average": (10e3, 20e3, 20e3, 10e3, 500e3),
    "mapping depth": (8, 8, 8, 8, 2),
    "style mixing": (True, True, True, True, False),
    "path length": (True, True, True, True, False),
    "residual D": (True, True, True, True, False),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_presets_are_the_columns_of_figure_24(name):
    config = PRESETS[name]
    assert {row: values[COLUMNS.index(name)] for row, values in FIGURE_24.items()} == {
        "resolution": config.network.resolution,
        "training length": config.kimg * 1000,
        "minibatch size": config.batch,
        "minibatch stddev": config.mbstd_group_size,
        "x-flips": config.x_flip,
        "learning rate x 1000": config.lr * 1000,
        "R1": config.gamma,
        "G moving average": config.ema_kimg * 1000,
        "mapping depth": config.network.mapping_layers,
        "style mixing": config.style_mixing == 0.9,
        "path length": config.path_length == 2,
        "residual D": config.residual_d,
    }
    assert (config.network.z_dim, config.network.w_dim) == (512, 512)
    assert (config.r1_interval, config.path_length_interval) == (16, 8)  # StyleGAN2, Appendix B


@pytest.mark.parametrize(("name", "at_256", "at_64"), [("stylegan2-f", 128, 512), ("stylegan2-e", 64, 256)])
def test_configuration_f_doubles_the_feature_maps_of_e(name, at_256, at_64):
    """StyleGAN2, section 4.2: from 64 x 64 up."""
    channels = PRESETS[name].network.channels
    assert (channels[256], channels[64], channels[32]) == (at_256, at_64, 512)
    assert PRESETS[name].gamma == {"stylegan2-e": 100, "stylegan2-f": 10}[name]  # Appendix B


def test_feature_maps_of_the_ada_presets():
    full = PRESETS["stylegan2-f"].network.channels
    for name in ("ada-512", "ada-1024"):
        channels = PRESETS[name].network.channels
        assert channels == {r: full[r] for r in channels}
    half = PRESETS["ada-256"].network.channels
    assert {r: half[r] for r in (64, 128, 256)} == {r: full[r] // 2 for r in (64, 128, 256)}
    assert set(PRESETS["cifar"].network.channels.values()) == {512}


@pytest.mark.parametrize("name", ["ada-256", "ada-512", "ada-1024", "cifar", "auto"])
def test_the_ada_presets_augment_as_published(name):
    config = resolve(name, {})
    assert config.augment == ("blit", "geometry", "colour")
    assert (config.ada_target, config.ada_interval, config.ada_kimg) == (0.6, 4, 500)
    assert config.network.clamp == 2**8


@pytest.mark.parametrize("name", ["ada-256", "ada-512", "ada-1024"])
def test_auto_agrees_with_the_table_where_the_table_has_one_value(name):
    table = PRESETS[name]
    found = auto(table.network.resolution)
    assert (found.batch, found.lr, found.ema_kimg) == (table.batch, table.lr, table.ema_kimg)
    assert found.network == replace(table.network, mapping_layers=2)
    assert found.gamma / 5 <= table.gamma <= 5 * found.gamma  # Appendix D.1: where to look for the best


@pytest.mark.parametrize(("resolution", "batch", "gamma", "ema"), [(256, 16, 0.8192, 5), (64, 32, 0.0256, 10)])
def test_auto_follows_resolution_and_batch(resolution, batch, gamma, ema):
    config = resolve("auto", {"resolution": resolution, "batch": batch})
    assert (config.batch, config.gamma, config.ema_kimg) == (batch, pytest.approx(gamma), ema)
    assert config.network.resolution == resolution


def test_what_is_asked_for_takes_the_presets_place():
    config = resolve("stylegan2-f", {"resolution": 128, "batch": 8, "gamma": 1.5, "c_dim": 3})
    assert config == replace(
        PRESETS["stylegan2-f"],
        batch=8,
        gamma=1.5,
        network=replace(PRESETS["stylegan2-f"].network, resolution=128, c_dim=3),
    )


def test_wgan_gp_comes_with_the_settings_of_adas_comparison():
    """Appendix D.2: penalty 10 in place of R1, fp32, a learning rate of 0.001."""
    config = resolve("small-64", {"loss": "wgan-gp"})
    assert (config.gamma, config.precision, config.lr, config.augment) == (0, "fp32", 0.001, ())
    assert resolve("ada-256", {"loss": "lsgan"}).augment == ()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("config", {}),
        ("resolution", {"resolution": 100}),
        ("batch", {"batch": 0}),
        ("gamma", {"gamma": -1.0}),
        ("loss", {"loss": "hinge"}),
        ("augment", {"loss": "lsgan", "augment": ("blit",)}),
        ("gamma", {"loss": "wgan-gp", "gamma": 1.0}),
        ("gamma", {"loss": "wgan-gp", "precision": "bf16"}),
        ("gamma", {"gamma": float("nan")}),
        ("lr", {"lr": -0.1}),
        ("half-resolutions", {"half_resolutions": 0}),
        ("mapping-layers", {"mapping_layers": 65}),
    ],
)
def test_what_cannot_be_is_named(name, asked):
    with pytest.raises(ValueError, match=rf"^--{name}: found .* expected"):
        resolve("huge" if name == "config" else "auto", asked)


@pytest.mark.parametrize(
    ("name", "half_from"), [("ada-256", 32), ("ada-1024", 128), ("stylegan2-f", 128), ("cifar", 4), ("small-64", 4)]
)
def test_half_precision_is_for_the_four_highest_resolutions(name, half_from):
    """ADA, Appendix D.1, of its own and StyleGAN2's networks; our own recipe takes it everywhere."""
    assert PRESETS[name].half_from == half_from
    clamp = 256 if name in ("ada-256", "ada-1024", "cifar") else None
    assert resolve(name, {}).network.clamp == clamp and resolve(name, {"precision": "fp16"}).network.clamp == 256


def test_fp16_needs_a_clamp():
    with pytest.raises(ValueError, match=r"^precision: found fp16 with a network without a clamp"):
        replace(PRESETS["small-64"], precision="fp16")


def test_a_discriminator_without_skips():
    """ADA, Appendix D.1: CIFAR-10 does without residual connections."""
    config = GeneratorConfig(resolution=16, z_dim=4, w_dim=4, channel_base=64, channel_max=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        D = build_discriminator(config, residual=False)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not [name for name in D.state_dict() if "skip" in name]
    features = D.from_rgb(x)
    for block in cast(list[DiscriminatorBlock], list(D.blocks)):
        expected = block.conv1(block.conv0(features))
        torch.testing.assert_close(block(features), expected)
        features = expected
    with WithoutMemory():
        D = build_discriminator(PRESETS["cifar"].network, 32, residual=False)
    assert len(D.blocks) == 3 and D.conv.weight.shape == (512, 513, 3, 3)
