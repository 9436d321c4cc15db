"""Choose and write the demonstration's suspects: 4 by A, 4 by B, 4 known real, 4 by neither; then nothing is exchanged.

`make calibration` runs this before anything is projected. Every choice follows from SEED alone.
"""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from attribution.demo import DEMO_SUSPECTS, demo_candidates
from generator import load_generator
from generator.files import file_sha256, write_atomically
from generator.images import encode_png
from generator.sampling import derive_seed, sample_images

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/emoji-portraits-64.zip"
NEITHER = ROOT / "tests/data/emoji-a-030kimg.safetensors"
SEED = 2026
EACH = 4
REAL_SPLITS = {"held-out": 2, "held-out-subject": 2}  # in proportion to their sources other than OpenMoji's
SHARE_ALIKE = "openmoji"  # CC-BY-SA: its pixels stay out of the package


def choose_reals() -> list[tuple[str, dict[str, str]]]:
    """(file, row of index.csv) of the real suspects: one seeded image of each seeded source."""
    with zipfile.ZipFile(DATA) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"), encoding="utf-8")))
    rng = np.random.default_rng(SEED)
    chosen = []
    for split, count in REAL_SPLITS.items():
        allowed = [r for r in rows if r["split"] == split and r["artist"] != SHARE_ALIKE]
        sources = rng.permutation(sorted({r["source"] for r in allowed}))[:count]
        for source in sources:
            images = sorted((r for r in allowed if r["source"] == source), key=lambda r: r["file"])
            row = images[int(rng.integers(len(images)))]
            chosen.append((row["file"], row))
    return chosen


def generated(path: Path, purpose: str) -> list[tuple[int, bytes]]:
    """(seed, PNG) of EACH images of a generator."""
    seeds = [derive_seed("demo", purpose, SEED, i) for i in range(EACH)]
    pixels = sample_images(load_generator(path), seeds)
    return [(seed, encode_png(image)) for seed, image in zip(seeds, pixels, strict=True)]


def main() -> None:
    """Write attribution/demo/suspects/*.png in an order that tells nothing, and truth.json."""
    entries: list[tuple[dict, bytes]] = []
    for name, path in [*demo_candidates().items(), ("emoji-a at 30 kimg", NEITHER)]:
        for seed, png in generated(path, name):
            entries.append(({"truth": name, "seed": seed, "generator_sha256": file_sha256(path)}, png))
    with zipfile.ZipFile(DATA) as archive:
        for file, row in choose_reals():
            entries.append(({"truth": "real", "file": file, "source": row["source"]}, archive.read(file)))
    order = np.random.default_rng(SEED + 1).permutation(len(entries))
    DEMO_SUSPECTS.mkdir(parents=True, exist_ok=True)
    for old in DEMO_SUSPECTS.glob("*.png"):
        old.unlink()
    suspects = {}
    for place, index in enumerate(order, 1):
        entry, png = entries[index]
        suspects[f"suspect-{place:02d}.png"] = entry
        write_atomically(DEMO_SUSPECTS / f"suspect-{place:02d}.png", png)
    record = {"seed": SEED, "suspects": suspects}
    write_atomically(DEMO_SUSPECTS.parent / "truth.json", (json.dumps(record, indent=1) + "\n").encode())
    excluded = sorted(e["source"] for e in suspects.values() if e["truth"] == "real")
    print(",".join(excluded))


if __name__ == "__main__":
    main()
