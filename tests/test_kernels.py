"""The text of the upfirdn2d kernels, run on the host, against the definition in float64; and the harness itself."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cuda_ops import compiler, driver, launch
from cuda_ops.driver import Launch
from tests import kernel_harness
from tests.kernel_harness.checks import DTYPES, assert_close, random_tensor, recorded

pytestmark = pytest.mark.skipif(kernel_harness.COMPILER is None, reason="needs g++ to run the kernels on the host")


@pytest.fixture(autouse=True, scope="module")
def on_the_host() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "run", kernel_harness.run)
        yield


def correlation(x: Tensor, taps: np.ndarray, up: tuple, down: tuple, margins: tuple) -> np.ndarray:
    """The definition at the head of upfirdn2d.cu, tap by tap."""
    pixels = x.double().numpy()

    def places(axis: int, tap: int) -> tuple[np.ndarray, np.ndarray]:
        """For every output: the pixel under the tap, and whether there is one."""
        size, first, last, taps_n = x.shape[3 - axis], margins[2 * axis], margins[2 * axis + 1], taps.shape[1 - axis]
        outputs = np.arange((size * up[axis] + first + last - taps_n) // down[axis] + 1)
        pixel, rest = np.divmod(outputs * down[axis] + tap - first, up[axis])
        inside = (rest == 0) & (pixel >= 0) & (pixel < size)
        return np.where(inside, pixel, 0), inside

    y: np.ndarray | float = 0
    for j in range(len(taps)):
        rows, there = places(1, j)
        for i in range(len(taps[0])):
            columns, here = places(0, i)
            y = y + np.where(there[:, None] & here, taps[j, i] * pixels[:, :, rows][..., columns], 0)
    return np.asarray(y)


def check_upfirdn2d(
    x: Tensor, kernel: tuple[int, int], separable: bool, up: tuple, down: tuple, margins: tuple, seed: int
) -> Tensor:
    rng = np.random.default_rng(seed)
    number = torch.float64 if x.dtype == torch.float64 else torch.float32
    ty, tx = (torch.from_numpy(rng.normal(size=n)).to(number) for n in kernel)
    dense = torch.from_numpy(rng.normal(size=kernel)).to(number)
    reference = (np.multiply.outer(ty.double().numpy(), tx.double().numpy())) if separable else dense.double().numpy()
    y = launch.upfirdn2d(x, (ty, tx) if separable else dense, up, down, margins)
    finite = torch.where(x.isfinite(), x, 0)
    size = correlation(finite.abs(), np.abs(reference), up, down, margins)
    with np.errstate(invalid="ignore"):
        assert_close(y, correlation(x, reference, up, down, margins), size)
    return y


def margins_for(draw: st.DrawFn, size: tuple[int, int], kernel: tuple[int, int], up: tuple, down: tuple, out: tuple):
    """(x0, x1, y0, y1), some negative, for an output of size `out` (h, w)."""
    margins: list[int] = []
    for axis in (1, 0):
        needed = (out[axis] - 1) * down[1 - axis] + kernel[axis] - size[axis] * up[1 - axis]
        first = draw(st.integers(-5, 5))
        rest = draw(st.integers(0, down[1 - axis] - 1))  # rows that decimation leaves out at the end
        margins += [first, needed - first + rest]
    return tuple(margins)


# name: taps (ky, kx), separable, up (x, y), down (x, y), dtype
SPECIAL = {
    "4x4": ((4, 4), False, (1, 1), (1, 1), torch.float32),
    "4x4 up": ((4, 4), False, (2, 2), (1, 1), torch.bfloat16),
    "4x4 down": ((4, 4), False, (1, 1), (2, 2), torch.float16),
    "4": ((4, 4), True, (1, 1), (1, 1), torch.bfloat16),
    "4 up": ((4, 4), True, (2, 2), (1, 1), torch.float32),
    "4 down": ((4, 4), True, (1, 1), (2, 2), torch.float32),
    "12 up": ((12, 12), True, (2, 2), (1, 1), torch.float16),
    "12 down": ((12, 12), True, (1, 1), (2, 2), torch.float64),
    "row": ((1, 12), False, (2, 1), (1, 1), torch.float32),
    "column": ((12, 1), False, (1, 1), (1, 2), torch.float32),
    "mixed": ((3, 5), True, (4, 1), (1, 3), torch.float32),
}
# (channels, layout, output (h, w)): one for every set of tiles, and sizes around their edges
PIECES = [
    (5, "nchw", (8, 7)),
    (18, "sliced", (5, 8)),
    (2, "transposed", (17, 15)),
    (2, "nchw", (33, 31)),
    (1, "sliced", (34, 66)),
    (3, "channels_last", (17, 33)),
    (37, "channels_last", (9, 10)),
]


CASES = [(name, piece) for name in SPECIAL for piece in (PIECES if name.startswith("4") else PIECES[3:6])]


@pytest.mark.parametrize(("name", "piece"), CASES, ids=str)
def test_every_specialisation_is_the_definition(name, piece):
    kernel, separable, up, down, dtype = SPECIAL[name]
    channels, layout, out = piece

    @settings(max_examples=2)
    @given(data=st.data(), seed=st.integers(0, 2**32 - 1))
    def check(data, seed):
        extent = tuple(max(1, out[a] * down[1 - a] // up[1 - a] + data.draw(st.integers(-2, 2))) for a in (0, 1))
        margins = data.draw(st.composite(margins_for)(extent, kernel, up, down, out))
        x = random_tensor(np.random.default_rng(seed), (2, channels, *extent), dtype, layout)
        with recorded() as launches:
            y = check_upfirdn2d(x, kernel, separable, up, down, margins, seed)
        assert y.shape[2:] == out
        (work,) = launches
        assert "TILE_W" in work.defines  # not the general kernel
        assert work.inputs[0] is x  # no copy
        assert y.is_contiguous(
            memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format
        )

    check()


@settings(max_examples=25)
@given(
    data=st.data(),
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    up=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    down=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    out=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(["nchw", "channels_last", "sliced"]),
    separable=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_general_kernel_is_the_definition(data, kernel, up, down, out, size, shape, dtype, layout, separable, seed):
    margins = data.draw(st.composite(margins_for)(size, kernel, up, down, out))
    x = random_tensor(np.random.default_rng(seed), (*shape, *size), dtype, layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "choose_tile", lambda *_: None)
        check_upfirdn2d(x, kernel, separable, up, down, margins, seed)


@pytest.mark.parametrize("name", ["4x4 up", "4", "4 up", "4 down", "12 up"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_reach_the_outputs_under_the_taps(name, value):
    kernel, separable, up, down, dtype = SPECIAL[name]
    x = random_tensor(np.random.default_rng(3), (1, 2, 9, 12), dtype)
    x[0, 1, 0, 0] = x[0, 0, 4, 7] = value
    y = check_upfirdn2d(x, kernel, separable, up, down, (3, 3, 3, 3), 5)
    assert not y.isfinite().all() and y.isfinite().any()


def test_offsets_beyond_31_bits():
    wide = torch.empty(2**31 + 2**12, dtype=torch.float16)  # only the touched pages exist
    x = wide.as_strided((2, 2, 6, 7), (2**31, 64, 8, 1))
    x.copy_(random_tensor(np.random.default_rng(0), (2, 2, 6, 7), torch.float16))
    with recorded() as launches:
        check_upfirdn2d(x, (4, 4), True, (1, 1), (2, 2), (1, 1, 1, 1), 0)
        check_upfirdn2d(x, (4, 4), False, (3, 3), (2, 2), (1, 1, 1, 1), 0)
    assert [work.defines["INDEX64"] for work in launches] == [1, 1]
    assert ["TILE_W" in work.defines for work in launches] == [True, False]


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty_batches_need_no_launch(shape):
    taps, empty = torch.ones(4), torch.empty(shape)
    with recorded() as launches:
        assert launch.upfirdn2d(empty, (taps, taps), (2, 2), (1, 1), (2, 1, 2, 1)).shape == (
            *shape[:2], 8, 10,
        )  # fmt: skip
        assert launch.bias_act(empty, None, 1, "relu", 0, 1, None).shape == shape
        grads = launch.bias_act_grad_grad(empty, empty, empty, None, 1, "tanh", 0, 1, None)
        assert [g is not None and g.shape for g in grads] == [shape, shape]
        assert launch.synthesis_epilogue(empty, None, None, None, None, 1, None).shape == shape
    assert not launches


def test_an_input_repeated_by_a_stride_of_zero():
    x = random_tensor(np.random.default_rng(0), (1, 1, 9, 1), torch.float32).expand(2, 3, 9, 11)
    check_upfirdn2d(x, (4, 4), True, (1, 1), (1, 1), (1, 2, 1, 2), 0)


def test_a_grid_smaller_than_the_output_strides_over_it(monkeypatch):
    monkeypatch.setattr(launch, "BLOCKS", 2)
    for layout in ("nchw", "channels_last"):
        x = random_tensor(np.random.default_rng(0), (3, 8, 17, 12), torch.float32, layout)
        check_upfirdn2d(x, (2, 2), False, (3, 3), (2, 2), (0, 0, 0, 0), 0)


BROKEN = {
    "writes past the end": ("y[threadIdx.x + 1] = x[threadIdx.x];", "outside"),
    "writes into the input": ("const_cast<float*>(x)[threadIdx.x] = 2; y[threadIdx.x] = 1;", "wrote to an input"),
    "leaves out a barrier": ("if (threadIdx.x) __syncthreads(); y[threadIdx.x] = 1;", "barrier"),
    "reads what is not there": ("y[threadIdx.x] = x[threadIdx.x + 1];", "outside"),
    "reads too early": (
        "__shared__ float s[256]; s[threadIdx.x] = 1; y[threadIdx.x] = s[255 - threadIdx.x];", "nan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_the_harness_notices_a_kernel_that(name, monkeypatch):
    body, complaint = BROKEN[name]
    text = f'extern "C" __global__ void broken(float* y, const float* x) {{ {body} }}'
    monkeypatch.setattr(compiler, "source", lambda _: text)
    y = torch.zeros(256)
    work = Launch("broken", {"CASE": list(BROKEN).index(name)}, 1, (y,), (torch.ones(256),), ())
    if complaint == "nan":
        kernel_harness.run(work)
        assert y.isnan().any()
    else:
        with pytest.raises(AssertionError, match=complaint):
            kernel_harness.run(work)
