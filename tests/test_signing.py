"""Keys and signatures: what is written, what is refused, and whether another implementation agrees."""

import json
import stat
import subprocess
from pathlib import Path
from shutil import which

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from reports.manifest import parse_manifest
from reports.signing import (
    holds,
    parse_signature,
    public_path,
    read_private_key,
    read_public_key,
    signature_bytes,
    write_key_pair,
)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    write_key_pair(tmp_path / "examiner")
    return tmp_path / "examiner"


def test_the_private_key_is_the_owners_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    text = write_key_pair(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_public_key(public_path(path)) == text and len(bytes.fromhex(text)) == 32
    before = path.read_bytes(), public_path(path).read_bytes()
    with pytest.raises(ValueError, match=r"key: found a file, expected none: keys are never overwritten"):
        write_key_pair(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"key\.pub: found a file, expected none"):
        write_key_pair(path)
    assert not path.exists() and public_path(path).read_bytes() == before[1]
    with pytest.raises(ValueError, match=r"none/key: could not be written \(No such file or directory\)"):
        write_key_pair(tmp_path / "none" / "key")


def test_a_signature_holds_for_its_key_and_bytes_only(key: Path, tmp_path: Path) -> None:
    data = b'{"files":{},"schema":"latentprint.manifest/1"}'
    written = signature_bytes(read_private_key(key), data)
    signature = parse_signature(written)
    assert signature.key == read_public_key(public_path(key))
    assert holds(signature.signature, signature.key, data)
    assert not holds(signature.signature, signature.key, data + b" ")
    assert not holds(signature.signature, write_key_pair(tmp_path / "other"), data)
    assert written == signature_bytes(read_private_key(key), data)  # Ed25519 draws nothing at random


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees(key: Path, tmp_path: Path) -> None:
    data, raw = tmp_path / "manifest.json", tmp_path / "raw"
    data.write_bytes(b"{}")
    raw.write_bytes(bytes.fromhex(json.loads(signature_bytes(read_private_key(key), b"{}"))["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public_path(key)), "-rawin", "-in", str(data)]
    command += ["-sigfile", str(raw)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    data.write_bytes(b"{ }")
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_every_changed_byte_of_a_signature_shows(key: Path) -> None:
    data = b"{}"
    written = signature_bytes(read_private_key(key), data)
    for place, bit in ((place, bit) for place in range(len(written)) for bit in (1, 32)):  # 32: upper and lower case
        changed = written[:place] + bytes([written[place] ^ bit]) + written[place + 1 :]
        try:
            signature = parse_signature(changed)
        except ValueError:
            continue
        assert not holds(signature.signature, signature.key, data), changed


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"key": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_signature_or_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected .*latentprint.signature/1"):
        parse_signature(content)
    with pytest.raises(ValueError, match=r"expected .*latentprint.manifest/1"):
        parse_manifest(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema":"latentprint.manifest/1","files":{}}',  # not sorted
        b'{"files": {},"schema":"latentprint.manifest/1"}',  # a space
        b'{"files":{},"files":{},"schema":"latentprint.manifest/1"}',
        b'{"files":{"a":"0"},"schema":"latentprint.manifest/1"}',
        b'{"files":{},"more":1,"schema":"latentprint.manifest/1"}',
    ],
)
def test_only_a_canonical_manifest_is_read(content: bytes) -> None:
    assert parse_manifest(b'{"files":{},"schema":"latentprint.manifest/1"}') == {}
    with pytest.raises(ValueError, match="expected"):
        parse_manifest(content)


def test_files_that_are_no_keys_are_named(tmp_path: Path, key: Path) -> None:
    other = tmp_path / "rsa"
    rsa = generate_private_key(65537, 1024)
    other.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_path(other).write_bytes(rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match=r"rsa: found a key of another kind, expected an Ed25519 key"):
        read_private_key(other)
    with pytest.raises(ValueError, match=r"rsa\.pub: found a key of another kind"):
        read_public_key(public_path(other))
    with pytest.raises(ValueError, match=r"examiner\.pub: found no private key"):
        read_private_key(public_path(key))
    with pytest.raises(ValueError, match=r"examiner: found no public key"):
        read_public_key(key)
    with pytest.raises(ValueError, match=r"none: could not be read \(No such file or directory\), expected a public"):
        read_public_key(tmp_path / "none")
