"""kill -9 at any moment: the same command goes on, and the case directory is that of a run that nothing interrupted."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from generator.loading import load_generator
from tests.cases import TINY, tiny_generator, write_reals, write_samples

KILLS, IMAGES = 50, 30


def content(case: Path) -> dict[str, bytes]:
    """Every file of a case but run.sqlite, whose bytes say in which order what was done."""
    files = {path.relative_to(case).as_posix(): path for path in case.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "run.sqlite"}


def kill_at_random(folder: Path, case: str, kills: int, arguments: list[object]) -> dict[str, Any]:
    """What tests/killed_runs.py found; the runs are in folder/done."""
    (folder / "done").mkdir()
    command = [sys.executable, "-m", "tests.killed_runs", folder / case, folder / "done", kills, "7", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "latentprint: " not in done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == kills and found["runs"] == len(list((folder / "done").glob("run-*")))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork every life would take seconds to start")
def test_runs_killed_at_random_moments_end_as_one_that_was_not(tmp_path: Path) -> None:
    generator = tiny_generator(tmp_path / "a.safetensors", 0, replace(TINY, resolution=32))
    suspects = write_samples(tmp_path / "suspects", generator, list(range(IMAGES)))
    arguments = ["attribute", suspects, "--candidate", f"a={generator}", "--out", tmp_path / "case"]
    arguments += ["--steps", "1", "--lpips", "alex", "--batch-size", "4", "--case", "17"]
    found = kill_at_random(tmp_path, "case", KILLS, arguments)
    whole = content(tmp_path / "done" / "whole")
    assert len([name for name in whole if name.endswith(".png")]) == 3 * IMAGES
    for run in range(found["runs"]):
        case = content(tmp_path / "done" / f"run-{run}")
        assert case.keys() == whole.keys()
        assert not [name for name, data in case.items() if data != whole[name]], run


def log_of(run: Path) -> list[dict[str, float]]:
    """The lines of a training's log without what tells the time."""
    text = (run / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork every life would take seconds to start")
def test_trainings_killed_at_random_moments_have_the_log_and_the_model_of_one_that_was_not(tmp_path: Path) -> None:
    """Killed before the first checkpoint, too: a line is never there twice, or half."""
    write_reals(tmp_path / "reals", 6)
    arguments = ["train", "--data", tmp_path / "reals", "--out", tmp_path / "run", "--device", "cpu", "--batch", "4"]
    arguments += ["--resolution", "16", "--kimg", "0.08", "--snapshot-kimg", "0.03", "--augment", "blit"]
    found = kill_at_random(tmp_path, "run", 8, arguments)
    whole = tmp_path / "done" / "whole"
    assert [line["kimg"] for line in log_of(whole) if "loss_d" in line] == pytest.approx(
        [0.016 * i for i in range(1, 6)]
    )
    weights = load_generator(whole / "generator.safetensors").state_dict()
    for run in (tmp_path / "done" / f"run-{i}" for i in range(found["runs"])):
        assert log_of(run) == log_of(whole)
        assert {p.name for p in run.iterdir()} == {p.name for p in whole.iterdir()}
        for name, tensor in load_generator(run / "generator.safetensors").state_dict().items():
            assert torch.equal(tensor, weights[name]), name
