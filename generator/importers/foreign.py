"""What a format's reader finds in a checkpoint, before any network is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from generator.importers.containers import Container
from generator.importers.matching import Rule
from generator.importers.records import entries_of
from generator.importers.stored_tensors import StoredTensor
from generator.networks import GeneratorConfig


@dataclass(frozen=True)
class ForeignGenerator:
    """A generator's settings and tensors. filters: sums of resampling filters; lacking: what it has not."""

    config: GeneratorConfig
    tensors: dict[str, StoredTensor]
    rules: Sequence[Rule]
    filters: Mapping[str, float] = field(default_factory=dict)
    lacking: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ForeignDiscriminator:
    """A discriminator's settings and tensors; label_layers: depth of its label mapping, where it is conditional."""

    tensors: dict[str, StoredTensor]
    rules: Sequence[Rule]
    filters: Mapping[str, float] = field(default_factory=dict)
    group_size: int = 4
    clamp: float | None = None
    label_layers: int = 0


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A checkpoint of a known format. settings: as the file records them; notes: sentences for the user."""

    format: str
    generator: ForeignGenerator
    discriminator: ForeignDiscriminator | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


LONE_NOTE = "the file holds one generator and does not say whether it is the averaged one"


def state_dicts(container: Container, mark: str, averaged: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The state dicts of a torch file by name, and a note where it is nothing but one of them.

    mark: a tensor that only these generators have; averaged: what such a lone one is taken for.
    """
    entries = entries_of(container.value)
    return ({averaged: container.value}, (LONE_NOTE,)) if mark in entries else (entries, ())


def asked_for(entries: Mapping[str, Any], networks: Mapping[str, str], which: str) -> Any:
    """The network that --which asks for. Raises ValueError where the file lacks it."""
    if networks[which] not in entries:
        raise ValueError(f"found no {networks[which]}, expected the network that --which {which} asks for")
    return entries[networks[which]]


def only_rgb(channel_order: str, format_name: str) -> None:
    """Raise ValueError for another channel order than RGB, of a format that has no other."""
    if channel_order != "rgb":
        raise ValueError(f"--channel-order: found {channel_order} for a {format_name} checkpoint, expected rgb")
