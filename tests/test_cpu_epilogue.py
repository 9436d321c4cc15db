"""The CPU's one-pass kernels against the formulas in float64, with gradients of first and second order."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cuda_ops import bias_act, cpu_epilogue, scale_channels, synthesis_epilogue
from cuda_ops.cpu_epilogue import fits

Formula = Callable[..., Tensor]


def layer(x: Tensor, demodulation: Tensor, noise: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x * demodulation[:, :, None, None] + noise * strength + bias[:, None, None], 0.2) * 1.5


def biased(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias[:, None, None], 0.2) * 2**0.5


CALLS: dict[str, tuple[Formula, Formula]] = {
    "epilogue": (lambda x, d, n, s, b: synthesis_epilogue(x, d, n, s, b, gain=1.5), layer),
    "epilogue, clamped": (
        lambda x, d, n, s, b: synthesis_epilogue(x, d, n, s, b, gain=1.5, clamp=1.25),
        lambda *a: layer(*a).clamp(-1.25, 1.25),
    ),
    "epilogue, no noise": (
        lambda x, d, n, s, b: synthesis_epilogue(x, d, None, s, b, gain=1.5),
        lambda x, d, n, s, b: layer(x, d, n * 0, s * 0, b),
    ),
    "bias_act": (lambda x, d, n, s, b: bias_act(x, b, act="lrelu"), lambda x, d, n, s, b: biased(x, b)),
    "bias_act, clamped": (
        lambda x, d, n, s, b: bias_act(x, b, act="lrelu", clamp=0.75),
        lambda x, d, n, s, b: biased(x, b).clamp(-0.75, 0.75),
    ),
    "relu": (
        lambda x, d, n, s, b: bias_act(x, b, act="relu", gain=3),
        lambda x, d, n, s, b: F.relu(x + b[:, None, None]) * 3,
    ),
    "no bias": (lambda x, d, n, s, b: bias_act(x, act="lrelu", gain=1), lambda x, d, n, s, b: F.leaky_relu(x, 0.2)),
    "linear": (lambda x, d, n, s, b: bias_act(x, b), lambda x, d, n, s, b: x + b[:, None, None]),
    "scale": (lambda x, d, n, s, b: scale_channels(x, d), lambda x, d, n, s, b: x * d[:, :, None, None]),
}


def arguments(shape: tuple[int, int, int, int], maps: int, seed: int) -> list[Tensor]:
    batch, channels, height, width = shape
    rng = torch.Generator().manual_seed(seed)
    shapes: list[tuple[int, ...]] = [
        (batch, channels, height, width),
        (batch, channels),
        (maps, 1, height, width),
        (),
        (channels,),
    ]
    x, *others = (torch.randn(shape, generator=rng) for shape in shapes)
    return [x.contiguous(memory_format=torch.channels_last), *others]


def differentiated(call: Formula, given: list[Tensor], weights: Tensor, second: bool) -> list[Tensor]:
    """The result, its gradients to all arguments, and those of what is built from the gradient to x."""
    leaves = [t.detach().requires_grad_() for t in given]
    y = call(*leaves)
    first = torch.autograd.grad(y, leaves, weights.to(y), create_graph=second, materialize_grads=True)
    if not second:
        return [y, *first]
    # path lengths and R1 differentiate a gradient again
    length = (first[0].square().sum() + first[1].square().sum() + 1).sqrt()
    return [y, *first, *torch.autograd.grad(length, leaves, materialize_grads=True)]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("second", [False, True])
@given(
    shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3, 17, 32]), st.integers(1, 5), st.integers(1, 5)),
    shared=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_result_and_gradients_are_the_formulas(name, second, shape, shared, seed):
    ours, formula = CALLS[name]
    given = arguments(shape, 1 if shared else shape[0], seed)
    assert fits(given[0])
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1))
    found = differentiated(ours, given, weights, second)
    expected = differentiated(formula, [t.double() for t in given], weights, second)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("act", ["linear", "lrelu", "relu", None])
@pytest.mark.parametrize("clamp", [None, 1.25])
def test_nan_and_infinity_are_those_of_the_formula(act: str | None, clamp: float | None):
    """act None: a synthesis layer's epilogue."""
    x = arguments((2, 16, 3, 3), 2, 0)[0]
    x[0, 0, 0, 0], x[0, 5, 1, 2], x[1, 15, 2, 2] = torch.inf, torch.nan, -torch.inf

    def formula(x: Tensor) -> Tensor:
        u = {"linear": x, "relu": F.relu(x)}.get(act or "", F.leaky_relu(x, 0.2)) * 1.5
        return u if clamp is None else u.clamp(-clamp, clamp)

    def ours(x: Tensor) -> Tensor:
        if act:
            return bias_act(x, act=act, alpha=0.2, gain=1.5, clamp=clamp)
        return synthesis_epilogue(x, torch.ones(2, 16), None, torch.zeros(()), torch.zeros(16), gain=1.5, clamp=clamp)

    results = []
    for call in (ours, formula):
        leaf = x.clone().requires_grad_()
        y = call(leaf)
        results.append((y, *torch.autograd.grad(y, leaf, torch.ones_like(y))))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_bfloat16_is_rounded_once():
    x, demodulation, noise, strength, bias = arguments((2, 32, 6, 6), 2, 0)
    x = x.bfloat16()
    y = synthesis_epilogue(x, demodulation, noise, strength, bias, gain=1.5)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, layer(x.double(), demodulation.double(), noise.double(), strength, bias).bfloat16())


def test_an_image_and_its_gradients_depend_on_no_other_image_and_on_no_thread():
    given = arguments((3, 8, 40, 40), 3, 1)
    with patch.object(cpu_epilogue, "BLOCK", 1 << 10):  # several pieces of work an image
        together = differentiated(CALLS["epilogue"][0], given, torch.ones(3, 8, 40, 40), False)
        with patch.object(cpu_epilogue, "ALONE", 1 << 30):  # on one thread
            for i in range(3):
                one = [t[i : i + 1] if t.ndim > 1 else t for t in given]
                alone = differentiated(CALLS["epilogue"][0], one, torch.ones(1, 8, 40, 40), False)
                for all_images, image in zip(together[:4], alone[:4], strict=True):
                    assert torch.equal(all_images[i : i + 1], image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_stay_side_by_side_in_the_second_order(dtype):
    """Else everything that follows in a regulariser's backward pass is twice as slow."""
    x, demodulation, noise, strength, bias = arguments((2, 8, 6, 6), 2, 0)
    x, demodulation = x.to(dtype).requires_grad_(), demodulation.requires_grad_()
    style = torch.ones(2, 8, requires_grad=True)
    y = synthesis_epilogue(scale_channels(x, style), demodulation, noise, strength, bias)
    firsts = torch.autograd.grad(y.float().square().sum(), (x, style, demodulation), create_graph=True)
    squares = torch.stack([first.float().square().sum() for first in firsts])
    (second,) = torch.autograd.grad(squares.sum(), x)
    assert second.is_contiguous(memory_format=torch.channels_last) and second.abs().sum() > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_pass(value):
    x = torch.zeros(1, 16, 2, 2).contiguous(memory_format=torch.channels_last)
    x[0, 3, 1, 1] = value
    y = bias_act(x, torch.zeros(16), act="lrelu", clamp=2)
    expected = torch.full([], value).clamp(-2, 2) if value > 0 or value != value else torch.tensor(-2.0)
    torch.testing.assert_close(y[0, 3, 1, 1], expected, equal_nan=True)
    assert y.isfinite().sum() == y.numel() - (value != value)


def test_a_result_that_was_only_looked_at_keeps_nothing():
    x, *_ = arguments((1, 4, 2, 2), 1, 0)
    assert bias_act(x, act="lrelu").grad_fn is None
    assert scale_channels(x, torch.ones(1, 4)).grad_fn is None


def test_an_empty_batch_gives_an_empty_batch():
    x = torch.zeros(0, 4, 2, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = bias_act(x, torch.zeros(4), act="lrelu")
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.shape == gradient.shape == (0, 4, 2, 2)
