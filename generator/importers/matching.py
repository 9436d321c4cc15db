"""Foreign tensors into our networks: every one accounted for by name and shape, in both directions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cuda_ops import setup_filter
from generator.importers.pickled import described
from generator.importers.stored_tensors import StoredTensor
from generator.layers import RESAMPLING_TAPS

MOST_NAMED = 5  # names in one sentence
MOST_LAYERS = 256
LARGEST_RESOLUTION = 1024
FILTER_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Conversion:
    """How a tensor is stored there and here; each function undoes the other."""

    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]


SAME = Conversion(lambda t: t, lambda t: t)
TRANSPOSED = Conversion(lambda t: t.t(), lambda t: t.t())
BATCHED = Conversion(lambda t: t[0], lambda t: t[None])  # [1, ...] <-> [...]
NOISE_MAP = Conversion(lambda t: t[0, 0], lambda t: t[None, None])  # [1, 1, r, r] <-> [r, r]
ONE_NUMBER = Conversion(lambda t: t[0], lambda t: t[None])  # [1] <-> []
IMAGE_BIAS = Conversion(lambda t: t[0, :, 0, 0], lambda t: t[None, :, None, None])  # [1, 3, 1, 1] <-> [3]
FLIPPED = Conversion(lambda t: t.flip(2, 3), lambda t: t.flip(2, 3))
FROM_ZERO = Conversion(lambda t: t + 1, lambda t: t - 1)  # a style bias stored without its 1
HWIO = Conversion(lambda t: t.permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0))
HWIO_FLIPPED = Conversion(lambda t: t.flip(0, 1).permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0).flip(0, 1))


@dataclass(frozen=True)
class Rule:
    """One tensor: its name in our network and in the foreign one."""

    ours: str
    theirs: str
    conversion: Conversion = SAME


def check(
    found: dict[str, StoredTensor], rules: Iterable[Rule], network: nn.Module, filters: Mapping[str, float]
) -> dict[str, Rule]:
    """The rules by foreign name, where every tensor is accounted for. filters: names and sums of resampling filters.

    Raises ValueError that names tensors that are missing, unexpected or misshapen, and filters other than (1, 3, 3, 1).
    """
    by_name = {rule.theirs: rule for rule in rules}
    _refuse("missing tensors", sorted(by_name.keys() - found.keys()))
    _refuse("unexpected tensors", sorted(found.keys() - by_name.keys() - set(filters)))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    misshapen = []
    for name, rule in by_name.items():
        expected = tuple(rule.conversion.to_theirs(torch.zeros(()).expand(shapes[rule.ours])).shape)
        if found[name].shape != expected:
            misshapen.append(f"{name[:80]} {list(found[name].shape)} instead of {list(expected)}")
    _refuse("tensors of other shapes", misshapen)
    unusual = sorted(name for name, gain in filters.items() if name in found and not _usual(found[name], gain))
    _refuse("other resampling filters than (1, 3, 3, 1), or of another gain", unusual)
    return by_name


def convert(
    found: dict[str, StoredTensor], rules: Iterable[Rule], network: nn.Module, filters: Mapping[str, float]
) -> dict[str, Tensor]:
    """Our network's tensors in float32 from foreign ones, every one accounted for.

    Raises ValueError as `check` does, and for numbers that are not finite.
    """
    by_name = check(found, rules, network, filters)
    converted: dict[str, Tensor] = {}
    for name, rule in by_name.items():
        tensor = found[name].read()
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} holds numbers that are not finite, expected only finite ones")
        converted[rule.ours] = rule.conversion.to_ours(tensor).contiguous()
    return converted


def _refuse(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        listed = ", ".join(described(name) for name in names[:MOST_NAMED])
        raise ValueError(f"found {what}: {listed}{more}, expected exactly the network's own")


def _usual(kernel: StoredTensor, gain: float) -> bool:
    """Whether a stored filter is the bilinear one, with this sum."""
    taps = setup_filter(RESAMPLING_TAPS)
    expected = torch.outer(taps, taps) * gain
    if sum(size > 1 for size in kernel.shape) != 2 or kernel.shape[-2:] != expected.shape:
        return False
    return bool((kernel.read().reshape(expected.shape) - expected).abs().max() < FILTER_TOLERANCE)


def feature_map_rule(channels: dict[int, int]) -> dict[str, int]:
    """channel_base and channel_max of min(channel_base / r, channel_max) that give these channels by resolution.

    Raises ValueError where no such rule does.
    """
    if max(channels) > LARGEST_RESOLUTION:
        raise ValueError(
            f"found a network of {len(channels)} resolutions, expected at most {LARGEST_RESOLUTION} pixels"
        )
    base, most = max(r * n for r, n in channels.items()), max(channels.values())
    if any(n != min(base // r, most) for r, n in channels.items()):
        raise ValueError(
            f"found {channels} channels by resolution, expected min(channel_base / resolution, channel_max)"
        )
    return {"channel_base": base, "channel_max": most}


def shape_of(found: dict[str, StoredTensor], name: str, dimensions: int) -> tuple[int, ...]:
    """A tensor's shape. Raises ValueError where it is missing or has another number of dimensions."""
    if name not in found:
        raise ValueError(f"tensor {name} is missing")
    shape = found[name].shape
    if len(shape) != dimensions:
        raise ValueError(f"tensor {name} has shape {list(shape)}, expected {dimensions} dimensions")
    return shape


def count(found: dict[str, StoredTensor], name: str, first: int = 0) -> int:
    """How many of name.format(first), name.format(first + 1), ... follow one another without a gap."""
    number = first
    while name.format(number) in found:
        number += 1
        if number > MOST_LAYERS:
            raise ValueError(f"found more than {MOST_LAYERS} layers named {name}, expected fewer")
    return number - first
