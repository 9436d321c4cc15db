"""Which files a user means by files, folders and zips: listed lazily, in a fixed order, under names safe for JSON."""

import functools
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from generator.imagesets import IMAGE_SUFFIXES

# What accompanies images in a folder, and is not a suspect unless it is named itself.
_SIDE_SUFFIXES = {".txt", ".md", ".json", ".csv"}
_SIDE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "README")
_SYSTEM_NAMES = {"Thumbs.db", "desktop.ini", "__MACOSX"}


@dataclass(frozen=True)
class SuspectFile:
    """A listed file. path: as the report shows it, always valid Unicode; member: the place in a zip's directory."""

    path: str
    file: Path
    member: int | None = None


def list_suspects(paths: Sequence[str | Path], out: Path | None = None) -> Iterator[SuspectFile]:
    """The files at the given paths, lazily: paths in their order, the content of folders and zips sorted by name.

    A path may be a file, a folder (searched to the bottom, links to folders not followed) or a zip. A file named by
    its path always counts; in folders and zips hidden files and what accompanies images (README, licences, .txt, .md,
    .json, .csv) are left out. A file reached twice is listed once. out: the folder of the results, which is left out
    wherever it lies. Raises ValueError, at once, for a path that is not there, is neither file nor folder, lies in
    `out`, or is a damaged zip.
    """
    results = out.resolve() if out else None
    roots = [_checked_root(path, results) for path in paths]
    return _list_roots(roots, results)


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


def _list_roots(roots: Sequence[Path], results: Path | None) -> Iterator[SuspectFile]:
    seen = set()
    for root in roots:
        for file in _list_root(root, results):
            key = os.path.abspath(file.file), file.member
            if key not in seen:
                seen.add(key)
                yield file


def _list_root(root: Path, results: Path | None) -> Iterator[SuspectFile]:
    if root.is_dir():
        yield from (SuspectFile(json_safe(path.as_posix()), path) for path in _walk(root, results))
    elif _is_zip(root):
        members = sorted(enumerate(open_zip(root).infolist()), key=lambda m: (m[1].filename, m[0]))
        for index, info in members:
            name = PurePosixPath(info.filename)
            if not info.is_dir() and not any(map(_is_hidden, name.parts)) and not _is_side_file(name.name):
                yield SuspectFile(json_safe(f"{root.as_posix()}/{info.filename}"), root, index)
    else:
        yield SuspectFile(json_safe(root.as_posix()), root)


def _walk(folder: Path, results: Path | None) -> Iterator[Path]:
    """Files below a folder in the order of their paths, but those of the results.

    A folder that cannot be listed stands for its content.
    """
    try:
        with os.scandir(folder) as found:
            entries = [(e.name + "/" * e.is_dir(follow_symlinks=False), e) for e in found if not _is_hidden(e.name)]
    except OSError:
        yield folder
        return
    for name, entry in sorted(entries, key=lambda e: e[0]):
        path = folder / entry.name
        if name.endswith("/"):
            if path.resolve() != results:
                yield from _walk(path, results)
        elif not _is_side_file(entry.name) and _may_be_read(path):
            yield path


def _may_be_read(path: Path) -> bool:
    """False for folders, pipes and devices; True for files, and for what cannot be asked, so that it is reported."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name != "..") or name in _SYSTEM_NAMES


def _is_side_file(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in _SIDE_SUFFIXES or (suffix not in IMAGE_SUFFIXES and name.upper().startswith(_SIDE_NAMES))


def json_safe(name: str) -> str:
    r"""The name with what is not Unicode written as Python shows it: \udcNN for a byte NN that is not UTF-8.

    Lone surrogates have no place in UTF-8 JSON.
    """
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
