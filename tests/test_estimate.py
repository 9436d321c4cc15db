"""What --dry-run says of a configuration, against counts by hand and the papers' own."""

from dataclasses import replace

import pytest
import torch

from generator.networks import Generator, GeneratorConfig, build_discriminator
from training.config import TrainingConfig
from training.estimate import estimate
from training.presets import PRESETS

NETWORK = GeneratorConfig(resolution=8, z_dim=5, w_dim=6, mapping_layers=2, channel_base=32, channel_max=7)
CONFIG = TrainingConfig(network=NETWORK, batch=4, gamma=0, path_length=0)
CHANNELS = {4: 7, 8: 4}


def conv(i: int, o: int, kernel: int, size: int) -> int:
    """FLOPs of a convolution that multiplies at size x size places."""
    return 2 * i * o * kernel**2 * size**2


# By hand, one image. The up-convolution multiplies at its input's size; a demodulation takes a matrix product.
MAPPING = 2 * (5 * 6 + 6 * 6)
STYLES = 2 * 6 * (7 + 7 + 4 + 7 + 4)  # three convolutions, two tRGB
DEMODULATIONS = 2 * (7 * 7 + 7 * 4 + 4 * 4)
CONVOLUTIONS = conv(7, 7, 3, 4) + conv(7, 4, 3, 4) + conv(4, 4, 3, 8)
TO_RGB = conv(7, 3, 1, 4) + conv(4, 3, 1, 8)
G_FORWARD = MAPPING + STYLES + DEMODULATIONS + CONVOLUTIONS + TO_RGB
FROM_RGB = conv(3, 4, 1, 8)
BLOCK = conv(4, 4, 3, 8) + conv(4, 7, 3, 4) + conv(4, 7, 1, 4)
D_FORWARD = FROM_RGB + BLOCK + conv(8, 7, 3, 4) + 2 * (7 * 16 * 7 + 7)


def test_flops_are_those_counted_by_hand():
    found = estimate(CONFIG)
    assert found.flops_generate == G_FORWARD
    # D: a forward pass for real and generated image, gradients of weights and, but for the images, of inputs
    train_D = G_FORWARD + 2 * (3 * D_FORWARD - FROM_RGB)
    # G: D's gradients of inputs alone; z has none
    train_G = 3 * G_FORWARD - 2 * 5 * 6 + 2 * D_FORWARD
    assert found.flops_train == train_D + train_G


def test_lazy_regularisers_are_shared_among_the_steps():
    plain = estimate(CONFIG).flops_train
    for config in (replace(CONFIG, gamma=1), replace(CONFIG, path_length=1)):
        every, fourth = (
            estimate(replace(config, r1_interval=n, path_length_interval=n)).flops_train - plain for n in (1, 4)
        )
        assert every > 0 and fourth == pytest.approx(every / 4, abs=1)


def test_r1_takes_a_forward_pass_and_two_backward():
    """Each convolution runs forward, backward to its input, and for both again with gradients of the weights."""
    r1 = estimate(replace(CONFIG, gamma=1, r1_interval=1)).flops_train - estimate(CONFIG).flops_train
    assert 5 * D_FORWARD < r1 < 7 * D_FORWARD


def test_parameters_and_bytes_are_those_of_the_networks():
    found = estimate(CONFIG)
    G, D = Generator(NETWORK), build_discriminator(NETWORK)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (G, D)]
    assert [found.generator_parameters, found.discriminator_parameters] == sizes
    # weights and two moments of both, G's average, the larger one's gradients
    assert found.state_bytes == 4 * (3 * sum(sizes) + sizes[0] + max(sizes))


def test_memory_is_that_of_the_tensors_kept():
    """Of a discriminator's pass at least every feature map that a convolution takes; it grows with the batch."""
    found, double = estimate(CONFIG), estimate(replace(CONFIG, batch=8))
    maps = 4 * 64 + 4 * 64 + 7 * 16 + 8 * 16  # inputs of conv0, conv1 and skip, and of the last convolution
    assert 2 * 4 * maps * 4 < found.activation_bytes < 12 * 4 * maps * 4
    four_times = estimate(replace(CONFIG, batch=16))
    growth = double.activation_bytes - found.activation_bytes
    assert four_times.activation_bytes - double.activation_bytes == 2 * growth > found.activation_bytes


@pytest.mark.parametrize(("name", "G", "D"), [("stylegan2-e", 25, 24), ("stylegan2-f", 30, 29)])
def test_parameters_of_the_published_configurations(name, G, D):
    """StyleGAN2, section 4.2, in millions; nothing of that size is held in memory here."""
    found = estimate(PRESETS[name])
    assert (round(found.generator_parameters / 1e6), round(found.discriminator_parameters / 1e6)) == (G, D)
    assert found.activation_bytes > 10e9


def test_conditional_networks_without_skips_are_counted():
    config = replace(CONFIG, network=replace(NETWORK, c_dim=3), residual_d=False, gamma=1, path_length=2)
    found = estimate(config)
    assert found.generator_parameters > estimate(CONFIG).generator_parameters
    assert torch.get_default_device() == torch.device("cpu")
