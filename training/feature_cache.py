"""Features of a data set, kept on disk: they are the slow half of judging one generator after another."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from generator.files import safetensors_bytes, write_atomically

FORM = "latentprint.features/1"


def user_cache() -> Path:
    """The user's folder for what can be computed again: $XDG_CACHE_HOME or ~/.cache, and in it latentprint."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentprint"


def cached_features(
    cache: Path | None, network: str, images: np.ndarray, extract: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """extract(images), or what an earlier call with the same network and pixels has kept in the folder `cache`.

    images: uint8 [N, H, W, 3]; network: all that determines the features but the images (its weights' SHA-256);
    extract: images -> float32 [N, D]. A file that is damaged is computed and written again; one that cannot be written
    is no error. None keeps nothing.
    """
    if cache is None:
        return extract(images)
    digest = hashlib.sha256(f"{FORM}:{network}:{images.shape}:".encode())
    digest.update(np.ascontiguousarray(images).data)
    path = cache / f"{digest.hexdigest()}.safetensors"
    kept = _read(path, len(images))
    if kept is not None:
        return kept
    features = np.ascontiguousarray(extract(images), np.float32)
    data = safetensors_bytes({"features": torch.from_numpy(features)}, {"format": FORM, "sha256": _sha256(features)})
    with suppress(OSError):  # a full or read-only disk: computed again next time
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    return features


def _read(path: Path, n: int) -> np.ndarray | None:
    """Features [n, D] whose checksum holds, else None."""
    try:
        with safe_open(path, "np") as file:
            features, metadata = file.get_tensor("features"), file.metadata() or {}
    except (OSError, SafetensorError, KeyError):
        return None
    intact = features.dtype == np.float32 and metadata.get("sha256") == _sha256(features)
    return features if intact and features.ndim == 2 and len(features) == n else None


def _sha256(features: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(features).data).hexdigest()
