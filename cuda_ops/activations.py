"""The activations, their gains, and their derivatives written with the one tensor that has to be kept."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

SELU_SCALE = 1.0507009873554805  # Klambauer et al. 2017, appendix
SELU_ALPHA = 1.6732632423543772


@dataclass(frozen=True)
class Activation:
    """An activation with its default slope and the gain that keeps, roughly, the power of a normal input."""

    function: Callable[[Tensor, float], Tensor]
    alpha: float = 0.0
    gain: float = 1.0


ACTIVATIONS = {
    "linear": Activation(lambda x, _: x),
    "relu": Activation(lambda x, _: F.relu(x), gain=sqrt(2)),
    "lrelu": Activation(lambda x, alpha: F.leaky_relu(x, alpha), alpha=0.2, gain=sqrt(2)),
    "tanh": Activation(lambda x, _: torch.tanh(x)),
    "sigmoid": Activation(lambda x, _: torch.sigmoid(x)),
    "elu": Activation(lambda x, _: F.elu(x)),
    "selu": Activation(lambda x, _: F.selu(x)),
    "softplus": Activation(lambda x, _: F.softplus(x)),
    "swish": Activation(lambda x, _: F.silu(x), gain=sqrt(2)),
}
PIECEWISE_LINEAR = ("linear", "relu", "lrelu")


def saves(act: str, alpha: float, gain: float, clamp: float | None) -> str:
    """Which tensor the gradients of clamp(gain * act(x + b)) need: "x" (and b), "y" (the result) or "" (none).

    The result gives the slope of every activation but swish, unless a gain of 0 or a negative slope made it ambiguous.
    """
    if act == "linear" and clamp is None:
        return ""
    return "x" if act == "swish" or gain == 0 or (act == "lrelu" and alpha < 0) else "y"


def slope(act: str, u: Tensor, a: Tensor, alpha: float) -> Tensor:
    """act'(u), with a = act(u). Only for swish u is more than its sign, which a has too."""
    if act == "relu":
        return torch.where(a <= 0, torch.zeros_like(a), torch.ones_like(a))
    if act == "lrelu":
        return torch.where(u > 0, torch.ones_like(a), torch.full_like(a, alpha))
    if act == "tanh":
        return 1 - a * a
    if act == "sigmoid":
        return a * (1 - a)
    if act == "elu":
        return torch.where(u > 0, torch.ones_like(a), a + 1)
    if act == "selu":
        return torch.where(u > 0, torch.full_like(a, SELU_SCALE), a + SELU_SCALE * SELU_ALPHA)
    if act == "softplus":
        return -torch.expm1(-a)
    if act == "swish":
        s = torch.sigmoid(u)
        return s * (1 + u * (1 - s))
    return torch.ones_like(a)


def bend(act: str, u: Tensor, a: Tensor, saved: str) -> Tensor:
    """The derivative of act'(u) by what is kept: by u for saved "x", by a = act(u) for "y"."""
    if act == "swish" and saved == "x":
        s = torch.sigmoid(u)
        return s * (1 - s) * (2 + u * (1 - 2 * s))
    if act == "tanh":
        return -2 * a
    if act == "sigmoid":
        return 1 - 2 * a
    if act in ("elu", "selu"):
        return (a <= 0).to(a)
    if act == "softplus":
        return torch.exp(-a)
    return torch.zeros_like(a)
