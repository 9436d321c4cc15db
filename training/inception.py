"""InceptionV3 as the published FID, KID and Inception scores use it, from a local weights file; never downloaded."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

Extract = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

BATCH = 16
EXPECTED = "expected the 2015 InceptionV3 as a state dict (pytorch-fid's pt_inception-2015-12-05-6726825d.pth)"


def load_inception(path: Path, device: torch.device | str = "cpu") -> Extract:
    """The network of a weights file: uint8 [N, H, W, 3] -> features float32 [N, 2048], logits without bias [N, 1008].

    torch-fidelity's network, which resizes as TensorFlow 1 did. It would run programs that a pickle contains: the file
    is read here first, as tensors only, and those alone go on. Raises ValueError, naming the file, for anything else.
    """
    from torch_fidelity import FeatureExtractorInceptionV3

    buffer = io.BytesIO()
    torch.save(_read_tensors(path), buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], buffer).to(device)
    except RuntimeError as error:
        raise ValueError(f"{path}: found tensors of another network ({_sentence(error)}), {EXPECTED}") from error

    @torch.no_grad()
    def extract(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        planes = torch.from_numpy(images).permute(0, 3, 1, 2)
        chunks = [network(part.to(device)) for part in planes.split(BATCH)]
        features, logits = (torch.cat(parts).cpu().numpy() for parts in zip(*chunks, strict=True))
        return features, logits

    return extract


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a torch file, which may contain nothing else. Raises ValueError for another file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file, {EXPECTED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about forms of files that are refused below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # hostile bytes make the reader raise anything
        raise ValueError(f"{path}: found no file of tensors ({_sentence(error)}), {EXPECTED}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(t, torch.Tensor) for name, t in found.items()
    ):
        raise ValueError(f"{path}: found a {type(found).__name__} that does not consist of named tensors, {EXPECTED}")
    if not all(t.isfinite().all() for t in found.values()):
        raise ValueError(f"{path}: found numbers that are not finite, {EXPECTED}")
    return dict(found)


def _sentence(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
