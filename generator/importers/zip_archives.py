"""Zip archives as torch.save writes them: entries are stored, never compressed, and are read where they lie."""

import os
import struct
import zipfile
import zlib

from generator.importers.pickled import described

MOST_ENTRIES = 50_000
LARGEST_DIRECTORY = 2**23  # bytes: zipfile makes objects of all entries before they can be counted
ZIP_START, END_START, END_SIZE = b"PK\x03\x04", b"PK\x05\x06", 22
LONGEST_END_RECORD = END_SIZE + 2**16
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
UTF_8_NAME, ENCRYPTED = 0x800, 0x1  # flags of an entry


def zip_entries(data: memoryview, expected: str) -> tuple[dict[str, memoryview], list[str]]:
    """(entries by name as they lie in the file, notes on wrong checksums, which torch can be told to write).

    expected: for the sentence. Raises ValueError for a damaged archive, entries that are compressed, encrypted, named
    twice, named differently in the directory, or that overlap.
    """
    try:
        with zipfile.ZipFile(_View(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, struct.error, OverflowError, UnicodeError) as error:
        raise ValueError(f"found a damaged zip archive ({type(error).__name__}), expected {expected}") from error
    if len(infos) > MOST_ENTRIES:
        raise ValueError(f"found {len(infos):,} entries in the zip archive, expected at most {MOST_ENTRIES:,}")
    entries: dict[str, memoryview] = {}
    wrong: list[str] = []
    end_before = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = described(info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"found a compressed zip entry {name}, expected stored ones")
        if info.flag_bits & ENCRYPTED:
            raise ValueError(f"found an encrypted zip entry {name}, expected a readable one")
        start = _start(data, info)
        if info.filename in entries or info.header_offset < end_before:
            raise ValueError(f"found the zip entry {name} twice or within another, expected each once")
        end_before = start + info.file_size
        entries[info.filename] = data[start:end_before]
        if zlib.crc32(entries[info.filename]) != info.CRC:
            wrong.append(name)
    notes = [f"{len(wrong)} zip entries have another checksum than the archive says"] if wrong else []
    return entries, notes + unread_after(data, _end(data))


def unread_after(data: memoryview, end: int) -> list[str]:
    """The note on bytes after a checkpoint's end, if there are any."""
    left = len(data) - end
    return [f"{left:,} bytes follow the end of the checkpoint: they were not read"] if left else []


def _end(data: memoryview) -> int:
    """Where the archive ends: after the comment of its last record."""
    tail = bytes(data[-LONGEST_END_RECORD:])
    place = tail.rfind(END_START)
    comment = int.from_bytes(tail[place + END_SIZE - 2 : place + END_SIZE], "little")
    return min(len(data), len(data) - len(tail) + place + END_SIZE + comment)


def _start(data: memoryview, info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: its own header says it, not the directory."""
    header = data[info.header_offset : info.header_offset + LOCAL_HEADER.size] if info.header_offset >= 0 else b""
    if len(header) == LOCAL_HEADER.size and header[:4] == ZIP_START:
        *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
        name_start = info.header_offset + LOCAL_HEADER.size
        start = name_start + name_length + extra_length
        encoding = "utf-8" if info.flag_bits & UTF_8_NAME else "cp437"
        own_name = bytes(data[name_start : name_start + name_length])
        if own_name == info.orig_filename.encode(encoding, "replace") and info.file_size <= len(data) - start:
            return start
    raise ValueError(f"found the zip entry {described(info.filename)} elsewhere, or named otherwise, than announced")


class _View:
    """What `zipfile` needs of a file, over bytes that are already in memory."""

    def __init__(self, data: memoryview):
        self.data, self.at = data, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: len(self.data)}[whence]
        if base + offset < 0:
            raise OSError("a place before the file")
        self.at = base + offset
        return self.at

    def read(self, count: int = -1) -> bytes:
        end = len(self.data) if count < 0 else min(len(self.data), self.at + count)
        if end - self.at > LARGEST_DIRECTORY:
            raise OSError("a directory of more entries than checkpoints have")
        taken = bytes(self.data[self.at : end])
        self.at += len(taken)
        return taken
