"""bias_act against the activations' formulas in float64."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cuda_ops import bias_act

# name: formula of (x, alpha), default alpha, default gain; SELU's constants are those of Klambauer et al. 2017
FORMULAS: dict[str, tuple[Callable, float, float]] = {
    "linear": (lambda x, a: x, 0, 1),
    "relu": (lambda x, a: np.where(x > 0, x, 0), 0, sqrt(2)),
    "lrelu": (lambda x, a: np.where(x > 0, x, a * x), 0.2, sqrt(2)),
    "tanh": (lambda x, a: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), 0, 1),
    "sigmoid": (lambda x, a: 1 / (1 + np.exp(-x)), 0, 1),
    "elu": (lambda x, a: np.where(x > 0, x, np.exp(x) - 1), 0, 1),
    "selu": (lambda x, a: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)), 0, 1),
    "softplus": (lambda x, a: np.log(1 + np.exp(x)), 0, 1),
    "swish": (lambda x, a: x / (1 + np.exp(-x)), 0, sqrt(2)),
}


@given(
    act=st.sampled_from(sorted(FORMULAS)),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    dim=st.integers(-4, 3),
    seed=st.integers(0, 2**32 - 1),
    with_bias=st.booleans(),
    alpha=st.none() | st.floats(0, 1),
    gain=st.none() | st.floats(-2, 2),
    clamp=st.none() | st.floats(0, 2),
)
def test_result_is_the_formula(act, shape, dim, seed, with_bias, alpha, gain, clamp):
    dim = dim % len(shape)
    rng = np.random.default_rng(seed)
    x, b = 3 * rng.normal(size=shape), rng.normal(size=shape[dim])
    formula, default_alpha, default_gain = FORMULAS[act]
    biased = x + b.reshape([-1 if i == dim else 1 for i in range(len(shape))]) if with_bias else x
    expected = formula(biased, default_alpha if alpha is None else alpha) * (default_gain if gain is None else gain)
    if clamp is not None:
        expected = np.clip(expected, -clamp, clamp)
    bias = torch.from_numpy(b) if with_bias else None
    for sign in (dim, dim - len(shape)):
        found = bias_act(torch.from_numpy(x), bias, dim=sign, act=act, alpha=alpha, gain=gain, clamp=clamp)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("act", "power"), [("linear", 1), ("relu", 1), ("lrelu", 1.04), ("selu", 1)])
def test_gain_keeps_the_power_of_a_normal_input(act, power):
    # E[y^2] under N(0, 1) by quadrature; lrelu: 2 * (1 + 0.2^2) / 2
    x = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / sqrt(2 * torch.pi)
    found = torch.trapezoid(bias_act(x[:, None], act=act)[:, 0].square() * density, x)
    assert found.item() == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize("act", sorted(FORMULAS))
def test_gradients_of_first_and_second_order(act):
    x = torch.tensor([[-2.0, -0.7, 0.4], [1.3, 0.2, -0.1]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor(
        [0.05, -0.06, 0.15], dtype=torch.float64, requires_grad=True
    )  # no sum at the kinks of act and clamp
    assert torch.autograd.gradcheck(lambda x, b: bias_act(x, b, act=act, clamp=1.2), (x, b))
    assert torch.autograd.gradgradcheck(lambda x, b: bias_act(x, b, act=act, clamp=1.2).square(), (x, b))


def test_a_float32_bias_leaves_the_dtype_of_the_activations():
    y = bias_act(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3), act="lrelu", clamp=256)
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("act", {"act": "mish"}),
        ("clamp", {"clamp": -1}),
        ("clamp", {"clamp": float("nan")}),
        ("dim", {"dim": 5}),
        ("dim", {"dim": -3, "b": torch.zeros(4)}),
        ("b", {"b": torch.zeros(3)}),
        ("b", {"b": torch.zeros(4, 1)}),
        ("b", {"b": torch.zeros(4), "dim": 0}),
    ],
)
def test_bad_arguments_are_named(name, options):
    with pytest.raises(ValueError, match=rf"^{name}: found .* expected "):
        bias_act(torch.zeros(2, 4), **options)
