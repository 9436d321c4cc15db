"""The default method against the paper's 1000 steps, each with its own calibration, on the same images of emoji-a.

    python -m tests.benchmarks.methods --out FOLDER --run NAME="OPTIONS OF calibrate" ... [--jpeg 75] [--time]
        [--markdown FILE] [--figure FILE.svg]

Known images: 32 of emoji-a and 32 real ones, of 32 sources, calibrate; examined are 64 of emoji-a, 64 real ones of
other sources, and 64 of emoji-b, which no calibration knows. --jpeg: all are compressed to that quality first. --time:
search for a batch of them again with each method, which needs an idle machine. Killed, the same command goes on. Every
NAME is compared with the last. For example

    --run default="--encoder emoji-a=generator/models/emoji-a.encoder.safetensors" --run paper="--method paper --full"
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from attribution import load_calibration
from attribution.demo import demo_candidates
from attribution.projector import latent_statistics, project
from attribution.scores import one_per_source
from attribution.settings import settings_of
from attribution.threshold import auc
from generator import LPIPS, load_generator
from generator.allocation import keep_freed_memory
from generator.encoder import load_encoder
from generator.files import write_atomically
from generator.images import encode_png, to_unit
from generator.imagesets import open_image_set
from generator.sampling import derive_seed, sample_images
from tests.benchmarks.trade_off import Point, curve_figure

REALS = Path(__file__).parents[1] / "data" / "emoji-portraits-64.zip"
SPLITS = ("held-out", "held-out-style", "held-out-subject")
TO_CALIBRATE, TO_EXAMINE = 32, 64
DECISION = ("--alpha", "0.1", "--lambda", "1")  # 29 sources are the fewest that this rate can be set with
EXAMINED = "emoji-a"
ANOTHER = "emoji-b"
BATCH, TIMED_STEPS = 16, 60
TIME = "seconds of a search"


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
    encoder = ["--encoder", *options[options.index("--encoder") + 1 :][:1]] if "--encoder" in options else []
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
        row = image["candidates"][0]
        distance = row["lpips"] if row["lpips_expected"] is None else row["lpips_expected"]
        name, verdict = f"{ANOTHER}/{Path(image['path']).name}", image["verdict"]["code"]
        found[name] = Examined(ANOTHER, distance, verdict, row["steps"])
    return found


def seconds_a_step(images: Path, out: Path, encoder: Path | None) -> float:
    """Wall time of a step and image, measured on BATCH images of the other generator."""
    settings = settings_of(load_calibration(out / "calibration.json"), BATCH)
    files = sorted((images / ANOTHER).glob("*.png"))[:BATCH]
    targets = to_unit(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files]))
    G, lpips = load_generator(demo_candidates()[EXAMINED]), LPIPS(settings.lpips)
    config = replace(settings.config, steps=min(settings.config.steps, TIMED_STEPS))
    start = load_encoder(encoder).encoder if encoder else None
    statistics = latent_statistics(G)
    started = time.perf_counter()
    project(G, targets, config=config, lpips=lpips, seeds=range(BATCH), statistics=statistics, encoder=start)
    return (time.perf_counter() - started) / config.steps / BATCH


def tables(methods: dict[str, dict[str, Examined]], seconds: dict[str, float]) -> str:
    """Steps and AUC's, verdicts by truth, and how many verdicts are those of the last method.

    Also how many attribute the image (SUPPORTS) or don't as the last one does, and how many say the opposite. seconds:
    of an image, by method, where they were measured.
    """
    truths = (EXAMINED, "real", ANOTHER)
    header = ["method", "mean steps", "s an image", "AUC A vs real", "AUC A vs B"]
    header += [f"mean distance, {t}" for t in truths]
    header += [*(f"verdicts, {t}" for t in truths), "as the last", "SUPPORTS as the last", "opposite"]
    rows = [header, ["---"] * len(header)]
    last = list(methods.values())[-1]
    for name, found in methods.items():
        if found.keys() != last.keys():
            raise ValueError(f"--run: found {name} with other images than the last, expected the same for all")
        of = {t: np.array([-e.distance for e in found.values() if e.truth == t]) for t in truths}
        verdicts = [Counter(e.verdict for e in found.values() if e.truth == t) for t in truths]
        cells = [", ".join(f"{code} {n}" for code, n in sorted(counts.items())) for counts in verdicts]
        same, attributed, opposite = agreement(found, last)
        steps = np.mean([e.steps for e in found.values()])
        numbers = [f"{auc(of[EXAMINED], of[t]):.4f}" for t in truths[1:]] + [f"{-of[t].mean():.4f}" for t in truths]
        taken = f"{seconds[name]:.2f}" if name in seconds else "–"
        equal = [f"{n} of {len(last)}" for n in (same, attributed)]
        rows.append([name, f"{steps:.1f}", taken, *numbers, *cells, *equal, str(opposite)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def agreement(found: dict[str, Examined], last: dict[str, Examined]) -> tuple[int, int, int]:
    """How many images have the same verdict, are attributed (SUPPORTS) or not alike, and have the opposite verdict."""
    pairs = [{found[key].verdict, last[key].verdict} for key in last]
    attributed = sum(pair == {"SUPPORTS"} or "SUPPORTS" not in pair for pair in pairs)
    return sum(len(pair) == 1 for pair in pairs), attributed, pairs.count({"SUPPORTS", "NOT_SUPPORTED"})


def curve_of(methods: dict[str, dict[str, Examined]], seconds: dict[str, float]) -> list[Point]:
    """Separation, and agreement with the last method, against each one's seconds an image, or else its mean steps."""
    last = list(methods.values())[-1]
    points = []
    for name, found in methods.items():
        of = {t: np.array([-e.distance for e in found.values() if e.truth == t]) for t in (EXAMINED, "real", ANOTHER)}
        aucs = {f"AUC {EXAMINED} vs {t}": auc(of[EXAMINED], of[t]) for t in ("real", ANOTHER)}
        same, attributed, _ = agreement(found, last)
        shares = {"same verdict": same / len(last), "attributed alike": attributed / len(last)}
        cost = seconds[name] if seconds else float(np.mean([e.steps for e in found.values()]))
        points.append(Point(name, cost, aucs, shares))
    return sorted(points, key=lambda point: point.cost)


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=OPTIONS")
    parser.add_argument("--jpeg", type=int)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--figure", type=Path, help="AUC and verdicts against time (--time) or steps, as SVG")
    options = parser.parse_args()
    keep_freed_memory()
    images = options.out / "images"
    if not (images / ANOTHER / f"{TO_EXAMINE - 1:03d}.png").exists():
        write_images(images, options.jpeg)
    methods, seconds = {}, {}
    for name, _, text in (text.partition("=") for text in options.run):
        words, out = shlex.split(text), options.out / name
        run(images, out, words)
        methods[name] = examined(out)
        if options.time:
            encoder = Path(words[words.index("--encoder") + 1].partition("=")[2]) if "--encoder" in words else None
            steps = float(np.mean([e.steps for e in methods[name].values()]))
            seconds[name] = steps * seconds_a_step(images, out, encoder)
    text = tables(methods, seconds)
    print(text)
    if options.markdown:
        write_atomically(options.markdown, (text + "\n").encode())
    if options.figure:
        drawn = curve_figure(curve_of(methods, seconds), TIME if seconds else "steps of a search")
        write_atomically(options.figure, drawn.encode())


if __name__ == "__main__":
    main()
