"""The case directory: what its files are called, and where a run may write: a new folder, or the run to go on with."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attribution.store import RunStore
from generator.files import remove_partial_files

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
FOLDERS = ("projections", "images")


def require_names(names: Iterable[str]) -> None:
    """Raise ValueError for a candidate's name that can't be part of a file's, or one given twice up to case."""
    seen: dict[str, str] = {}
    for name in names:
        if not NAME.fullmatch(name) or name in (".", ".."):
            raise ValueError(f"{name!r}: expected a name of letters, digits, '.', '_' or '-' (at most 64)")
        if name.lower() in seen:  # one file on a disk that ignores case
            raise ValueError(
                f"{name}: found the name {seen[name.lower()]} too, expected names that differ by more than case"
            )
        seen[name.lower()] = name


def evidence_paths(key: str, name: str, resolution: int) -> dict[str, str]:
    """The files of one projection inside the case directory, by CandidateEvidence's field.

    key: SHA-256 of the suspect's pixels, without a dot; name: the candidate's. No two projections share a file but the
    target, which depends on key and resolution only: what follows the key ends in .resynthesis or .difference, or it
    is a target, whatever the name.
    """
    return {
        "projection": f"projections/{key}.{name}.safetensors",
        "target": f"images/{key}.target-{resolution}.png",
        "resynthesis": f"images/{key}.{name}.resynthesis.png",
        "difference": f"images/{key}.{name}.difference.png",
    }


def require_place(out: Path) -> None:
    """Raise ValueError unless `out` is new, an empty folder, or the folder of a run."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: found a file, expected a folder for the results")
    if out.exists() and not (out / "run.sqlite").is_file() and any(out.iterdir()):
        raise ValueError(f"{out}: found files and no run to go on with (run.sqlite), expected an empty or new folder")


def open_case(out: Path, settings: Mapping[str, Any], environment: Mapping[str, str]) -> RunStore:
    """Make the case directory, or go on with the run in it if it had these settings and this environment.

    Raises ValueError, naming what differs, for another run: only equal ones are promised equal projections.
    """
    out.mkdir(parents=True, exist_ok=True)
    store = RunStore(out / "run.sqlite", {"kind": "attribute"})  # first: a folder without it is not ours to fill
    given = _as_json({**settings, "environment": environment})
    differing = _differing(_flat(store.first("run", "given", given)), _flat(given))
    if differing:
        store.connection.close()
        raise ValueError(f"{out}: holds a run with {differing}, expected the same, or another --out")
    for folder in FOLDERS:
        (out / folder).mkdir(exist_ok=True)
        remove_partial_files(out / folder)
    remove_partial_files(out)
    return store


def _as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it is read back: tuples are lists."""
    return json.loads(json.dumps(record))


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their own names; candidates.NAME and environment.NAME, which others may share."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            prefix = f"{name}." if name in ("candidates", "environment") else ""
            flat |= {prefix + inner: v for inner, v in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _differing(found: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What differs, in words: "steps 3 (now 2) and seed 0 (now 1)"; empty where nothing does."""
    values = [(name, found.get(name), given.get(name)) for name in {**found, **given}]
    words = [f"{name} {_words(a)} (now {_words(b)})" for name, a, b in values if a != b]
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value) if value not in (None, "") else "none"
