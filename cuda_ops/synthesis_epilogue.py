"""What goes before and after the convolution of a synthesis layer (StyleGAN2, section 2.2 and Appendix B)."""

from math import sqrt

import torch
from torch import Tensor

from cuda_ops import launch
from cuda_ops.bias_act import bend_of, bias_act, require_clamp
from cuda_ops.cpu_epilogue import Bend, epilogue, epilogue_gradients, fits
from cuda_ops.dispatch import cuda_kernels_run, reference_forced

SLOPE = 0.2
IDENTITY = Bend(alpha=1.0, gain=1.0, clamp=None)


def synthesis_epilogue(
    x: Tensor,
    demodulation: Tensor,
    noise: Tensor | None,
    noise_strength: Tensor,
    bias: Tensor,
    gain: float = sqrt(2),
    clamp: float | None = None,
) -> Tensor:
    """Return clamp(gain * lrelu(x * demodulation + noise * noise_strength + bias)), slope 0.2.

    x: [B, C, H, W]; demodulation: [B, C]; noise: [B or 1, 1, H, W] or None; noise_strength: scalar; bias: [C]; gain:
    more than 0. Result in x's dtype; differentiable in all tensors to second order. One kernel in one pass, on the CPU
    where the channels lie side by side; elsewhere the gain goes into the small factors, since lrelu(g u) = g lrelu(u).
    Raises ValueError for other shapes.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x: found {x.dtype} of shape {tuple(x.shape)}, expected floating point [B, C, H, W]")
    batch, channels, height, width = x.shape
    if demodulation.shape != (batch, channels):
        raise ValueError(f"demodulation: found shape {tuple(demodulation.shape)}, expected ({batch}, {channels})")
    if noise is not None and (noise.shape[1:] != (1, height, width) or len(noise) not in (1, batch)):
        raise ValueError(f"noise: found shape {tuple(noise.shape)}, expected [{batch} or 1, 1, {height}, {width}]")
    if noise_strength.numel() != 1:
        raise ValueError(f"noise_strength: found shape {tuple(noise_strength.shape)}, expected one number")
    if bias.shape != (channels,):
        raise ValueError(f"bias: found shape {tuple(bias.shape)}, expected ({channels},)")
    if not gain > 0:
        raise ValueError(f"gain: found {gain}, expected more than 0")
    require_clamp(clamp)
    if x.device.type == "cuda" and cuda_kernels_run():
        return torch.ops.latentprint.synthesis_epilogue(
            x, demodulation, noise, noise_strength, bias, float(gain), clamp
        )
    if x.device.type == "cpu" and fits(x) and not reference_forced():
        return _InOnePass.apply(x, demodulation, noise, noise_strength, bias, float(gain), clamp)
    scale = gain if clamp is None else 1.0
    x = x * (demodulation * scale).to(x.dtype)[:, :, None, None]
    if noise is not None:
        x = x + (noise * (noise_strength * scale)).to(x.dtype)
    return bias_act(x, bias * scale, act="lrelu", alpha=SLOPE, gain=gain / scale, clamp=clamp)


torch.library.define(
    "latentprint::synthesis_epilogue",
    "(Tensor x, Tensor demodulation, Tensor? noise, Tensor noise_strength, Tensor bias, float gain, float? clamp)"
    " -> Tensor",
)


@torch.library.impl("latentprint::synthesis_epilogue", "default")
def _(x, demodulation, noise, noise_strength, bias, gain, clamp):
    working = torch.float64 if x.dtype == torch.float64 else torch.float32
    u = x.to(working) * demodulation.to(working)[:, :, None, None] + bias.to(working)[:, None, None]
    if noise is not None:
        u = u + noise.to(working) * noise_strength.to(working)
    y = torch.nn.functional.leaky_relu(u, SLOPE) * gain
    return (y if clamp is None else y.clamp(-clamp, clamp)).to(x.dtype)


@torch.library.impl("latentprint::synthesis_epilogue", "cuda")
def _(x, demodulation, noise, noise_strength, bias, gain, clamp):
    return launch.synthesis_epilogue(x, demodulation, noise, noise_strength, bias, gain, clamp, SLOPE)


@torch.library.register_fake("latentprint::synthesis_epilogue")
def _(x, demodulation, noise, noise_strength, bias, gain, clamp):
    return torch.empty_like(x)


def _keep(ctx, inputs, output):
    x, demodulation, noise, noise_strength, bias, ctx.gain, ctx.clamp = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, demodulation, noise, noise_strength, output)


def _backward(ctx, dy):
    """Every factor's gradient from du, that of the leaky ReLU's argument, by operations that have gradients again."""
    x, demodulation, noise, noise_strength, y = ctx.saved_tensors
    du = torch.ops.latentprint.bias_act_grad(dy, y, None, 1, "lrelu", SLOPE, ctx.gain, ctx.clamp)
    wanted = ctx.needs_input_grad
    dx = scale_channels(du, demodulation) if wanted[0] else None
    d_demodulation = _Products.apply(du, x, demodulation.dtype) if wanted[1] else None
    d_noise = d_strength = None
    if noise is not None:
        over_channels = du.sum(1, keepdim=True, dtype=noise.dtype)
        if wanted[2]:
            d_noise = (over_channels * noise_strength).sum_to_size(noise.shape)
        d_strength = (over_channels * noise).sum().to(noise_strength.dtype) if wanted[3] else None
    d_bias = du.sum([0, 2, 3], dtype=ctx.bias_dtype) if wanted[4] else None
    return dx, d_demodulation, d_noise, d_strength, d_bias, None, None


torch.library.register_autograd("latentprint::synthesis_epilogue", _backward, setup_context=_keep)


def scale_channels(x: Tensor, factors: Tensor) -> Tensor:
    """Multiply x [B, C, H, W] by factors [B, C], in x's dtype; differentiable in both to any order.

    On the CPU, where the channels lie side by side, the gradients of first order take one pass. Raises ValueError for
    other shapes.
    """
    if x.ndim != 4 or factors.shape != x.shape[:2]:
        raise ValueError(f"factors: found shape {tuple(factors.shape)} for x {tuple(x.shape)}, expected [B, C] of x")
    if x.device.type == "cpu" and fits(x) and not reference_forced():
        return _Scaled.apply(x, factors)
    return x * factors.to(x.dtype)[:, :, None, None]


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factors):
        ctx.save_for_backward(x, factors)
        return epilogue(x, factors, None, None, IDENTITY)

    @staticmethod
    def backward(ctx, dy):
        x, factors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return scale_channels(dy, factors), _Products.apply(dy, x, factors.dtype)
        # the identity's side is never asked for: any tensor does in the result's place
        dx, d_factors, _, _ = epilogue_gradients(
            dy, x, x if ctx.needs_input_grad[1] else None, factors, IDENTITY, False
        )
        return dx, d_factors


class _Products(torch.autograd.Function):
    """Sum of a * b over the pixels, [B, C, H, W] twice -> [B, C].

    The library's own gradient of such a sum is no longer channels_last, and so is nothing that follows from it.
    """

    @staticmethod
    def forward(ctx, a, b, dtype):
        ctx.save_for_backward(a, b)
        return (a * b).sum([2, 3], dtype=dtype)

    @staticmethod
    def backward(ctx, grad):
        (a, b), (of_a, of_b, _) = ctx.saved_tensors, ctx.needs_input_grad
        return scale_channels(b, grad) if of_a else None, scale_channels(a, grad) if of_b else None, None


class _InOnePass(torch.autograd.Function):
    """On the CPU, with the gradients of first order in one pass as well."""

    @staticmethod
    def forward(ctx, x, demodulation, noise, noise_strength, bias, gain, clamp):
        added = None if noise is None else noise * noise_strength
        y = epilogue(x, demodulation, added, bias, bend_of("lrelu", SLOPE, gain, clamp))
        if any(ctx.needs_input_grad):
            _keep(ctx, (x, demodulation, noise, noise_strength, bias, gain, clamp), y)
        return y

    @staticmethod
    def backward(ctx, dy):
        if torch.is_grad_enabled():
            return _backward(ctx, dy)
        x, demodulation, noise, noise_strength, y = ctx.saved_tensors
        of_x, of_demodulation, of_noise, of_strength, of_bias = ctx.needs_input_grad[:5]
        bend = bend_of("lrelu", SLOPE, ctx.gain, ctx.clamp)
        noisy = noise is not None and (of_noise or of_strength)
        scaled = x if of_demodulation else None
        dx, d_demodulation, summed, d_bias = epilogue_gradients(dy, y, scaled, demodulation, bend, noisy)
        d_noise = (summed * noise_strength).sum_to_size(noise.shape) if summed is not None and of_noise else None
        d_strength = (summed * noise).sum() if summed is not None and of_strength else None
        return dx if of_x else None, d_demodulation, d_noise, d_strength, d_bias if of_bias else None, None, None
