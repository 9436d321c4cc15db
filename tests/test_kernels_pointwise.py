"""The text of the bias_act and epilogue kernels, run on the host, against formulas in float64."""

import sys
from collections.abc import Iterator
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cuda_ops import driver, launch
from cuda_ops.activations import saves
from cuda_ops.driver import Launch
from tests import kernel_harness
from tests.kernel_harness.checks import DTYPES, EPSILON, assert_close, random_tensor, recorded

pytestmark = pytest.mark.skipif(kernel_harness.COMPILER is None, reason="needs g++ to run the kernels on the host")


@pytest.fixture(autouse=True, scope="module")
def on_the_host() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "run", kernel_harness.run)
        yield


# f, f', f'' of u from textbooks, not from f itself


def logistic(u):
    return 1 / (1 + np.exp(-u))


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
FORMULAS = {
    "linear": (lambda u, a: u, lambda u, a: 1 + 0 * u, lambda u, a: 0 * u),
    "relu": (lambda u, a: np.maximum(u, 0), lambda u, a: 1.0 * (u > 0), lambda u, a: 0 * u),
    "lrelu": (lambda u, a: np.where(u > 0, u, a * u), lambda u, a: np.where(u > 0, 1, a), lambda u, a: 0 * u),
    "tanh": (
        lambda u, a: 1 - 2 / (np.exp(2 * u) + 1),
        lambda u, a: np.cosh(u) ** -2,
        lambda u, a: -2 * np.sinh(u) / np.cosh(u) ** 3,
    ),
    "sigmoid": (
        lambda u, a: logistic(u),
        lambda u, a: 1 / (2 + 2 * np.cosh(u)),
        lambda u, a: -np.sinh(u) / (2 * (1 + np.cosh(u)) ** 2),
    ),
    "elu": (
        lambda u, a: np.where(u > 0, u, np.exp(u) - 1),
        lambda u, a: np.where(u > 0, 1, np.exp(u)),
        lambda u, a: np.where(u > 0, 0, np.exp(u)),
    ),
    "selu": (
        lambda u, a: SCALE * np.where(u > 0, u, ALPHA * (np.exp(u) - 1)),
        lambda u, a: SCALE * np.where(u > 0, 1, ALPHA * np.exp(u)),
        lambda u, a: SCALE * np.where(u > 0, 0, ALPHA * np.exp(u)),
    ),
    "softplus": (
        lambda u, a: np.log1p(np.exp(u)),
        lambda u, a: logistic(u),
        lambda u, a: 1 / (2 + 2 * np.cosh(u)),
    ),
    "swish": (
        lambda u, a: u / (1 + np.exp(-u)),
        lambda u, a: logistic(u) + u / (2 + 2 * np.cosh(u)),
        lambda u, a: 1 / (1 + np.cosh(u)) - u * np.sinh(u) / (2 * (1 + np.cosh(u)) ** 2),
    ),
}


def check_bias_act(act, x, b, dim, alpha, gain, clamp, order, seed, dy_layout="nchw") -> None:
    """One order against the formulas; everything within a rounding of the clamp is left out."""
    rng = np.random.default_rng(seed)
    f, slope, bend = FORMULAS[act]
    u = x.double().numpy()
    if b is not None:
        u = u + b.double().numpy().reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    free = gain * f(u, alpha)
    limit = np.inf if clamp is None else clamp
    if order == 0:
        y = launch.bias_act(x, b, dim, act, alpha, gain, clamp)
        assert y.stride() == x.stride() or not x.is_contiguous()
        return assert_close(y, np.clip(free, -limit, limit))
    dy, ddx = (random_tensor(rng, tuple(x.shape), x.dtype, dy_layout) for _ in range(2))
    kept_x = saves(act, alpha, gain, clamp) == "x"
    saved = x if kept_x else launch.bias_act(x, b, dim, act, alpha, gain, clamp)
    kept = np.abs(free) < limit
    clear = np.full(free.shape, clamp is None) | (
        np.abs(np.abs(free) - limit) > 8 * EPSILON[x.dtype] * max(1, abs(gain))
    )
    if order == 1:
        found = [launch.bias_act_grad(dy, saved, b, dim, act, alpha, gain, clamp)]
        expected = [dy.double().numpy() * gain * slope(u, alpha)]
    else:
        both = launch.bias_act_grad_grad(ddx, dy, saved, b, dim, act, alpha, gain, clamp)
        found = [t for t in both if t is not None]
        expected = [ddx.double().numpy() * gain * slope(u, alpha)]
        # by x, or by y: d(gain f'(u)) / dy = f''(u) / f'(u)
        by_saved = gain * bend(u, alpha) if kept_x else bend(u, alpha) / np.where(slope(u, alpha), slope(u, alpha), 1)
        expected += [ddx.double().numpy() * dy.double().numpy() * by_saved][: len(found) - 1]
        assert len(found) == 2 or not bend(u, alpha).any()
    sizes = [np.abs(t.double().numpy()) for t in (dy, ddx)]
    size = 4 * max(abs(gain), 1) * (sizes[0] + sizes[1] + sizes[0] * sizes[1])
    for one, truth in zip(found, expected, strict=True):
        assert_close(torch.where(torch.from_numpy(clear), one, 0), np.where(clear & kept, truth, 0), size)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("act", FORMULAS)
def test_bias_act_is_the_formula(act, order):
    dtype = [torch.float64, torch.float32][list(FORMULAS).index(act) % 2]  # half precision below

    @settings(max_examples=6)
    @given(
        shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
        data=st.data(),
        with_bias=st.booleans(),
        alpha=st.sampled_from([0.0, 0.2]),
        gain=st.sampled_from([1.0, sqrt(2), -0.7]),
        clamp=st.sampled_from([None, 1.1]),
        layout=st.sampled_from(["nchw", "sliced", "transposed"]),
        seed=st.integers(0, 2**32 - 1),
    )
    def check(shape, data, with_bias, alpha, gain, clamp, layout, seed):
        dim, rng = data.draw(st.integers(0, len(shape) - 1)), np.random.default_rng(seed)
        x = random_tensor(rng, tuple(shape), dtype, layout)
        b = random_tensor(rng, (shape[dim],), torch.float32) if with_bias else None
        check_bias_act(act, x, b, dim, alpha, gain, clamp, order, seed, layout)

    check()


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_bias_act_of_feature_maps(dtype, layout, order):
    rng = np.random.default_rng(order)
    x = random_tensor(rng, (2, 16, 7, 11), dtype, layout)
    b = random_tensor(rng, (16,), torch.float32)
    with recorded() as launches:
        check_bias_act("tanh", x, b, 1, 0.2, 1.3, 0.6, order, 0, layout)
    work = launches[-1]
    assert work.defines["PACK"] == 16 // dtype.itemsize
    assert work.inputs[-2] is (launches[0].outputs[0] if order else x)  # no copy


@pytest.mark.parametrize(("act", "alpha", "gain"), [("lrelu", -0.3, 1.0), ("tanh", 0.0, 0.0), ("swish", 0.0, 1.4)])
def test_x_is_saved_where_y_does_not_tell(act, alpha, gain):
    x = random_tensor(np.random.default_rng(0), (3, 5), torch.float32)
    assert saves(act, alpha, gain, 0.9) == "x"
    for order in (1, 2):
        check_bias_act(act, x, torch.ones(5), 1, alpha, gain, 0.9, order, 0)


@pytest.mark.parametrize("act", ["tanh", "selu", "softplus"])
def test_x_tells_as_much_as_y(act, monkeypatch):
    for module in (launch, sys.modules[__name__]):
        monkeypatch.setattr(module, "saves", lambda *_: "x")
    x = random_tensor(np.random.default_rng(0), (3, 5), torch.float64)
    for order in (1, 2):
        check_bias_act(act, x, torch.ones(5), 1, 0.0, 0.7, 0.6, order, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_the_clamp_cut_off_has_no_gradient(dtype):
    # 0.7 is no number of any of the types: the limit of the stored result is the rounded one
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0, float("nan")], dtype=dtype)
    y = launch.bias_act(x, None, 0, "linear", 0, 1, 0.7)
    dx = launch.bias_act_grad(torch.ones_like(x), y, None, 0, "linear", 0, 1, 0.7)
    assert dx.tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("act", FORMULAS)
def test_bias_act_of_nan_and_infinity(act):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0], dtype=torch.float32)
    with np.errstate(all="ignore"):
        expected = FORMULAS[act][0](x.double().numpy(), 0.2)
    if act == "relu":
        expected[2] = 0
    assert_close(launch.bias_act(x, None, 0, act, 0.2, 1, None), expected)
    clamped = launch.bias_act(x, None, 0, act, 0.2, 1, 0.25)
    assert_close(clamped, np.clip(expected, -0.25, 0.25))


def test_bias_act_with_wide_indices(monkeypatch):
    monkeypatch.setattr(launch, "INDEX_LIMIT", 0)
    x = random_tensor(np.random.default_rng(0), (2, 3, 5, 7), torch.float32)
    for order in (0, 1, 2):
        check_bias_act("tanh", x, torch.ones(3), 1, 0, 1, None, order, 0)
    check_epilogue(x, np.random.default_rng(0), (True,) * 3, 1, 1.0, None)


def test_a_grid_smaller_than_the_tensor_strides_over_it(monkeypatch):
    monkeypatch.setattr(launch, "BLOCKS", 2)
    rng = np.random.default_rng(0)
    for layout in ("nchw", "channels_last"):
        x = random_tensor(rng, (3, 8, 37, 12), torch.float32, layout)
        check_bias_act("lrelu", x, torch.linspace(-1, 1, 8), 1, 0.2, 1, None, 0, 0)
        check_epilogue(x, rng, (True,) * 3, 3, 1.0, None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_as_in_torch(dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for gain in (1.0, 0.3, 1 + 2**-11, 1e-3, 250.0):
        found = launch.bias_act(every, None, 0, "linear", 0, gain, None)
        expected = (every.float() * torch.tensor(gain)).to(dtype)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    longest = torch.tensor([2**31 - 1], dtype=torch.int32).view(
        torch.float32
    )  # CUDA's own NaN: all bits of its payload
    assert launch.bias_act(torch.zeros(1, dtype=dtype), longest, 0, "linear", 0, 1, None).isnan().all()


# the epilogue of a synthesis layer


def check_epilogue(x: Tensor, rng, given_: tuple[bool, ...], maps: int, gain: float, clamp: float | None) -> Launch:
    batch, channels, height, width = x.shape
    shapes = [(batch, channels), (maps, 1, height, width), (channels,)]
    d, n, b = (torch.from_numpy(rng.normal(size=s)).float() if g else None for s, g in zip(shapes, given_, strict=True))
    strength = torch.tensor(0.7)
    u = x.double().numpy()
    if d is not None:
        u = u * d.double().numpy()[:, :, None, None]
    if n is not None:
        u = u + n.double().numpy() * strength.double().numpy()
    if b is not None:
        u = u + b.double().numpy()[:, None, None]
    limit = np.inf if clamp is None else clamp
    with recorded() as launches:
        y = launch.synthesis_epilogue(x, d, n, strength, b, gain, clamp)
    assert_close(y, np.clip(gain * np.where(u > 0, u, 0.2 * u), -limit, limit), 4)
    return launches[0]


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 17), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(["nchw", "channels_last", "sliced"]),
    parts=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    one_map=st.booleans(),
    clamp=st.sampled_from([None, 0.8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_epilogue_is_the_formula(shape, dtype, layout, parts, one_map, clamp, seed):
    rng = np.random.default_rng(seed)
    x = random_tensor(rng, shape, dtype, layout)
    check_epilogue(x, rng, parts, 1 if one_map else shape[0], sqrt(2), clamp)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_epilogue_moves_16_bytes_at_a_time(dtype, layout):
    rng = np.random.default_rng(0)
    x = random_tensor(rng, (2, 8, 8, 4), dtype, layout)
    x[0, 1, 2, 3], x[1, 0, 0, 0] = float("nan"), float("inf")
    work = check_epilogue(x, rng, (True,) * 3, 2, 1.0, None)
    assert work.defines["PACK"] == 16 // dtype.itemsize and work.inputs[0] is x
