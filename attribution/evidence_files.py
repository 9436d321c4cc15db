"""What a case directory keeps of each projection: the latent code and noise maps, the pictures, the numbers."""

from dataclasses import asdict
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from attribution.case_directory import evidence_paths
from attribution.engine import Candidate
from attribution.field_checks import SHA256
from attribution.projector import Projection
from attribution.report import CandidateEvidence
from generator.decoding import pixels_sha256
from generator.files import file_sha256, safetensors_bytes, write_atomically
from generator.images import encode_png, to_pixels

PROJECTION_FORMAT = "latentprint.projection/1"
DIFFERENCE_GAIN = 2  # a difference of half the range is black


def difference_picture(target: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference over channels as grey on white: uint8 [H, W, 3] twice -> [H, W, 3]."""
    difference = np.abs(target.astype(np.float32) - other.astype(np.float32)).mean(2, keepdims=True)
    return np.repeat(255 - np.clip(difference * DIFFERENCE_GAIN, 0, 255), 3, axis=2).round().astype(np.uint8)


def write_projection(case: Path, key: str, target: np.ndarray, candidate: Candidate, projection: Projection) -> dict:
    """Write the files of one projection and return its CandidateEvidence as a dict.

    A projection that is not finite gives {"failed": True} and no files. key: the SHA-256 of the image's canonical
    pixels; the files are named by it. Raises ValueError for another key.
    """
    if not SHA256.fullmatch(key):
        raise ValueError(f"key: found {key[:80]!r}, expected a SHA-256 in 64 hexadecimal digits")
    if not isfinite(projection.lpips):
        return {"failed": True}
    target_sha256 = pixels_sha256(target)
    paths = evidence_paths(key, candidate.name, candidate.generator.resolution)
    tensors = {"w": projection.w} | {f"noise_{i:02d}": noise for i, noise in enumerate(projection.noise)}
    metadata = {
        "format": PROJECTION_FORMAT,
        "generator_sha256": candidate.sha256,
        "target_sha256": target_sha256,
        "seed": str(projection.seed),
    }
    write_atomically(case / paths["projection"], safetensors_bytes(tensors, metadata))
    image = to_pixels(projection.image[None])[0]
    write_atomically(case / paths["target"], encode_png(target))
    write_atomically(case / paths["resynthesis"], encode_png(image))
    write_atomically(case / paths["difference"], encode_png(difference_picture(target, image)))
    evidence = CandidateEvidence(
        name=candidate.name,
        lpips=projection.lpips,
        lpips_start=projection.lpips_start,
        lpips_per_layer=list(projection.lpips_per_layer),
        mse=projection.mse,
        ssim=projection.ssim,
        p_value_generated=None,
        log10_lr_unbounded=None,
        log10_lr=None,
        log10_lr_bounds=None,
        target_sha256=target_sha256,
        seed=projection.seed,
        steps=projection.steps,
        projection_sha256=file_sha256(case / paths["projection"]),
        history=[[float(step), round(distance, 6)] for step, distance in projection.history],
        **paths,
    )
    return asdict(evidence)


def noise_autocorrelation(projection: Projection) -> float:
    """Mean absolute one-pixel autocorrelation of the noise maps above 8x8: 0 for white noise."""
    values = []
    for noise in projection.noise:
        if noise.shape[-1] > 8:
            values += [(noise * noise.roll(1, dim)).mean().abs() for dim in (0, 1)]
    return torch.stack(values).mean().item() if values else 0.0
