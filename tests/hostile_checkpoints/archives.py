"""Zip archives written record by record, so that every field can lie; and torch's containers around a pickle."""

import pickle
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LOCAL, CENTRAL, END, END64, LOCATOR = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


@dataclass(frozen=True)
class Entry:
    """One entry. What is None is what it should be; every other field goes into the file as it is."""

    name: bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    crc: int | None = None
    stored_size: int | None = None
    size: int | None = None
    attributes: int = 0
    local_name: bytes | None = None
    offset: int | None = None
    extra: bytes = b""

    def sizes(self) -> tuple[int, int, int]:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        stored = len(self.data) if self.stored_size is None else self.stored_size
        return crc, stored, len(self.data) if self.size is None else self.size

    def local(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        crc, stored, size = self.sizes()
        head = struct.pack("<5H3I2H", 20, self.flags, self.method, 0, 33, crc, stored, size, len(name), 0)
        return LOCAL + head + name + self.data

    def central(self, offset: int) -> bytes:
        crc, stored, size = self.sizes()
        at = offset if self.offset is None else self.offset
        head = struct.pack("<6H3I", 20, 20, self.flags, self.method, 0, 33, crc, stored, size)
        tail = struct.pack("<5H2I", len(self.name), len(self.extra), 0, 0, 0, self.attributes, at)
        return CENTRAL + head + tail + self.name + self.extra


def zip_of(entries: Iterable[Entry]) -> bytes:
    """A zip archive of these entries."""
    local, central, count = bytearray(), bytearray(), 0
    for entry in entries:
        central += entry.central(len(local))
        local += entry.local()
        count += 1
    return bytes(local + central) + zip_end(count, len(central), len(local))


def zip_end(count: int, size: int, offset: int) -> bytes:
    """The records at the end of an archive: zip64 ones, too, where there are many entries."""
    end64 = struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<IQI", 0, offset + size, 1)
    short = min(count, 0xFFFF)
    extended = END64 + end64 + LOCATOR + locator if count > 0xFFFE else b""
    return extended + END + struct.pack("<4H2IH", 0, 0, short, short, size, offset, 0)


def torch_entries(pickle_bytes: bytes, storages: dict[str, bytes], root: str = "archive") -> dict[str, Entry]:
    """The entries that torch.save writes, by their name below the root."""
    parts = {"data.pkl": pickle_bytes, "byteorder": b"little"}
    parts |= {f"data/{key}": data for key, data in storages.items()} | {"version": b"3\n"}
    return {name: Entry(f"{root}/{name}".encode(), data) for name, data in parts.items()}


def torch_zip(pickle_bytes: bytes, storages: dict[str, bytes]) -> bytes:
    """A file as torch.save writes it."""
    return zip_of(torch_entries(pickle_bytes, storages).values())


def torch_zip_with(pickle_bytes: bytes, storages: dict[str, bytes], changed: str, **fields) -> bytes:
    """The same, with one entry's fields changed."""
    entries = torch_entries(pickle_bytes, storages)
    return zip_of((entries | {changed: replace(entries[changed], **fields)}).values())


def torch_legacy(pickle_bytes: bytes, storages: dict[str, bytes], itemsize: int = 4) -> bytes:
    """A file as torch.save wrote it before version 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(part, protocol=2) for part in (LEGACY_MAGIC, 1001, system))
    numbers = b"".join(struct.pack("<q", len(data) // itemsize) + data for data in storages.values())
    return head + pickle_bytes + pickle.dumps(sorted(storages), protocol=2) + numbers
