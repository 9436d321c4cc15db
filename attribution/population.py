"""Which images a calibration is made of: chosen, divided by source, and read before anything is projected."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from attribution.engine import Candidate
from attribution.evidence import DecisionSettings
from attribution.intake import Stratum, Suspect, estimate_stratum, suspect_from_bytes
from attribution.listing import json_safe
from attribution.scores import FOUR_SETS_FROM, SMALLEST_PART, one_per_source, split_sources
from attribution.threshold import smallest_n
from generator.images import encode_png
from generator.imagesets import ImageRecord, ImageSet, open_image_set
from generator.sampling import derive_seed, sample_images

LOSSLESS = Stratum(codec="png", jpeg_quality=None, scale=1.0)
PARTS = ("calibration", "validation")
LARGEST_PSI = 10.0


@dataclass(frozen=True)
class Population:
    """Which images a calibration is made of.

    real: folder or zip, its splits and the index column that names the source; one seeded image per source counts.
    exclude: sources left out (kept for a demonstration, say). validation: the share of sources that only validates.
    psi: truncation of the generated images; as many per candidate as there are real ones, or `samples`.
    control_splits: where the two real run controls come from (their pixels go into the file); empty means any.
    Raises ValueError.
    """

    real: Path
    splits: tuple[str, ...] = ()
    source_column: str = "source"
    exclude: tuple[str, ...] = ()
    validation: float = 0.33
    psi: float = 1.0
    samples: int | None = None
    generated: Mapping[str, Path] = field(default_factory=dict)
    other: Mapping[str, Path] = field(default_factory=dict)
    control_splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ValueError(f"--validation: found {self.validation}, expected a fraction between 0 and 1")
        if not 0 < self.psi <= LARGEST_PSI:
            raise ValueError(f"--psi: found {self.psi}, expected a number above 0, up to {LARGEST_PSI:g}")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"--samples: found {self.samples}, expected at least 1")


@dataclass(frozen=True)
class ChosenImage:
    """One unit before it is projected: its pixels as the intake decodes them."""

    name: str
    source: str
    split: str
    suspect: Suspect


@dataclass(frozen=True)
class Choice:
    """The chosen images by part and kind: "real" | "generated:NAME" | "other:NAME".

    validation: the share of sources that only validates. merged: by kind, how many sources went into another one that
    has an image of theirs.
    """

    images: dict[str, dict[str, list[ChosenImage]]]
    validation: float
    merged: dict[str, int]


def choose(candidates: Sequence[Candidate], population: Population, decision: DecisionSettings, seed: int) -> Choice:
    """Choose one image of every source for each part, and as many generated ones.

    Raises ValueError for unknown sources or candidates, candidates of several resolutions, and images that can't be
    read, are not square, or are not of the stratum LOSSLESS.
    """
    resolution = _one_resolution(candidates)
    images = open_image_set(population.real, population.splits, population.source_column)
    _require_known("--exclude", population.exclude, {r.source for r in images.records}, "sources")
    _require_known("--generated", population.generated, {c.name for c in candidates}, "candidates")
    records = merge_sources(images)
    merged = {"real": _vanished(images.records, records)}
    excluded = {
        new.source for old, new in zip(images.records, records, strict=True) if old.source in population.exclude
    }
    records = [r for r in records if r.source not in excluded]
    share = validation_share(records, population.validation, decision)
    kinds = {"real": _halves(images, records, share, seed, resolution)}
    for candidate in candidates:
        kind = f"generated:{candidate.name}"
        if candidate.name in population.generated:
            kinds[kind], merged[kind] = _open_halves(population.generated[candidate.name], share, seed, resolution)
        else:
            sizes = {part: population.samples or len(units) for part, units in kinds["real"].items()}
            kinds[kind] = {p: generate_units(candidate, n, population.psi, f"{p}:{seed}") for p, n in sizes.items()}
    for name, path in population.other.items():
        kinds[f"other:{name}"], merged[f"other:{name}"] = _open_halves(path, share, seed, resolution)
    return Choice({part: {kind: units[part] for kind, units in kinds.items()} for part in PARTS}, share, merged)


def merge_sources(images: ImageSet) -> list[ImageRecord]:
    """The set's records in their order; sources that share an image, by its pixels, become the first of them by name.

    A file that can't be decoded shares no image. Raises ValueError for one that can't be read.
    """
    parent: dict[str, str] = {}

    def first(source: str) -> str:
        while (above := parent.get(source, source)) != source:
            source = above
        return source

    source_of: dict[str, str] = {}
    for record, suspect in _suspects(images, images.records):
        if suspect.pixels_sha256 is not None:
            known = source_of.setdefault(suspect.pixels_sha256, record.source)
            one, other = sorted((first(known), first(record.source)))
            parent[other] = one
    return [replace(record, source=first(record.source)) for record in images.records]


def _vanished(before: Sequence[ImageRecord], after: Sequence[ImageRecord]) -> int:
    return len({r.source for r in before}) - len({r.source for r in after})


def validation_share(records: Sequence[ImageRecord], asked: float, decision: DecisionSettings) -> float:
    """`asked`, or less where that lets FOUR_SETS_FROM sources or more make four disjoint sets.

    Fit and bound take SMALLEST_PART reals each, the threshold three fifths or what alpha and delta ask for (see
    `scores.disjoint_sets`); every split rounds up. Never below a third of what was asked.
    """
    n, splits = len({r.source for r in records}), len({r.split for r in records})
    to_threshold = smallest_n(1, decision.alpha, decision.delta)
    needed = max(5 * (SMALLEST_PART + splits), 2 * (SMALLEST_PART + splits) + to_threshold) + math.ceil(splits / 2)
    share = 1 - needed / max(n, 1)
    return min(asked, share) if n >= FOUR_SETS_FROM and share >= asked / 3 else asked


def _halves(
    images: ImageSet, records: Sequence[ImageRecord], share: float, seed: int, resolution: int
) -> dict[str, list[ChosenImage]]:
    """One image of every source, by part."""
    chosen = {}
    for part, sources in zip(PARTS, map(set, split_sources(records, share, seed)), strict=True):
        if not sources:
            n = len({r.source for r in records})
            raise ValueError(
                f"--validation: found {share:g} of the {n} sources of {images.path}, which leaves none for {part}, "
                "expected a share that leaves some for both"
            )
        units = one_per_source([r for r in records if r.source in sources], seed)
        chosen[part] = read_units(images, units, resolution)
    return chosen


def _open_halves(path: Path, share: float, seed: int, resolution: int) -> tuple[dict[str, list[ChosenImage]], int]:
    """The images of a folder or zip by part, and how many sources were merged."""
    images = open_image_set(path)
    records = merge_sources(images)
    return _halves(images, records, share, seed, resolution), _vanished(images.records, records)


def read_units(images: ImageSet, records: Sequence[ImageRecord], resolution: int | None = None) -> list[ChosenImage]:
    """Read images through the intake. resolution: of the candidates; None takes images of any history.

    Raises ValueError that names an image that can't be read, is not square, or is not of the stratum LOSSLESS.
    """
    chosen = []
    for record, suspect in _suspects(images, records):
        where = f"{images.path}/{record.name}"
        if suspect.error:
            raise ValueError(f"{where}: {suspect.error.message}")
        if suspect.width != suspect.height:
            raise ValueError(f"{where}: found {suspect.width} x {suspect.height} pixels, expected a square image")
        if resolution is not None:
            found = estimate_stratum(suspect, suspect.width or 0, resolution)
            if found != LOSSLESS:
                expected = f"expected {LOSSLESS.label()}: a lossless file of {resolution} x {resolution} pixels"
                raise ValueError(f"{where}: found the image history {found.label()}, {expected}")
        # the file's JSON holds Unicode only
        name, source, split = map(json_safe, (record.name, record.source, record.split))
        chosen.append(ChosenImage(name, source, split, suspect))
    return chosen


def _suspects(images: ImageSet, records: Sequence[ImageRecord]) -> Iterator[tuple[ImageRecord, Suspect]]:
    content = images.read([r.name for r in records])
    for record in records:
        try:
            data = next(content)
        except Exception as error:  # a damaged or encrypted zip member raises anything
            raise ValueError(f"{images.path}/{record.name}: could not be read ({error})") from error
        yield record, suspect_from_bytes(data, record.name)


def generate_units(candidate: Candidate, n: int, psi: float, purpose: str) -> list[ChosenImage]:
    """n images of a generator, through 8-bit PNG and the intake like any suspect; seeds derive from the purpose."""
    seeds = [derive_seed("sample", purpose, candidate.sha256, i) for i in range(n)]
    pixels = sample_images(candidate.generator, seeds, psi=psi)
    names = [f"{candidate.name}:seed={seed}" for seed in seeds]
    suspects = [suspect_from_bytes(encode_png(p), name) for p, name in zip(pixels, names, strict=True)]
    return [ChosenImage(name, name, "generated", s) for name, s in zip(names, suspects, strict=True)]


def _one_resolution(candidates: Sequence[Candidate]) -> int:
    found = sorted({c.generator.resolution for c in candidates})
    if len(found) != 1:
        which = ", ".join(f"{c.name} {c.generator.resolution}" for c in candidates)
        raise ValueError(f"--candidate: found several resolutions ({which}), expected one: an image has one scale")
    return found[0]


def _require_known(option: str, names: Iterable[str], known: set[str], kind: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{option}: found {name!r}, which is none of the {len(known)} {kind}, expected only those")
