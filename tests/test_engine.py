"""What candidates share, that it changes nothing, and what a kill leaves to do."""

from pathlib import Path

import numpy as np
import pytest

from attribution.engine import (
    SILENT,
    Events,
    ProjectionSettings,
    ProjectionTask,
    load_candidates,
    project_batch,
    project_missing,
)
from attribution.schedules import ProjectionConfig
from attribution.stopped_search import Watch
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


def test_a_killed_run_that_stops_searches_goes_on_with_those_that_did_not_end(tmp_path: Path) -> None:
    """Whatever had been stored is left alone, and the rest comes out as in a run that was not killed."""
    (candidate,) = load_candidates({"a": tiny_generator(tmp_path / "a.safetensors", 1, TINY)})
    settings = ProjectionSettings(ProjectionConfig(steps=6), batch_size=2)
    pictures = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    watch = Watch((2, 4), lambda place, distances: int(distances["a"] * 1e6) % 3 == place)
    loaded: list[str] = []

    def task(i: int) -> ProjectionTask:
        def load(_: int) -> np.ndarray:
            loaded.append(str(i))
            return pictures[i]

        return ProjectionTask(str(i), load)

    def run(store: RunStore, killed_after: int | None = None) -> int:
        steps = 0

        def count(images: int) -> None:
            nonlocal steps
            steps += images
            if killed_after is not None and steps > killed_after:
                raise KeyboardInterrupt

        project_missing(
            map(task, [0, 1, 0, *range(2, 7)]),  # the same image twice is searched for once
            9,
            [candidate],
            settings,
            store,
            lambda c, t, _, p: {"lpips": p.lpips, "steps": p.steps},
            Events(on_step=count),
            watch,
        )
        return steps

    def records(store: RunStore) -> list[dict | None]:
        return [store.get("projection", f"{i}.a") for i in range(7)]

    with RunStore(tmp_path / "whole.sqlite", {}) as store:
        assert run(store) == 9 * 6  # two of those announced never came
        whole = records(store)
    assert len({found["steps"] for found in whole if found}) > 1
    with RunStore(tmp_path / "killed.sqlite", {}) as store:
        with pytest.raises(KeyboardInterrupt):
            run(store, 24)
        before = records(store)
        assert 0 < before.count(None) < 7
    loaded.clear()
    with RunStore(tmp_path / "killed.sqlite", {}) as store:
        assert run(store) == 9 * 6
        assert records(store) == whole
    assert loaded == [str(i) for i, found in enumerate(before) if found is None]  # each of them once
