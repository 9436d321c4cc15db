"""What a step of a projection takes, counted without computing it: kernels, their FLOPs and the bytes that they move.

One step runs on tensors without memory, and every operation of it is written down. An operation is one kernel, reads
its inputs once and writes its results once; views take nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from attribution.noise import autocorrelation_penalty, by_layer, layer_resolutions, renormalize_
from attribution.search import for_lpips
from generator import LPIPS
from generator.files import WithoutMemory
from generator.networks import Generator, GeneratorConfig

GAIN = sqrt(2)  # the epilogue's default
ADAM_PASSES = 7  # reads the parameter, its gradient and both moments, writes all but the gradient


@dataclass(frozen=True)
class Kernel:
    """One operation: PyTorch's name of it, FLOPs (two a multiply-add) of convolutions and products, bytes moved."""

    name: str
    flops: int
    bytes: int

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution of a network, or its gradient; filters are operators of their own."""
        return self.name.startswith("aten.convolution")


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = str(func)
        if not func.is_view and not name.startswith(("aten.empty", "aten.new_empty")):
            formula = flop_registry.get(func._overloadpacket)
            moved = sum(_bytes(t) for t in _tensors([args, kwargs, out]))
            if moved:
                flops = formula(*args, **kwargs, out_val=out) if formula else 0
                self.kernels.append(Kernel(name, flops, moved))
        return out


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _bytes(tensor: Tensor) -> int:
    """Of its elements in memory: what is broadcast lies there once."""
    elements = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride else 1
    return elements


def _fused_epilogue(x, demodulation, noise, noise_strength, bias, gain=GAIN, clamp=None):
    """The one kernel that a GPU runs; tensors without memory would take the CPU's several operations."""
    return torch.ops.latentprint.synthesis_epilogue(x, demodulation, noise, noise_strength, bias, gain, clamp)


def step_kernels(
    config: GeneratorConfig, net: str, batch: int, dtype: torch.dtype | None = None, noise_weight: float = 1e5
) -> list[Kernel]:
    """All kernels of one step of attribution/projector.py for a batch of images, as they run on a GPU.

    net: LPIPS's. dtype: of feature maps and convolutions, None means float32.
    """
    with WithoutMemory():
        G = Generator(config)
    G = G.to("meta").requires_grad_(False)
    lpips = LPIPS(net).to("meta")
    w = torch.empty(batch, G.w_dim, device="meta", requires_grad=True)
    counts = layer_resolutions([layer.resolution for layer in G.synthesis.layers])
    noise = [torch.empty(batch, n, r, r, device="meta", requires_grad=True) for r, n in counts.items()]
    target = lpips.features(for_lpips(torch.empty(batch, 3, G.resolution, G.resolution, device="meta")), dtype)
    with patch("generator.synthesis.synthesis_epilogue", _fused_epilogue), _Recorder() as recorder:
        images = G.synthesis(w, noise=by_layer(noise), dtype=dtype)
        loss = lpips.per_layer(for_lpips(images), target, dtype).sum()
        if noise_weight:
            loss = loss + noise_weight * autocorrelation_penalty(noise).sum()
        torch.autograd.grad(loss, [w, *noise])
        renormalize_(noise)
    searched = sum(_bytes(t) for t in (w, *noise))
    return [*recorder.kernels, Kernel("aten._fused_adam_", 0, ADAM_PASSES * searched)]


def convolution_flops(config: GeneratorConfig, net: str) -> int:
    """FLOPs of the convolutions of one step for one image, forward and to the input, of synthesis and LPIPS network.

    tRGB, which runs as a matrix product, is left out.
    """
    return sum(kernel.flops for kernel in step_kernels(config, net, batch=1) if kernel.is_convolution)
