"""A disk that is full, or a place that can't be written: one sentence, nothing half, and the same command goes on."""

import errno
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from generator import files
from tests.cases import tiny_generator, write_samples
from tests.commands import Run
from tests.test_cli_cases import sentence


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, list[object]]:
    """A case to be, and the command that makes it."""
    generator = tiny_generator(tmp_path / "a.safetensors", 0)
    suspects = write_samples(tmp_path / "suspects", generator, [1, 2])
    out = tmp_path / "case"
    return out, ["attribute", suspects, "--candidate", f"a={generator}", "--steps", 1, "--batch-size", 2, "--out", out]


@pytest.mark.parametrize("most", [1000, 12_000, 40_000])
def test_files_that_cannot_grow_stop_a_run_that_goes_on_later(run: Run, case: tuple, most: int) -> None:
    out, command = case
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        code, _, err = run(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert code in (1, 2) and str(out) in sentence(err)
    assert not list(out.rglob("*.partial")) and not (out / "manifest.json").exists()
    assert run(*command)[0] == 0 and (out / "manifest.json").exists()


def test_a_place_that_is_read_only_is_named(run: Run, case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    out, command = case

    def read_only(path: Path, mode: str) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as place:
        place.setattr(files, "open", read_only, raising=False)
        code, _, err = run(*command)
    assert code == 1 and "Read-only file system" in sentence(err) and ".partial" not in err
    assert run(*command)[0] == 0
    code, _, err = run("report", out, "--csv", out / "report.json" / "table.csv")  # a file where a folder is expected
    assert code in (1, 2) and "table.csv" in sentence(err)
