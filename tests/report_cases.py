"""A case directory with five images, made without a generator, to render reports from."""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from attribution.assembly import summarize
from attribution.calibration import Calibration, fit_calibration
from attribution.evidence import DecisionSettings
from attribution.report import (
    CandidateEvidence,
    CandidateRecord,
    ControlRecord,
    FileError,
    ImageReport,
    Report,
    RunRecord,
)
from attribution.scores import ScoreSet, Unit
from attribution.verdict import decide, inconclusive, out_of_scope
from attribution.wording import limitations, propositions
from generator.images import encode_png

NAMES = ["emoji-a", "emoji-b"]
SCRIPT_PATH = "folder/<script>alert(1)</script> & \"quoted'.png"
Paths = dict[str, dict[str, str]]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CANDIDATES = [
    CandidateRecord(name, sha256(name), "stylegan2", 64, {"kimg": 400.0, "data": {"split": "train"}}) for name in NAMES
]


def score_set(part: str, n: int, seed: int) -> ScoreSet:
    """Distances such as a well-trained small generator gives: its own images far below all others."""
    rng = np.random.default_rng(seed)

    def units(kind: str, medians: list[float], spreads: list[float], count: int) -> tuple[Unit, ...]:
        distances = np.exp(np.log(medians) + rng.normal(size=(count, 2)) * spreads)
        names = [f"{part}:{kind}:{i}" for i in range(count)]
        return tuple(
            Unit(name, name, kind, sha256(name), tuple(d)) for name, d in zip(names, distances.tolist(), strict=True)
        )

    return ScoreSet(
        units("real", [0.16, 0.18], [0.24, 0.24], n),
        (units("a", [0.011, 0.13], [0.5, 0.2], n), units("b", [0.13, 0.012], [0.2, 0.5], n)),
    )


@cache
def calibration(n: int = 124, bootstrap: int = 20) -> Calibration:
    """124 real sources: enough for alpha 5 % with the third-largest score."""
    return fit_calibration(
        CANDIDATES,
        score_set("calibration", n, 1),
        score_set("validation", n // 2, 2),
        DecisionSettings(alpha=0.05, lambda_=1.0),
        projection={"steps": 160, "noise_weight": 1e5, "lpips": "vgg", "seed": 0},
        population={"real": "emoji-portraits-64.zip", "splits": ["held-out"], "psi": 1.0, "validation": 0.33},
        strata=[{"codec": "png", "jpeg_quality": None, "scale": 1.0}],
        controls=[],
        tool_version="0.1.0",
        created="2026-11-20T08:00:00+00:00",
        bootstrap=bootstrap,
    )


def write_pictures(case: Path, key: str, target: np.ndarray, resyntheses: list[np.ndarray]) -> Paths:
    """The PNGs of one image; their paths by candidate. Arrays are uint8 [H, W, 3]."""
    (case / "images").mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, resynthesis in zip(NAMES, resyntheses, strict=True):
        difference = np.abs(target.astype(int) - resynthesis).mean(2, keepdims=True)
        grey = np.repeat(255 - np.clip(2 * difference, 0, 255), 3, axis=2).astype(np.uint8)
        pictures = {"target": target, "resynthesis": resynthesis, "difference": grey}
        paths[name] = {kind: f"images/{key}.{kind}.{'' if kind == 'target' else f'{name}.'}png" for kind in pictures}
        for kind, pixels in pictures.items():
            (case / paths[name][kind]).write_bytes(encode_png(pixels))
    return paths


def plain_pictures(case: Path, key: str) -> Paths:
    seed = int(sha256(key)[:8], 16)
    target = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return write_pictures(case, key, target, [target, 255 - target])


def evidence(name: str, distance: float, paths: dict[str, str], key: str, steps: int = 160) -> CandidateEvidence:
    places = np.linspace(0, steps, 33)
    decay = [[float(s), float(distance + (0.42 - distance) * np.exp(-s / steps * 7))] for s in places]
    return CandidateEvidence(
        name=name,
        lpips=distance,
        lpips_start=decay[0][1],
        lpips_per_layer=[distance * share for share in (0.06, 0.14, 0.3, 0.32, 0.18)],
        mse=distance / 20,
        ssim=1 - distance,
        p_value_generated=None,
        log10_lr_unbounded=None,
        log10_lr=None,
        log10_lr_bounds=None,
        target_sha256=sha256(f"target {key}"),
        seed=int(sha256(key)[:6], 16),
        steps=steps,
        projection=f"projections/{sha256(key)}.{name}.safetensors",
        projection_sha256=sha256(f"projection {key} {name}"),
        history=decay,
        checkpoints=[],
        lpips_expected=None,
        **paths,
    )


def examined(
    path: str,
    distances: list[float],
    paths: Paths,
    truth: str | None = None,
    calibrated: bool = True,
) -> ImageReport:
    """An image whose verdict follows from its distances by the calibration's own rule."""
    rows = [evidence(name, d, paths[name], path) for name, d in zip(NAMES, distances, strict=True)]
    found = calibration().evaluate(distances)
    if calibrated:
        rows = [
            replace(
                row,
                p_value_generated=found.p_value_generated[k],
                log10_lr_unbounded=found.log10_lr_unbounded[k],
                log10_lr=found.log10_lr[k],
                log10_lr_bounds=list(found.log10_lr_bounds[k]),
            )
            for k, row in enumerate(rows)
        ]
        verdict = decide(found, NAMES, calibration().decision, calibration().alternative)
    else:
        verdict = inconclusive("no calibration was given")
    return ImageReport(
        path=path,
        sha256=sha256(path),
        pixels_sha256=sha256(f"pixels {path}"),
        width=64,
        height=64,
        format="PNG",
        intake=[{"step": "decode", "mode": "RGB", "size": [64, 64], "libraries": {"pillow": "12.0.0", "zlib": "1.3"}}],
        candidates=rows,
        stratum="png, scale 1",
        score=found.score if calibrated else None,
        threshold=found.threshold if calibrated else None,
        p_value_real=found.p_value_real if calibrated else None,
        log10_margin=found.log10_margin if calibrated else None,
        verdict=verdict,
        error=None,
        thumbnail=rows[0].target,
        truth=truth,
    )


def unexamined(path: str, reason: str, error: FileError | None) -> ImageReport:
    return ImageReport(
        path=path, sha256=sha256(path), pixels_sha256=None, width=None, height=None, format=None, intake=[],
        candidates=[], stratum=None, score=None, threshold=None, p_value_real=None, log10_margin=None,
        verdict=out_of_scope(reason), error=error,
    )  # fmt: skip


def make_report(images: list[ImageReport], calibrated: bool = True) -> Report:
    now, then = {"emoji-a": 0.0113, "emoji-b": 0.139}, {"emoji-a": 0.0112, "emoji-b": 0.139}
    control = ControlRecord("generated", sha256("control"), now, then, 0.0001, 160)
    run = RunRecord(
        id="01f3a9c2b7d4e85",
        tool_version="0.1.0",
        started="2026-11-22T08:40:00+00:00",
        finished="2026-11-22T09:10:00+00:00",
        case="2026-0117",
        exhibit="A-3 <b>bold</b>",
        examiner="M. Muster",
        command=["latentprint", "attribute", "exhibit a/", "--candidate", "emoji-a=a.safetensors", "--out", "case"],
        settings={"steps": 160, "lpips": "vgg", "batch_size": 16, "shape": "refuse", "paths": ["exhibit a/"]},
        seed=0,
        device="cpu",
        environment={"torch": "2.15.0", "pillow": "12.0.0", "machine": "Linux x86_64"},
        controls=[control] if calibrated else None,
        controls_tolerance=0.001,
        controls_hold=True if calibrated else None,
    )
    return Report(
        run=run,
        candidates=list(CANDIDATES),
        calibration=calibration().public_summary() if calibrated else None,
        images=images,
        summary=summarize(images, NAMES),
        propositions=propositions(NAMES),
        limitations=limitations(calibration() if calibrated else None),
    )


def write_projections(report: Report, case: Path) -> Report:
    """The files that the report names beside the pictures: small latent codes with noise maps."""
    (case / "projections").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    maps = {f"noise_{i:02d}": rng.normal(size=(side, side)) for i, side in enumerate((4, 8, 8, 16, 16))}
    tensors = {"w": np.zeros(8)} | maps
    data = save({name: tensor.astype(np.float32) for name, tensor in tensors.items()})
    for row in (row for image in report.images for row in image.candidates):
        (case / row.projection).write_bytes(data)
    return report


def five_images(case: Path) -> Report:
    """One that SUPPORTS, one INCONCLUSIVE, one NOT_SUPPORTED under a hostile name, one refused, one unreadable."""
    undecided = examined("portrait 2.png", [0.05, 0.15], plain_pictures(case, "two"), truth="emoji-a")
    images = [
        examined("portrait 1.png", [0.011, 0.139], plain_pictures(case, "one"), truth="emoji-a"),
        replace(undecided, verdict=inconclusive("they are about 34 times more probable; 100 times are asked for")),
        examined(SCRIPT_PATH, [0.19, 0.21], plain_pictures(case, "three"), truth="a drawing"),
        unexamined("wide.png", "the image is 64 x 48 pixels; nothing is stretched", None),
        unexamined("broken.jpg", "found a truncated file", FileError("unreadable", "found a truncated file")),
    ]
    return write_projections(make_report(images), case)


def many_images(case: Path, n: int) -> Report:
    """n images of drawn distances, and pictures of 64 x 64 pixels for every 50th, which the others share."""
    rng = np.random.default_rng(7)
    pictures = [write_pictures(case, f"many-{i}", *_smooth_pictures(rng)) for i in range(max(n // 50, 1))]
    images = []
    for i in range(n):
        near, far = float(rng.lognormal(np.log(0.03), 0.9)), float(rng.lognormal(np.log(0.16), 0.2))
        distances = [near, far] if i % 3 else [far, near]
        truth = None if i % 5 else NAMES[0 if i % 3 else 1]
        images.append(
            examined(f"seized/folder {i % 7}/image {i:05d}.png", distances, pictures[i % len(pictures)], truth)
        )
    return write_projections(make_report(images), case)


def _smooth_pictures(rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """A target and a re-synthesis for each name, of about the PNG size of a small generator's images."""
    ramp = np.linspace(0, 160, 64, dtype=np.float64)
    target = ramp[:, None, None] + rng.uniform(0, 60, 3) + rng.normal(0, 4, (64, 64, 3))
    near, far = target + rng.normal(0, 3, target.shape), 220 - target
    return target.astype(np.uint8), [x.clip(0, 255).astype(np.uint8) for x in (near, far)]
