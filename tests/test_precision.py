"""Mixed precision: which feature maps are in half precision, how far they may stray, and what they can't leave."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from cuda_ops import cpu_winograd
from generator.discriminator import EqualizedConv
from generator.layers import demodulation, filter_energy, within_half_range
from generator.networks import GeneratorConfig
from generator.synthesis import SynthesisLayer
from training.config import PRECISIONS, TrainingConfig
from training.dataset import TrainingImages
from training.state import TrainingState, load_checkpoint, save_checkpoint
from training.step import train_step

NETWORK = GeneratorConfig(
    resolution=32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=16, clamp=256
)
CONFIG = TrainingConfig(network=NETWORK, batch=8, gamma=0.5, r1_interval=2, path_length_interval=2)
DATA = TrainingImages(np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8), "d" * 64)
# relative to fp32 on this run: of losses over three steps, and of the first step's gradients
DISTANCE = {"bf16": 0.05, "fp16": 0.02}
PENALTY_DISTANCE = {"bf16": 0.15, "fp16": 0.02}  # of the regularisers' gradients
# in bf16, of the gradients of networks of 128 channels; with the library's convolutions they are off by up to 0.085
WIDE_DISTANCE = 0.1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(config: TrainingConfig) -> tuple[list[dict[str, float]], list[torch.Tensor], TrainingState]:
    """Three steps: their figures, and the first one's gradients: D's, R1's, G's and the path length penalty's."""
    state, gradients = TrainingState(config), []
    for optimizer in (state.opt_D, state.opt_G):
        optimizer.register_step_pre_hook(
            lambda of, *_: gradients.append(
                torch.cat([p.grad.flatten() for p in of.param_groups[0]["params"] if p.grad is not None])
            )
        )
    figures = [train_step(state, DATA) for _ in range(3)]
    return figures, gradients[:4], state


@pytest.fixture(scope="module")
def in_fp32():
    return run(CONFIG)


@pytest.mark.parametrize("precision", DISTANCE)
@pytest.mark.parametrize("resolutions", [2, 9])
def test_losses_and_gradients_stay_within_the_stated_distance_of_fp32(in_fp32, precision, resolutions):
    state = assert_within(precision, in_fp32, run(replace(CONFIG, precision=precision, half_resolutions=resolutions)))
    for network in (state.G, state.D, state.G_ema):  # the masters
        assert {t.dtype for t in network.state_dict().values()} == {torch.float32}


def test_so_do_networks_whose_convolutions_take_winograd_s_way():
    wide = replace(CONFIG, network=replace(NETWORK, channel_base=4096, channel_max=128))
    with patch("cuda_ops.convolution.weight_gradient", wraps=cpu_winograd.weight_gradient) as gradient:
        assert_within("bf16", run(wide), run(replace(wide, precision="bf16")), WIDE_DISTANCE)
    assert {call.args[0].dtype for call in gradient.call_args_list} == {torch.float32, torch.bfloat16}


def assert_within(precision, in_full, in_half, of_gradients=None):
    """The run in half precision is within the stated distance of that in fp32; returns its last state."""
    of_gradients = of_gradients or DISTANCE[precision]
    (full, whole_gradients, _), (half, gradients, state) = in_full, in_half
    for expected, found in zip(full, half, strict=True):
        assert found.keys() == expected.keys()
        for name in {"loss_d", "loss_g", "r1", "path_length"} & expected.keys():
            assert found[name] == pytest.approx(expected[name], rel=DISTANCE[precision]), name
    assert [figures["loss_d"] for figures in half] != [figures["loss_d"] for figures in full]
    for i, (a, b) in enumerate(zip(gradients, whole_gradients, strict=True)):
        assert 0 < (a - b).norm() / b.norm() < (PENALTY_DISTANCE[precision] if i % 2 else of_gradients)
        assert ((a == 0) & (b != 0)).float().mean() < 0.001  # unscaled, and yet none to speak of vanishes
    return state


@pytest.mark.parametrize(("resolutions", "lowest"), [(1, 32), (2, 16), (4, 4), (9, 4)])
def test_only_the_highest_resolutions_are_in_half_precision(resolutions, lowest):
    state = TrainingState(replace(CONFIG, precision="fp16", half_resolutions=resolutions))
    seen: dict[int, set[torch.dtype]] = {}

    def watch(module, args, output):
        size = output.shape[-1] if isinstance(module, SynthesisLayer) else args[0].shape[-1]
        seen.setdefault(size, set()).add(args[0].dtype)

    for network in (state.G, state.D):
        for module in network.modules():
            if isinstance(module, SynthesisLayer | EqualizedConv):
                module.register_forward_hook(watch)
    images = state.G.synthesis(torch.randn(2, 8, generator=seeded()), dtype=torch.float16)
    up = [(layer.resolution, layer.up) for layer in state.G.synthesis.layers]
    assert up[-2:] == [(32, True), (32, False)]
    assert state.D(images, dtype=torch.float16).dtype == images.dtype == torch.float32
    assert seen == {r: {torch.float16 if r >= lowest else torch.float32} for r in (4, 8, 16, 32)}


@pytest.mark.parametrize(("precision", "penalties"), [("bf16", torch.bfloat16), ("fp16", torch.float32)])
def test_the_penalties_are_in_bf16_but_not_in_fp16(precision, penalties):
    state, half = TrainingState(replace(CONFIG, precision=precision)), PRECISIONS[precision]
    seen: dict[torch.nn.Module, list[torch.dtype]] = {state.D.from_rgb: [], state.G.synthesis.layers[-1]: []}
    for module, dtypes in seen.items():
        module.register_forward_hook(lambda _, args, __, dtypes=dtypes: dtypes.append(args[0].dtype))
    train_step(state, DATA)
    judged, made = seen.values()
    assert judged == [half, penalties, half]  # both kinds of images, R1, G
    assert made == [half, half, penalties]  # for D, for G, path length


def test_normalised_styles_and_weights_make_the_same_layer():
    layer = SynthesisLayer(6, 5, 4, 8, up=False, clamp=None).double()
    x, style = (torch.randn(*shape, dtype=torch.float64, generator=seeded(1)) for shape in ((2, 6, 8, 8), (2, 6)))
    weight = layer.weight.detach() * 30

    def convolve(weight: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x * style[:, :, None, None], weight, padding=1)
        return y * demodulation(filter_energy(weight), style)[:, :, None, None]

    torch.testing.assert_close(convolve(*within_half_range(weight, style)), convolve(weight, style), rtol=1e-6, atol=0)


@pytest.mark.parametrize("up", [False, True])
def test_extreme_styles_and_weights_do_not_leave_the_range_of_fp16(up):
    """The largest inputs that the clamp lets through, all of the sign that adds up most, at 512 feature maps."""
    layer = SynthesisLayer(512, 2, 4, 8, up=up, clamp=256)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.abs() * 1e4)
        layer.affine.bias.fill_(1e4)
        x = torch.full((1, 512, 4 if up else 8, 4 if up else 8), 256.0)
        full, half = (layer(x.to(dtype), torch.zeros(1, 4), None) for dtype in (torch.float32, torch.float16))
    assert half.dtype == torch.float16 and half.isfinite().all()
    torch.testing.assert_close(half.float(), full, rtol=0.01, atol=0.01)
    raw = torch.nn.functional.conv2d((x * 1e4).half(), layer.weight.half())
    assert not raw.isfinite().all()  # what it would be without


def test_a_checkpoint_from_before_a_setting_existed_goes_on(tmp_path):
    state, path = TrainingState(CONFIG), tmp_path / "checkpoint.pt"
    train_step(state, DATA)
    save_checkpoint(state, path, DATA.sha256)
    record = torch.load(path, weights_only=True)
    del record["config"]["half_resolutions"]
    torch.save(record, path)
    load_checkpoint(TrainingState(CONFIG), path, DATA.sha256)
    with pytest.raises(ValueError, match="was made with half_resolutions 9, found 4 now"):
        load_checkpoint(TrainingState(replace(CONFIG, half_resolutions=4)), path, DATA.sha256)
