"""The prediction of a GPU's speed: its arithmetic, and on a GPU the measurement beside it.

`pytest -m gpu -rP tests/test_gpu_prediction.py` prints the measured times and their ratio to the predicted ones.
"""

import time

import pytest
import torch

from attribution.projector import latent_statistics, project
from attribution.schedules import ProjectionConfig
from generator import LPIPS
from generator.networks import Generator
from tests.benchmarks.counting import Kernel
from tests.benchmarks.gpu_prediction import CONFIGS, H100, PRECISIONS, Device, predict, prediction_of, table

SLOW = Device("slow", {"tf32": 100.0}, bandwidth=10.0, launch=0.5, reached=0.5)
WARMUP, STEPS, BATCH = 5, 30, 8


def test_each_kernel_takes_the_longer_of_arithmetic_and_traffic():
    kernels = [Kernel("convolution", 1000, 10), Kernel("mul", 0, 20)]
    p = predict(kernels, 2, "tf32", SLOW)
    assert (p.arithmetic, p.traffic, p.device, p.host) == (20, 4, 24, 1)
    assert (p.seconds, p.bound, p.launches, p.flops, p.bytes) == (24, "arithmetic", 2, 1000, 30)
    assert p.images_per_hour(3.6) == 2  # a thousand steps take an hour


@pytest.mark.parametrize(("kernel", "bound"), [(Kernel("mul", 10, 100), "memory"), (Kernel("add", 1, 1), "launches")])
def test_what_bounds_it(kernel, bound):
    assert predict([kernel] * 3, 1, "tf32", SLOW).bound == bound


def test_the_table_has_what_an_h100_would_do():
    one, eight = (prediction_of(256, "tf32", batch) for batch in (1, 8))
    assert one.bound == "launches"  # a step of one small image is too short for a large GPU
    assert eight.flops == pytest.approx(8 * one.flops, rel=0.01)
    lines = table({(256, "tf32"): [one, eight]}).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none was found")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("resolution", CONFIGS)
def test_measured_beside_predicted(resolution, precision, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    G = Generator(CONFIGS[resolution]).eval().requires_grad_(False).cuda()
    targets = torch.rand(BATCH, 3, resolution, resolution, device="cuda") * 2 - 1
    config = ProjectionConfig(steps=WARMUP + STEPS, precision="bf16" if precision == "bf16" else "fp32")
    ends = []

    def note(step: int) -> None:
        if step in (WARMUP - 1, WARMUP + STEPS - 1):
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    lpips, statistics = LPIPS("vgg").cuda(), latent_statistics(G)
    found = project(G, targets, config=config, lpips=lpips, seeds=range(BATCH), statistics=statistics, on_step=note)
    seconds = (ends[1] - ends[0]) / STEPS
    p = prediction_of(resolution, precision, BATCH)
    print(
        f"\n{torch.cuda.get_device_name()}, {resolution}x{resolution}, {precision}, batch {BATCH}: {1e3 * seconds:.1f} "
        f"ms a step, {p.images_per_hour(seconds):.0f} images/h at 1000 steps; predicted for an {H100.name} "
        f"{1e3 * p.seconds:.1f} ms ({p.bound}): {seconds / p.seconds:.2f} times as long"
    )
    assert all(projection.image.isfinite().all() for projection in found)
