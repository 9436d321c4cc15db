"""The benchmarks' count of a step, against the convolutions of the networks added up by hand."""

import torch

from generator.networks import GeneratorConfig
from tests.benchmarks.counting import convolution_flops, step_kernels
from tests.benchmarks.measuring import FILTERS, profiler, shares_of_time

CONFIG = GeneratorConfig(resolution=64, z_dim=8, w_dim=8, mapping_layers=1, channel_base=1024, channel_max=32)


def synthesis_flops() -> int:
    """Of the 3x3 convolutions of one image; an upsampling one has as many products as its input has pixels."""
    channels, total = CONFIG.channels, 0
    for r, n in channels.items():
        if r > 4:
            total += 2 * 9 * channels[r // 2] * n * (r // 2) ** 2
        total += 2 * 9 * n * n * r * r
    return total


def vgg_flops() -> int:
    total, before = 0, 3
    for side, widths in ((64, [64] * 2), (32, [128] * 2), (16, [256] * 3), (8, [512] * 3), (4, [512] * 3)):
        for width in widths:
            total += 2 * 9 * before * width * side**2
            before = width
    return total


def test_convolutions_forward_and_to_the_input():
    assert convolution_flops(CONFIG, "vgg") == 2 * (synthesis_flops() + vgg_flops())


def test_the_batch_multiplies_flops_and_not_launches():
    two, eight = (step_kernels(CONFIG, "alex", batch) for batch in (2, 8))
    assert sum(k.flops for k in eight if k.is_convolution) == 4 * sum(k.flops for k in two if k.is_convolution)
    assert len(two) == len(eight)
    assert sum(k.bytes for k in two) < sum(k.bytes for k in eight) < 4 * sum(k.bytes for k in two)


def test_a_layer_ends_in_one_kernel_and_half_precision_moves_less():
    full, half = (step_kernels(CONFIG, "alex", 4, dtype) for dtype in (None, torch.bfloat16))
    layers = sum(kernel.name.startswith("latentprint.synthesis_epilogue") for kernel in full)
    assert layers == 9  # two for each resolution above 4x4
    assert sum(k.bytes for k in half if k.is_convolution) < 0.6 * sum(k.bytes for k in full if k.is_convolution)


def test_the_account_tells_filters_from_convolutions():
    x = torch.randn(2, 16, 64, 64)
    with profiler() as seen:
        torch.conv2d(x, torch.randn(16, 1, 4, 4), groups=16)
        torch.conv2d(x, torch.randn(16, 16, 3, 3))
    shares = shares_of_time(seen)
    assert shares[FILTERS] > 0 and shares["convolutions, forward"] > 0
    assert abs(sum(shares.values()) - 1) < 1e-6
