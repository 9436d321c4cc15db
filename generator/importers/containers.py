"""What foreign checkpoints are wrapped in: a bare pickle, a torch zip archive, or torch's older sequence of pickles."""

import mmap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generator.importers.inert_pickle import MOST_OPCODES, read_pickle
from generator.importers.pickled import Global, PersistentId, PickledValue, described
from generator.importers.stored_tensors import LARGEST_SIZE, TORCH_TYPES, Storage, find_storage, numpy_size
from generator.importers.zip_archives import MOST_ENTRIES, ZIP_START, unread_after, zip_entries

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
NESTED_OPCODES = 1_000  # of a storage saved inside a byte string
PICKLE_START = b"\x80"

# What other files begin with, for a sentence that says what was found.
OTHER_STARTS = {
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"BZh": "a bzip2 file",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\xfd7zXZ": "an xz file",
    b"%PDF": "a PDF document",
}
EXPECTED = "a checkpoint: a pickle, or a file that torch.save wrote"


@dataclass
class Container:
    """An opened checkpoint: its value as data, what it names, and where its storages are."""

    kind: str
    value: Any = None
    globals: Counter[Global] = field(default_factory=Counter)
    _storages: Callable[[str, str, int], Storage] | None = None
    notes: list[str] = field(default_factory=list)
    _nested: dict[int, tuple[Any, Storage]] = field(default_factory=dict)
    _encoded: dict[int, tuple[str, bytes]] = field(default_factory=dict)

    def find(self, persistent_id: Any) -> Storage:
        """The storage of a torch persistent id: ("storage", class, key, location, number of elements, ...)."""
        kind, key, count = parse_persistent_id(persistent_id)
        if self._storages is None:
            raise ValueError("found a reference to a storage outside the pickle, expected its numbers")
        return self._storages(kind, key, count)

    def inside(self, data: bytes | memoryview) -> Storage:
        """The storage in a byte string that torch.save wrote, as `torch.storage._load_from_bytes` takes it."""
        if id(data) not in self._nested:  # the bytes are kept, so that their id stays theirs
            inner = open_container(memoryview(data), NESTED_OPCODES)
            self.globals.update(inner.globals)
            if not isinstance(inner.value, PersistentId):
                raise ValueError("found something else than a storage in a nested file, expected one")
            self._nested[id(data)] = (data, find_storage(inner.value, inner))
        return self._nested[id(data)][1]

    def encoded(self, text: str) -> bytes:
        """The bytes of Latin-1 text, made once. Raises ValueError for other text."""
        if id(text) not in self._encoded:  # the text is kept, so that its id stays its own
            try:
                self._encoded[id(text)] = (text, text.encode("latin-1"))
            except UnicodeEncodeError as error:
                raise ValueError("found text beyond Latin-1 in the place of bytes, expected bytes") from error
        return self._encoded[id(text)][1]


def parse_persistent_id(value: Any) -> tuple[str, str, int]:
    """(type, key, number of elements) of torch's persistent id. Raises ValueError for another form."""
    if type(value) is tuple and len(value) >= 5 and value[0] == "storage":
        _, named, key, _, count = value[:5]
        if isinstance(named, Global) and named.module in ("torch", "torch.cuda", "torch.storage"):
            kind = "Byte" if named.name == "UntypedStorage" else named.name.removesuffix("Storage")
            if kind in TORCH_TYPES and type(key) is str and type(count) is int and 0 <= count <= LARGEST_SIZE:
                return kind, key, count
    raise ValueError("found a reference of another form than torch's to a storage, expected its type, key and size")


def map_file(path: Path) -> memoryview:
    """The bytes of a file, mapped into memory. Raises ValueError naming a file that can't be."""
    if not path.is_file():
        found = "found a directory" if path.is_dir() else "no such file"
        raise ValueError(f"{path}: {found}, expected a checkpoint")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: found an empty file, expected {EXPECTED}")
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ValueError(f"{path}: could not be read ({error.strerror}), expected {EXPECTED}") from error


def open_container(data: memoryview, most_opcodes: int = MOST_OPCODES) -> Container:
    """Read a checkpoint's structure, executing nothing. Raises ValueError for anything that is not one."""
    if data[:4] == ZIP_START:
        return _open_zip(data, most_opcodes)
    for start, name in OTHER_STARTS.items():
        if data[: len(start)] == start:
            raise ValueError(f"found {name}, expected {EXPECTED}")
    if data[257:262] == b"ustar":
        raise ValueError(f"found a tar archive, expected {EXPECTED}")
    try:
        first = read_pickle(data, 0, most_opcodes)
    except ValueError as error:
        if data[:1] != PICKLE_START:
            raise ValueError(f"found neither a pickle nor a zip archive, expected {EXPECTED}") from error
        raise
    if first.value == LEGACY_MAGIC and type(first.value) is int:
        return _open_legacy(data, first.end, most_opcodes)
    return Container("pickle", first.value, first.globals, notes=unread_after(data, first.end))


# ---------------------------------------------------------------- torch zip


def _open_zip(data: memoryview, most_opcodes: int) -> Container:
    entries, notes = zip_entries(data, EXPECTED)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError(f"found a zip archive with {len(pickles)} data.pkl, expected one that torch.save wrote")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise ValueError("found a TorchScript program, expected a checkpoint: a state dict or a pickled network")
    order = bytes(entries.get(f"{root}byteorder", memoryview(b"little")))
    if order != b"little":
        raise ValueError(f"found byte order {described(order)}, expected little")
    pickled = read_pickle(entries[pickles[0]], 0, most_opcodes)

    def storage(kind: str, key: str, count: int) -> Storage:
        if f"{root}data/{key}" not in entries:
            raise ValueError(f"storage {described(key)} is missing from the archive")
        return _storage(entries[f"{root}data/{key}"], kind, key, count)

    return Container("torch zip", pickled.value, pickled.globals, storage, notes)


# ---------------------------------------------------------------- torch legacy


def _open_legacy(data: memoryview, at: int, most_opcodes: int) -> Container:
    """torch.save before 1.6: magic number, protocol, system, object and keys as pickles, then the storages' numbers."""
    parts: list[PickledValue] = []
    for _ in range(4):
        parts.append(read_pickle(data, at, most_opcodes))
        at = parts[-1].end
    _, system, pickled, keys = parts
    if type(system.value) is dict and system.value.get("little_endian") is False:
        raise ValueError("found a big-endian file, expected little-endian numbers")
    if type(keys.value) is not list or len(keys.value) > MOST_ENTRIES:
        raise ValueError("found no list of storages in the torch file, expected one")
    types = {key: kind for kind, key, _ in (parse_persistent_id(i.value) for i in pickled.persistent_ids)}
    storages: dict[str, tuple[int, memoryview]] = {}
    for key in keys.value:
        if type(key) is not str or key not in types:
            raise ValueError(f"found a storage {described(key)} that nothing refers to, expected known ones")
        count = int.from_bytes(data[at : at + 8], "little", signed=True)
        size = count * numpy_size(types[key])
        if not 0 <= size <= len(data) - at - 8:
            raise ValueError(f"storage {described(key)} has {count:,} numbers, but the file ends before")
        storages[key] = (count, data[at + 8 : at + 8 + size])
        at += 8 + size

    def storage(kind: str, key: str, count: int) -> Storage:
        if key not in storages:
            raise ValueError(f"storage {described(key)} is missing from the file")
        return _storage(storages[key][1], kind, key, count)

    return Container("torch legacy", pickled.value, pickled.globals, storage, unread_after(data, at))


def _storage(data: memoryview, kind: str, key: str, count: int) -> Storage:
    if count * numpy_size(kind) > len(data):
        raise ValueError(f"storage {described(key)} announces {count:,} numbers, but has {len(data):,} bytes")
    return Storage(data, kind)
