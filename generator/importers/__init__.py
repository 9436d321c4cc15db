"""Foreign checkpoints, opened without executing anything in them.

A file's container is read as data (`containers`, `inert_pickle`), one module per format says what its tensors mean, and
our own network is built and filled strictly: every tensor accounted for by name and shape.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from generator.discriminator import Discriminator
from generator.files import WithoutMemory, file_sha256
from generator.importers import ada_pytorch, genforce, mmgeneration, rosinality, tensorflow
from generator.importers.containers import Container, map_file, open_container
from generator.importers.foreign import ForeignCheckpoint, ForeignDiscriminator, ForeignGenerator
from generator.importers.matching import check, convert
from generator.importers.meanings import meaning_of, unknown_network
from generator.importers.pickled import Global
from generator.importers.tables import tensor_table
from generator.networks import Generator, GeneratorConfig

FORMATS: tuple[ModuleType, ...] = (tensorflow, ada_pytorch, rosinality, genforce, mmgeneration)
AVERAGED_CODES = 10_000
SEED = 0


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A foreign checkpoint as our networks: frozen, in eval mode. provenance: for the generator file."""

    format: str
    generator: Generator
    discriminator: Discriminator | None
    provenance: dict[str, Any]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file: name, type of its numbers, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GlobalUse:
    """Something that a pickle names: how often, whether checkpoints of these formats name it, and what it means."""

    module: str
    name: str
    count: int
    known: bool
    meaning: str


@dataclass(frozen=True)
class Inspection:
    """What is in a file, whether it can be imported or not; problem: the sentence that says why not."""

    path: str
    sha256: str
    size: int
    container: str | None
    format: str | None
    config: dict[str, Any] | None
    problem: str | None
    notes: tuple[str, ...]
    tensors: tuple[TensorInfo, ...]
    globals: tuple[GlobalUse, ...]


def import_checkpoint(path: str | Path, which: str = "ema", channel_order: str = "rgb") -> ImportedCheckpoint:
    """Build our networks from a foreign checkpoint, executing nothing in it.

    which: "ema", the averaged generator, or "raw"; channel_order: "bgr" for MMGeneration networks that make BGR images.
    Raises ValueError, naming the file, for a file that is none, or of a network that can't be built, or not exactly.
    """
    path = Path(path)
    _check_options(which, channel_order)
    try:
        container = open_container(map_file(path))
        checkpoint = _read(container, which, channel_order)
        G, made = _build_generator(checkpoint.generator)
        D, notes = _build_discriminator(checkpoint)
    except (ValueError, RecursionError) as error:
        raise _named(path, error) from error
    provenance = {
        "original_sha256": file_sha256(path),
        "imported_format": checkpoint.format,
        "imported_which": which,
        "imported_settings": checkpoint.settings,
        "imported_notes": [*container.notes, *checkpoint.notes, *made, *notes],
    }
    return ImportedCheckpoint(checkpoint.format, G.eval().requires_grad_(False), D, provenance)


def inspect_checkpoint(path: str | Path, which: str = "ema", channel_order: str = "rgb") -> Inspection:
    """What a checkpoint holds, importing nothing. Raises ValueError for a file that can't be read at all."""
    path = Path(path)
    _check_options(which, channel_order)
    data = map_file(path)
    container, checkpoint, problem = None, None, None
    tensors: list[TensorInfo] = []
    try:
        container = open_container(data)
        tensors = [TensorInfo(name, t.type_name, t.shape) for name, t in tensor_table(container)]
        checkpoint = _read(container, which, channel_order)
        _check_generator(checkpoint.generator)
    except (ValueError, RecursionError) as error:
        problem = str(_named(path, error))
    return Inspection(
        path=str(path),
        sha256=file_sha256(path),
        size=len(data),
        container=container.kind if container else None,
        format=checkpoint.format if checkpoint else None,
        config=asdict(checkpoint.generator.config) if checkpoint else None,
        problem=problem,
        notes=(*(container.notes if container else ()), *(checkpoint.notes if checkpoint else ())),
        tensors=tuple(tensors),
        globals=_uses(container.globals if container else Counter()),
    )


def _check_options(which: str, channel_order: str) -> None:
    if which not in ("ema", "raw"):
        raise ValueError(f"--which: found {which!r}, expected ema or raw")
    if channel_order not in ("rgb", "bgr"):
        raise ValueError(f"--channel-order: found {channel_order!r}, expected rgb or bgr")


def _named(path: Path, error: Exception) -> ValueError:
    if isinstance(error, RecursionError):
        return ValueError(f"{path}: found values too deep in one another, expected a checkpoint")
    text = str(error)
    return ValueError(text if text.startswith(f"{path}: ") else f"{path}: {text}")


def _uses(globals_: Counter[Global]) -> tuple[GlobalUse, ...]:
    uses = []
    for named, count in globals_.items():
        known, meaning = meaning_of(named)
        uses.append(GlobalUse(named.module, named.name, count, known, meaning))
    return tuple(sorted(uses, key=lambda use: (use.known, use.module, use.name)))


def _read(container: Container, which: str, channel_order: str) -> ForeignCheckpoint:
    for module in FORMATS:
        if module.recognises(container):
            return module.read(container, which, channel_order)
    raise ValueError(unknown_network(container))


# ---------------------------------------------------------------- building


def _empty_generator(config: GeneratorConfig) -> Generator:
    with WithoutMemory():
        return Generator(config)


def _check_generator(foreign: ForeignGenerator) -> None:
    """Raise ValueError where names, shapes or filters don't fit."""
    check(foreign.tensors, foreign.rules, _empty_generator(foreign.config), foreign.filters)


def _build_generator(foreign: ForeignGenerator) -> tuple[Generator, list[str]]:
    """The network, and what had to be made because the file lacks it, in sentences."""
    G = _empty_generator(foreign.config)
    tensors = convert(foreign.tensors, foreign.rules, G, foreign.filters)
    notes = []
    rng = torch.Generator().manual_seed(SEED)
    maps = [name for name, _ in G.state_dict().items() if name in foreign.lacking and name.endswith("noise_const")]
    for name in maps:
        tensors[name] = torch.randn(G.state_dict()[name].shape, generator=rng)
    if maps:
        notes.append(f"the file has no noise maps: they were drawn with seed {SEED}")
    if "mapping.w_avg" in foreign.lacking:
        tensors["mapping.w_avg"] = torch.zeros(G.w_dim)
    G.load_state_dict(tensors, assign=True)
    if "mapping.w_avg" in foreign.lacking:
        G.mapping.w_avg.copy_(_mean_w(G))
        notes.append(f"the file has no mean of w: it was taken over {AVERAGED_CODES:,} latent codes of seed {SEED}")
    return G, notes


@torch.no_grad()
def _mean_w(G: Generator) -> torch.Tensor:
    z = torch.randn(AVERAGED_CODES, G.z_dim, generator=torch.Generator().manual_seed(SEED))
    return torch.stack([G.mapping.map(codes).mean(0) for codes in z.split(AVERAGED_CODES // 10)]).mean(0)


def _build_discriminator(checkpoint: ForeignCheckpoint) -> tuple[Discriminator | None, list[str]]:
    """The discriminator, or why it was left out; a generator doesn't need it."""
    if checkpoint.discriminator is None:
        return None, []
    try:
        return _fill_discriminator(checkpoint.discriminator, checkpoint.generator.config), []
    except ValueError as error:
        return None, [f"the discriminator was left out: {error}"]


def _fill_discriminator(foreign: ForeignDiscriminator, config: GeneratorConfig) -> Discriminator:
    with WithoutMemory():
        D = Discriminator(
            config.resolution,
            config.channels,
            c_dim=config.c_dim,
            mapping_layers=foreign.label_layers,
            mbstd_group_size=foreign.group_size,
            clamp=foreign.clamp,
        )
    tensors = convert(foreign.tensors, foreign.rules, D, foreign.filters)
    if config.c_dim:
        tensors["label_mapping.w_avg"] = torch.zeros(config.channels[4])  # of no use in a discriminator
    D.load_state_dict(tensors, assign=True)
    return D.eval().requires_grad_(False)
