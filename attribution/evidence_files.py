"""What a case directory keeps of each projection: the latent code and noise maps, the pictures, the numbers."""

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from attribution.case_directory import evidence_paths
from attribution.engine import Candidate
from attribution.field_checks import SHA256
from attribution.projector import Projection
from attribution.report import CandidateEvidence
from generator import Generator
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
        checkpoints=[[float(steps), distance] for steps, distance in projection.checkpoints],
        lpips_expected=None,
        **paths,
    )
    return asdict(evidence)


@dataclass(frozen=True)
class StoredProjection:
    """What a projection file holds. w [w_dim]; noise: one map [r, r] per layer, coarse to fine."""

    w: torch.Tensor
    noise: tuple[torch.Tensor, ...]
    generator_sha256: str
    target_sha256: str
    seed: int


def read_projection(path: Path, G: Generator) -> StoredProjection:
    """The file that `write_projection` wrote of a search in G.

    Raises ValueError, naming the file, for another kind of file, tensors that are not G's, or numbers that are not
    finite.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != PROJECTION_FORMAT:
            raise ValueError(f"found format {metadata.get('format')!r}, expected {PROJECTION_FORMAT!r}")
        generator, target, seed = (metadata[key] for key in ("generator_sha256", "target_sha256", "seed"))
        stored = StoredProjection(
            tensors.pop("w"), tuple(tensors[name] for name in sorted(tensors)), generator, target, int(seed)
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: found no readable projection ({error}), expected {PROJECTION_FORMAT}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    shapes = {"w": (G.w_dim,)} | {
        f"noise_{i:02d}": (layer.resolution,) * 2 for i, layer in enumerate(G.synthesis.layers)
    }
    found = {"w": stored.w} | {name: tensors[name] for name in sorted(tensors)}
    if {name: tuple(tensor.shape) for name, tensor in found.items()} != shapes:
        raise ValueError(f"{path}: found tensors of other names or shapes, expected those of the candidate")
    for name, tensor in found.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            kind = tensor.dtype if tensor.dtype != torch.float32 else "numbers that are not finite"
            raise ValueError(f"{path}: tensor {name} holds {kind}, expected finite float32")
    return stored


def noise_autocorrelation(projection: Projection) -> float:
    """Mean absolute one-pixel autocorrelation of the noise maps above 8x8: 0 for white noise."""
    values = []
    for noise in projection.noise:
        if noise.shape[-1] > 8:
            values += [(noise * noise.roll(1, dim)).mean().abs() for dim in (0, 1)]
    return torch.stack(values).mean().item() if values else 0.0
