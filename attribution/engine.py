"""Project many images into many generators in fixed-size batches, remembering what is done."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from attribution.projector import Projection, image_seed, latent_statistics, results
from attribution.report import known_hashes
from attribution.schedules import ProjectionConfig
from attribution.search import TOGETHER, LatentStatistics, Searcher, begin
from attribution.stopped_search import Wanted, Watch, count_images, search_images
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


ToRecord = Callable[[Candidate, ProjectionTask, np.ndarray, Projection], dict]
Projected = Sequence[tuple[Candidate, ProjectionTask, np.ndarray, Projection]]  # with the target
NEVER_STOP = Watch()


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
    checkpoints: Sequence[int] = (),
    features: dict[int, list[Tensor]] | None = None,
) -> list[tuple[ProjectionTask, np.ndarray, Projection]]:
    """Each task of a batch with its target and projection.

    on_step is called with the number of images after each step of their projection. checkpoints: numbers of steps after
    which distances are measured on the way. features: LPIPS's of the batch's targets by resolution, as far as another
    candidate's search has needed them; those that this one needs are added.
    """
    pixels = [task.load(candidate.resolution) for task in batch]
    shared = {} if features is None else features
    searching = begin(
        searcher_of(candidate, settings, lpips),
        _targets(pixels, candidate),
        [image_seed(settings.seed, task.key) for task in batch],
        shared.get(candidate.resolution),
    )
    shared[candidate.resolution] = searching.features
    searching.advance(settings.config.steps, checkpoints, partial(count_images, on_step, len(batch)))
    return list(zip(batch, pixels, results(searching), strict=True))


def searcher_of(candidate: Candidate, settings: ProjectionSettings, lpips: LPIPS) -> Searcher:
    """What the searches in a candidate share. On a GPU every batch is filled up to the batch size: kernels, and with
    them the rounding, depend on it.
    """
    multiple = settings.batch_size if candidate.generator.mapping.w_avg.is_cuda else TOGETHER
    return Searcher(candidate.generator, settings.config, lpips, candidate.statistics, candidate.encoder, multiple)


def _targets(pixels: Sequence[np.ndarray], candidate: Candidate) -> Tensor:
    return to_unit(np.stack(pixels)).to(candidate.generator.mapping.w_avg.device)


def project_missing(
    tasks: Iterable[ProjectionTask],
    count: int,
    candidates: Sequence[Candidate],
    settings: ProjectionSettings,
    store: RunStore,
    to_record: ToRecord,
    events: Events,
    watch: Watch = NEVER_STOP,
) -> None:
    """Project each task into each candidate that lacks it, and store what `to_record` makes of it.

    Tasks are taken as they are needed; count: of them, at most, for the progress. to_record gets the candidate, the
    task, its target and its projection. A killed run goes on after what was stored. Where no search may stop, that is
    whole batches, which follow from the list of tasks; else single images: they are the same to the bit in every batch.
    """
    steps = settings.config.steps * len(candidates)
    counted = 0

    def counting() -> Iterator[ProjectionTask]:
        nonlocal counted
        for task in tasks:
            counted += 1
            yield task

    events.on_total(steps * count)
    lpips = LPIPS(settings.lpips).to(candidates[0].generator.mapping.w_avg.device)
    run = _Run(candidates, settings, store, lpips, watch, events.on_step)
    for projected in run.together(counting()) if watch.stops else run.one_by_one(counting()):
        store.put_all("projection", {f"{t.key}.{c.name}": to_record(c, t, target, p) for c, t, target, p in projected})
    events.on_step(steps * (count - counted))


@dataclass(frozen=True)
class _Run:
    """What the projections of a run share."""

    candidates: Sequence[Candidate]
    settings: ProjectionSettings
    store: RunStore
    lpips: LPIPS
    watch: Watch
    on_step: Callable[[int], None]

    def _lacks(self, tasks: Sequence[ProjectionTask], candidates: Sequence[Candidate]) -> bool:
        return any(projection_of(self.store, task.key, c.name) is None for task in tasks for c in candidates)

    def one_by_one(self, tasks: Iterator[ProjectionTask]) -> Iterator[Projected]:
        """Batch by batch, each into one candidate after the other; those that are stored already are left out."""
        settings, checkpoints = self.settings, self.watch.checkpoints
        while batch := list(islice(tasks, settings.batch_size)):
            features: dict[int, list[Tensor]] = {}
            for candidate in self.candidates:
                if self._lacks(batch, [candidate]):
                    found = project_batch(batch, candidate, settings, self.lpips, self.on_step, checkpoints, features)
                    yield [(candidate, *of_task) for of_task in found]
                else:
                    self.on_step(settings.config.steps * len(batch))

    def together(self, tasks: Iterator[ProjectionTask]) -> Iterator[Projected]:
        """Image by image, into all candidates together; those that are stored already are left out."""
        candidates, settings = self.candidates, self.settings
        sizes = sorted({candidate.resolution for candidate in candidates})
        under_way: dict[str, tuple[ProjectionTask, dict[int, np.ndarray]]] = {}

        def wanted() -> Iterator[Wanted]:
            for task in tasks:
                if task.key in under_way or not self._lacks([task], candidates):
                    self.on_step(settings.config.steps * len(candidates))
                    continue
                pixels = {size: task.load(size) for size in sizes}
                under_way[task.key] = task, pixels
                targets = {c.name: _targets([pixels[c.resolution]], c)[0] for c in candidates}
                yield Wanted(task.key, targets, image_seed(settings.seed, task.key))

        searchers = {c.name: searcher_of(c, settings, self.lpips) for c in candidates}
        for key, found in search_images(wanted(), searchers, self.watch, settings.batch_size, self.on_step):
            task, pixels = under_way.pop(key)
            yield [(c, task, pixels[c.resolution], found[c.name]) for c in candidates]


def projection_of(store: RunStore, key: str, name: str) -> dict | None:
    """The stored record of an image's projection into a candidate, None where there is none yet."""
    return store.get("projection", f"{key}.{name}")
