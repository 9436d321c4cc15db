"""What the bundled calibration's stopping rule saves on images that it doesn't know, and which verdicts it changes.

    python -m tests.benchmarks.early_stops --out FOLDER [--images 32] [--markdown FILE]

Examined are fresh images of both bundled generators, and real ones of sources that only validated the calibration,
other images than its own; once under the rule and once with all steps. The time is that of `latentprint attribute`, its
start and the controls among it. Killed, the same command goes on (and times what was left). Five idle minutes.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np

from attribution.calibration import Calibration
from attribution.demo import HERE as DEMO
from attribution.demo import demo_calibration, demo_candidates, demo_encoders
from generator import load_generator
from generator.files import write_atomically
from generator.images import encode_png
from generator.imagesets import open_image_set
from generator.sampling import derive_seed, sample_images
from tests.benchmarks.methods import REALS, SPLITS, latentprint

WAYS = {"the rule": (), "all steps": ("--full",)}


def write_suspects(folder: Path, calibration: Calibration, count: int) -> None:
    """folder/emoji-a, folder/emoji-b and folder/real, `count` images each."""
    for name, path in demo_candidates().items():
        seeds = [derive_seed("early stops", name, i) for i in range(count)]
        _write(folder / name, [encode_png(pixels) for pixels in sample_images(load_generator(path), seeds)])
    known = {unit.name for part in calibration.scores.values() for unit in part.real}
    validated = {unit.source for unit in calibration.scores["validation"].real}
    reals = open_image_set(REALS, SPLITS)
    names = sorted(r.name for r in reals.records if r.source in validated and r.name not in known)
    chosen = np.random.default_rng(0).choice(names, count, replace=False)
    _write(folder / "real", list(reals.read([str(name) for name in chosen])))


def _write(folder: Path, files: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(files):
        write_atomically(folder / f"{i:03d}.png", data)


def examine(images: Path, case: Path, options: tuple[str, ...]) -> float:
    """Seconds that attributing the images took."""
    given = [("--candidate", f"{name}={path}") for name, path in demo_candidates().items()]
    given += [("--encoder", f"{name}={path}") for name, path in demo_encoders().items()]
    started = time.perf_counter()
    latentprint("attribute", images, *sum(given, ()), "--calibration", DEMO / "calibration.json", "--batch-size", 16,
                "--out", case, *options)  # fmt: skip
    return time.perf_counter() - started


def found_in(case: Path) -> dict[str, tuple[str, str, float]]:
    """Truth, code and candidate, and steps of each image, by its path."""
    found = {}
    for image in json.loads((case / "report.json").read_text())["images"]:
        verdict, path = image["verdict"], Path(image["path"])
        code = f"{verdict['code']} {verdict['candidate'] or ''}".strip()
        steps = float(np.mean([row["steps"] for row in image["candidates"]]))
        found[f"{path.parent.name}/{path.name}"] = path.parent.name, code, steps
    return found


def table(ways: dict[str, dict[str, tuple[str, str, float]]], seconds: dict[str, float]) -> str:
    """Steps, time and verdicts of each way; the last is what the others are compared with."""
    *_, last = ways.values()
    truths = sorted({truth for truth, _, _ in last.values()})
    rows = [["searches", "mean steps", "s an image", *(f"verdicts, {t}" for t in truths), "as with all steps"]]
    rows.append(["---"] * len(rows[0]))
    for name, found in ways.items():
        counts = [Counter(code for truth, code, _ in found.values() if truth == t) for t in truths]
        cells = [", ".join(f"{code} {n}" for code, n in sorted(c.items())) for c in counts]
        steps = np.mean([taken for _, _, taken in found.values()])
        same = sum(found[key][1] == last[key][1] for key in last)
        rows.append([name, f"{steps:.1f}", f"{seconds[name] / len(found):.2f}", *cells, f"{same} of {len(last)}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Examine, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    images = options.out / "images"
    if not (images / "real" / f"{options.images - 1:03d}.png").exists():  # the last one to be written
        write_suspects(images, demo_calibration(), options.images)
    seconds = {name: examine(images, options.out / name.replace(" ", "-"), more) for name, more in WAYS.items()}
    text = table({name: found_in(options.out / name.replace(" ", "-")) for name in WAYS}, seconds)
    print(text)
    if options.markdown:
        write_atomically(options.markdown, (text + "\n").encode())


if __name__ == "__main__":
    main()
