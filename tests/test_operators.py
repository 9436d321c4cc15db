"""The operators' kernels on the CPU: fast against reference against definition; and what torch asks of operators."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cuda_ops import (
    bias_act,
    dispatch,
    downsample2d,
    filter2d,
    kernel_in_use,
    scale_channels,
    setup_filter,
    synthesis_epilogue,
    upfirdn2d,
    upsample2d,
)
from cuda_ops.activations import ACTIVATIONS, saves
from cuda_ops.cpu import upfirdn2d_cpu
from cuda_ops.reference import upfirdn2d_reference
from generator.networks import Generator, GeneratorConfig, build_discriminator
from tests.test_upfirdn2d import Case, cases, definition
from training.losses import path_lengths, r1_penalty

OPERATORS = torch.ops.latentprint
FILTER = setup_filter([1, 3, 3, 1])
# torch.library.opcheck itself looks at .grad of a tensor that is no leaf
OPCHECK = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
NO_THIRD_ORDER = ("test_schema", "test_faketensor")
# relative to the sum of |tap| |pixel|: a few units of the last place
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}


@pytest.fixture
def reference(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("LATENTPRINT_OPS", "reference")
    yield


@given(
    cases(),
    st.sampled_from([1, 3, 5, 8, 17]),
    st.sampled_from(sorted(TOLERANCE, key=str)),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.sampled_from([upfirdn2d_cpu, upfirdn2d_reference]),
)
def test_kernels_are_the_definition(case: Case, channels, dtype, memory_format, kernel):
    x = torch.from_numpy(np.repeat(case.x[:, :1], channels, 1) * np.arange(1, channels + 1)[:, None, None])
    x = x.to(dtype).contiguous(memory_format=memory_format)
    f = torch.from_numpy(case.f).float()
    exact = case._replace(x=x.double().numpy(), f=f.double().numpy())
    bound = definition(exact._replace(x=abs(exact.x), f=abs(exact.f), gain=abs(case.gain))) + 1e-30
    y = kernel(x, f, case.up, case.down, case.padding, case.flip_filter, case.gain)
    assert y.dtype == dtype
    assert (np.abs(y.double().numpy() - definition(exact)) / bound).max() < 4 * TOLERANCE[dtype]


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 5, 9, 4, 3, 2, 8, 1, 1, 7, 3)])
@pytest.mark.parametrize("size", [(300, 17), (16, 140)])
def test_wide_images_and_long_filters(channels, taps, size):
    x = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
    f = setup_filter(taps)
    for up, down in ((2, 1), (1, 2), (1, 1), (3, 2)):
        found, expected = (
            kernel(x, f, [up, up], [down, down], [6, 5, 7, 4], False, 1.5)
            for kernel in (upfirdn2d_cpu, upfirdn2d_reference)
        )
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("channels", [3, 8])
def test_nan_and_infinity_go_where_the_filter_takes_them(value, channels):
    x = torch.ones(1, channels, 9, 9)
    x[0, 1, 4, 4] = value
    for call in (upsample2d, downsample2d, filter2d):
        y = call(x[:, :, :8, :8], FILTER)
        reached = ~y.isfinite()
        assert 0 < reached.sum() <= 16 and not reached[:, [0, 2]].any()


def test_resampling_keeps_a_plane_and_its_place():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    inside = (..., slice(4, -4), slice(4, -4))
    up = upsample2d(ramp, FILTER)
    torch.testing.assert_close(up[inside], (torch.arange(32.0) / 2 - 0.25).expand(1, 1, 32, 32)[inside])
    torch.testing.assert_close(downsample2d(up, FILTER)[inside], ramp[inside])
    assert filter2d(ramp, FILTER).shape == ramp.shape


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 6])
def test_results_keep_the_memory_format(memory_format, channels):
    x = torch.randn(2, channels, 8, 8).contiguous(memory_format=memory_format)
    assert upsample2d(x, FILTER).is_contiguous(memory_format=memory_format)
    assert bias_act(x, torch.zeros(channels), act="lrelu").is_contiguous(memory_format=memory_format)


@OPCHECK
def test_torch_accepts_upfirdn2d_as_an_operator():
    x = torch.randn(2, 5, 6, 7, requires_grad=True)
    last = torch.randn(2, 5, 6, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    for image in (x, last, torch.zeros(0, 5, 6, 7, requires_grad=True)):
        torch.library.opcheck(OPERATORS.upfirdn2d.default, (image, FILTER, [2, 1], [1, 2], [2, 1, 2, 1], False, 4.0))


@OPCHECK
@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize("clamp", [None, 1.2])
def test_torch_accepts_bias_act_as_an_operator(act, clamp):
    x, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    torch.library.opcheck(OPERATORS.bias_act.default, (x, b, 1, act, 0.2, 1.5, clamp))


@OPCHECK
@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize("clamp", [None, 1.2])
def test_torch_accepts_the_gradients_of_bias_act_as_operators(act, clamp):
    x, dy, ddx = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(3))
    settings = (1, act, 0.2, 1.5, clamp)
    kept = saves(act, 0.2, 1.5, clamp)
    b = torch.randn(3, requires_grad=True) if kept == "x" else None
    saved = {"x": x, "y": bias_act(x, None, 1, act, 0.2, 1.5, clamp).detach().requires_grad_(), "": None}[kept]
    torch.library.opcheck(OPERATORS.bias_act_grad.default, (dy, saved, b, *settings))
    if saved is not None:
        torch.library.opcheck(
            OPERATORS.bias_act_grad_grad.default, (ddx, dy, saved, b, *settings), test_utils=NO_THIRD_ORDER
        )


def epilogue_arguments() -> list[Any]:
    rng = torch.Generator().manual_seed(2)
    shapes: list[tuple[int, ...]] = [(2, 3, 2, 2), (2, 3), (1, 1, 2, 2), (), (3,)]
    return [torch.randn(s, generator=rng, dtype=torch.float64).requires_grad_() for s in shapes]


@OPCHECK
@pytest.mark.parametrize("clamp", [None, 1.1])
def test_epilogue_operator_is_the_formula_with_its_gradients(clamp):
    arguments = epilogue_arguments()
    x, demodulation, noise, strength, bias = arguments
    u = x * demodulation[:, :, None, None] + noise * strength + bias[:, None, None]
    expected = 1.5 * torch.where(u > 0, u, 0.2 * u)
    expected = expected if clamp is None else expected.clamp(-clamp, clamp)
    calls: list[Callable[..., Tensor]] = [OPERATORS.synthesis_epilogue, synthesis_epilogue]
    for call in calls:
        torch.testing.assert_close(call(*arguments, 1.5, clamp), expected, rtol=1e-12, atol=1e-12)
        assert torch.autograd.gradcheck(lambda *a, call=call: call(*a, 1.5, clamp), arguments)
        assert torch.autograd.gradgradcheck(lambda *a, call=call: call(*a, 1.5, clamp), arguments)
    single = [t.detach().float().requires_grad_() for t in arguments]
    torch.library.opcheck(OPERATORS.synthesis_epilogue.default, (*single, 1.5, clamp))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x", {0: torch.ones(2, 3)}),
        ("demodulation", {1: torch.ones(2, 4)}),
        ("noise", {2: torch.ones(3, 1, 2, 2)}),
        ("noise_strength", {3: torch.ones(3)}),
        ("bias", {4: torch.ones(2)}),
        ("gain", {5: 0.0}),
        ("clamp", {6: -1.0}),
    ],
)
def test_epilogue_names_a_bad_argument(name, change):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        arguments = dict(enumerate([*epilogue_arguments(), 1.0, None]))
        arguments[0] = arguments[0].detach().float().contiguous(memory_format=memory_format)
        with pytest.raises(ValueError, match=rf"^{name}: found .* expected "):
            synthesis_epilogue(*(arguments | change).values())


@pytest.mark.parametrize("shape", [(1, 3), (1, 8), (2, 3), (2, 8, 1)])
def test_scaling_names_factors_of_another_shape(shape):
    x = torch.ones(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"^factors: found .* expected "):
        scale_channels(x, torch.ones(shape))


def test_a_slow_path_on_a_gpu_is_said_once_with_its_reason(monkeypatch):
    monkeypatch.setattr(dispatch.launch, "available", lambda: (False, "cuda-core is not installed"))
    dispatch.cuda_kernels_run.cache_clear()
    with pytest.warns(UserWarning, match="slow reference kernels on this GPU: cuda-core is not installed") as said:
        assert not dispatch.cuda_kernels_run()
        assert not dispatch.cuda_kernels_run()
    assert len(said) == 1
    dispatch.cuda_kernels_run.cache_clear()


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize(("alpha", "gain"), [(None, None), (-0.5, 2.0), (0.3, -1.0)])
def test_gradients_of_the_reference_operator(act, alpha, gain):
    x = torch.tensor([[-2.0, -0.7, 0.4], [1.3, 0.2, -0.1]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.05, -0.06, 0.15], dtype=torch.float64, requires_grad=True)
    for clamp in (None, 1.2):

        def call(x, b, clamp=clamp):
            return bias_act(x, b, act=act, alpha=alpha, gain=gain, clamp=clamp)

        assert torch.autograd.gradcheck(call, (x, b))
        assert torch.autograd.gradgradcheck(lambda x, b, call=call: call(x, b).square(), (x, b))


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
def test_bias_act_keeps_no_more_than_it_needs(monkeypatch, act):
    monkeypatch.setenv("LATENTPRINT_OPS", "reference")
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        bias_act(torch.randn(4, 8, requires_grad=True), torch.randn(8, requires_grad=True), act=act)
    assert sum(t.numel() == 32 for t in kept) == (0 if act == "linear" else 1)


def test_operators_compile_without_a_break():
    def layer(x: Tensor, b: Tensor) -> Tensor:
        return bias_act(upsample2d(x, FILTER), b, act="lrelu", clamp=2.0)

    x, b = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, b), layer(x, b))
    found, expected = (torch.autograd.grad(f(x, b).square().sum(), (x, b)) for f in (compiled, layer))
    torch.testing.assert_close(found, expected)


def network_results() -> list[Tensor]:
    """Images, logits, and the gradients of both regularisers, of tiny networks in float64."""
    config = GeneratorConfig(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)
    torch.manual_seed(3)
    G, D = Generator(config).double(), build_discriminator(config).double()
    ws = G.mapping(torch.randn(4, 8, dtype=torch.float64))
    images = G.synthesis(ws)
    lengths = path_lengths(images, ws, torch.randn_like(images))
    path_gradients = torch.autograd.grad(lengths.square().sum(), list(G.synthesis.parameters()), allow_unused=True)
    real = images.detach().requires_grad_()
    logits = D(real)
    r1_gradients = torch.autograd.grad(r1_penalty(logits, real, 1.0), list(D.parameters()), allow_unused=True)
    return [images, logits, *(g for g in (*path_gradients, *r1_gradients) if g is not None)]


def test_whole_networks_agree_with_the_reference(monkeypatch):
    fast = network_results()
    monkeypatch.setenv("LATENTPRINT_OPS", "reference")
    torch.testing.assert_close(fast, network_results(), rtol=1e-9, atol=1e-9)


def test_the_kernel_in_use_is_said(monkeypatch):
    assert kernel_in_use("cpu").startswith("cpu: compiled by numba ")
    if not torch.cuda.is_available():
        assert kernel_in_use("cuda") == "cuda: reference, no CUDA device"
    monkeypatch.setenv("LATENTPRINT_OPS", "reference")
    assert kernel_in_use("cpu") == "cpu: reference, LATENTPRINT_OPS=reference"
    monkeypatch.setenv("LATENTPRINT_OPS", "fast")
    with pytest.raises(ValueError, match="LATENTPRINT_OPS: found 'fast', expected reference"):
        upfirdn2d(torch.ones(1, 1, 4, 4), FILTER, padding=2)
