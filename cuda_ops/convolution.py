"""The 3x3 convolution of networks and features: the library's, or Winograd's where that is quicker on the CPU.

A convolution's gradient for x is a convolution with the filters turned around, and both gradients of that for its
weights are convolutions again, so that few functions serve every order.
"""

from collections.abc import Callable, Hashable

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import cpu_winograd
from cuda_ops.cpu_winograd import LANES, filter_tiles, weight_gradient
from cuda_ops.dispatch import reference_forced

# below them the additions, and the filters' transformation, take longer than the products that they save
FEWEST_CHANNELS = 128
FEWEST_PIXELS = 256
FEWEST_PIXELS_KEPT = 16  # with filters that are transformed once

Keep = Callable[[Tensor, Hashable, Callable[[Tensor], Tensor]], Tensor]


def convolve3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, keep: Keep | None = None) -> Tensor:
    """x [B, I, H, W], weight [O, I, 3, 3], bias [O] -> [B, O, H, W], zeros outside x.

    Differentiable to any order; where weight and bias are frozen, the way back keeps nothing but the weight.
    keep(source, name, make), for a weight that stays frozen: make(source), or what it was when it was asked for by that
    name before. By Winograd's algorithm a float32 is as exact as the library's, a bfloat16 three times as far off.
    """
    if torch.compiler.is_compiling():
        return F.conv2d(x, weight, bias, padding=1)
    if not weight.requires_grad and (bias is None or not bias.requires_grad):
        return _Frozen.apply(x, weight, bias, keep, False)
    if not _by_winograd(x, weight, bias):
        return F.conv2d(x, weight, bias, padding=1)
    y = _Convolution.apply(x, weight)
    return y if bias is None else y + bias[:, None, None]


def _by_winograd(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, adjoint: bool = False, kept: bool = False
) -> bool:
    """Decided for an image, whatever its batch: it should not depend on its batch mates.

    Whatever doesn't fit together goes to the library, for its error.
    """
    return (
        x.dtype in (torch.float32, torch.bfloat16)
        and x.device.type == weight.device.type == "cpu"
        and type(x) is Tensor
        and x.ndim == 4
        and x.shape[2] % 2 == x.shape[3] % 2 == 0
        and x.shape[2] * x.shape[3] >= (FEWEST_PIXELS_KEPT if kept else FEWEST_PIXELS)
        and weight.dtype == x.dtype
        and weight.shape[2:] == (3, 3)
        and weight.shape[0 if adjoint else 1] == x.shape[1]
        and min(weight.shape[:2]) >= FEWEST_CHANNELS
        and weight.shape[0] % LANES == weight.shape[1] % LANES == 0
        and (bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape[:1]))
        and not (x.is_neg() or torch.is_autocast_enabled("cpu"))
        and not reference_forced()
    )


def _turned(weight: Tensor) -> Tensor:
    """Filters [O, I, 3, 3] as those of the adjoint, [I, O, 3, 3]."""
    return weight.transpose(0, 1).flip(2, 3)


def _turned_tiles(weight: Tensor) -> Tensor:
    return filter_tiles(_turned(weight))


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Frozen(torch.autograd.Function):
    """With filters that are not trained, or, if `adjoint`, with those turned around.

    The library itself would keep the input, too, for the gradient of the filters that nobody asks for.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, keep, adjoint):
        ctx.save_for_backward(weight)
        ctx.keep, ctx.adjoint = keep, adjoint
        if _by_winograd(x, weight, bias, adjoint, keep is not None):
            name, make = ("turned tiles", _turned_tiles) if adjoint else ("tiles", filter_tiles)
            return cpu_winograd.convolve(_nhwc(x), keep(weight, name, make) if keep else make(weight), bias)
        return F.conv_transpose2d(x, weight, padding=1) if adjoint else F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return _Frozen.apply(grad, weight, None, ctx.keep, not ctx.adjoint), None, None, None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)  # x itself: a copy has no history
        return cpu_winograd.convolve(_nhwc(x), filter_tiles(weight))

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = convolve3x3(grad, _turned(weight)) if ctx.needs_input_grad[0] else None
        return grad_x, _WeightGradient.apply(x, grad) if ctx.needs_input_grad[1] else None


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grad):
        ctx.save_for_backward(x, grad)
        return weight_gradient(_nhwc(x), _nhwc(grad)).to(x.dtype)

    @staticmethod
    def backward(ctx, outer):
        x, grad = ctx.saved_tensors
        grad_x = convolve3x3(grad, _turned(outer)) if ctx.needs_input_grad[0] else None
        return grad_x, convolve3x3(x, outer) if ctx.needs_input_grad[1] else None
