"""Ed25519 keys, and manifest.sig: the detached signature of manifest.json."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

SIGNATURE_SCHEMA = "latentprint.signature/1"
ALGORITHM = "Ed25519"


@dataclass(frozen=True)
class Signature:
    """What manifest.sig holds. key: the signer's public key; both in hexadecimal."""

    key: str
    signature: str


def write_key_pair(path: Path) -> str:
    """Write a new private key to `path` (readable by its owner only) and its public one to `path`.pub, both as PEM.

    Returns the public key in hexadecimal. Raises ValueError where one of the files is there already.
    """
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    beside = public_path(path)
    for file in (path, beside):
        if file.exists() or file.is_symlink():
            raise ValueError(f"{file}: found a file, expected none: keys are never overwritten")
    _write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write_new(beside, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return key_text(public)


def public_path(path: Path) -> Path:
    """KEY -> KEY.pub."""
    return path.with_name(f"{path.name}.pub")


def key_text(key: Ed25519PublicKey) -> str:
    """The 32 bytes of a public key in hexadecimal."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A key that `write_key_pair` wrote. Raises ValueError, naming the file, for anything else."""
    data = _read(path, "a private key")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path}: found no private key, expected an Ed25519 key from `latentprint keygen`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: found a key of another kind, expected an Ed25519 key from `latentprint keygen`")
    return key


def read_public_key(path: Path) -> str:
    """The public key of a KEY.pub in hexadecimal. Raises ValueError, naming the file, for anything else."""
    data = _read(path, "a public key")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path}: found no public key, expected the KEY.pub of `latentprint keygen`") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path}: found a key of another kind, expected the KEY.pub of `latentprint keygen`")
    return key_text(key)


def signature_bytes(key: Ed25519PrivateKey, data: bytes) -> bytes:
    """The content of manifest.sig: canonical JSON with the signature of `data` and the public key that it holds for."""
    return _signature_file(Signature(key_text(key.public_key()), key.sign(data).hex()))


def _signature_file(signature: Signature) -> bytes:
    content = {"schema": SIGNATURE_SCHEMA, "algorithm": ALGORITHM} | {
        "key": signature.key,
        "signature": signature.signature,
    }
    return rfc8785.dumps(content)


def parse_signature(data: bytes) -> Signature:
    """The content of manifest.sig. Raises ValueError for anything but the very bytes that `signature_bytes` gives."""
    try:
        content: Any = json.loads(data)
        key, signed = bytes.fromhex(content["key"]), bytes.fromhex(content["signature"])
        signature = Signature(key.hex(), signed.hex())
        exact = (len(key), len(signed)) == (32, 64) and data == _signature_file(signature)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"found no signature ({type(error).__name__}), expected {SIGNATURE_SCHEMA}") from error
    if not exact:
        raise ValueError(f"found other content than that of a signature, expected exactly {SIGNATURE_SCHEMA}")
    return signature


def holds(signature: str, key: str, data: bytes) -> bool:
    """Whether a signature of `data` was made with this public key; all in hexadecimal but the data."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(path: Path, kind: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: could not be read ({error.strerror}), expected {kind}") from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet, with these permissions from its first byte on."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise ValueError(f"{path}: could not be written ({error.strerror}), expected a new file") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the user's mask
        file.write(data)
