"""The default method against the paper's 1000 steps, each with its own calibration, on the same images of emoji-a.

    python -m tests.benchmarks.methods --out FOLDER --run NAME="OPTIONS OF calibrate" ... [--jpeg 75] [--markdown FILE]

Known images: 32 of emoji-a and 32 real ones, of 32 sources, calibrate; examined are 64 of emoji-a, 64 real ones of
other sources, and 64 of emoji-b, which no calibration knows. --jpeg: all are compressed to that quality first. Killed,
the same command goes on. The first NAME is compared with the last. For example

    --run default="--encoder emoji-a=generator/models/emoji-a.encoder.safetensors" --run paper="--method paper --full"
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from attribution import load_calibration
from attribution.demo import demo_candidates
from attribution.scores import one_per_source
from attribution.threshold import auc
from generator import load_generator
from generator.files import write_atomically
from generator.images import encode_png
from generator.imagesets import open_image_set
from generator.sampling import derive_seed, sample_images

REALS = Path(__file__).parents[1] / "data" / "emoji-portraits-64.zip"
SPLITS = ("held-out", "held-out-style", "held-out-subject")
TO_CALIBRATE, TO_EXAMINE = 32, 64
DECISION = ("--alpha", "0.1", "--lambda", "1")  # 29 sources are the fewest that this rate can be set with
EXAMINED = "emoji-a"
ANOTHER = "emoji-b"


@dataclass(frozen=True)
class Examined:
    """An image that a method has examined: where from, its distance, its verdict, and how many steps that took."""

    truth: str
    distance: float
    verdict: str
    steps: int


def write_images(folder: Path, jpeg: int | None) -> None:
    """The three classes as PNG files, folder/emoji-a, folder/real and folder/emoji-b; jpeg: their quality before."""
    known = TO_CALIBRATE + TO_EXAMINE
    images = {}
    for name, count in ((EXAMINED, known), (ANOTHER, TO_EXAMINE)):
        seeds = [derive_seed("methods", name, i) for i in range(count)]
        images[name] = [encode_png(p) for p in sample_images(load_generator(demo_candidates()[name]), seeds)]
    reals = open_image_set(REALS, SPLITS)
    records = one_per_source(reals.records, 0)
    chosen = np.random.default_rng(0).permutation(len(records))[:known]
    images["real"] = list(reals.read([records[i].name for i in chosen]))
    for name, files in images.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, png in enumerate(files):
            write_atomically(folder / name / f"{i:03d}.png", compressed(png, jpeg) if jpeg else png)


def compressed(png: bytes, quality: int) -> bytes:
    """A PNG of what JPEG leaves of the image."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=quality)
    return encode_png(np.asarray(Image.open(buffer)))


def run(images: Path, out: Path, options: list[str]) -> None:
    """Calibrate with these options, and examine the other generator's images."""
    out.mkdir(parents=True, exist_ok=True)
    calibration, case = out / "calibration.json", out / "case"
    candidate = ["--candidate", f"{EXAMINED}={demo_candidates()[EXAMINED]}"]
    known = ["--real", images / "real", "--generated", f"{EXAMINED}={images / EXAMINED}"]
    share = str(TO_EXAMINE / (TO_CALIBRATE + TO_EXAMINE))
    if not calibration.exists():
        latentprint("calibrate", *candidate, *known, "--validation", share, *DECISION, *options, "--out", calibration)
    encoder = [word for i, word in enumerate(options) if "--encoder" in options[max(0, i - 1) : i + 1]]
    if not (case / "report.json").exists():
        latentprint("attribute", images / ANOTHER, *candidate, *encoder, "--calibration", calibration, "--out", case)


def latentprint(*arguments: object) -> None:
    """Run a command; its error ends this program."""
    subprocess.run([sys.executable, "-m", "cli", *map(str, arguments)], check=True)


def examined(out: Path) -> dict[str, Examined]:
    """What a method found, by image."""
    calibration = load_calibration(out / "calibration.json")
    rule, most = calibration.stopping, int(calibration.projection["steps"])
    found = {}
    validation = calibration.scores["validation"]
    for truth, units in ((EXAMINED, validation.generated[0]), ("real", validation.real)):
        for unit in units:
            place = rule.first_stop(unit.checkpoints) if rule else None
            steps = most if rule is None or place is None else rule.steps[place]
            verdict = calibration.decide(unit.distances).code
            found[f"{truth}/{unit.name}"] = Examined(truth, unit.distances[0], verdict, steps)
    for image in json.loads((out / "case" / "report.json").read_text())["images"]:
        distance, steps = image["candidates"][0]["lpips"], image["stopping"]["steps"]
        found[f"{ANOTHER}/{Path(image['path']).name}"] = Examined(ANOTHER, distance, image["verdict"]["code"], steps)
    return found


def tables(methods: dict[str, dict[str, Examined]]) -> str:
    """Steps and AUC's, verdicts by truth, and how many verdicts are those of the last method."""
    truths = (EXAMINED, "real", ANOTHER)
    header = ["method", "mean steps", "AUC A vs real", "AUC A vs B", *(f"mean distance, {t}" for t in truths)]
    header += [*(f"verdicts, {t}" for t in truths), "as the last"]
    rows = [header, ["---"] * len(header)]
    last = list(methods.values())[-1]
    for name, found in methods.items():
        if found.keys() != last.keys():
            raise ValueError(f"--run: found {name} with other images than the last, expected the same for all")
        of = {t: np.array([-e.distance for e in found.values() if e.truth == t]) for t in truths}
        verdicts = [Counter(e.verdict for e in found.values() if e.truth == t) for t in truths]
        cells = [", ".join(f"{code} {n}" for code, n in sorted(counts.items())) for counts in verdicts]
        same = sum(found[key].verdict == last[key].verdict for key in last)
        steps = np.mean([e.steps for e in found.values()])
        numbers = [f"{auc(of[EXAMINED], of[t]):.4f}" for t in truths[1:]] + [f"{-of[t].mean():.4f}" for t in truths]
        rows.append([name, f"{steps:.1f}", *numbers, *cells, f"{same} of {len(last)}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=OPTIONS")
    parser.add_argument("--jpeg", type=int)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    images = options.out / "images"
    if not (images / ANOTHER / f"{TO_EXAMINE - 1:03d}.png").exists():
        write_images(images, options.jpeg)
    methods = {}
    for name, _, words in (text.partition("=") for text in options.run):
        run(images, options.out / name, shlex.split(words))
        methods[name] = examined(options.out / name)
    text = tables(methods)
    print(text)
    if options.markdown:
        write_atomically(options.markdown, (text + "\n").encode())


if __name__ == "__main__":
    main()
