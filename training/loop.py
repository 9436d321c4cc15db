"""The training loop: step, log, snapshot, checkpoint; the same call again resumes."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from generator.files import save_discriminator, save_generator, write_atomically
from generator.images import encode_png, image_grid, to_pixels
from generator.loading import OpenedGenerator, open_generator
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.state import TrainingState, load_checkpoint, save_checkpoint
from training.step import train_step
from training.transfer import start_from

CHECKPOINT_SECONDS = 180
LOG_STEPS = 64
SAMPLES = 64


@dataclass(frozen=True)
class Progress:
    """What the loop reports after each step."""

    images: int
    total: int
    images_per_second: float
    figures: dict[str, float]


def train(
    config: TrainingConfig,
    data: TrainingImages,
    out: Path,
    device: str = "cpu",
    init: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train until config.kimg thousand real images were shown; return the path of the generator file.

    Writes OUT/checkpoint.pt (about every three minutes and at the end), OUT/metrics.jsonl, and, every snapshot_kimg and
    at the end, OUT/generator.safetensors with its discriminator, OUT/samples-<kimg>.png and
    OUT/snapshots/<kimg>.safetensors. init: generator file to start from. Raises ValueError where OUT holds a run with
    other settings or data, or init a network of another configuration.
    """
    opened = open_generator(init) if init else None
    parent = _parent_record(opened) if opened else None
    if parent:
        config = replace(config, parent_sha256=parent["sha256"])
    out.mkdir(parents=True, exist_ok=True)
    state = TrainingState(config, device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        load_checkpoint(state, checkpoint, data.sha256)
        _drop_metrics_after(out / "metrics.jsonl", state.images / 1000)
    elif opened:
        start_from(state, opened)
    total = int(config.kimg * 1000)
    logged = checkpointed = time.monotonic()
    window: list[dict[str, float]] = []
    while state.images < total:
        before = state.images
        window.append(train_step(state, data))
        now = time.monotonic()
        finished = state.images >= total
        if len(window) == LOG_STEPS or finished:
            rate = len(window) * config.batch / (now - logged)
            state.seconds += now - logged
            logged = now
            _append_metrics(out / "metrics.jsonl", state, window, rate)
            on_progress(Progress(state.images, total, rate, window[-1]))
            window = []
        if _crossed(before, state.images, config.snapshot_kimg * 1000) or finished:
            write_snapshot(state, out, data.sha256, parent)
        if now - checkpointed > CHECKPOINT_SECONDS or finished:
            save_checkpoint(state, checkpoint, data.sha256)
            checkpointed = time.monotonic()
    return out / "generator.safetensors"


def _crossed(before: int, after: int, interval: float) -> bool:
    return before // interval != after // interval


def _drop_metrics_after(path: Path, kimg: float) -> None:
    """Forget what was logged after the checkpoint: it will be logged again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["kimg"] <= kimg]
        write_atomically(path, "".join(kept).encode())


def _append_metrics(path: Path, state: TrainingState, window: list[dict[str, float]], rate: float) -> None:
    """Add one line: the mean of each figure over the steps that had it."""
    names = sorted({name for figures in window for name in figures})
    means = {}
    for name in names:
        values = [figures[name] for figures in window if name in figures]
        means[name] = round(sum(values) / len(values), 6)
    line = {"kimg": state.images / 1000, "seconds": round(state.seconds, 1), "images_per_second": round(rate, 2)}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line | means) + "\n")


def _parent_record(opened: OpenedGenerator) -> dict[str, Any]:
    """What the provenance says of the generator that a run starts from: its hash, and what had been trained by then."""
    made = opened.provenance
    before = made.get("parent", {})
    return {"sha256": opened.sha256} | {name: made.get(name, 0) + before.get(name, 0) for name in ("kimg", "seconds")}


def write_snapshot(state: TrainingState, out: Path, data_sha256: str, parent: dict[str, Any] | None = None) -> None:
    """Write the averaged generator, the discriminator and a grid of samples. parent: for the provenance, if any."""
    kimg = state.images // 1000
    provenance = {
        "trained_by": "latentprint train",
        "kimg": state.images / 1000,
        "seconds": round(state.seconds, 1),
        "data_sha256": data_sha256,
        "training": asdict(state.config),
    } | ({"parent": parent} if parent else {})
    (out / "snapshots").mkdir(exist_ok=True)
    save_generator(state.G_ema, out / "snapshots" / f"{kimg:06d}.safetensors", provenance)
    save_generator(state.G_ema, out / "generator.safetensors", provenance)
    save_discriminator(state.D, out / "generator.safetensors", provenance)
    z = torch.randn(SAMPLES, state.G_ema.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pixels = to_pixels(state.G_ema(z.to(state.path_length_mean.device)))
    grid = image_grid(pixels, columns=8)
    write_atomically(out / f"samples-{kimg:06d}.png", encode_png(grid))
