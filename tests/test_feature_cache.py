"""Kept features: the same numbers, and anything damaged computed again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.feature_cache import cached_features, user_cache

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
FEATURES = IMAGES.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def keep(tmp_path):
    """cached_features in one folder; `calls` counts what had to be computed."""
    calls: list[int] = []

    def run(network: str = "a", images: np.ndarray = IMAGES) -> np.ndarray:
        def extract(images: np.ndarray) -> np.ndarray:
            calls.append(len(images))
            return images.mean(axis=(1, 2)).astype(np.float32)

        return cached_features(tmp_path / "cache", network, images, extract)

    return run, calls, tmp_path / "cache"


def test_features_are_computed_once(keep):
    run, calls, folder = keep
    for _ in range(3):
        np.testing.assert_array_equal(run(), FEATURES)
    assert calls == [5]
    assert [p.suffix for p in folder.iterdir()] == [".safetensors"]


def test_another_network_image_or_shape_is_another_entry(keep):
    run, calls, _ = keep
    changed = IMAGES.copy()
    changed[0, 0, 0, 0] ^= 1
    for network, images in [("a", IMAGES), ("b", IMAGES), ("a", changed), ("a", IMAGES.reshape(5, 2, 8, 3))]:
        np.testing.assert_array_equal(run(network, images), images.mean(axis=(1, 2)).astype(np.float32))
    assert len(calls) == 4


def other_sum(path: Path) -> None:
    save_file({"features": torch.from_numpy(FEATURES + 1)}, path, {"sha256": "0" * 64})


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(b"\xff" * 100),
        lambda path: save_file({"other": torch.zeros(1)}, path),
        flip_a_bit,
        other_sum,
    ],
)
def test_a_damaged_entry_is_computed_again(keep, damage):
    run, calls, folder = keep
    run()
    (path,) = folder.iterdir()
    intact = path.read_bytes()
    damage(path)
    np.testing.assert_array_equal(run(), FEATURES)
    assert calls == [5, 5]
    assert path.read_bytes() == intact


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("x")
    found = cached_features(tmp_path / "file" / "cache", "a", IMAGES, lambda images: FEATURES)
    np.testing.assert_array_equal(found, FEATURES)
    np.testing.assert_array_equal(cached_features(None, "a", IMAGES, lambda images: FEATURES), FEATURES)


def test_the_users_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "latentprint"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache() == Path.home() / ".cache" / "latentprint"
