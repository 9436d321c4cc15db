"""Layers shared by generator and discriminator: equalized learning rate and weight (de)modulation."""

from collections.abc import Callable, Hashable
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_ops import bias_act

RESAMPLING_TAPS = (1, 3, 3, 1)  # the bilinear filter of StyleGAN2's up- and downsampling


class EqualizedLinear(nn.Module):
    """Fully connected layer with equalized learning rate: N(0, 1) weights, scaled at run time by 1/sqrt(fan_in).

    lr_multiplier scales the learning speed of weight and bias alike (0.01 in the mapping network).
    """

    def __init__(
        self, in_features: int, out_features: int, act: str = "linear", lr_multiplier: float = 1, bias_init: float = 0
    ):
        super().__init__()
        self.act, self.lr_multiplier = act, lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_features] -> [B, out_features]."""
        x = F.linear(x, self.weight * self.weight_gain)
        return bias_act(x, self.bias * self.lr_multiplier, act=self.act)

    def extra_repr(self) -> str:
        """What `print(module)` shows."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, act={self.act}, lr_multiplier={self.lr_multiplier}"


def demodulation(energy: Tensor, style: Tensor) -> Tensor:
    """Factors that return the output of a modulated convolution to unit variance (StyleGAN2, eq. 3).

    energy: `filter_energy` of its weights [O, I], style: [B, I] -> [B, O]; always float32 or better.
    """
    return (F.linear(style.square(), energy) + 1e-8).rsqrt()


def filter_energy(weight: Tensor) -> Tensor:
    """Sum of squares of every filter: [O, I, k, k] -> [O, I]."""
    return weight.square().sum([2, 3])


class Kept:
    """A value that follows from a frozen tensor, made once; made every time from one that is trained."""

    def __init__(self) -> None:
        self.made: dict[Hashable, tuple[Tensor, Hashable, Tensor]] = {}

    def __reduce__(self) -> tuple[type["Kept"], tuple[()]]:
        """A network's copies and files carry nothing that can be made again."""
        return Kept, ()

    def of(self, source: Tensor, name: Hashable, make: Callable[[Tensor], Tensor]) -> Tensor:
        """make(source), known under `name`; another tensor, or another content of the same one, makes it anew.

        A fused optimiser changes its tensors without counting a version: those require gradients, and are never kept.
        """
        inference = source.is_inference() or torch.is_inference_mode_enabled()
        if source.requires_grad or inference or torch.compiler.is_compiling():
            return make(source)
        state = (source.data_ptr(), source._version, source.device, source.dtype)
        kept = self.made.get(name)
        if kept is None or kept[0] is not source or kept[1] != state:
            with torch.no_grad():
                kept = self.made[name] = (source, state, make(source))
        return kept[2]


def convolve_transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, I, h, w], weight [O, I, 3, 3] -> [B, O, 2h + 1, 2w + 1], in steps of 2.

    Where the weights are frozen the way back keeps nothing but these: the library would also keep x for their gradient.
    """
    if weight.requires_grad or not x.requires_grad:
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return _TransposedFrozen.apply(x, weight)


class _TransposedFrozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return F.conv2d(grad, weight.transpose(0, 1), stride=2), None


def within_half_range(weight: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [O, I, k, k] and styles [B, I], scaled so that a modulated convolution can't leave float16's range.

    Every row of the weights gets length 1, every style vector a largest component of 1: inputs of up to 256 then give
    outputs of up to 256 k sqrt(I), 17 thousand for 512 feature maps. The demodulation, which has to follow from these
    results, takes both factors out again, so that they count as constants (ADA, Appendix D.1).
    """
    rows = weight.detach().square().sum([1, 2, 3], keepdim=True)
    largest = style.detach().abs().amax(1, keepdim=True)
    return weight * (rows + 1e-8).rsqrt(), style / (largest + 1e-8)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale each row of [B, n] to unit mean square (Progressive GAN, 4.2, applied to the latent code)."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
