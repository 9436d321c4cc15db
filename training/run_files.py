"""The files of a training run: checkpoint, log, generator, snapshots and samples."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from generator.files import remove_partial_files, save_discriminator, save_generator, write_atomically
from generator.images import encode_png, image_grid, to_pixels
from training.board import Board
from training.contributions import draw_contributions, resolution_contributions
from training.dataset import TrainingImages
from training.judging import Judging
from training.ledger import ledger
from training.run_log import RunLog
from training.spectral import plain_copy
from training.state import TrainingState, load_checkpoint, save_checkpoint

SAMPLES, TOGETHER = 64, 8  # in the grid, and made at once


class RunFiles:
    """What a run writes into its folder. parent: for the provenance, None where it starts from nothing."""

    def __init__(
        self,
        out: Path,
        state: TrainingState,
        data: TrainingImages,
        parent: dict[str, Any] | None,
        board: Board | None = None,
    ):
        self.out, self.state, self.data, self.parent, self.board = out, state, data, parent, board
        self.checkpoint, self.run_log = out / "checkpoint.pt", RunLog(out / "metrics.jsonl")
        self.checkpointed_step: int | None = None  # the first process alone knows it

    def resume(self) -> bool:
        """Go on from the checkpoint, where there is one, and clear away what was written after it; whether there is.

        Raises ValueError where it was made with other settings or other data.
        """
        found = self.checkpoint.exists()
        if found:
            load_checkpoint(self.state, self.checkpoint, self.data.sha256)
            self.checkpointed_step = self.state.step
        if self.state.workers.first:
            remove_partial_files(self.out)
            remove_partial_files(self.out / "snapshots")
            self.run_log.rewind(self.state.images / 1000)
            if self.board:
                self.board.start(self.state.images)
        return found

    def require_finite(self, figures: dict[str, float]) -> None:
        """Stop a run that has left the numbers. Raises FloatingPointError: the step, and the last good checkpoint."""
        bad = next((f"{name} {value}" for name, value in figures.items() if not math.isfinite(value)), "")
        if bad:
            self._stop(bad)

    def _require_finite_state(self) -> None:
        bad = self.state.not_finite()
        if bad:
            self._stop(f"NaN or infinity in {bad}")

    def _stop(self, found: str) -> None:
        known = "" if self.checkpointed_step is None else f", of step {self.checkpointed_step}"
        last = f"the last good checkpoint is {self.checkpoint}{known}"
        step = f"step {self.state.step} ({self.state.images / 1000:g} kimg)"
        raise FloatingPointError(f"{step}: found {found}, expected finite numbers; {last}")

    def write_checkpoint(self) -> None:
        """Write the whole state, if all of it is finite. Raises FloatingPointError if not, and keeps the last one."""
        self._require_finite_state()
        save_checkpoint(self.state, self.checkpoint, self.data.sha256)
        self.checkpointed_step = self.state.step

    def log(self) -> None:
        """Add one line: the mean of each figure over the steps that had it, since the last line."""
        state = self.state
        names = sorted({name for figures in state.window for name in figures})
        means = {}
        for name in names:
            values = [figures[name] for figures in state.window if name in figures]
            means[name] = round(sum(values) / len(values), 6)
        rate = round(state.images_per_second, 2)
        line = {"kimg": state.images / 1000, "seconds": round(state.seconds, 1), "images_per_second": rate}
        self._add_line(line | means)
        state.window, state.window_seconds = [], 0.0

    def _add_line(self, line: dict[str, Any]) -> None:
        self.run_log.add(line)
        if self.board:
            self.board.add_line(line)

    def write_snapshot(self) -> None:
        """Write the averaged generator, the discriminator, a grid of samples, and what each resolution adds to them.

        Raises as `write_checkpoint`.
        """
        self._require_finite_state()
        state, out = self.state, self.out
        kimg, provenance = state.images // 1000, self._provenance()
        (out / "snapshots").mkdir(exist_ok=True)
        save_generator(state.G_ema, out / "snapshots" / f"{kimg:06d}.safetensors", provenance)
        save_generator(state.G_ema, out / "generator.safetensors", provenance)
        save_discriminator(plain_copy(state.D), out / "generator.safetensors", provenance)
        grid = image_grid(_samples(state), columns=8)
        write_atomically(out / f"samples-{kimg:06d}.png", encode_png(grid))
        if self.board:
            self.board.add_samples(grid, state.images)
        self._add_line({"kimg": state.images / 1000} | resolution_contributions(state.G_ema))
        write_atomically(out / "contributions.svg", draw_contributions(self.run_log.lines).encode())

    def judge(self, judging: Judging) -> None:
        """Log the generator's figures; the best one so far is kept, with its discriminator; raises as a snapshot.

        The files come first: whoever is killed between them and the line judges again, with the same result.
        """
        self._require_finite_state()
        figures = judging.judge(self.state, self.data)
        if judging.is_best(figures, self.run_log):
            best, name = self.out / "best.safetensors", judging.metrics[0]
            provenance = self._provenance() | {"best": {"metric": name, "value": figures[name]}}
            save_discriminator(plain_copy(self.state.D), best, provenance)
            save_generator(self.state.G_ema, best, provenance)
        self._add_line({"kimg": self.state.images / 1000} | figures)

    def _provenance(self) -> dict[str, Any]:
        state = self.state
        provenance = {
            "trained_by": "latentprint train",
            "kimg": state.images / 1000,
            "seconds": round(state.seconds, 1),
            "ledger": ledger(state.images, state.seconds, state.workers.count, state.joules),
            "data_sha256": self.data.sha256,
            "processes": state.workers.count,
            "training": asdict(state.config),
        }
        if self.data.classes:
            provenance["classes"] = list(self.data.classes)
        return provenance | ({"parent": self.parent} if self.parent else {})


@torch.no_grad()
def _samples(state: TrainingState) -> np.ndarray:
    """Images of the averaged generator from the same codes every time; a conditional one's classes in turn."""
    G, device = state.G_ema, state.path_length_mean.device
    z = torch.randn(SAMPLES, G.z_dim, generator=torch.Generator().manual_seed(0)).to(device)
    c = F.one_hot(torch.arange(SAMPLES, device=device) % G.c_dim, G.c_dim).float() if G.c_dim else None
    parts = [slice(first, first + TOGETHER) for first in range(0, SAMPLES, TOGETHER)]
    return np.concatenate([to_pixels(G(z[part], None if c is None else c[part])) for part in parts])
