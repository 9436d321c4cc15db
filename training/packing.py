"""Image files of any size -> a zip of square PNGs with an index.csv: what `train` and `calibrate` read."""

import csv
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from generator.alignment import align_face, face_crop
from generator.containers import ImageError
from generator.decoding import DEFAULT_LIMITS, decode
from generator.files import replacing
from generator.images import encode_png
from generator.imagesets import ImageRecord, ImageSet
from generator.squares import fit_square, square_side

EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold; every member has it


@dataclass(frozen=True)
class PackingSettings:
    """How an image becomes a square of `resolution`.

    shape: of images that are not square: "refuse", "crop" (the middle square) or "letterbox" (black bars). aspect:
    width and height that the middle part is cut to before it gets its bars, LSUN Car's public form being 4:3.
    upscale: admit images that have fewer pixels than the result. Raises ValueError, naming the option.
    """

    resolution: int
    shape: str = "refuse"
    aspect: tuple[int, int] | None = None
    upscale: bool = False

    def __post_init__(self) -> None:
        r = self.resolution
        if not 8 <= r <= 1024 or r & (r - 1):
            raise ValueError(f"--resolution: found {r}, expected a power of two from 8 to 1024")
        if self.aspect and (self.shape != "letterbox" or min(self.aspect) < 1):
            found = ":".join(map(str, self.aspect))
            raise ValueError(f"--aspect: found {found}, expected two numbers of at least 1, and --letterbox")


@dataclass(frozen=True)
class Packed:
    """What a zip holds. sha256: of its images, as training records it (`TrainingImages.sha256`)."""

    images: int
    left_out: int
    classes: int
    sha256: str


def pack(
    images: ImageSet,
    out: Path,
    settings: PackingSettings,
    landmarks: dict[str, Any] | None = None,
    labels: dict[str, int] | None = None,
    on_image: Callable[[], None] = lambda: None,
    on_left_out: Callable[[str, str], None] = lambda name, reason: None,
) -> Packed:
    """Write the images of a set as PNGs into a zip, with index.csv (file, source, split) and, for labels, dataset.json.

    landmarks: of the face in each file, which is then cut out as `align_face` does; labels: the class of each file. A
    file that gives no image is told to on_left_out and left out. The same files and settings give the same bytes. The
    zip is written atomically. Raises RuntimeError where nothing is left, ValueError for names that clash.
    """
    if out.resolve() == images.path.resolve():
        raise ValueError(f"--out: found {out}, which the images come from, expected another file")
    records = _named(images)
    names = [record.name for _, record in records]
    kept: list[tuple[str, ImageRecord]] = []
    digest = hashlib.sha256()
    with replacing(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        contents = images.try_read(names, DEFAULT_LIMITS.max_bytes)
        for (target, record), data in zip(records, contents, strict=True):
            on_image()
            try:
                png = _square_png(record.name, data, settings, landmarks)
            except ImageError as error:
                on_left_out(record.name, error.message)
                continue
            digest.update(hashlib.sha256(png).digest())
            _add(archive, target, png)
            kept.append((target, record))
        if not kept:
            raise RuntimeError(
                f"{images.path}: found no image that can be packed ({len(names)} left out), expected one"
            )
        _add(archive, "index.csv", _index(kept))
        if labels is not None:
            _add(archive, "dataset.json", _dataset_json({target: labels[record.name] for target, record in kept}))
    classes = {labels[record.name] for _, record in kept} if labels is not None else ()
    return Packed(len(kept), len(names) - len(kept), len(classes), digest.hexdigest())


def folder_labels(images: ImageSet) -> dict[str, int]:
    """Class numbers by the folders of the files, in the order of their names. Raises ValueError for a file in none."""
    folders = {record.name: str(PurePosixPath(record.name).parent) for record in images.records}
    loose = [name for name, folder in folders.items() if folder == "."]
    if loose:
        raise ValueError(
            f"--label-folders: found {loose[0]} in no folder of {images.path}, expected one for each class"
        )
    numbers = {folder: i for i, folder in enumerate(sorted(set(folders.values())))}
    return {name: numbers[folder] for name, folder in folders.items()}


def stored_labels(images: ImageSet) -> dict[str, int] | None:
    """The labels of a set's dataset.json: {"labels": [["file", number], ...]}; None without one, or without labels.

    Raises ValueError for another form, or a file of the set without a label.
    """
    name = f"{images.path}/dataset.json"
    try:
        text = next(images.read(["dataset.json"]))
    except (FileNotFoundError, KeyError):
        return None
    try:
        found = json.loads(text)["labels"]
        pairs = None if found is None else {str(file): label for file, label in found}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f'{name}: found no {{"labels": [["file", number], ...]}}, expected that') from error
    if pairs is None:
        return None
    wrong = [file for file, label in pairs.items() if type(label) is not int or label < 0]
    if wrong:
        raise ValueError(f"{name}: found label {pairs[wrong[0]]!r} of {wrong[0]}, expected whole numbers from 0")
    missing = [record.name for record in images.records if record.name not in pairs]
    if missing:
        raise ValueError(
            f"{name}: found no label of {missing[0]} ({len(missing)} missing in all), expected one for each"
        )
    return {record.name: pairs[record.name] for record in images.records}


def _named(images: ImageSet) -> list[tuple[str, ImageRecord]]:
    """Records with their names in the zip, sorted by these: a.jpg -> a.png, or a.jpg.png beside another a."""
    short = {record.name: str(PurePosixPath(record.name).with_suffix(".png")) for record in images.records}
    uses = Counter(short.values())
    named = [(f"{r.name}.png" if uses[short[r.name]] > 1 else short[r.name], r) for r in images.records]
    clashing = [target for target, n in Counter(target for target, _ in named).items() if n > 1]
    if clashing:
        raise ValueError(f"{images.path}: found two files for {clashing[0]}, expected names that differ")
    return sorted(named, key=lambda pair: pair[0])


def _square_png(
    name: str, data: bytes | ImageError, settings: PackingSettings, landmarks: dict[str, Any] | None
) -> bytes:
    """One file's PNG. Raises ImageError for a file that gives none."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise ImageError("refused", "found a name that leads elsewhere when unpacked, expected a plain one")
    if isinstance(data, ImageError):
        raise data
    pixels = decode(data).pixels
    if landmarks is None:
        return encode_png(_square(pixels, settings))
    if name not in landmarks:
        raise ImageError("refused", "found no landmarks for it, expected them in the file of landmarks")
    crop = face_crop(landmarks[name])
    _require_size(crop.size, f"a face crop of {crop.size:.1f} pixels", settings)
    return encode_png(align_face(pixels, crop, settings.resolution))


def _square(pixels: np.ndarray, settings: PackingSettings) -> np.ndarray:
    """Cut to the aspect where one is asked for, then made square as a suspect would be: the same filter, never
    stretched.
    """
    if settings.aspect:
        pixels = middle_part(pixels, settings.aspect)
    height, width, _ = pixels.shape
    side = square_side(width, height, settings.shape)
    _require_size(side, f"{width} x {height} pixels, of which a square of side {side} is made", settings)
    return fit_square(pixels, settings.resolution, settings.shape)[0]


def middle_part(pixels: np.ndarray, aspect: tuple[int, int]) -> np.ndarray:
    """The largest middle part of an image whose width and height are exactly as aspect. Raises ImageError for none."""
    height, width, _ = pixels.shape
    unit = min(width // aspect[0], height // aspect[1])
    if not unit:
        raise ImageError("refused", f"found {width} x {height} pixels, expected at least {aspect[0]} x {aspect[1]}")
    left, top = (width - unit * aspect[0]) // 2, (height - unit * aspect[1]) // 2
    return pixels[top : top + unit * aspect[1], left : left + unit * aspect[0]]


def _require_size(side: float, found: str, settings: PackingSettings) -> None:
    if side < settings.resolution and not settings.upscale:
        raise ImageError("refused", f"found {found}, expected at least {settings.resolution} unless --upscale is given")


def _index(kept: list[tuple[str, ImageRecord]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "source", "split"])
    writer.writerows([target, record.source, record.split] for target, record in kept)
    return text.getvalue().encode()


def _dataset_json(labels: dict[str, int]) -> bytes:
    return json.dumps({"labels": [[file, label] for file, label in labels.items()]}, ensure_ascii=False).encode()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """A member with a fixed date and plain permissions, uncompressed: PNGs are compressed already."""
    info = zipfile.ZipInfo(name, EARLIEST)
    info.create_system, info.external_attr = 3, 0o644 << 16
    archive.writestr(info, data)
