"""What every test shares: one thread for tiny tensors, the same random numbers in any order of the tests."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests.commands import Run, run_command

torch.set_num_threads(1)
settings.register_profile("latentprint", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("latentprint")

SEED = 0  # any other must do as well: it is a test's network that changes, not what is true of it


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Networks made while a module is imported don't depend on the modules before it."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Networks made in a test don't depend on the tests that ran before it."""
    torch.manual_seed(SEED)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """latentprint ARGUMENTS -> (exit code, stdout, stderr)."""

    def latentprint(*arguments: object) -> tuple[int, str, str]:
        code = run_command(*arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return latentprint


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
