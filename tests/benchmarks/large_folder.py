"""How soon a run begins to project, and what memory it has taken by then, with few files and with many.

    python -m tests.benchmarks.large_folder [--files 100000] [--batches 3]

Every file is its own small image. Each row is a process of its own, which is stopped after some batches.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from attribution import ProjectionConfig, attribute
from attribution.engine import Events, ProjectionSettings
from generator.images import encode_png
from tests.cases import tiny_generator

BATCH = 8


class _Enough(Exception):
    """The run has shown what it was to show."""


def write_files(folder: Path, count: int) -> None:
    """Different 16x16 images, named by number."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(len(list(folder.iterdir())), count):
        (folder / f"{i:06d}.png").write_bytes(encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8)))


def measure(folder: Path, out: Path, generator: Path, batches: int) -> None:
    """Print seconds to the first step of a search, and MiB of resident memory then and after some batches."""
    begun = time.perf_counter()
    steps = 2
    done, first = 0, ""

    def on_step(images: int) -> None:
        nonlocal done, first
        if not done:
            first = f"{time.perf_counter() - begun:.2f} {_resident():.0f}"
        done += images
        if done > batches * BATCH * steps:
            raise _Enough

    settings = ProjectionSettings(ProjectionConfig(steps=steps), batch_size=BATCH)
    with suppress(_Enough):
        attribute([folder], {"tiny": generator}, out, settings=settings, events=Events(on_step=on_step))
    print(first, f"{_resident():.0f}")


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--measure", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, out, generator = options.measure
        measure(folder, out, generator, options.batches)
        return
    print("| files | seconds to the first step | MiB by then | after the batches |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        generator = tiny_generator(root / "tiny.safetensors", 0)
        for count in (100, options.files):
            write_files(root / "suspects", count)
            command = [sys.executable, "-m", "tests.benchmarks.large_folder", "--batches", str(options.batches)]
            command += ["--measure", str(root / "suspects"), str(root / f"case-{count}"), str(generator)]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            print(f"| {count:,} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
