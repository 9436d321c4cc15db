"""Intake: paths -> suspects with canonical pixels and hashes, their strata, and the square that is projected.

Nothing here changes a file, and nothing raises for a bad one: what is wrong with it becomes its `error`.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from attribution.listing import SuspectFile as SuspectFile
from attribution.listing import json_safe, open_zip
from attribution.listing import list_suspects as list_suspects
from attribution.report import FileError
from generator.alignment import FaceCrop, align_face, face_crop
from generator.colour import Transform
from generator.containers import ImageError
from generator.decoding import DEFAULT_LIMITS, Decoded, Limits, decode, pixels_sha256
from generator.squares import fit_square, square_side

Decode = Callable[[bytes, Limits, int | None], Decoded]

QUALITY_TOLERANCE = 5
SCALE_TOLERANCE = 0.10


@dataclass(frozen=True)
class IntakeSettings:
    """What is listed and how it is read.

    frame: which to take of files with several frames or pages, from 1; None refuses them. recursive: whether folders
    are searched to the bottom. max_files: more than that is a wrong use, not a case.
    """

    limits: Limits = DEFAULT_LIMITS
    frame: int | None = None
    recursive: bool = True
    max_files: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("frame", "max_files"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')}: found {value}, expected 1 or more")


DEFAULT_INTAKE = IntakeSettings()


@dataclass(frozen=True, slots=True)
class Suspect:
    """One image under examination. error: why there are no pixels; refusal: why decoded pixels are not examined.

    sha256 is of the file's bytes (None where they could not be read); pixels uint8 [height, width, 3], canonical; facts
    as `generator.facts` has them, None where the decoder gives none; landmarks: of its face, where some were given.
    """

    path: str
    sha256: str | None
    pixels_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    codec: str | None = None
    jpeg_quality: int | None = None
    intake: tuple[Transform, ...] = ()
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)
    facts: dict[str, Any] | None = field(default=None, compare=False)
    error: FileError | None = None
    refusal: str | None = None
    landmarks: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Target:
    """What is projected: uint8 [resolution, resolution, 3], its pixel hash, and how it was made."""

    pixels: np.ndarray = field(repr=False, compare=False)
    sha256: str
    transforms: tuple[Transform, ...]


@dataclass(frozen=True, slots=True)
class Stratum:
    """The image history that a calibration is valid for. scale: side before resizing / the generator's resolution."""

    codec: str
    jpeg_quality: int | None = None
    scale: float = 1.0

    def label(self) -> str:
        """For people: "png, scale 1" or "jpeg q75, scale 2"."""
        quality = "" if self.jpeg_quality is None else f" q{self.jpeg_quality}"
        return f"{self.codec}{quality}, scale {self.scale:.3g}"

    def to_json(self) -> dict[str, Any]:
        """As a dict of plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Stratum":
        """From `to_json`'s dict. Raises KeyError or TypeError for another dict."""
        quality = value["jpeg_quality"]
        return cls(str(value["codec"]), None if quality is None else int(quality), float(value["scale"]))


def read_suspect(
    file: SuspectFile, limits: Limits = DEFAULT_LIMITS, frame: int | None = None, decode: Decode = decode
) -> Suspect:
    """Read, hash and decode one file. Never raises for the file: what is wrong becomes the suspect's error.

    decode: here, or `generator.isolation.DecodingProcess.decode`.
    """
    too_large = f"found a file above {limits.max_bytes:,} bytes, expected an image of at most that size"
    try:
        if file.member is None:
            if not stat.S_ISREG(os.stat(file.file).st_mode):  # reading a pipe may never end
                raise OSError(errno.EINVAL, "a folder, pipe or device")
            with open(file.file, "rb") as stream:
                sha256, data = _read_hashed(stream, limits.max_bytes)
        else:
            archive = open_zip(Path(file.file))
            info = archive.infolist()[file.member]
            if info.file_size > limits.max_bytes:  # not even hashed: it may be a few bytes, repeated for hours
                return Suspect(file.path, None, error=FileError("refused", too_large))
            with archive.open(info) as stream:
                sha256, data = _read_hashed(stream, limits.max_bytes)
    except Exception as error:  # a damaged or encrypted zip member raises anything, from RuntimeError to zlib.error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else json_safe(str(error))
        message = f"found a file that cannot be read ({reason}), expected a readable image"
        return Suspect(file.path, None, error=FileError("unreadable", message))
    if data is None:
        return Suspect(file.path, sha256, error=FileError("refused", too_large))
    return _suspect(file.path, sha256, data, limits, frame, decode)


def suspect_from_bytes(data: bytes, path: str, limits: Limits = DEFAULT_LIMITS) -> Suspect:
    """As `read_suspect`, of a file's bytes: the same intake for generated images, coded by `encode_png`."""
    return _suspect(path, hashlib.sha256(data).hexdigest(), data, limits, None, decode)


def _suspect(path: str, sha256: str, data: bytes, limits: Limits, frame: int | None, decode: Decode) -> Suspect:
    try:
        image = decode(data, limits, frame)
    except ImageError as error:
        return Suspect(path, sha256, error=FileError(error.kind, error.message))
    return Suspect(
        path,
        sha256,
        pixels_sha256(image.pixels),
        image.width,
        image.height,
        image.format,
        image.codec,
        image.jpeg_quality,
        image.transforms,
        image.pixels,
        image.facts,
    )


def _read_hashed(stream: IO[bytes], max_bytes: int) -> tuple[str, bytes | None]:
    """(SHA-256, content); a content above max_bytes is hashed but not kept."""
    digest, kept, size = hashlib.sha256(), bytearray(), 0
    while chunk := stream.read(2**20):
        digest.update(chunk)
        size += len(chunk)
        if size <= max_bytes:
            kept += chunk
        else:
            kept.clear()
    return digest.hexdigest(), None if size > max_bytes else bytes(kept)


def estimate_stratum(suspect: Suspect, side_after_crop: float, resolution: int) -> Stratum:
    """The history that the file shows: codec, JPEG quality, and scale = side_after_crop / resolution.

    side_after_crop: `prepare_side` of the suspect. Raises ValueError for one that was not decoded.
    """
    if suspect.codec is None:
        raise ValueError(f"{suspect.path}: found no decoded pixels, expected some to estimate a stratum from")
    return Stratum(suspect.codec, suspect.jpeg_quality, side_after_crop / resolution)


def match_stratum(stratum: Stratum, calibrated: Sequence[Stratum]) -> Stratum | None:
    """The calibrated stratum nearest to a suspect's: same codec, then JPEG quality within 5 and scale within 10 %.

    Nearest in quality first, then in scale, then in the calibration's order; None where none is that near.
    """

    near = []
    for place, other in enumerate(calibrated):
        quality = _quality_gap(stratum.jpeg_quality, other.jpeg_quality)
        scale = abs(stratum.scale / other.scale - 1)
        # A hair above, so that exactly 10 % is within.
        if other.codec == stratum.codec and quality <= QUALITY_TOLERANCE and scale <= SCALE_TOLERANCE + 1e-9:
            near.append((quality, scale, place))
    return calibrated[min(near)[2]] if near else None


def _quality_gap(quality: int | None, other: int | None) -> float:
    if quality is None or other is None:
        return 0.0 if quality is other else float("inf")
    return abs(quality - other)


def prepare_side(suspect: Suspect, shape: str = "refuse") -> float:
    """The side in the image's pixels of the square that `prepare_target` makes of a decoded suspect.

    Raises ImageError ("refused") for a shape that does not fit, ValueError for a suspect without pixels.
    """
    if suspect.width is None or suspect.height is None:
        raise ValueError(f"{suspect.path}: found no decoded pixels, expected some to make a target of")
    if shape == "landmarks":
        return _face(suspect).size
    return square_side(suspect.width, suspect.height, shape)


def prepare_target(suspect: Suspect, resolution: int, shape: str = "refuse") -> Target:
    """A decoded suspect -> the square that is projected into a generator of this resolution.

    shape: as `fit_square` has it, or "landmarks": the suspect's face is cut out as FFHQ's were, by `align_face`.
    Raises ImageError ("refused") for a shape that does not fit, ValueError for a suspect without pixels.
    """
    if suspect.pixels is None:
        raise ValueError(f"{suspect.path}: found no decoded pixels, expected some to make a target of")
    if shape == "landmarks":
        crop = _face(suspect)
        pixels = align_face(suspect.pixels, crop, resolution)
        return Target(pixels, pixels_sha256(pixels), (crop.transform(resolution),))
    pixels, transforms = fit_square(suspect.pixels, resolution, shape)
    return Target(pixels, pixels_sha256(pixels), transforms)


def _face(suspect: Suspect) -> FaceCrop:
    """Raises ImageError ("refused") where there are no landmarks, or none of a face."""
    if suspect.landmarks is None:
        raise ImageError("refused", "found no landmarks for it, expected them in the file of --landmarks")
    return face_crop(suspect.landmarks)
