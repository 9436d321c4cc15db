"""Image sets: a folder, a zip, or either with an index.csv that names file, source and split of each image."""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from generator.containers import ImageError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}


@dataclass(frozen=True)
class ImageRecord:
    """One image of a set: its name in the set, what makes it dependent on others, and its split ("" without one)."""

    name: str
    source: str
    split: str = ""


@dataclass(frozen=True)
class ImageSet:
    """A readable list of images; `records` are sorted by name."""

    path: Path
    records: tuple[ImageRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    def read(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the file bytes of the named images. Raises OSError or KeyError for a file that is not there."""
        if self.path.is_dir():
            for name in names:
                yield (self.path / name).read_bytes()
        else:
            with zipfile.ZipFile(self.path) as archive:
                for name in names:
                    yield archive.read(name)

    def try_read(self, names: Sequence[str], max_bytes: int) -> Iterator[bytes | ImageError]:
        """As `read`; a file that cannot be read, or has more than max_bytes, yields its error and the next follows."""
        with zipfile.ZipFile(self.path) if self.path.is_file() else nullcontext() as archive:
            for name in names:
                try:
                    with archive.open(name) if archive else (self.path / name).open("rb") as stream:
                        data = stream.read(max_bytes + 1)
                except Exception as error:  # a damaged or encrypted zip member raises anything
                    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    yield ImageError("unreadable", f"found a file that cannot be read ({reason}), expected an image")
                    continue
                if len(data) > max_bytes:
                    yield ImageError("refused", f"found a file above {max_bytes:,} bytes, expected at most that")
                else:
                    yield data


def open_image_set(path: str | Path, splits: Sequence[str] = (), source_column: str = "source") -> ImageSet:
    """List the images of a folder or zip; with an index.csv at its top, those that it names.

    splits: keep the rows of these splits only. source_column: the index's column with the source; without an index
    every image is its own source. Raises ValueError where nothing remains, or the index lacks a column or names a
    missing file.
    """
    path = Path(path)
    names, index = _list_files(path)
    if index is None:
        if splits:
            raise ValueError(
                f"{path}: found no index.csv, expected one with a split column for --split {','.join(splits)}"
            )
        records = [ImageRecord(n, n) for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES]
    else:
        records = _read_index(path, index, set(names), splits, source_column)
    if not records:
        which = f" of split {','.join(splits)}" if splits else ""
        raise ValueError(f"{path}: found no images{which}, expected at least one")
    return ImageSet(path, tuple(sorted(records, key=lambda r: r.name)))


def _list_files(path: Path) -> tuple[list[str], str | None]:
    """All file names below a folder or in a zip, and the text of its index.csv, where there is one."""
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        index = (path / "index.csv").read_text(encoding="utf-8-sig") if (path / "index.csv").is_file() else None
        return names, index
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder, expected a folder or zip of images")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: found a file that is not a zip, expected a folder or zip of images")
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        return names, archive.read("index.csv").decode("utf-8-sig") if "index.csv" in names else None


def _read_index(path: Path, text: str, names: set[str], splits: Sequence[str], source_column: str) -> list[ImageRecord]:
    rows = _read_rows(path, text)
    needed = ["file", source_column, *(["split"] if splits else [])]
    missing = [column for column in needed if rows and column not in rows[0]]
    if missing:
        raise ValueError(f"{path}/index.csv: found columns {', '.join(rows[0])}, expected also {', '.join(missing)}")
    known = {row.get("split", "") for row in rows}
    unknown = [split for split in splits if split not in known]
    if unknown:
        raise ValueError(
            f"{path}/index.csv: found splits {', '.join(sorted(known))}, expected also {', '.join(unknown)}"
        )
    kept = [row for row in rows if not splits or row["split"] in splits]
    absent = [row["file"] for row in kept if row["file"] not in names]
    if absent:
        raise ValueError(f"{path}/index.csv: names {absent[0]}, which is not there ({len(absent)} missing in all)")
    return [ImageRecord(row["file"], row[source_column], row.get("split", "")) for row in kept]


def _read_rows(path: Path, text: str) -> list[dict[str, str]]:
    """The index's rows by column. Raises ValueError for one with more or fewer fields than the header."""
    reader = csv.DictReader(io.StringIO(text))
    rows = []
    for row in reader:
        # DictReader fills a short row with None, and keeps what is too much under None.
        if None in row or None in row.values():
            found, columns = "more" if None in row else "fewer", len(reader.fieldnames or ())
            raise ValueError(
                f"{path}/index.csv: found {found} fields in line {reader.line_num}, expected {columns} as in its header"
            )
        rows.append(row)
    return rows
