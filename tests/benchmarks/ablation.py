"""What adaptive augmentation, lazy regularisation and the path length penalty do, on the emoji portraits at 32x32.

    python -m tests.benchmarks.ablation --kimg 200 --out FOLDER [--markdown FILE] [--processes 2]

Five trainings of one small network, which differ in what the table names and in nothing else. The same command goes on
with a killed one and skips what is finished. Figures: 2,337 samples (as many as training images) against the whole
training split, whatever part of it a generator was trained on; PPL of 512. One thread for each process; throughput is
the median of the log's lines.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generator.files import write_atomically
from generator.imagesets import ImageSet, open_image_set
from generator.loading import load_generator
from training.config import TrainingConfig
from training.dataset import load_training_images
from training.loop import Progress, train
from training.metrics import evaluate_generator
from training.packing import PackingSettings, pack
from training.presets import PRESETS

PORTRAITS = Path(__file__).parents[1] / "data" / "emoji-portraits-64.zip"
RESOLUTION = 32
SHARE = 0.1  # of the training split's sources
METRICS = ("kd_vgg16", "fd_vgg16")
PPL_SAMPLES = 512

_SMALL = PRESETS["small-64"]
_NETWORK = replace(_SMALL.network, resolution=RESOLUTION, channel_base=1024, channel_max=64)
# ada_kimg: p can rise five times as fast as in the paper, whose runs are a hundred times as long
DEFAULT = replace(_SMALL, network=_NETWORK, x_flip=True, ada_kimg=100)
WITHOUT_ADA: dict[str, Any] = {"augment": ()}

# name: what the table calls it, whether a part of the sources is all it sees, settings that differ from DEFAULT
RUNS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "ada": ("10 % of the sources, ADA on", True, {}),
    "no-ada": ("10 % of the sources, ADA off", True, WITHOUT_ADA),
    "default": ("all sources, default (R1 every 16, path length every 4 steps)", False, {}),
    "every-step": ("all sources, both at every step", False, {"r1_interval": 1, "path_length_interval": 1}),
    "no-path-length": ("all sources, no path length penalty", False, {"path_length": 0}),
}


def settings_of(name: str, kimg: float, seed: int) -> TrainingConfig:
    """The configuration of a run."""
    return replace(DEFAULT, kimg=kimg, seed=seed, snapshot_kimg=kimg, **RUNS[name][2])


def some_sources(images: ImageSet, share: float, seed: int) -> ImageSet:
    """The images of a seeded part of a set's sources, at least one."""
    sources = sorted({record.source for record in images.records})
    chosen = np.random.default_rng([seed, 10]).permutation(sources)[: max(round(share * len(sources)), 1)]
    return replace(images, records=tuple(r for r in images.records if r.source in set(chosen)))


def drift(lines: list[dict[str, float]], kimg: float) -> tuple[float, float]:
    """Mean r_t of the first and of the last tenth of a run; of the first and the last line where a tenth has none."""
    first = [line["r_t"] for line in lines if line["kimg"] <= 0.1 * kimg] or [lines[0]["r_t"]]
    last = [line["r_t"] for line in lines if line["kimg"] > 0.9 * kimg] or [lines[-1]["r_t"]]
    return float(np.mean(first)), float(np.mean(last))


def run(name: str, packed: Path, out: Path, kimg: float, seed: int) -> dict[str, Any]:
    """Train and judge one run, or read what it found before."""
    config, result = settings_of(name, kimg, seed), out / name / "result.json"
    settings = json.loads(json.dumps(asdict(config)))
    if result.exists() and (found := json.loads(result.read_text(encoding="utf-8")))["settings"] == settings:
        return found
    torch.set_num_threads(1)
    images = open_image_set(packed)
    all_images = load_training_images(images, RESOLUTION)
    seen = load_training_images(some_sources(images, SHARE, seed), RESOLUTION) if RUNS[name][1] else all_images
    generator = train(config, seen, out / name, on_progress=lambda progress: _tell(name, progress))
    G = load_generator(generator)
    figures = evaluate_generator(G, all_images.pixels, METRICS, len(all_images), seed, cache=out / "features")
    figures |= evaluate_generator(G, all_images.pixels, ("ppl",), PPL_SAMPLES, seed)
    text = (out / name / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if "r_t" in line]
    first, last = drift(lines, kimg)
    found = {
        "settings": settings,
        "images": len(seen),
        "images_per_second": float(np.median([line["images_per_second"] for line in lines])),
        "r_t_first": first,
        "r_t_last": last,
        "p": lines[-1].get("p", 0.0),
        **figures,
    }
    write_atomically(result, (json.dumps(found, indent=1) + "\n").encode())
    return found


def _tell(name: str, progress: Progress) -> None:
    done = f"{progress.images / 1000:.1f} of {progress.total / 1000:g} kimg"
    print(f"{name}: {done}, {progress.images_per_second:.1f} img/s", file=sys.stderr, flush=True)


def table(found: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    head = ["run", "images", "img/s", "KD-VGG16", "FD-VGG16", "PPL", "r_t, first 10 %", "r_t, last 10 %", "last p"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, (label, _, _) in RUNS.items():
        r = found[name]
        numbers = [str(r["images"]), f"{r['images_per_second']:.1f}", f"{r['kd_vgg16']:.4g}", f"{r['fd_vgg16']:.4g}"]
        rows.append([label, *numbers, f"{r['ppl']:.1f}", *(f"{r[k]:.2f}" for k in ("r_t_first", "r_t_last", "p"))])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Make the data where it is not there, train what is not finished, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kimg", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    packed = options.out / f"portraits-{RESOLUTION}.zip"
    if not packed.exists():
        pack(open_image_set(PORTRAITS, ("train",)), packed, PackingSettings(RESOLUTION))
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that start now
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = {pool.submit(run, n, packed, options.out, options.kimg, options.seed): n for n in RUNS}
        found = {runs[done]: done.result() for done in as_completed(runs)}
    command = f"python -m tests.benchmarks.ablation --kimg {options.kimg:g} --processes {options.processes}"
    text = f"`{command} --seed {options.seed}`\n\n{table(found)}"
    print(text)
    if options.markdown:
        write_atomically(options.markdown, text.encode())


if __name__ == "__main__":
    main()
