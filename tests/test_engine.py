"""What candidates share, and that it changes nothing."""

from pathlib import Path

import numpy as np
import pytest

from attribution.engine import (
    SILENT,
    ProjectionSettings,
    ProjectionTask,
    load_candidates,
    project_batch,
    project_missing,
)
from attribution.schedules import ProjectionConfig
from attribution.store import RunStore
from generator import LPIPS, GeneratorConfig
from tests.cases import TINY, tiny_generator

LARGER = GeneratorConfig(resolution=32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images LPIPS's network has seen as targets, at every call."""
    seen: list[int] = []
    of = LPIPS.features

    def features(self, images, *more):
        seen.append(len(images))
        return of(self, images, *more)

    monkeypatch.setattr(LPIPS, "features", features)
    return seen


def test_candidates_of_a_size_share_the_targets_features(tmp_path: Path, counted: list[int]) -> None:
    files = {
        "a": tiny_generator(tmp_path / "a.safetensors", 1, TINY),
        "b": tiny_generator(tmp_path / "b.safetensors", 2, TINY),
        "c": tiny_generator(tmp_path / "c.safetensors", 3, LARGER),
    }
    candidates = load_candidates(files, "cpu", {})
    settings = ProjectionSettings(ProjectionConfig(steps=2), batch_size=4)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)

    def task(i: int) -> ProjectionTask:
        return ProjectionTask(str(i), lambda r: pictures[i, :: 32 // r, :: 32 // r])

    tasks = [task(i) for i in range(4)]
    with RunStore(tmp_path / "run.sqlite", {}) as store:
        project_missing(
            tasks, 4, candidates, settings, store, lambda c, t, _, projection: {"lpips": projection.lpips}, SILENT
        )
        together = {(c.name, t.key): store.get("projection", f"{t.key}.{c.name}") for c in candidates for t in tasks}
    assert counted == [4, 4]  # at 16x16 for a and b, at 32x32 for c
    lpips = LPIPS("vgg")
    for candidate in candidates:
        for done, _, projection in project_batch(tasks, candidate, settings, lpips):
            assert together[candidate.name, done.key] == {"lpips": projection.lpips}
