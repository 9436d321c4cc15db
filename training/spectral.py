"""Spectral normalisation of D or G (Miyato et al. 2018; ADA, Appendix D.2; StyleGAN2, Appendix E), by PyTorch's own.

The weights that a layer works with have spectral norm 1, its matrix being [outputs, inputs x taps] as in the original.
One iteration of the power method is made per training step, not per pass, so that the result does not depend on how a
batch is divided. Files hold the weights that are worked with, under their plain names.
"""

import copy
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from generator.discriminator import Discriminator, DiscriminatorBlock
from generator.layers import EqualizedLinear
from generator.networks import Generator
from generator.synthesis import SynthesisLayer, ToRGB

Network = TypeVar("Network", Generator, Discriminator)
FIRST_ITERATIONS = 15  # of weights that were loaded; PyTorch makes as many of new ones


class _WithoutGain(nn.Module):
    """The layer multiplies its weights by the equalized learning rate's constant: divide by it beforehand."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, weight: Tensor) -> Tensor:
        return weight / self.gain

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def normalise(network: Generator | Discriminator) -> None:
    """Normalise D's main convolutions, or every layer of G's synthesis network. Draws from torch's global generator.

    D: not fromRGB, skips and dense layers (ADA). G: modulation, convolutions, where the demodulation takes it out
    again, and tRGB.
    """
    for module in _normalised_layers(network):
        spectral_norm(module, "weight")
        parametrize.register_parametrization(module, "weight", _WithoutGain(getattr(module, "weight_gain", 1.0)))
    for steps in _parametrisations(network):
        steps[0].eval()  # it iterates when it is told to


def _normalised_layers(network: Generator | Discriminator) -> Sequence[nn.Module]:
    if isinstance(network, Generator):
        kinds = (SynthesisLayer, ToRGB, EqualizedLinear)
        return [module for module in network.synthesis.modules() if isinstance(module, kinds)]
    blocks = [block for block in network.blocks if isinstance(block, DiscriminatorBlock)]
    return [conv for block in blocks for conv in (block.conv0, block.conv1)] + [network.conv]


def _parametrised(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if parametrize.is_parametrized(module, "weight"))


def _parametrisations(network: nn.Module) -> Iterator[parametrize.ParametrizationList]:
    """Of each normalised layer: first the power iteration, then the gain; `original` is what is trained."""
    return (module for module in network.modules() if isinstance(module, parametrize.ParametrizationList))


@torch.no_grad()
def iterate(network: nn.Module, times: int = 1) -> None:
    """Bring the estimated norms closer to those of the weights; nothing where the network is not normalised."""
    for steps in _parametrisations(network):
        for _ in range(times):
            steps[0].train()(steps.original)
        steps[0].eval()


def working_tensors(network: nn.Module, names: list[str]) -> list[Tensor]:
    """The tensors that a network works with, normalised where they are, by their plain names."""
    return [attrgetter(name)(network) for name in names]


def plain_copy(network: Network) -> Network:
    """A network of the same function without parametrisations: its state is what files hold."""
    copied = copy.deepcopy(network)
    for module in list(_parametrised(copied)):
        (weight,) = (tensor.detach().clone() for tensor in working_tensors(module, ["weight"]))
        # not by remove_parametrizations: it takes the property off the class, which the network itself shares
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module.weight = nn.Parameter(weight)
    return copied


def take_over(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the state of a plain network, which its normalisation then scales."""
    own = network.state_dict()
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        own[name if name in own else f"{layer}.parametrizations.{last}.original"] = tensor
    network.load_state_dict(own)
    iterate(network, FIRST_ITERATIONS)
