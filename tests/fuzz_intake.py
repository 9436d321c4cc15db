"""Intake under mutated files: every one ends with pixels or one clear sentence, in bounded time and memory.

    python -m tests.fuzz_intake --files 20000 --seed 0

Files of all formats that Pillow writes are cut, flipped, spliced, renamed and turned into bombs, and read from the disk
as suspects are. The summary of the last long run is in tests/fuzz_intake.txt; tests/test_fuzz_intake.py runs a few.
"""

import argparse
import json
import re
import struct
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from attribution.intake import Suspect, read_suspect
from attribution.listing import SuspectFile
from generator.containers import FORMATS
from generator.decoding import Limits, pixels_sha256
from generator.isolation import DecodingProcess
from tests.image_files import chunk, png, saved
from tests.test_colour import tiff

LIMITS = Limits(max_pixels=4_000_000, max_bytes=2**24, seconds=10)
SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".avif", ".heic", ".txt", ".zip", "")
# Each a sentence "found ..., expected ...", without control characters, of a length to print.
SENTENCE = re.compile(r"found [ -~]{1,400}, expected [ -~]{1,200}")
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\1\0\0", b"\xff\xfe", b"\1")


@dataclass
class Summary:
    """What came of a run. ends: counts of pixels and of sentences without their particulars."""

    files: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    processes: int = 0
    slowest: float = 0.0
    peak_mib: float = 0.0

    def text(self) -> str:
        """The summary, a line for each way to end."""
        lines = [
            f"files: {self.files}, of them decoded: {self.ends['decoded']}; faults: {len(self.faults)}",
            f"decoding processes: {self.processes}; most memory of one: {self.peak_mib:.0f} MiB; "
            f"slowest file: {self.slowest:.2f} s",
            "decoded by format: " + ", ".join(f"{name} {n}" for name, n in sorted(self.formats.items())),
            *(f"{n:6d}  {end}" for end, n in self.ends.most_common()),
        ]
        return "\n".join([*lines, *self.faults]) + "\n"


def originals() -> list[bytes]:
    """Sound files in all formats and modes that Pillow writes, with metadata, frames and profiles."""
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (20, 24, 4), dtype=np.uint8)).resize((48, 40))
    colour, grey = picture.convert("RGB"), picture.convert("L")
    exif = Image.Exif()
    exif[0x0112], exif[305] = 6, "an editor"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    meta = {"exif": exif.tobytes(), "icc_profile": icc}

    def three(file_format: str) -> bytes:  # of new images: a JPEG writer leaves its settings in them
        frames = [colour.rotate(angle) for angle in (0, 90, 180)]
        return saved(frames[0], file_format, save_all=True, append_images=frames[1:])

    files = [saved(picture.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    files += [saved(colour, "PNG", **meta), three("PNG"), png((2, 2, 16, 6), bytes(34))]
    files += [saved(colour, "JPEG", **meta, quality=q, progressive=q > 80) for q in (30, 75, 95)]
    files += [saved(grey, "JPEG"), saved(picture.convert("CMYK"), "JPEG"), three("MPO")]
    files += [saved(picture, "WEBP", lossless=lossless, **meta) for lossless in (False, True)]
    files += [three("WEBP"), saved(colour, "GIF"), three("GIF")]
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files.append(saved(colour, "TIFF", compression=compression))
    files += [saved(picture.convert(mode), "TIFF") for mode in ("1", "P", "RGBA", "CMYK", "I;16", "F")]
    files += [saved(picture.convert("1"), "TIFF", compression="group4"), three("TIFF")]
    files += [saved(picture.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    for name in ("AVIF", "HEIF"):
        if name in FORMATS:
            files += [saved(picture, name, exif=exif.tobytes()), three(name)]
    for name in ("PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "JPEG2000", "PDF", "EPS", "IM", "ICNS"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Pillow 15 writes fewer of them
            files.append(saved(colour, name))
    return files


def bombs() -> list[bytes]:
    """Small files that ask for much: by their headers, by what they unpack to, by the number of their parts."""
    zeros = zlib.compress(bytes(2**26), 9)
    text = chunk(b"zTXt", b"a\0\0" + zeros) + chunk(b"iCCP", b"a\0\0" + zeros) + chunk(b"iTXt", b"a\0\1\0\0\0" + zeros)
    files = [png((side, side, 8, 2), b"") for side in (2_001, 30_000, 2**31 - 1)]
    files += [png((2, 2, 8, 2), bytes(2**26)), png((2, 2, 8, 2), bytes(14), text)]
    files += [png((1, 1, 8, 0), bytes(2), chunk(b"tEXt", b"a\0b") * 100_000)]
    plain = saved(Image.new("RGB", (8, 8)), "BMP")
    files += [plain[:18] + struct.pack("<ii", side, -side) + plain[26:] for side in (3_000, 2**31 - 1)]
    rle = (
        b"BM" + struct.pack("<IHHI", 62, 0, 0, 62) + struct.pack("<IiiHHIIiiII", 40, 1900, 1900, 1, 8, 1, 0, 0, 0, 2, 2)
    )
    files.append(rle + bytes(8) + b"\xff\1" * 20_000)
    gif = saved(Image.new("P", (8, 8)), "GIF")
    files.append(gif[:6] + b"\xff\xff\xff\xff" + gif[10:])
    files.append(gif[:-1] + gif[gif.index(b",") : -1] * 20_000 + b";")
    jpeg = saved(Image.new("RGB", (8, 8)), "JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    files += [jpeg[:place] + struct.pack(">HH", side, side) + jpeg[place + 4 :] for side in (1_999, 65_500)]
    exif = Image.Exif()
    exif[0x0112] = 1
    webp = saved(Image.new("RGB", (8, 8)), "WEBP", exif=exif)
    files.append(webp[:24] + b"\xff\x3f\0" * 2 + webp[30:])
    files += [tiff(np.zeros((8, 8, 3), np.uint8), tags={256: n, 257: n}, deflate=True) for n in (1_999, 60_000)]
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 8, 8)  # a directory that follows itself
    files += [loop, b"II*\0\x08\0\0\0\xff\xff" + bytes(600_000), b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IDAT" * 100_000]
    files += [b"RIFF" + b"\xff" * 4 + b"WEBP" + b"VP8X\0\0\0\0" * 50_000, b"\xff\xd8" + b"\xff\xe1\0\2" * 200_000]
    files += [b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08free" * 50_000]
    return files


def mutated(originals: list[bytes], rng: np.random.Generator) -> Iterator[bytes]:
    """Endless damaged files, each an original changed in one to three ways; the first are the originals and bombs."""
    yield from originals
    yield from bombs()
    changes: list[Callable[[bytes, np.random.Generator], bytes]]
    changes = [_truncate, _flip, _flip, _flip, _number, _number, _delete, _repeat, _insert, partial(_splice, originals)]
    while True:
        data = originals[rng.integers(len(originals))]
        for _ in range(rng.integers(1, 4)):
            data = changes[rng.integers(len(changes))](data, rng)
        yield with_checksums(data) if data.startswith(b"\x89PNG") and rng.random() < 0.7 else data


def _place(data: bytes, rng: np.random.Generator) -> int:
    """Anywhere, more often near the start, where headers are."""
    return int(len(data) * rng.random() ** 2)


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9) if data else 0):
        changed[_place(data, rng)] ^= 1 << rng.integers(8)
    return bytes(changed)


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    place, number = _place(data, rng), NUMBERS[rng.integers(len(NUMBERS))]
    return data[:place] + number + data[place + len(number) :]


def _delete(data: bytes, rng: np.random.Generator) -> bytes:
    place = _place(data, rng)
    return data[:place] + data[place + rng.integers(1, 64) :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(data, rng), rng.integers(1, 200)
    return data[:place] + data[place : place + length] * int(rng.integers(2, 20)) + data[place:]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    place = _place(data, rng)
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place:]


def _splice(originals: list[bytes], data: bytes, rng: np.random.Generator) -> bytes:
    other = originals[rng.integers(len(originals))]
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums that its chunks should have, so that damage reaches what reads them."""
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        parts.append(chunk(name, content))
        position += 12 + length
    return b"".join(parts) + data[position:]


def judge(suspect: Suspect, summary: Summary) -> None:
    """Count a suspect's end; add what is wrong with it to the faults."""
    summary.files += 1
    if suspect.error is None:
        assert suspect.pixels is not None
        summary.ends["decoded"] += 1
        summary.formats[str(suspect.format)] += 1
        sound = suspect.pixels.shape == (suspect.height, suspect.width, 3) and suspect.pixels.dtype == np.uint8
        if not sound or suspect.pixels_sha256 != pixels_sha256(suspect.pixels):
            summary.faults.append(f"{suspect.sha256}: its pixels are not what is said of them")
        json.dumps([suspect.facts, suspect.intake], allow_nan=False).encode()
        return
    message = suspect.error.message
    reason = re.sub(r" \(.*\)", " (...)", re.sub(r"[\d,]*\d", "N", message.split(", expected")[0]))
    summary.ends[f"{suspect.error.kind}: {reason}"] += 1
    if not SENTENCE.fullmatch(message):
        summary.faults.append(f"{suspect.sha256}: no clear sentence: {message!r}")
    if "ended its decoder" in message or "not decoded in" in message:
        summary.faults.append(f"{suspect.sha256}: {message}")


def fuzz(files: int, seed: int, keep: Path | None = None, originals_and_bombs: bool = True) -> Summary:
    """Read so many mutated files. keep: where those with a fault are written."""
    sound, rng, summary = originals(), np.random.default_rng(seed), Summary()
    source = mutated(sound, rng)
    if not originals_and_bombs:
        for _ in range(len(sound) + len(bombs())):
            next(source)
    pids = set()
    with DecodingProcess() as process, tempfile.TemporaryDirectory() as folder:
        for _, data in zip(range(files), source, strict=False):
            path = Path(folder, f"x{SUFFIXES[rng.integers(len(SUFFIXES))]}")
            path.write_bytes(data)
            frame = int(rng.integers(1, 4)) if rng.random() < 0.5 else None
            before, faults = time.perf_counter(), len(summary.faults)
            judge(read_suspect(SuspectFile(path.name, str(path)), LIMITS, frame, process.decode), summary)
            summary.slowest = max(summary.slowest, time.perf_counter() - before)
            if process.pid:
                pids.add(process.pid)
                summary.peak_mib = max(summary.peak_mib, _peak_mib(process.pid))
            if keep and len(summary.faults) > faults:
                (keep / f"{summary.files:06d}").write_bytes(data)
            path.unlink()
    summary.processes = len(pids)
    return summary


def _peak_mib(pid: int) -> float:
    """The most memory that a process had, where the system says it (Linux)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an existing folder for the files with a fault")
    asked = parser.parse_args()
    print(fuzz(asked.files, asked.seed, asked.keep).text(), end="")
