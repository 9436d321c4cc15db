"""Opening any generator that a user may have: our own file, or a foreign checkpoint imported in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generator.discriminator import Discriminator
from generator.files import file_sha256, load_generator_file, read_provenance
from generator.importers import import_checkpoint
from generator.networks import Generator

FOREIGN_STARTS = (b"PK\x03\x04", b"\x80")  # a zip archive, a pickle
FOREIGN_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth"}


@dataclass(frozen=True)
class OpenedGenerator:
    """A generator, frozen and in eval mode, and where it comes from.

    sha256: of the file; discriminator: only where a foreign checkpoint holds one.
    """

    path: Path
    generator: Generator
    provenance: dict[str, Any]
    sha256: str
    discriminator: Discriminator | None = None


def is_foreign(path: str | Path) -> bool:
    """Whether a file is for the importers: by its first bytes, or by its name."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(9)
    # .safetensors: the header's length in 8 bytes, then JSON. The length's first byte may be that of a pickle
    safetensors = start[4:] == b"\0\0\0\0{"
    return (start.startswith(FOREIGN_STARTS) and not safetensors) or path.suffix.lower() in FOREIGN_SUFFIXES


def open_generator(path: str | Path, device: str | torch.device = "cpu") -> OpenedGenerator:
    """Open a generator file or a foreign checkpoint (its averaged generator), executing nothing.

    Raises ValueError, naming the file, for one that is neither or damaged.
    """
    path = Path(path)
    if not is_foreign(path):
        return OpenedGenerator(path, load_generator_file(path, device), read_provenance(path), file_sha256(path))
    imported = import_checkpoint(path)
    sha256 = imported.provenance["original_sha256"]
    return OpenedGenerator(path, imported.generator.to(device), imported.provenance, sha256, imported.discriminator)


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator of a generator file or a foreign checkpoint: frozen, in eval mode. Raises as `open_generator`."""
    return open_generator(path, device).generator
