"""Project many images into many generators in fixed-size batches, remembering what is done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from attribution.projector import LatentStatistics, Projection, ProjectionConfig, image_seed, latent_statistics, project
from attribution.report import known_hashes
from attribution.store import RunStore
from generator import LPIPS, Generator
from generator.encoder import Encoder, load_encoder
from generator.files import file_sha256
from generator.images import to_unit
from generator.loading import open_generator

LARGEST_BATCH = 4096  # every batch is padded to its size


@dataclass(frozen=True)
class Candidate:
    """A generator under examination, loaded. encoder: where its searches begin, with the SHA-256 of its file."""

    name: str
    path: Path
    sha256: str
    generator: Generator
    statistics: LatentStatistics
    provenance: dict
    encoder: Encoder | None = None
    encoder_sha256: str = ""

    @property
    def hashes(self) -> set[str]:
        """What it is known by: the SHA-256 of its file, and of the original that it was imported from."""
        return known_hashes(self.sha256, self.provenance)

    @property
    def resolution(self) -> int:
        """The side of its images in pixels."""
        return self.generator.resolution


def load_candidates(
    files: Mapping[str, Path], device: str = "cpu", encoders: Mapping[str, Path] | None = None
) -> list[Candidate]:
    """Read every candidate's generator file, and its encoder where `encoders` has one under its name.

    Raises ValueError naming a file that is none, a generator given twice, or an encoder of another generator.
    """
    encoders = encoders or {}
    if unknown := sorted(encoders.keys() - files.keys()):
        raise ValueError(f"--encoder: found one for {unknown[0]}, expected the name of a candidate")
    candidates: list[Candidate] = []
    for name, path in files.items():
        opened = open_generator(path, device)
        for other in candidates:
            if other.sha256 == opened.sha256:
                raise ValueError(
                    f"{path}: found the same file as candidate {other.name}, expected different generators"
                )
        G = opened.generator
        candidate = Candidate(name, Path(path), opened.sha256, G, latent_statistics(G), opened.provenance)
        candidates.append(_with_encoder(candidate, encoders[name], device) if name in encoders else candidate)
    return candidates


def _with_encoder(candidate: Candidate, path: Path, device: str) -> Candidate:
    opened = load_encoder(path)
    if opened.generator_sha256 not in candidate.hashes or opened.encoder.config.w_dim != candidate.generator.w_dim:
        raise ValueError(
            f"{path}: found an encoder of the generator {opened.generator_sha256[:12]} (SHA-256), "
            f"expected one of {candidate.name}, {candidate.sha256[:12]}"
        )
    return replace(candidate, encoder=opened.encoder.to(device), encoder_sha256=file_sha256(path))


@dataclass(frozen=True)
class Events:
    """How a caller follows a run: on_total(image-steps in all) once, then on_step(image-steps done) after each step."""

    on_total: Callable[[int], None] = lambda total: None
    on_step: Callable[[int], None] = lambda done: None


SILENT = Events()


@dataclass(frozen=True)
class ProjectionTask:
    """One image to project. key: SHA-256 of its canonical pixels; load: resolution -> uint8 target [r, r, 3]."""

    key: str
    load: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class ProjectionSettings:
    """Everything but pixels and generator that a projection depends on, and the batch size."""

    config: ProjectionConfig
    lpips: str = "vgg"
    seed: int = 0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= LARGEST_BATCH:
            raise ValueError(f"--batch-size: found {self.batch_size}, expected 1 to {LARGEST_BATCH}")


def project_batch(
    batch: Sequence[ProjectionTask],
    candidate: Candidate,
    settings: ProjectionSettings,
    lpips: LPIPS,
    on_step: Callable[[int], None] = lambda images: None,
) -> list[tuple[ProjectionTask, np.ndarray, Projection]]:
    """Each task of a batch with its target and projection; a batch that is not full is padded to the batch size.

    on_step is called with the number of images after each step of their projection.
    """
    G = candidate.generator
    targets = [task.load(G.resolution) for task in batch]
    seeds = [image_seed(settings.seed, task.key) for task in batch]
    missing = settings.batch_size - len(batch)
    pixels = np.stack(targets + [targets[0]] * missing)
    projections = project(
        G,
        to_unit(pixels).to(G.mapping.w_avg.device),
        config=settings.config,
        lpips=lpips,
        seeds=seeds + [seeds[0]] * missing,
        statistics=candidate.statistics,
        encoder=candidate.encoder,
        on_step=partial(_advance, on_step, len(batch)),
    )
    return list(zip(batch, targets, projections[: len(batch)], strict=True))


def _advance(on_step: Callable[[int], None], count: int, _: int) -> None:
    on_step(count)


def project_missing(
    tasks: Sequence[ProjectionTask],
    candidates: Sequence[Candidate],
    settings: ProjectionSettings,
    store: RunStore,
    to_record: Callable[[Candidate, ProjectionTask, np.ndarray, Projection], dict],
    events: Events,
) -> None:
    """Project each batch of tasks into each candidate that lacks it, and store what `to_record` makes of it.

    The batches follow from the list of tasks, and a batch is stored as a whole: a killed run goes on with the very
    batches of one that was not, so that the results are the same to the bit. to_record gets the candidate, the task,
    its target and its projection.
    """
    size = settings.batch_size
    batches = [tasks[i : i + size] for i in range(0, len(tasks), size)]
    work = [(c, b) for c in candidates for b in batches if any(projection_of(store, t.key, c.name) is None for t in b)]
    events.on_total(settings.config.steps * sum(len(batch) for _, batch in work))
    lpips = LPIPS(settings.lpips).to(candidates[0].generator.mapping.w_avg.device)
    for candidate, batch in work:
        projected = project_batch(batch, candidate, settings, lpips, events.on_step)
        records = {f"{t.key}.{candidate.name}": to_record(candidate, t, target, p) for t, target, p in projected}
        store.put_all("projection", records)


def projection_of(store: RunStore, key: str, name: str) -> dict | None:
    """The stored record of an image's projection into a candidate, None where there is none yet."""
    return store.get("projection", f"{key}.{name}")
