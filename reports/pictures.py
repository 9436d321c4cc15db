"""The report's pictures: inside the page for few images, as files beside it for many; thumbnails and noise maps."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load

from attribution.report import CandidateEvidence, Report

EMBEDDED_IMAGES = 100  # a report of more refers to picture files
EMBEDDED_BYTES = 12_000_000  # so does one whose pictures are larger in all
THUMBNAIL = 128  # pixels a side; smaller pictures are their own thumbnails
TILE = 64  # pixels a side of a noise map as drawn: larger ones are cut, smaller ones drawn with larger pixels
TILES, GAP = 6, 4  # noise maps in a row
GREYS = 15  # and one more level for what is transparent: 4 bits
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FOLDER = "report"  # inside the case directory: the pictures that only report.html needs


@dataclass(frozen=True)
class NoisePicture:
    """Noise maps of one projection. source: for an img; autocorrelation: the largest of one pixel, of any map."""

    source: str
    sides: list[int]
    autocorrelation: float


class Pictures:
    """What the page writes as the source of its pictures.

    embedded: data: URIs; else addresses relative to the case directory, and `beside` holds the files that must be
    written there, by name.
    """

    def __init__(self, case: Path, embedded: bool):
        self.case, self.embedded = Path(case), embedded
        self.beside: dict[str, bytes] = {}

    @classmethod
    def of(cls, report: Report, case: Path) -> "Pictures":
        """Embedded for at most EMBEDDED_IMAGES images whose pictures have at most EMBEDDED_BYTES."""
        names = {i.thumbnail for i in report.images if i.thumbnail}
        names |= {n for i in report.images for c in i.candidates for n in (c.target, c.resynthesis, c.difference)}
        few = len(report.images) <= EMBEDDED_IMAGES
        return cls(case, few and sum(case_file(case, name).stat().st_size for name in names) <= EMBEDDED_BYTES)

    def source(self, name: str) -> str:
        """The source of a picture of the case. Raises ValueError for one that is missing, outside or not a PNG."""
        if self.embedded:
            return _data_uri(self._png(name))
        self._png(name, len(PNG_SIGNATURE))
        return quote(name)

    def thumbnail(self, name: str) -> str:
        """The source of a picture at most THUMBNAIL pixels wide and high. Raises ValueError as `source`."""
        header = self._png(name, 24)  # signature, length and name of the first chunk, width, height
        if max(int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) <= THUMBNAIL:
            return self.source(name)
        try:
            with Image.open(io.BytesIO(self._png(name)), formats=["PNG"]) as image:
                image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
                small = _encoded(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            path = case_file(self.case, name)
            raise ValueError(f"{path}: found a PNG that can't be read ({error}), expected a picture") from error
        return self._own(f"{PurePosixPath(name).stem}.thumbnail.png", small)

    def noise(self, evidence: CandidateEvidence) -> NoisePicture | None:
        """The noise maps of a projection, from coarse to fine; None where its file holds none."""
        try:
            tensors = load(case_file(self.case, evidence.projection).read_bytes())
        except (SafetensorError, ValueError, KeyError):
            return None
        maps = [_square(t) for name, t in sorted(tensors.items()) if name.startswith("noise") and _is_square(t)]
        if not maps:
            return None
        name = f"{PurePosixPath(evidence.projection).stem}.noise.png"
        strongest = max((_autocorrelation(m) for m in maps if m.shape[0] > 8), default=0.0)
        return NoisePicture(self._own(name, _encoded(draw_noise(maps))), [m.shape[0] for m in maps], strongest)

    def _png(self, name: str, most: int = -1) -> bytes:
        """The file's bytes, or the first `most` of them."""
        path = case_file(self.case, name)
        with open(path, "rb") as file:
            data = file.read(most)
        if not data.startswith(PNG_SIGNATURE):
            raise ValueError(f"{path}: found a file that is not a PNG, expected a picture that report.json names")
        return data

    def _own(self, name: str, data: bytes) -> str:
        if self.embedded:
            return _data_uri(data)
        self.beside[f"{FOLDER}/{name}"] = data
        return quote(f"{FOLDER}/{name}")


def case_file(case: Path, name: str) -> Path:
    """A file that report.json names. Raises ValueError for one that is missing or outside the case directory."""
    top = Path(case).resolve()
    path = (top / name).resolve()
    if not path.is_relative_to(top):
        raise ValueError(f"report.json: found file {name!r}, expected a path inside the case directory")
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected one that report.json names")
    return path


def draw_noise(maps: list[np.ndarray]) -> Image.Image:
    """Square noise maps as tiles in rows, grey 0, black -3, white +3 standard deviations."""
    rows = -(-len(maps) // TILES)
    columns = min(len(maps), TILES)
    sheet = np.full((rows * (TILE + GAP) - GAP, columns * (TILE + GAP) - GAP), GREYS, np.uint8)
    for i, noise in enumerate(maps):
        start = max(noise.shape[0] - TILE, 0) // 2
        cut = np.nan_to_num(noise[start : start + TILE, start : start + TILE].astype(np.float64))
        level = np.clip(np.round((cut / 6 + 0.5) * (GREYS - 1)), 0, GREYS - 1).astype(np.uint8)
        factor = max(TILE // noise.shape[0], 1)
        tile = level.repeat(factor, 0).repeat(factor, 1)
        y, x = (i // TILES) * (TILE + GAP), (i % TILES) * (TILE + GAP)
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    image = Image.fromarray(sheet, "P")
    image.putpalette([min(grey * 255 // (GREYS - 1), 255) for grey in range(GREYS + 1) for _ in range(3)])
    return image


def _is_square(tensor: np.ndarray) -> bool:
    return tensor.ndim >= 2 and tensor.size > 0 and tensor.size == tensor.shape[-1] ** 2 == tensor.shape[-2] ** 2


def _square(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(tensor.shape[-1], -1)


def _autocorrelation(noise: np.ndarray) -> float:
    """The larger of the two absolute circular autocorrelations of one pixel, of a map of unit variance."""
    return max(abs(float((noise * np.roll(noise, 1, axis)).mean())) for axis in (0, 1))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **({"bits": 4, "transparency": GREYS} if image.mode == "P" else {}))
    return buffer.getvalue()


def _data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
