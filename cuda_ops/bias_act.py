"""Bias, activation, gain and clamp in one operation (StyleGAN2, Appendix B).

One kernel does it in one pass, and its gradient in another: on a GPU, and on the CPU where the activation is piecewise
linear and the channels lie side by side. What is left on the CPU is a short chain of PyTorch's own operations, in place
where that is possible, with their own gradients.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import launch
from cuda_ops.activations import ACTIVATIONS, PIECEWISE_LINEAR, bend, saves, slope
from cuda_ops.cpu_epilogue import Bend, epilogue, epilogue_gradients, fits
from cuda_ops.dispatch import cuda_kernels_run, reference_forced


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Return clamp(gain * act(x + b)), b running along dimension `dim`.

    x: any shape, floating point; b: [x.shape[dim]]. alpha, gain: None means the activation's own default;
    clamp: the result is limited to [-clamp, clamp], None means no limit. Differentiable in x and b to second order.
    Raises ValueError for an unknown activation, a bias of another size, a `dim` that x has not, or a negative clamp.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"act: found {act!r}, expected one of {', '.join(ACTIVATIONS)}")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"x: found {x.dtype if isinstance(x, Tensor) else type(x).__name__}, expected floating point")
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"dim: found {dim}, expected a dimension of x, which has {x.ndim}")
    require_clamp(clamp)
    if b is not None and b.shape != (x.shape[dim],):
        raise ValueError(f"b: found shape {tuple(b.shape)}, expected ({x.shape[dim]},)")
    spec = ACTIVATIONS[act]
    alpha, gain = float(spec.alpha if alpha is None else alpha), float(spec.gain if gain is None else gain)
    if x.device.type == "cpu" and not reference_forced():
        if bends(act, alpha, gain) and dim % x.ndim == 1 and fits(x):
            return _InOnePass.apply(x, b, dim, act, alpha, gain, clamp)
        return _on_cpu(x, b, dim, act, alpha, gain, clamp)
    return torch.ops.latentprint.bias_act(x, b, dim, act, alpha, gain, clamp)


def require_clamp(clamp: float | None) -> None:
    """Raise ValueError for a limit that none can keep."""
    if clamp is not None and not clamp >= 0:
        raise ValueError(f"clamp: found {clamp}, expected a limit of at least 0")


def bends(act: str, alpha: float, gain: float) -> bool:
    """Whether gain * act is what the CPU's kernels compute: piecewise linear, its side told by the result's sign.

    Not with a slope of 0, as relu has: 0 times minus infinity is not 0.
    """
    return (act == "linear" or (act == "lrelu" and alpha > 0)) and gain > 0


def bend_of(act: str, alpha: float, gain: float, clamp: float | None) -> Bend:
    """What follows the sum, for the CPU's kernels."""
    return Bend(1.0 if act == "linear" else alpha, gain, clamp)


def _along(b: Tensor, dim: int, x: Tensor) -> Tensor:
    """b, shaped to be added along a dimension of x."""
    return b.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])


def _on_cpu(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """Few passes over memory: what follows the first writes in place, and a gain is taken into the sum where it can."""
    homogeneous = act in PIECEWISE_LINEAR and gain > 0  # act(gain u) = gain act(u)
    bias = None if b is None else _along(b.to(x.dtype), dim, x)
    if bias is not None and homogeneous and gain != 1:
        x = torch.add(bias * gain, x, alpha=gain)
    elif bias is not None:
        x = x + bias
    elif homogeneous and gain != 1:
        x = x * gain
    fresh = bias is not None or (homogeneous and gain != 1)
    if act == "lrelu":
        y = F.leaky_relu(x, alpha, inplace=fresh and alpha >= 0)
    elif act == "relu":
        y = F.relu(x, inplace=fresh)
    else:
        y = ACTIVATIONS[act].function(x, alpha)
    y = y if homogeneous or gain == 1 else y * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


torch.library.define(
    "latentprint::bias_act",
    "(Tensor x, Tensor? b, int dim, str act, float alpha, float gain, float? clamp) -> Tensor",
)
torch.library.define(
    "latentprint::bias_act_grad",
    "(Tensor dy, Tensor? saved, Tensor? b, int dim, str act, float alpha, float gain, float? clamp) -> Tensor",
)
torch.library.define(
    "latentprint::bias_act_grad_grad",
    "(Tensor ddx, Tensor dy, Tensor saved, Tensor? b, int dim, str act, float alpha, float gain, float? clamp)"
    " -> (Tensor, Tensor)",
)


def _working(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _bias_act_default(x, b, dim, act, alpha, gain, clamp):
    u = x.to(_working(x)) if b is None else x.to(_working(x)) + _along(b.to(_working(x)), dim, x)
    y = ACTIVATIONS[act].function(u, alpha) * gain
    return (y if clamp is None else y.clamp(-clamp, clamp)).to(x.dtype, copy=True)


def _slopes(saved: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None):
    """u, act(u) and where the clamp let pass, from the tensor that was kept."""
    kept = saves(act, alpha, gain, clamp)
    value = saved.to(_working(saved))
    if kept == "x":
        u = value if b is None else value + _along(b.to(value), dim, value)
        a = ACTIVATIONS[act].function(u, alpha)
    else:
        u = a = value / gain
    if clamp is None:
        return u, a, torch.ones_like(a)
    result = (a * gain).abs() if kept == "x" else value.abs()
    limit = clamp if kept == "x" else torch.tensor(clamp, dtype=saved.dtype).item()  # the result was rounded, so was it
    passed = (result < limit).to(a)
    return u, a, passed


def _grad_default(dy, saved, b, dim, act, alpha, gain, clamp):
    if saved is None:
        return dy * gain
    u, a, passed = _slopes(saved, b, dim, act, alpha, gain, clamp)
    return (gain * slope(act, u, a, alpha) * passed * dy.to(a)).to(dy.dtype)


def _grad_grad_default(ddx, dy, saved, b, dim, act, alpha, gain, clamp):
    u, a, passed = _slopes(saved, b, dim, act, alpha, gain, clamp)
    kept = saves(act, alpha, gain, clamp)
    factor = gain if kept == "x" else 1.0  # d(gain act') / dy = d act' / da, since a = y / gain
    grad_dy = gain * slope(act, u, a, alpha) * passed * ddx.to(a)
    grad_saved = bend(act, u, a, kept) * factor * passed * ddx.to(a) * dy.to(a)
    return grad_dy.to(dy.dtype), grad_saved.to(dy.dtype)


torch.library.impl("latentprint::bias_act", "default")(_bias_act_default)
torch.library.impl("latentprint::bias_act_grad", "default")(_grad_default)
torch.library.impl("latentprint::bias_act_grad_grad", "default")(_grad_grad_default)


@torch.library.impl("latentprint::bias_act", "cpu")
def _(x, b, dim, act, alpha, gain, clamp):
    y = _on_cpu(x, b, dim, act, alpha, gain, clamp)
    return y.clone() if y is x else y  # an operator returns a tensor of its own


@torch.library.impl("latentprint::bias_act_grad", "cpu")
def _(dy, saved, b, dim, act, alpha, gain, clamp):
    if saved is not None and bends(act, alpha, gain) and fits(saved) and not reference_forced():
        return epilogue_gradients(dy, saved, None, None, bend_of(act, alpha, gain, clamp), noisy=False)[0]
    return _grad_default(dy, saved, b, dim, act, alpha, gain, clamp)


@torch.library.impl("latentprint::bias_act", "cuda")
def _(x, b, dim, act, alpha, gain, clamp):
    if cuda_kernels_run():
        return launch.bias_act(x, b, dim, act, alpha, gain, clamp)
    return _bias_act_default(x, b, dim, act, alpha, gain, clamp)


@torch.library.impl("latentprint::bias_act_grad", "cuda")
def _(dy, saved, b, dim, act, alpha, gain, clamp):
    if saved is not None and cuda_kernels_run():
        return launch.bias_act_grad(dy, saved, b, dim, act, alpha, gain, clamp)
    return _grad_default(dy, saved, b, dim, act, alpha, gain, clamp)


@torch.library.impl("latentprint::bias_act_grad_grad", "cuda")
def _(ddx, dy, saved, b, dim, act, alpha, gain, clamp):
    if cuda_kernels_run():
        return launch.bias_act_grad_grad(ddx, dy, saved, b, dim, act, alpha, gain, clamp)
    return _grad_grad_default(ddx, dy, saved, b, dim, act, alpha, gain, clamp)


@torch.library.register_fake("latentprint::bias_act")
def _(x, b, dim, act, alpha, gain, clamp):
    return torch.empty_like(x)


@torch.library.register_fake("latentprint::bias_act_grad")
def _(dy, saved, b, dim, act, alpha, gain, clamp):
    return torch.empty_like(dy if saved is None else saved)


@torch.library.register_fake("latentprint::bias_act_grad_grad")
def _(ddx, dy, saved, b, dim, act, alpha, gain, clamp):
    return torch.empty_like(saved), torch.empty_like(saved)


def _keep(ctx, inputs, output):
    x, b, ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp = inputs
    kept = saves(ctx.act, ctx.alpha, ctx.gain, ctx.clamp)
    ctx.bias_dtype = None if b is None else b.dtype
    ctx.save_for_backward({"x": x, "y": output, "": None}[kept], b if kept == "x" else None)


def _backward(ctx, dy):
    saved, b = ctx.saved_tensors
    settings = (ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp)
    dx = torch.ops.latentprint.bias_act_grad(dy, saved, b, *settings)
    db = None
    if ctx.bias_dtype is not None and ctx.needs_input_grad[1]:
        others = [i for i in range(dx.ndim) if i != ctx.dim % dx.ndim]
        db = dx.sum(others, dtype=ctx.bias_dtype) if others else dx.to(ctx.bias_dtype)
    return dx, db, None, None, None, None, None


torch.library.register_autograd("latentprint::bias_act", _backward, setup_context=_keep)


class _InOnePass(torch.autograd.Function):
    """On the CPU, with the gradients of first order in one pass as well."""

    @staticmethod
    def forward(ctx, x, b, dim, act, alpha, gain, clamp):
        y = epilogue(x, None, None, b, bend_of(act, alpha, gain, clamp))
        if any(ctx.needs_input_grad):
            _keep(ctx, (x, b, dim, act, alpha, gain, clamp), y)
        return y

    @staticmethod
    def backward(ctx, dy):
        (y, _), settings = ctx.saved_tensors, (ctx.act, ctx.alpha, ctx.gain, ctx.clamp)
        if torch.is_grad_enabled() or y is None:
            return _backward(ctx, dy)
        dx, _, _, db = epilogue_gradients(dy, y, None, None, bend_of(*settings), noisy=False)
        return dx, db.to(ctx.bias_dtype) if ctx.needs_input_grad[1] else None, None, None, None, None, None


def _keep_for_second_order(ctx, inputs, output):
    dy, saved, b, ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp = inputs
    curved = ctx.act not in PIECEWISE_LINEAR
    ctx.save_for_backward(dy if curved else None, saved, b)


def _backward_of_grad(ctx, ddx):
    dy, saved, b = ctx.saved_tensors
    settings = (ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp)
    if dy is None:
        return torch.ops.latentprint.bias_act_grad(ddx, saved, b, *settings), *[None] * 7
    grad_dy, grad_saved = torch.ops.latentprint.bias_act_grad_grad(ddx, dy, saved, b, *settings)
    grad_b = None
    if b is not None and ctx.needs_input_grad[2]:
        others = [i for i in range(grad_saved.ndim) if i != ctx.dim % grad_saved.ndim]
        grad_b = grad_saved.sum(others, dtype=b.dtype) if others else grad_saved.to(b.dtype)
    return grad_dy, grad_saved, grad_b, *[None] * 5


torch.library.register_autograd("latentprint::bias_act_grad", _backward_of_grad, setup_context=_keep_for_second_order)
