"""Which files a user means by files, folders, zips, patterns and lists: lazily, in a fixed order, under safe names."""

import csv
import functools
import glob
import json
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from generator.imagesets import IMAGE_SUFFIXES

LIST_SUFFIXES = {".csv", ".jsonl"}

# What accompanies images in a folder, and is not a suspect unless it is named itself.
_SIDE_SUFFIXES = {".txt", ".md", ".json", ".jsonl", ".csv"}
_SIDE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "README")
_SYSTEM_NAMES = {"Thumbs.db", "desktop.ini", "__MACOSX"}


@dataclass(frozen=True, slots=True)
class SuspectFile:
    """A listed file. path: as the report shows it, always valid Unicode; member: the place in a zip's directory."""

    path: str
    file: str
    member: int | None = None


def list_suspects(
    paths: Sequence[str | Path], out: Path | None = None, recursive: bool = True
) -> Iterator[SuspectFile]:
    """The files at the given paths, lazily: paths in their order, the content of folders and zips sorted by name.

    A path may be a file, a folder (searched to the bottom if recursive, links to folders not followed), a zip (all of
    it), a pattern with *, ? or ** where no such file exists (its matches sorted by name), or a list: a .csv with a
    column or a .jsonl with a field `path`, each the path of an image, relative to the list's folder, in the list's
    order. A file named by its path always counts; in folders, zips and matches hidden files and what accompanies
    images (README, licences, .txt, .md, .json, .jsonl, .csv) are left out. A file reached twice is listed once. out:
    the folder of the results, which is left out wherever it lies. Raises ValueError, at once, for a path that is not
    there, is neither file nor folder, lies in `out`, or is a damaged zip, and for a list as far as it is no list.
    """
    results = out.resolve() if out else None
    roots = [root for path in paths for root in _checked_roots(path, results)]
    return _list_roots(roots, results, recursive)


def _checked_roots(path: str | Path, results: Path | None) -> list[Path]:
    """What one argument stands for: itself, or the matches of a pattern."""
    if not glob.has_magic(str(path)) or Path(path).exists():
        return [_checked_root(path, results)]
    found = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    kept = [m for m in found if not _is_side_file(m.name) and not (results and m.resolve().is_relative_to(results))]
    if not kept:
        missing = "found no such file and none that matches"
        raise ValueError(f"{json_safe(str(path))}: {missing}, expected an image, a folder or a zip")
    return [_checked_root(match, results) for match in kept if match.is_dir() or _may_be_read(match)]


def _checked_root(path: str | Path, results: Path | None) -> Path:
    if path == "":
        raise ValueError("PATH: found an empty name, expected an image, a folder or a zip")
    root, name = Path(path), json_safe(str(path))
    if not root.exists():
        raise ValueError(f"{name}: found no such file or folder, expected an image, a folder or a zip")
    if not (root.is_file() or root.is_dir()):
        raise ValueError(f"{name}: found neither a file nor a folder, expected an image, a folder or a zip")
    if results and root.resolve().is_relative_to(results):
        raise ValueError(f"{name}: found a suspect inside --out, expected suspects from elsewhere")
    if _is_zip(root):
        try:
            open_zip(root)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"{name}: found a damaged zip ({error}), expected an image, a folder or a zip") from error
    return root


def _list_roots(roots: Sequence[Path], results: Path | None, recursive: bool) -> Iterator[SuspectFile]:
    if len(roots) == 1 and roots[0].suffix.lower() not in LIST_SUFFIXES:
        yield from _list_root(roots[0], results, recursive)  # which can't reach a file twice
        return
    seen = set()
    for root in roots:
        for file in _list_root(root, results, recursive):
            key = os.path.abspath(file.file), file.member
            if key not in seen:
                seen.add(key)
                yield file


def _list_root(root: Path, results: Path | None, recursive: bool) -> Iterator[SuspectFile]:
    if root.is_dir():
        top = str(root)
        yield from (SuspectFile(_shown(p), p) for p in _walk("" if top == "." else top, results, recursive))
    elif root.suffix.lower() in LIST_SUFFIXES:
        yield from (SuspectFile(_shown(path), path) for path in _listed_paths(root, results))
    elif _is_zip(root):
        members = sorted(enumerate(open_zip(root).infolist()), key=lambda m: (m[1].filename, m[0]))
        for index, info in members:
            name = PurePosixPath(info.filename)
            if not info.is_dir() and not any(map(_is_hidden, name.parts)) and not _is_side_file(name.name):
                yield SuspectFile(json_safe(f"{root.as_posix()}/{info.filename}"), str(root), index)
    else:
        yield SuspectFile(_shown(str(root)), str(root))


def _shown(path: str) -> str:
    """The path as the report shows it: the same text where it can be, so that it takes memory once."""
    return json_safe(path if os.sep == "/" else path.replace(os.sep, "/"))


def _listed_paths(file: Path, results: Path | None) -> Iterator[str]:
    """The paths in a .csv or .jsonl, of which none need exist. Raises ValueError naming the line that has none."""
    where = json_safe(str(file))
    read = _csv_rows if file.suffix.lower() == ".csv" else _jsonl_rows
    try:
        # Names that are not UTF-8 come back as the bytes that they are.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            for line, row in read(stream, where):
                name = row.get("path") if isinstance(row, dict) else None
                if not isinstance(name, str) or not name:
                    raise ValueError(f"{where}: found no path in line {line}, expected the path of an image")
                path = file.parent / name
                if results and "\0" not in name and path.resolve().is_relative_to(results):
                    raise ValueError(f"{where}: found a suspect inside --out in line {line}, expected one elsewhere")
                yield str(path)
    except OSError as error:
        raise ValueError(f"{where}: found a list that cannot be read ({error.strerror}), expected one") from error


def _csv_rows(stream: TextIO, where: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(stream)
    try:
        if "path" not in (reader.fieldnames or ()):
            columns = ", ".join(reader.fieldnames or ())[:200] or "none"
            raise ValueError(f"{where}: found the columns {json_safe(columns)}, expected one named path")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{where}: found damage after line {reader.line_num} ({error}), expected CSV") from error


def _jsonl_rows(stream: TextIO, where: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(
                    f"{where}: found a line {number} that is no JSON, expected an object a line"
                ) from error


def _walk(folder: str, results: Path | None, recursive: bool) -> Iterator[str]:
    """Files below a folder in the order of their paths, but those of the results; "" is the current folder.

    A folder that cannot be listed stands for its content.
    """
    try:
        with os.scandir(folder or ".") as found:
            names = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in found if not _is_hidden(e.name))
    except OSError:
        yield folder or "."
        return
    for name in names:
        path = os.path.join(folder, name.rstrip("/"))
        if name.endswith("/"):
            if recursive and Path(path).resolve() != results:
                yield from _walk(path, results, recursive)
        elif not _is_side_file(name) and _may_be_read(path):
            yield path


def _may_be_read(path: str | Path) -> bool:
    """False for folders, pipes and devices; True for files, and for what cannot be asked, so that it is reported."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name != "..") or name in _SYSTEM_NAMES


def _is_side_file(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in _SIDE_SUFFIXES or (suffix not in IMAGE_SUFFIXES and name.upper().startswith(_SIDE_NAMES))


def json_safe(name: str) -> str:
    r"""The name with what is not Unicode written as Python shows it: \udcNN for a byte NN that is not UTF-8.

    Lone surrogates have no place in UTF-8 JSON.
    """
    if name.isascii():
        return name
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_zip(path: Path) -> bool:
    """By its first bytes: an image with a zip behind it is an image, and an unreadable file is left to be reported."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip at this path, opened once for all its members. Raises what `zipfile.ZipFile` does."""
    status = path.stat()
    return _open_zip_version(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def _open_zip_version(path: Path, mtime_ns: int, size: int) -> zipfile.ZipFile:
    """Kept open between members: reading the directory of a large zip takes longer than reading an image."""
    return zipfile.ZipFile(path)
