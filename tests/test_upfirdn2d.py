"""upfirdn2d against its mathematical definition, written as loops in float64."""

from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from cuda_ops import cpu, cpu_threads, downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d


class Case(NamedTuple):
    """The arguments of one call."""

    x: np.ndarray
    f: np.ndarray
    up: tuple[int, int]
    down: tuple[int, int]
    padding: tuple[int, int, int, int]
    flip_filter: bool
    gain: float


def definition(case: Case) -> np.ndarray:
    """y[n] = gain * sum_j f[j] p[n * down + k - 1 - j], p the zero-inserted, padded or cropped x; along both axes."""
    x, f = case.x, case.f if case.f.ndim == 2 else np.outer(case.f, case.f)
    (up_x, up_y), (down_x, down_y), (x0, x1, y0, y1) = case.up, case.down, case.padding
    (height, width), (k_y, k_x) = x.shape[2:], f.shape
    if case.flip_filter:
        f = f[::-1, ::-1]

    def padded(row: int, column: int) -> np.ndarray:
        v, u = row - y0, column - x0
        inside = 0 <= v < height * up_y and 0 <= u < width * up_x and v % up_y == 0 and u % up_x == 0
        return x[:, :, v // up_y, u // up_x] if inside else np.zeros(x.shape[:2])

    out_y = (height * up_y + y0 + y1 - k_y) // down_y + 1
    out_x = (width * up_x + x0 + x1 - k_x) // down_x + 1
    y = np.zeros((*x.shape[:2], out_y, out_x))
    for row, column in np.ndindex(out_y, out_x):
        for j, i in np.ndindex(k_y, k_x):
            source = padded(row * down_y + k_y - 1 - j, column * down_x + k_x - 1 - i)
            y[:, :, row, column] += f[j, i] * source
    return case.gain * y


def call(case: Case, x: torch.Tensor) -> torch.Tensor:
    f = torch.from_numpy(case.f)
    return upfirdn2d(x, f, case.up, case.down, case.padding, case.flip_filter, case.gain)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size = st.integers(1, 4)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(size=(draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(size), draw(size)))
    f = rng.normal(size=draw(size) if draw(st.booleans()) else (draw(size), draw(size)))
    factor, margin = st.integers(1, 3), st.integers(-4, 5)
    up, down = (draw(factor), draw(factor)), (draw(factor), draw(factor))
    padding = (draw(margin), draw(margin), draw(margin), draw(margin))
    k_y, k_x = f.shape if f.ndim == 2 else (f.size, f.size)
    assume(x.shape[2] * up[1] + padding[2] + padding[3] >= k_y)
    assume(x.shape[3] * up[0] + padding[0] + padding[1] >= k_x)
    return Case(x, f, up, down, padding, draw(st.booleans()), draw(st.sampled_from([1.0, 4.0, -0.3])))


@given(cases())
def test_result_is_the_definition(case: Case):
    expected = definition(case)
    found = call(case, torch.from_numpy(case.x)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("own_threads", [False, True])
def test_pieces_of_work_join_without_a_seam(own_threads: bool, two_threads: None):
    x = torch.randn(3, 2, 37, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f = setup_filter([1, 4, 2, 3, 1])

    def results() -> list[torch.Tensor]:
        return [upfirdn2d(x, f, up, down, [3, -1, 4, 2]) for up, down in ((1, 1), (2, 1), (1, 2), (3, 2))]

    whole = results()
    fork = cpu_threads._fork_by_pool if own_threads else cpu_threads._fork()
    cpu._plan.cache_clear()
    with patch.multiple(cpu, PIECE=1, ROWS=1, ALONE=0), patch.object(cpu_threads, "_fork", lambda: fork):
        pieces = results()
    cpu._plan.cache_clear()
    assert all(map(torch.equal, whole, pieces))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_image_does_not_depend_on_its_batch(dtype: torch.dtype, memory_format: torch.memory_format):
    x = torch.randn(7, 3, 24, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=memory_format)
    f = setup_filter([1, 3, 3, 1])
    for call in (upsample2d, downsample2d):
        assert torch.equal(call(x, f), torch.cat([call(image, f) for image in x.split(1)]))


def test_bfloat16_is_rounded_as_torch_rounds_it():
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)  # every number that there is
    x = bits.view(torch.bfloat16).reshape(1, 1, 256, 256)
    expected = (x.float() * torch.tensor(1 / 3)).bfloat16()
    y = upfirdn2d(x, torch.tensor([1.0]), gain=torch.tensor(1 / 3).item())
    subnormal = expected.abs() < 2.0**-126  # some processors' instruction makes 0 of these
    torch.testing.assert_close(y[~subnormal], expected[~subnormal], rtol=0, atol=0, equal_nan=True)
    assert ((y == 0) | (y == expected))[subnormal].all()


@given(cases())
def test_gradient_is_the_adjoint_and_its_gradient_the_operator(case: Case):
    x = torch.from_numpy(case.x).requires_grad_()
    y = call(case, x)
    r = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(y, x, r, create_graph=True)
    # <U x, r> = <x, U^T r>, with U x from the definition
    np.testing.assert_allclose(
        (gradient * x).sum().item(), (definition(case) * r.detach().numpy()).sum(), rtol=1e-9, atol=1e-9
    )
    (back,) = torch.autograd.grad(gradient, r, x.detach())
    np.testing.assert_allclose(back.numpy(), definition(case), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(1, 1, 2), (2, 1, [2, 1, 2, 1]), (1, 2, [1, 2, 0, 1]), ([2, 3], [3, 1], [-1, 4, 3, -2]), (3, 2, [5, -1, 0, 2])],
)
def test_gradients_of_first_and_second_order(up, down, padding):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    f = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    for flip in (False, True):
        assert torch.autograd.gradcheck(lambda x, flip=flip: upfirdn2d(x, f, up, down, padding, flip, 1.5), x)
        # the operator is linear, its square is not: a second derivative that is not zero
        assert torch.autograd.gradgradcheck(lambda x, flip=flip: upfirdn2d(x, f, up, down, padding, flip).square(), x)


def test_an_empty_batch_gives_an_empty_batch():
    x = torch.zeros(0, 3, 4, 6, requires_grad=True)
    y = upfirdn2d(x, setup_filter([1, 3, 3, 1]), up=2, padding=[2, 1, 2, 1])
    assert y.shape == (0, 3, 8, 12)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.shape == x.shape


def test_upsampling_keeps_the_brightness_of_a_plane():
    y = upfirdn2d(torch.ones(1, 1, 6, 6), setup_filter([1, 3, 3, 1]), up=2, padding=[2, 1, 2, 1], gain=4)
    assert y.shape == (1, 1, 12, 12)
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.ones(1, 1, 8, 8))


def test_result_does_not_depend_on_the_memory_layout():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    f = setup_filter([1, 3, 3, 1])
    channels_last = upfirdn2d(x.contiguous(memory_format=torch.channels_last), f, down=2, padding=1)
    torch.testing.assert_close(channels_last, upfirdn2d(x, f, down=2, padding=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_result_has_the_dtype_of_the_image(dtype):
    assert upfirdn2d(torch.ones(1, 1, 4, 4, dtype=dtype), setup_filter([1, 1]), padding=1).dtype == dtype


IMAGE, FILTER = torch.zeros(1, 1, 4, 4), torch.ones(3)


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("x", (torch.zeros(1, 4, 4), FILTER), {}),
        ("x", (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), FILTER), {}),
        ("f", (IMAGE, torch.ones(1, 1, 3, 3)), {}),
        ("f", (IMAGE, torch.tensor(1.0)), {}),
        ("f", (IMAGE, torch.ones(5)), {}),
        ("f", (IMAGE, FILTER), {"padding": -1}),
        ("up", (IMAGE, FILTER), {"up": 0}),
        ("down", (IMAGE, FILTER), {"down": [1, -2]}),
        ("up", (IMAGE, FILTER), {"up": [2]}),
        ("padding", (IMAGE, FILTER), {"padding": [1, 2, 3]}),
        ("padding", (IMAGE, FILTER), {"padding": None}),
        ("padding", (IMAGE, FILTER), {"padding": [1.0, 2.0]}),
        ("up", (IMAGE, FILTER), {"up": 2.0}),
        ("gain", (IMAGE, FILTER), {"gain": None}),
        ("x", ([[[[1.0]]]], FILTER), {}),
        ("f", (IMAGE, [1.0, 3.0]), {}),
        ("f", (IMAGE, torch.ones(3, dtype=torch.complex64)), {}),
    ],
)
def test_bad_arguments_are_named(name, arguments, options):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        upfirdn2d(*arguments, **options)


@pytest.mark.parametrize("call", [upsample2d, downsample2d, filter2d])
def test_a_scalar_is_no_filter(call):
    with pytest.raises(ValueError, match=r"^f: found .* expected "):
        call(IMAGE, torch.tensor(1.0))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_of_both_orders_in_lower_precisions(dtype, memory_format):
    """Against float64, for features and for an image's three channels."""
    rng = torch.Generator().manual_seed(0)
    for channels in (3, 20, 32):
        for up, down in ((1, 1), (2, 1), (1, 2), (3, 2)):
            x = torch.randn(2, channels, 6, 7, generator=rng).to(dtype).contiguous(memory_format=memory_format)
            f, found = torch.tensor([1.0, 3, 2, -1]) / 4, []
            for leaf in (x.requires_grad_(), x.detach().double().requires_grad_()):
                y = upfirdn2d(leaf, f, up, down, 2)
                # a product with y, so that the gradient depends on x
                (first,) = torch.autograd.grad(y.square().sum() / 2, leaf, create_graph=True)
                (second,) = torch.autograd.grad(first.square().sum() / 2, leaf)
                found.append((first, second))
            for a, b in zip(*found, strict=True):
                assert a.dtype == dtype
                bound = {torch.float32: 1e-5, torch.bfloat16: 0.04, torch.float16: 0.005}[dtype]
                assert (a.double() - b).abs().max() <= bound * b.abs().max()


@given(st.lists(st.floats(0.125, 8), min_size=1, max_size=6))
def test_setup_filter_sums_to_one_and_keeps_its_form(taps: list[float]):
    f = setup_filter(taps)
    assert f.dtype == torch.float32 and f.shape == (len(taps),)
    np.testing.assert_allclose(f.numpy(), np.array(taps) / np.sum(taps), rtol=1e-6)
    square = setup_filter(torch.outer(torch.tensor(taps), torch.tensor(taps)))
    torch.testing.assert_close(square, torch.outer(f, f))


@pytest.mark.parametrize("taps", [[], 1.0, torch.ones(1, 1, 1), [1.0, -1.0]])
def test_setup_filter_refuses_what_is_no_filter(taps):
    with pytest.raises(ValueError, match=r"^f: "):
        setup_filter(taps)
