"""The 3x3 convolution against PyTorch's in float64, where Winograd's algorithm does it and where the library does."""

from collections.abc import Callable, Hashable
from copy import deepcopy
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cuda_ops import convolution, convolve3x3, cpu_winograd
from generator.layers import Kept
from generator.synthesis import SynthesisLayer

# of float32, and of the rounding to bfloat16 before and after the products, which three of them meet in a sum
WITHIN = {torch.float32: 1e-6, torch.bfloat16: 8e-3}
DTYPES = pytest.mark.parametrize("dtype", WITHIN)


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained filters take Winograd's way for images of four pixels, too."""
    monkeypatch.setattr(convolution, "FEWEST_PIXELS", 4)


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def inputs(dtype: torch.dtype, height: int = 6, width: int = 4, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Images of 128 channels, channels_last, and 144 filters."""
    x = numbers(batch, 128, height, width, dtype=dtype).to(memory_format=torch.channels_last)
    return x, numbers(144, 128, 3, 3, dtype=dtype, seed=1) / 34


def library(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def error(found: Tensor, expected: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    assert found.shape == expected.shape
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected).norm() / expected.norm())


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    batch=st.integers(1, 3),
    together=st.integers(1, 40),
    dtype=st.sampled_from(list(WITHIN)),
    last=st.booleans(),
)
def test_result_is_the_library_s_in_float64(
    height: int, width: int, batch: int, together: int, dtype: torch.dtype, last: bool
) -> None:
    x, weight = inputs(dtype, 2 * height, 2 * width, batch)
    x = x if last else x.contiguous()
    with patch.object(cpu_winograd, "TOGETHER", together):  # where one part of the work ends and the next begins
        found = convolve3x3(x, weight.requires_grad_())
    assert found.dtype == dtype
    assert error(found, library(x.double(), weight.double())) < WITHIN[dtype]


def derivatives(convolve: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, last: bool) -> list[Tensor]:
    """Gradients of orders one to three for images and filters, of something that has all of them."""
    x, weight = (t.double() for t in inputs(torch.bfloat16))
    x, weight = x.to(dtype), weight.to(dtype)
    x, weight = (x if last else x.contiguous()).requires_grad_(), weight.requires_grad_()
    y = convolve(x, weight)
    total = (y.square() * numbers(*y.shape, dtype=dtype, seed=2)).sum()
    found = []
    for order in range(3):
        gradients = torch.autograd.grad(total, [x, weight], create_graph=order < 2)
        found += [gradient.detach() for gradient in gradients]
        total = sum((gradient.square().sum() for gradient in gradients), torch.zeros([]))
    return found


@DTYPES
@pytest.mark.parametrize("last", [False, True])
def test_gradients_of_three_orders_are_the_library_s_in_float64(dtype: torch.dtype, last: bool) -> None:
    found, expected = derivatives(convolve3x3, dtype, last), derivatives(library, torch.float64, last)
    errors = [error(*pair) for pair in zip(found, expected, strict=True)]
    assert max(errors) < 5 * WITHIN[dtype], errors


@DTYPES
def test_frozen_filters_give_the_same_keep_no_image_and_are_transformed_once(dtype: torch.dtype) -> None:
    x, weight = inputs(dtype)
    x.requires_grad_()
    bias = numbers(144, dtype=dtype, seed=3)
    made: dict[Hashable, Tensor] = {}
    saved, counts = [], []

    def keep(source: Tensor, name: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        assert source is weight
        if name not in made:
            counts.append(name)
            made[name] = make(source)
        return made[name]

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        y = convolve3x3(x, weight, keep=keep)
    assert saved == [weight.shape]
    toward = numbers(*y.shape, dtype=dtype, seed=2)
    with torch.no_grad():
        convolve3x3(x, weight, keep=keep)
    torch.testing.assert_close(y, convolve3x3(x, weight.clone().requires_grad_()), rtol=0, atol=0)
    (found,) = torch.autograd.grad(y, x, toward, create_graph=True)
    reference = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(library(reference, weight.double()), reference, toward.double())
    assert error(found, expected) < WITHIN[dtype]
    assert len(counts) == 2  # as they are, and turned around for the way back
    # frozen filters can be had with a bias
    with_bias = convolve3x3(x, weight, bias, keep)
    assert error(with_bias, library(x.double(), weight.double(), bias.double())) < WITHIN[dtype]


@pytest.mark.parametrize("trained", [False, True])
def test_a_bias_is_trained_with_the_filters_or_alone(trained: bool) -> None:
    x, weight = inputs(torch.float32)
    weight.requires_grad_(trained)
    bias = numbers(144, seed=3).requires_grad_()
    y = convolve3x3(x, weight, bias)
    assert error(y, library(x.double(), weight.double(), bias.double())) < 1e-6
    torch.testing.assert_close(torch.autograd.grad(y.sum(), bias)[0], torch.full([144], 2 * 6 * 4.0))


def test_the_way_back_of_frozen_filters_is_differentiable() -> None:
    x, weight = inputs(torch.float32)
    toward = numbers(2, 144, 6, 4, seed=2)

    def second(convolve: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        image, direction = x.to(dtype).requires_grad_(), toward.to(dtype).requires_grad_()
        (gradient,) = torch.autograd.grad(convolve(image, weight.to(dtype)), image, direction, create_graph=True)
        return torch.autograd.grad(gradient.pow(3).sum(), direction)[0]

    assert error(second(convolve3x3, torch.float32), second(library, torch.float64)) < 1e-6


@DTYPES
@pytest.mark.parametrize("size", [4, 16])
def test_an_image_s_result_does_not_depend_on_its_batch(dtype: torch.dtype, size: int) -> None:
    x, weight = inputs(dtype, size, size, batch=12)
    whole = convolve3x3(x, weight)
    for part in (slice(0, 4), slice(4, 12), slice(8, 12)):
        assert torch.equal(convolve3x3(x[part], weight), whole[part])


@DTYPES
def test_nor_on_the_number_of_threads(dtype: torch.dtype, two_threads: None) -> None:
    x, weight = inputs(dtype, 16, 16, batch=4)
    weight.requires_grad_()

    def results() -> list[Tensor]:
        y = convolve3x3(x, weight)
        return [y, *torch.autograd.grad(y.square().sum(), weight)]

    with_two = results()
    torch.set_num_threads(1)
    for one, two in zip(results(), with_two, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("shape", "filters", "dtype"),
    [
        ((2, 128, 5, 4), 128, torch.float32),  # an odd number of rows
        ((2, 128, 4, 5), 128, torch.float32),
        ((2, 129, 4, 4), 128, torch.float32),  # channels that are no multiple of the vector's
        ((2, 128, 4, 4), 130, torch.float32),
        ((2, 64, 4, 4), 64, torch.float32),  # too few to gain anything
        ((2, 128, 4, 4), 128, torch.float64),
    ],
)
def test_everything_else_is_the_library_s_to_the_bit(shape: tuple[int, ...], filters: int, dtype: torch.dtype) -> None:
    x, weight = numbers(*shape, dtype=dtype), numbers(filters, shape[1], 3, 3, dtype=dtype, seed=1)
    assert torch.equal(convolve3x3(x, weight), library(x, weight))


def test_the_reference_kernels_are_the_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = inputs(torch.float32)
    assert not torch.equal(convolve3x3(x, weight), library(x, weight))
    monkeypatch.setenv("LATENTPRINT_OPS", "reference")
    assert torch.equal(convolve3x3(x, weight), library(x, weight))


def test_small_images_take_winograd_s_way_where_filters_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "FEWEST_PIXELS", 25)
    x, weight = inputs(torch.float32)  # 24 pixels
    assert torch.equal(convolve3x3(x, weight), library(x, weight))
    assert torch.equal(convolve3x3(x, weight.clone().requires_grad_()), library(x, weight))
    assert not torch.equal(convolve3x3(x, weight, keep=Kept().of), library(x, weight))
    monkeypatch.setattr(convolution, "FEWEST_PIXELS_KEPT", 25)
    assert torch.equal(convolve3x3(x, weight, keep=Kept().of), library(x, weight))


def test_a_layer_in_training_keeps_no_filters() -> None:
    layer = SynthesisLayer(128, 128, w_dim=8, resolution=8, up=False, clamp=None)
    x, w = numbers(1, 128, 8, 8, dtype=torch.bfloat16), numbers(1, 8)
    with_gradient = layer(x, w, None)
    with torch.no_grad():
        assert torch.equal(layer(x, w, None), with_gradient)
    assert not layer.kept.made
    layer.requires_grad_(False)(x, w, None)
    assert "tiles" in layer.kept.made and not deepcopy(layer).kept.made


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [
        ((1, 256, 4, 4), (128, 128, 3, 3), None),
        ((1, 128, 4, 4), (128, 256, 3, 3), None),
        ((1, 128, 4, 4), (128, 128, 3, 3), 64),
        ((1, 128, 4, 4), (128, 128, 3, 3), 1),
    ],
)
@pytest.mark.parametrize("trained", [False, True])
def test_what_does_not_fit_together_is_refused_by_the_library(
    x: tuple[int, ...], weight: tuple[int, ...], bias: int | None, trained: bool
) -> None:
    b = None if bias is None else numbers(bias)
    with pytest.raises(RuntimeError, match="expected"):
        convolve3x3(numbers(*x), numbers(*weight).requires_grad_(trained), b)


def test_other_dtypes_beside_it_are_refused_by_the_library() -> None:
    x, weight = inputs(torch.bfloat16)
    for other in ((weight.float(), None), (weight, numbers(144))):
        with pytest.raises(RuntimeError, match="type"):
            convolve3x3(x, *other)


@pytest.mark.parametrize("trained", [False, True])
def test_the_caller_s_surroundings_change_nothing(trained: bool) -> None:
    x, weight = inputs(torch.float32)
    weight.requires_grad_(trained)

    def results() -> tuple[Tensor, ...]:
        leaf = x.detach().requires_grad_()
        y = convolve3x3(leaf, weight)
        return y, *torch.autograd.grad(y.square().sum(), [leaf, *([weight] if trained else [])])

    expected = results()
    with torch.device("meta"):
        elsewhere = results()
    torch.set_default_dtype(torch.float64)
    try:
        otherwise = results()
    finally:
        torch.set_default_dtype(torch.float32)
    for found in (elsewhere, otherwise):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("trained", [False, True])
def test_autocast_has_its_way(trained: bool) -> None:
    x, weight = inputs(torch.float32)
    weight.requires_grad_(trained)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve3x3(x, weight)
        assert torch.equal(y, library(x, weight)) and y.dtype == torch.bfloat16
        plain = convolve3x3(x.bfloat16(), weight.bfloat16())
        torch.autograd.grad(plain.float().sum(), x)
    y = convolve3x3(x, weight)
    with torch.autocast("cpu", torch.bfloat16):  # around the way back alone
        assert torch.autograd.grad(y.sum(), x)[0].dtype == torch.float32


def test_images_without_memory_are_the_library_s() -> None:
    x, weight = inputs(torch.float32)
    assert convolve3x3(x.to("meta"), weight.to("meta")).shape == (2, 144, 6, 4)


def test_negative_views_keep_their_sign() -> None:
    x, weight = inputs(torch.float32)
    torch.testing.assert_close(convolve3x3(torch._neg_view(x), weight), library(-x, weight))


def test_an_empty_batch() -> None:
    x, weight = inputs(torch.float32)
    assert convolve3x3(x[:0], weight).shape == (0, 144, 6, 4)


def test_infinite_and_undefined_numbers_stay_visible() -> None:
    x, weight = inputs(torch.float32)
    x[0, 0, 0, 0] = torch.nan
    y = convolve3x3(x, weight)
    assert y[0, :, :2, :2].isnan().all()
    assert y[1].isfinite().all()
