"""What follows the convolution of a synthesis layer, in one operation (StyleGAN2, section 2.2 and Appendix B)."""

from math import sqrt

import torch
from torch import Tensor

from cuda_ops import launch
from cuda_ops.bias_act import bias_act
from cuda_ops.dispatch import cuda_kernels_run

SLOPE = 0.2


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
    more than 0. Result in x's dtype; differentiable in all tensors to second order. On a GPU one kernel in one pass;
    elsewhere the gain goes into the small factors, since lrelu(g u) = g lrelu(u). Raises ValueError for other shapes.
    """
    batch, channels, height, width = x.shape
    if demodulation.shape != (batch, channels):
        raise ValueError(f"demodulation: found shape {tuple(demodulation.shape)}, expected ({batch}, {channels})")
    if noise is not None and (noise.shape[1:] != (1, height, width) or len(noise) not in (1, batch)):
        raise ValueError(f"noise: found shape {tuple(noise.shape)}, expected [{batch} or 1, 1, {height}, {width}]")
    if gain <= 0:
        raise ValueError(f"gain: found {gain}, expected more than 0")
    if x.device.type == "cuda" and cuda_kernels_run():
        return torch.ops.latentprint.synthesis_epilogue(
            x, demodulation, noise, noise_strength, bias, float(gain), clamp
        )
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
    """Every factor's gradient from du, that of the leaky ReLU's argument: plain operations, so differentiable again."""
    x, demodulation, noise, noise_strength, y = ctx.saved_tensors
    du = torch.ops.latentprint.bias_act_grad(dy, y, None, 1, "lrelu", SLOPE, ctx.gain, ctx.clamp)
    wanted = ctx.needs_input_grad
    dx = du * demodulation.to(du.dtype)[:, :, None, None] if wanted[0] else None
    d_demodulation = (du * x).sum([2, 3], dtype=demodulation.dtype) if wanted[1] else None
    d_noise = d_strength = None
    if noise is not None:
        over_channels = du.sum(1, keepdim=True, dtype=noise.dtype)
        if wanted[2]:
            d_noise = (over_channels * noise_strength).sum_to_size(noise.shape)
        d_strength = (over_channels * noise).sum().to(noise_strength.dtype) if wanted[3] else None
    d_bias = du.sum([0, 2, 3], dtype=ctx.bias_dtype) if wanted[4] else None
    return dx, d_demodulation, d_noise, d_strength, d_bias, None, None


torch.library.register_autograd("latentprint::synthesis_epilogue", _backward, setup_context=_keep)
