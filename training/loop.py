"""The training loop: step, log, snapshot, checkpoint; the same call again resumes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generator.loading import OpenedGenerator, open_generator
from training.board import Board
from training.config import TrainingConfig
from training.dataset import TrainingImages
from training.judging import Judging
from training.ledger import EnergyMeter, gpus_of_run
from training.run_files import RunFiles
from training.state import TrainingState
from training.step import train_step
from training.transfer import start_from
from training.workers import Workers

CHECKPOINT_SECONDS: float = 180
LOG_STEPS, LOG_IMAGES = 64, 1000  # between two lines of the log, whichever comes first


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
    init: Path | OpenedGenerator | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    workers: Workers | None = None,
    judging: Judging | None = None,
    board: Board | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train until config.kimg thousand real images were shown; return the path of the generator file.

    Writes OUT/checkpoint.pt (before the first step, about every three minutes, and at the end), OUT/metrics.jsonl, and,
    every snapshot_kimg and at the end, OUT/generator.safetensors with its discriminator, OUT/samples-<kimg>.png and
    OUT/snapshots/<kimg>.safetensors. init: generator to start from. workers: this process's place among several; the
    first one writes and reports. judging: adds figures to OUT/metrics.jsonl and keeps OUT/best.safetensors. board: gets
    the log's lines and the samples, too; the caller closes it. stop: asked after each step; if it says so, a checkpoint
    is written and KeyboardInterrupt raised (for one process: several would wait for each other). Raises ValueError
    where OUT holds a run with other settings or data, or init a network of another configuration; FloatingPointError,
    which names the step and the last good checkpoint, where a loss or weight is no longer finite: nothing that was
    written holds such numbers.
    """
    if config.freeze_d and not init:
        raise ValueError(f"--freeze-d: found {config.freeze_d} without --init, expected a model to start from")
    opened = open_generator(init) if isinstance(init, Path) else init
    parent = _parent_record(opened) if opened else None
    if parent:
        config = replace(config, parent_sha256=parent["sha256"])
    state = TrainingState(config, device, workers)
    out.mkdir(parents=True, exist_ok=True)
    files = RunFiles(out, state, data, parent, board)
    resumed = files.resume()
    if opened and not resumed:
        start_from(state, opened)
    state.workers.require_same_step(state.step, state.path_length_mean.device)
    if not resumed and state.workers.first:  # now that every process has looked for one
        files.write_checkpoint()  # from here on the folder is this run's
    total = int(config.kimg * 1000)
    meter = EnergyMeter(gpus_of_run(device))
    checked = checkpointed = time.monotonic()
    while state.images < total:
        before, started = state.images, time.monotonic()
        figures = train_step(state, data)
        files.require_finite(figures)
        if not state.workers.first:
            continue
        now = time.monotonic()
        state.use(now - checked, meter.read())
        checked = now
        state.window.append(figures)
        state.window_seconds += now - started
        finished = state.images >= total
        rate = state.images_per_second
        if len(state.window) >= min(LOG_STEPS, max(LOG_IMAGES // config.batch, 1)) or finished:
            files.log()
        on_progress(Progress(state.images, total, rate, figures))
        if _crossed(before, state.images, config.snapshot_kimg * 1000) or finished:
            files.write_snapshot()
        if judging and (_crossed(before, state.images, judging.kimg * 1000) or finished):
            files.judge(judging)
        stopping = not finished and stop()
        if now - checkpointed > CHECKPOINT_SECONDS or finished or stopping:
            files.write_checkpoint()
            checkpointed = time.monotonic()
        if stopping:
            raise KeyboardInterrupt
    state.workers.wait()
    return out / "generator.safetensors"


def _crossed(before: int, after: int, interval: float) -> bool:
    return before // interval != after // interval


def _parent_record(opened: OpenedGenerator) -> dict[str, Any]:
    """What the provenance says of the generator that a run starts from: its hash, and what had been trained by then."""
    made = opened.provenance
    before = made.get("parent", {})
    return {"sha256": opened.sha256} | {name: made.get(name, 0) + before.get(name, 0) for name in ("kimg", "seconds")}
