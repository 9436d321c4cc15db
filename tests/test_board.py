"""What TensorBoard shows of a run, read back with its own reader."""

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.test_judging import CONFIG, DATA
from training import loop
from training.board import Board
from training.config import TrainingConfig
from training.loop import Progress, train


class Killed(Exception):
    pass


def run(out: Path, config: TrainingConfig = CONFIG, until: int = 10**9) -> None:
    def stop(progress: Progress) -> None:
        if progress.images >= until:
            raise Killed

    with closing(Board(out / "tensorboard")) as board:
        train(config, DATA, out, on_progress=stop, board=board)


def shown(out: Path) -> EventAccumulator:
    return EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_it_shows_the_lines_of_the_log_and_the_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 2)
    run(tmp_path)
    events = shown(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss_d", "contribution_8"):
        logged = [(round(line["kimg"] * 1000), line[name]) for line in lines if name in line]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert len(found) == 3 and found == [(step, pytest.approx(value, rel=1e-6)) for step, value in logged]
    pictures = events.Images("samples")
    assert [picture.step for picture in pictures] == [8, 16, 24] and pictures[0].encoded_image_string[1:4] == b"PNG"


def test_a_resumed_run_is_shown_once(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    run(tmp_path, replace(CONFIG, kimg=0.008))  # a checkpoint at 8 images
    with pytest.raises(Killed):
        run(tmp_path, until=20)
    assert [event.step for event in shown(tmp_path).Scalars("loss_d")] == [4, 8, 12, 16, 20]
    run(tmp_path)
    assert [event.step for event in shown(tmp_path).Scalars("loss_d")] == [4, 8, 12, 16, 20, 24]


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"^--tensorboard: found no package tensorboard, expected it installed \(pip"):
        Board(tmp_path / "tensorboard")
    assert not list(tmp_path.iterdir())
