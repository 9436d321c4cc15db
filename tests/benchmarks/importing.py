"""Time and memory of importing a 1024x1024 configuration F checkpoint: python -m tests.benchmarks.importing."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from generator.files import save_generator
from generator.importers import import_checkpoint
from generator.importers.exporting import export_checkpoint
from generator.networks import CONFIG_F, Generator, build_discriminator


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write(path: Path, with_discriminator: bool) -> None:
    """A rosinality checkpoint of random networks."""
    torch.manual_seed(0)
    D = build_discriminator(CONFIG_F) if with_discriminator else None
    export_checkpoint(Generator(CONFIG_F), path, "rosinality", D)


def measure(path: Path, out: Path) -> None:
    """Import in this process, which has done nothing else, and write the generator file."""
    size, before, started = path.stat().st_size, peak_memory(), time.monotonic()
    imported = import_checkpoint(path)
    read = time.monotonic() - started
    save_generator(imported.generator, out, imported.provenance)
    whole, memory = time.monotonic() - started, (peak_memory() - before) / size
    print(f"{size / 1e6:.0f} MB: read in {read:.1f} s, written after {whole:.1f} s, memory {memory:.1f} x the file")


def main() -> None:
    """Two files, with and without a discriminator; each is written and read in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("generator.pt", "both.pt"):
            for step in ("write", "measure"):
                subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.importing", step, f"{folder}/{name}"], check=True
                )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "write":
        write(Path(sys.argv[2]), with_discriminator=sys.argv[2].endswith("both.pt"))
    else:
        measure(Path(sys.argv[2]), Path(sys.argv[2]).with_suffix(".safetensors"))
