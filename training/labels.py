"""The class of each training image: from a dataset.json, or else the folder that it lies in."""

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from generator.imagesets import ImageSet
from generator.networks import LARGEST

FILE = "dataset.json"


@dataclass(frozen=True)
class Labels:
    """numbers: int64 [N], the class of each image in the set's order; names: of the classes, by number."""

    numbers: np.ndarray
    names: tuple[str, ...]


def read_labels(images: ImageSet) -> Labels:
    """Labels of an image set: {"labels": [["file.png", 3], ...]} in its dataset.json, without one the folders' names.

    Folders are numbered in the order of their names. Raises ValueError, naming file and entry, for a dataset.json of
    another form, an image without label, or fewer than two classes.
    """
    text = _read(images)
    if text is None:
        return _from_folders(images)
    where = f"{images.path}/{FILE}"
    labels = _parse(where, text)
    missing = [record.name for record in images.records if record.name not in labels]
    if missing:
        raise ValueError(f"{where}: found no label for {missing[0]} ({len(missing)} missing), expected one an image")
    numbers = np.array([labels[record.name] for record in images.records], np.int64)
    count = int(numbers.max()) + 1
    if count < 2:
        raise ValueError(f"{where}: found only label 0, expected at least two classes")
    return Labels(numbers, tuple(map(str, range(count))))


def _read(images: ImageSet) -> bytes | None:
    try:
        return next(images.read([FILE]))
    except (FileNotFoundError, KeyError):
        return None


def _parse(where: str, text: bytes) -> dict[str, int]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: found no JSON ({error}), expected labels") from error
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f'{where}: found no list of labels, expected {{"labels": [["file.png", 3], ...]}}')
    labels: dict[str, int] = {}
    for i, entry in enumerate(entries):
        if not _is_label(entry):
            found, least = repr(entry)[:60], f"0 to {LARGEST['c_dim'] - 1}"
            raise ValueError(f"{where}: found entry {i} {found}, expected a file's name and a class from {least}")
        if labels.setdefault(entry[0], entry[1]) != entry[1]:
            raise ValueError(f"{where}: found {entry[0]} with labels {labels[entry[0]]} and {entry[1]}, expected one")
    return labels


def _is_label(entry: Any) -> bool:
    if not (isinstance(entry, list) and len(entry) == 2):
        return False
    name, number = entry
    return type(name) is str and type(number) is int and 0 <= number < LARGEST["c_dim"]


def _from_folders(images: ImageSet) -> Labels:
    folders = [str(PurePosixPath(record.name).parent) for record in images.records]
    names = sorted(set(folders))
    if "." in names:
        name = images.records[folders.index(".")].name
        raise ValueError(f"{images.path}: found {name} in no folder and no {FILE}, expected a folder for each class")
    if len(names) < 2:
        raise ValueError(f"{images.path}: found one folder, {names[0]}, and no {FILE}, expected at least two classes")
    numbers = {name: i for i, name in enumerate(names)}
    return Labels(np.array([numbers[folder] for folder in folders], np.int64), tuple(names))
