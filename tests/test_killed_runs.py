"""kill -9 at any moment: the same command goes on, and the case directory is that of a run that nothing interrupted."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cases import TINY, tiny_generator, write_samples

KILLS, IMAGES = 50, 30


def content(case: Path) -> dict[str, bytes]:
    """Every file of a case but run.sqlite, whose bytes say in which order what was done."""
    files = {path.relative_to(case).as_posix(): path for path in case.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "run.sqlite"}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork every life would take seconds to start")
def test_runs_killed_at_random_moments_end_as_one_that_was_not(tmp_path: Path) -> None:
    generator = tiny_generator(tmp_path / "a.safetensors", 0, replace(TINY, resolution=32))
    suspects = write_samples(tmp_path / "suspects", generator, list(range(IMAGES)))
    arguments = ["attribute", suspects, "--candidate", f"a={generator}", "--out", tmp_path / "case"]
    arguments += ["--steps", "1", "--lpips", "alex", "--batch-size", "4", "--case", "17"]
    (tmp_path / "done").mkdir()
    command = [sys.executable, "-m", "tests.killed_runs", tmp_path / "case", tmp_path / "done", KILLS, "7", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "latentprint: " not in done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == KILLS and found["runs"] == len(list((tmp_path / "done").glob("run-*")))
    whole = content(tmp_path / "done" / "whole")
    assert len([name for name in whole if name.endswith(".png")]) == 3 * IMAGES
    for run in range(found["runs"]):
        case = content(tmp_path / "done" / f"run-{run}")
        assert case.keys() == whole.keys()
        assert not [name for name, data in case.items() if data != whole[name]], run
