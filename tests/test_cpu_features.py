"""The CPU kernels of four taps on channels side by side, against the definition."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba import njit

from cuda_ops import cpu, cpu_vectors, upfirdn2d
from cuda_ops.cpu_features import LANES, fits
from cuda_ops.cpu_numbers import _narrowed_by_integers, pointer
from cuda_ops.cpu_vectors import load_vector, store_vector, vector
from cuda_ops.reference import upfirdn2d_reference
from tests.test_cpu_numbers import numbers
from tests.test_upfirdn2d import Case, call, definition

WAYS = [(1, 1), (2, 1), (1, 2)]  # up, down


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A call that these kernels answer: a multiple of 16 channels, four taps, the same factor along both axes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width, channels = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.sampled_from([16, 32, 48]))
    assume(height * width > 1)  # one pixel is of either layout
    up, down = draw(st.sampled_from(WAYS))
    margin = st.integers(-3, 6)
    padding = (draw(margin), draw(margin), draw(margin), draw(margin))
    assume(height * up + padding[2] + padding[3] >= 4 and width * up + padding[0] + padding[1] >= 4)
    x = rng.normal(size=(draw(st.integers(1, 2)), channels, height, width))
    return Case(
        x, rng.normal(size=4), (up, up), (down, down), padding, draw(st.booleans()), draw(st.sampled_from([1.0, -3]))
    )


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@settings(max_examples=300)
@given(cases())
def test_result_is_the_definition(case: Case):
    with patch.object(cpu, "resampling_kernel", side_effect=AssertionError("another kernel ran")):
        found = call(case, channels_last(torch.from_numpy(case.x)))
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), definition(case), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize(("up", "down"), WAYS)
def test_lower_precisions_round_once(dtype: torch.dtype, tolerance: float, up: int, down: int):
    x = channels_last(torch.randn(2, 48, 13, 10, generator=torch.Generator().manual_seed(0)).to(dtype))
    f, padding = torch.tensor([0.3, 1, -0.5, 0.2]), [2, 1, -1, 3]
    expected = upfirdn2d_reference(x.double(), f.double(), [up] * 2, [down] * 2, padding, False, 2.0)
    found = upfirdn2d(x, f, up, down, padding, gain=2.0)
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("up", "down"), WAYS)
def test_bits_depend_on_nothing_but_the_image(dtype: torch.dtype, up: int, down: int, two_threads: None):
    """Not on its batch, the pieces of the work, which two rows are made at once, or the way past the cache."""
    x = channels_last(torch.randn(3, 48, 27, 9, generator=torch.Generator().manual_seed(0)).to(dtype))
    f = torch.tensor([1.0, 3, 2, 0.7])
    whole = upfirdn2d(x, f, up, down, 2)
    apart = torch.cat([upfirdn2d(channels_last(image), f, up, down, 2) for image in x.split(1)])
    assert torch.equal(apart, whole)
    for rows in (1, 6):
        cpu._plan.cache_clear()
        with patch.multiple(cpu, PIECE=1, ROWS=rows, ALONE=0, LARGE=0):
            pieces = upfirdn2d(x, f, up, down, 2)
        cpu._plan.cache_clear()
        assert torch.equal(pieces, whole)


@pytest.mark.parametrize(("up", "down"), WAYS)
def test_nan_and_infinity_travel_as_in_the_reference(up: int, down: int):
    x = torch.ones(1, 32, 9, 9)
    x[0, 3, 0, 0], x[0, 5, 4, 4], x[0, 19, 8, 7] = torch.inf, torch.nan, -torch.inf
    f = torch.tensor([1.0, 3, 3, 1])
    found = upfirdn2d(channels_last(x), f, up, down, 1)
    expected = upfirdn2d_reference(x, f, [up] * 2, [down] * 2, [1] * 4, False, 1.0)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_other_filters_and_channels_go_another_way():
    assert fits((4, 4), (1, 1), (2, 2), LANES)
    assert not fits((4, 4), (1, 1), (2, 2), LANES + 1)
    assert not fits((4, 3), (1, 1), (1, 1), LANES)
    assert not fits((4, 4), (2, 1), (1, 1), LANES)
    assert not fits((4, 4), (2, 2), (2, 2), LANES)


@pytest.mark.parametrize("by_integers", [False, True])
def test_vectors_are_rounded_and_widened_as_single_numbers(by_integers: bool):
    x = numbers()
    x = x[~(x.abs() < 2.0**-126)]  # the processor's instruction makes 0 of these
    x = x[: len(x) // LANES * LANES]

    @njit
    def rounded(source, target, back, count):
        a, b, c = pointer(source, np.float32), pointer(target, np.uint16), pointer(back, np.float32)
        zero = vector(np.float32(0), 16)
        for i in range(0, count, 16):
            store_vector(b, i, load_vector(a, i, zero))
            store_vector(c, i, load_vector(b, i, zero))

    found, back = torch.empty(len(x), dtype=torch.bfloat16), torch.empty(len(x))
    narrowed = _narrowed_by_integers if by_integers else cpu_vectors.narrowed
    with patch.object(cpu_vectors, "narrowed", narrowed):
        rounded(x.data_ptr(), found.data_ptr(), back.data_ptr(), len(x))
    torch.testing.assert_close(found, x.bfloat16(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(back, x.bfloat16().float(), rtol=0, atol=0, equal_nan=True)


def test_the_default_device_is_not_the_image_s():
    x = channels_last(torch.ones(1, 16, 8, 8))
    for image in (x, x[:, :3]):
        f, expected = torch.ones(4), upfirdn2d(image, torch.ones(4))
        with torch.device("meta"):
            found = upfirdn2d(image, f)
        assert torch.equal(found, expected)
