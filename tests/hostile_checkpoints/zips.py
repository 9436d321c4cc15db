"""Archives whose records lie, and files that are of two kinds at once."""

import gzip
import io
import struct
import tarfile
import zlib
from dataclasses import replace

from tests.hostile_checkpoints.archives import END, Entry, torch_entries, torch_zip, torch_zip_with, zip_end, zip_of
from tests.hostile_checkpoints.case import Case, plain
from tests.hostile_checkpoints.layouts import ada, rosinality
from tests.hostile_checkpoints.opcodes import call, pickled

SYSTEM = pickled(call("os.system", "true"))
SYMLINK = 0o120777 << 16


def entries_of_valid() -> dict[str, Entry]:
    kept: dict[str, Entry] = {}

    def keep(pickle_bytes: bytes, storages: dict[str, bytes]) -> bytes:
        kept.update(torch_entries(pickle_bytes, storages))
        return b""

    rosinality(wrap=keep)
    return kept


def changed(name: str, **fields) -> bytes:
    """A valid file but for one entry's record."""
    entries = entries_of_valid()
    return zip_of((entries | {name: replace(entries[name], **fields)}).values())


def with_entries(*more: Entry) -> bytes:
    return zip_of([*entries_of_valid().values(), *more])


def deflated() -> bytes:
    bomb = zlib.compress(bytes(2**28))[2:-4]
    return with_entries(Entry(b"archive/data/bomb", bomb, method=8, size=2**28))


def deflated_pickle() -> bytes:
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(b"\x80\x02" + b"(" * 2**26) + packer.flush()
    return zip_of([Entry(b"archive/data.pkl", bomb, method=8, size=2**26 + 2)])


def many_entries(count: int) -> bytes:
    """This many empty entries, each of another name, all at one place of the file."""
    local = Entry(b"archive/data/0").local()
    central = b"".join(Entry(b"archive/data/%07d" % i).central(0) for i in range(count))
    return local + central + zip_end(count, len(central), len(local))


def end_record(**fields: int) -> bytes:
    """A valid file but for its last record."""
    data = rosinality()
    at = data.rindex(END)
    names = ("disk", "start", "here", "count", "size", "offset", "comment")
    found = dict(zip(names, struct.unpack("<4H2IH", data[at + 4 : at + 22]), strict=True)) | fields
    return data[: at + 4] + struct.pack("<4H2IH", *found.values())


def zip64_extra(size: int, stored: int, offset: int) -> bytes:
    return struct.pack("<HH3Q", 1, 24, size, stored, offset)


def huge_by_zip64(size: int, offset: int = 0) -> bytes:
    extra = zip64_extra(size, size, offset)
    return changed("data/022", size=2**32 - 1, stored_size=2**32 - 1, offset=2**32 - 1, extra=extra)


def tar_of(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("archive/data.pkl")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


PNG = b"\x89PNG\r\n\x1a\n" + bytes(25)
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(40)

CASES: dict[str, Case] = {
    "an entry above the root": plain(lambda: with_entries(Entry(b"../../escaped", b"x")), refused=False),
    "an entry of an absolute path": plain(lambda: with_entries(Entry(b"/tmp/escaped", b"x")), refused=False),
    "a data.pkl above the root": plain(zip_of([Entry(b"../data.pkl", SYSTEM)])),
    "a root that climbs": plain(zip_of(torch_entries(SYSTEM, {}, "archive/../..").values())),
    "an entry that is a symlink": plain(
        lambda: with_entries(Entry(b"archive/data/link", b"/etc/hostname", attributes=SYMLINK)), refused=False
    ),
    "a data.pkl that is a symlink": plain(
        zip_of([Entry(b"archive/data.pkl", b"/etc/hostname", attributes=SYMLINK)])
    ),
    "a duplicate data.pkl": plain(lambda: with_entries(Entry(b"archive/data.pkl", SYSTEM))),
    "a duplicate storage": plain(lambda: with_entries(Entry(b"archive/data/022", bytes(64)))),
    "two roots": plain(lambda: with_entries(Entry(b"other/data.pkl", SYSTEM))),
    "no data.pkl": plain(zip_of([Entry(b"archive/version", b"3\n")])),
    "an archive without entries": plain(zip_end(0, 0, 0)),
    "an archive of scripts": plain(
        zip_of([Entry(b"archive/data.pkl", SYSTEM), Entry(b"archive/constants.pkl", SYSTEM)])
    ),
    "a deflated entry": plain(deflated, costly=True),
    "a deflated data.pkl": plain(deflated_pickle, costly=True),
    "an unknown compression": plain(lambda: changed("data/022", method=99)),
    "entries that overlap": plain(lambda: changed("data/022", offset=0)),
    "a storage that lies over the pickle": plain(lambda: changed("data/022", offset=0, local_name=b"archive/data.pkl")),
    "another name at the entry's place": plain(lambda: changed("data/022", local_name=b"archive/data/xyz")),
    "a wrong checksum of the pickle": plain(lambda: changed("data.pkl", crc=1), refused=False),
    "a wrong checksum of a storage": plain(lambda: changed("data/022", crc=1), refused=False),
    "an encrypted entry": plain(lambda: changed("data/022", flags=1)),
    "an encrypted data.pkl": plain(lambda: changed("data.pkl", flags=1)),
    "a strongly encrypted entry": plain(lambda: changed("data/022", flags=0x41)),
    "a patched entry": plain(lambda: changed("data/022", flags=0x20), refused=False),
    "big-endian numbers": plain(lambda: changed("byteorder", data=b"big")),
    "a byte order of 1 MB": plain(lambda: changed("byteorder", data=b"\xff" * 2**20)),
    "missing storages": plain(lambda: torch_zip(entries_of_valid()["data.pkl"].data, {})),
    "an entry larger than the file": plain(lambda: changed("data/022", size=2**31, stored_size=2**31)),
    "an entry whose sizes differ": plain(lambda: changed("data/022", size=64, stored_size=32)),
    "an entry beyond the file": plain(lambda: changed("data/022", offset=2**31)),
    "a name that is not UTF-8": plain(
        lambda: with_entries(Entry(b"archive/data/\xff\xfe\xed\xa0\x80", b"x", flags=0x800))
    ),
    "a name of 65,535 characters": plain(lambda: with_entries(Entry(b"\x1b[2J\n" * 13_107, b"x", method=8))),
    "a name with a zero byte": plain(lambda: with_entries(Entry(b"archive/data.pkl\0x", SYSTEM, method=8))),
    "100,000 empty entries": plain(lambda: many_entries(100_000), costly=True),
    "500,000 empty entries": plain(lambda: many_entries(500_000), costly=True),
    "an archive of 65,535 parts": plain(lambda: end_record(disk=65535, start=65535), refused=False),
    "a directory of more entries than it has": plain(lambda: end_record(here=60_000, count=60_000), refused=False),
    "a directory beyond the file": plain(lambda: end_record(offset=2**32 - 2)),
    "a directory larger than the file": plain(lambda: end_record(size=2**32 - 2)),
    "a comment longer than the file": plain(lambda: end_record(comment=65535), refused=False),
    "zip64: an entry of 2**62 bytes": plain(lambda: huge_by_zip64(2**62)),
    "zip64: an entry of 2**64 - 1 bytes": plain(lambda: huge_by_zip64(2**64 - 1)),
    "zip64: an entry at 2**63": plain(lambda: huge_by_zip64(64, 2**63)),
    "zip64: an extra field cut short": plain(lambda: changed("data/022", size=2**32 - 1, extra=b"\x01\x00\x18\x00")),
    "zip64: an extra field beyond its record": plain(lambda: changed("data/022", extra=b"\x01\x00\xff\xff1234")),
    "a pickle before an archive": plain(lambda: SYSTEM + rosinality()),
    "a valid pickle before an archive": plain(lambda: ada() + torch_zip(SYSTEM, {}), refused=False),
    "a valid pickle before another": plain(lambda: ada() + SYSTEM, refused=False),
    "an archive before a pickle": plain(lambda: rosinality() + SYSTEM, refused=False),
    "an archive before an archive": plain(lambda: rosinality() + torch_zip(SYSTEM, {})),
    "a pickle in a PNG": plain(lambda: PNG + ada()),
    "an archive in a PNG": plain(lambda: PNG + rosinality()),
    "a pickle after an HDF5 header": plain(lambda: HDF5 + ada()),
    "an archive in a gzip file": plain(lambda: gzip.compress(rosinality())),
    "a pickle in a tar file": plain(lambda: tar_of(ada())),
    "an older torch file in a tar file": plain(lambda: tar_of(rosinality())),
    "a Python script": plain(b"import os\nos.system('true')\n"),
    "a pickle in a data descriptor": plain(lambda: torch_zip_with(SYSTEM, {}, "data.pkl", flags=8, crc=0)),
    "gaps between entries": plain(lambda: rosinality()[:50] + bytes(50) + rosinality()[50:]),
}  # fmt: skip
