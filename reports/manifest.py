"""manifest.json: the SHA-256 of every file of a case, in the canonical bytes of RFC 8785, which a signature signs."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rfc8785

from attribution.field_checks import SHA256
from attribution.listing import json_safe
from generator.files import file_sha256

MANIFEST_SCHEMA = "latentprint.manifest/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
# what the manifest leaves out: itself, what signs it, and the record of what is done, with SQLite's files beside it
UNLISTED = {MANIFEST, SIGNATURE, *(f"run.sqlite{end}" for end in ("", "-wal", "-shm", "-journal"))}
_PARTIAL = re.compile(r"\..+\.\d+\.partial")


def manifest_bytes(case: Path) -> bytes:
    """The manifest of a case directory as it is now: every file but UNLISTED and what a killed write left."""
    files = {name: path for name, path in case_files(case) if not _PARTIAL.fullmatch(path.name)}
    hashes = {name: file_sha256(path) for name, path in files.items() if path.is_file() and not path.is_symlink()}
    return rfc8785.dumps({"schema": MANIFEST_SCHEMA, "files": hashes})


def case_files(case: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of everything in a case directory that is no folder, but UNLISTED; links are not followed."""
    for folder, folders, names in os.walk(case):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*names, *links]:
            path = Path(folder, name)
            shown = json_safe(path.relative_to(case).as_posix())
            if shown not in UNLISTED:
                yield shown, path


def parse_manifest(data: bytes) -> dict[str, str]:
    """SHA-256 by file name. Raises ValueError for anything but a manifest in canonical bytes."""
    try:
        content: Any = json.loads(data)
        files = content["files"]
        canonical = rfc8785.dumps(content)
        found = {name: SHA256.fullmatch(value) is not None for name, value in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"found no manifest ({type(error).__name__}), expected {MANIFEST_SCHEMA}") from error
    if content.keys() != {"schema", "files"} or content["schema"] != MANIFEST_SCHEMA or not all(found.values()):
        raise ValueError(f"found other content than that of a manifest, expected exactly {MANIFEST_SCHEMA}")
    if canonical != data:
        raise ValueError("found bytes that are not canonical, expected JSON as of RFC 8785")
    return files
