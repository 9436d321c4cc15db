"""The generator file: one .safetensors with the networks' settings and provenance in its metadata."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from generator.networks import Generator, GeneratorConfig

GENERATOR_FORMAT = "latentprint.generator/1"
DISCRIMINATOR_FORMAT = "latentprint.discriminator/1"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SAFETENSORS_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
DEEPEST = 32  # levels of objects and lists in a provenance: reports show all of them


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write to: it takes its place where the block ends well, and is deleted where not.

    A reader sees the old bytes or all of the new ones. Raises OSError that names the file.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):  # a full disk, say: what failed first is what matters
            partial.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_atomically(path: str | Path, *chunks: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old bytes or all of the new ones. Raises OSError that names the file."""
    with replacing(path) as partial, open(partial, "wb") as file:
        file.writelines(chunks)


def remove_partial_files(folder: Path) -> None:
    """Delete what `write_atomically` left in this folder where its process was killed."""
    for path in folder.glob(".*.partial"):
        if re.fullmatch(r"\..+\.\d+\.partial", path.name) and path.is_file():
            path.unlink()


def safetensors_bytes(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a .safetensors file, the same for the same content."""
    return b"".join(_safetensors_chunks(tensors, metadata))


def _safetensors_chunks(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> list[bytes | memoryview]:
    """Header and numbers of a .safetensors file, without a copy of the numbers.

    The library copies them twice, and leaves the order of the metadata open: here it is sorted.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    chunks: list[bytes | memoryview] = []
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        start, end = end, end + len(numbers)
        header[name] = {
            "dtype": SAFETENSORS_TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        chunks.append(numbers.numpy().data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
    return [len(text).to_bytes(8, "little") + text, *chunks]


def save_network(network: torch.nn.Module, path: str | Path, metadata: dict[str, str]) -> None:
    """Write a network's tensors and metadata atomically as .safetensors."""
    write_atomically(path, *_safetensors_chunks(network.state_dict(), metadata))


def save_generator(generator: Generator, path: str | Path, provenance: dict[str, Any] | None = None) -> None:
    """Write a generator file. provenance: JSON values (data set hash, kimg, parent, imported from)."""
    metadata = {
        "format": GENERATOR_FORMAT,
        "architecture": generator.architecture,
        "config": json.dumps(generator.settings(), sort_keys=True),
        "provenance": json.dumps(provenance or {}, sort_keys=True),
    }
    save_network(generator, path, metadata)


def discriminator_beside(path: Path) -> Path:
    """X.safetensors -> X.discriminator.safetensors."""
    return path.with_name(f"{path.stem}.discriminator.safetensors")


def save_discriminator(discriminator: torch.nn.Module, generator_path: Path, provenance: dict[str, Any]) -> Path:
    """Write a discriminator beside its generator's file; return its path."""
    path = discriminator_beside(generator_path)
    save_network(
        discriminator, path, {"format": DISCRIMINATOR_FORMAT, "provenance": json.dumps(provenance, sort_keys=True)}
    )
    return path


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance that a generator file records: a JSON object of finite numbers and Unicode text.

    Raises ValueError, naming the file, for one of another form.
    """
    text = _read_metadata(path)["provenance"]
    try:
        provenance = json.loads(text)
        json.dumps(provenance, ensure_ascii=False, allow_nan=False).encode()  # no NaN, infinity or lone surrogate
        deep = _depth(provenance) > DEEPEST
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found a provenance that JSON does not have ({error}), expected an object") from error
    if type(provenance) is not dict or deep:
        found = f"more than {DEEPEST} levels" if deep else _short(text)
        raise ValueError(f"{path}: found a provenance of {found}, expected a JSON object")
    original = provenance.get("original_sha256", "")
    if type(original) is not str:
        raise ValueError(f"{path}: found original_sha256 {_short(repr(original))} in its provenance, expected text")
    return provenance


def _depth(value: Any) -> int:
    """Levels of objects and lists: 0 for a plain value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


class WithoutMemory(TorchFunctionMode):
    """Networks built in it have tensors of the right shapes on the meta device; small constants stay real.

    Drawing and scaling are left out: without memory they change nothing, and PyTorch loads for a second to do them.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.randn, torch.zeros, torch.ones):
            return torch.empty(*args, device="meta")
        if func is torch.full:
            return torch.empty(args[0], device="meta")
        if func in (torch.Tensor.div, torch.Tensor.__truediv__) and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs or {})


def load_generator_file(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Read a generator file: frozen, in eval mode.

    Raises ValueError, naming the file, for anything that is not a generator file, lacks, adds or misshapes a tensor,
    holds numbers that are not finite, or has a provenance of another form.
    """
    read_provenance(path)
    try:
        config = GeneratorConfig(**json.loads(_read_metadata(path)["config"]))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: found settings that no generator has ({error})") from error
    with WithoutMemory():  # settings may ask for more than there is; the file's tensors take the places
        generator = Generator(config)
    tensors = matched_tensors(path, read_safetensors(path, "a generator file")[1], generator)
    generator.load_state_dict(tensors, assign=True)
    return generator.to(device).eval().requires_grad_(False)


def load_discriminator(path: str | Path, discriminator: torch.nn.Module) -> None:
    """Read a discriminator file into a network of its shape.

    Raises ValueError, naming the file, for another kind of file or one that lacks, adds or misshapes a tensor or holds
    numbers that are not finite.
    """
    metadata, tensors = read_safetensors(path, "a discriminator file")
    if metadata.get("format") != DISCRIMINATOR_FORMAT:
        raise ValueError(f"{path}: found format {metadata.get('format')!r}, expected {DISCRIMINATOR_FORMAT!r}")
    discriminator.load_state_dict(matched_tensors(path, tensors, discriminator))


def read_safetensors(path: str | Path, kind: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a .safetensors file. Raises ValueError naming the file and what was expected in it."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: found no readable safetensors file ({error}), expected {kind}") from error


def _read_metadata(path: str | Path) -> dict[str, str]:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file, expected a generator file (.safetensors)")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: found no readable safetensors file ({error}), expected a generator file") from error
    if metadata.get("format") != GENERATOR_FORMAT:
        raise ValueError(f"{path}: found format {metadata.get('format')!r}, expected {GENERATOR_FORMAT!r}")
    if metadata.get("architecture") != Generator.architecture:
        raise ValueError(f"{path}: found architecture {metadata.get('architecture')!r}, expected 'stylegan2'")
    if not {"config", "provenance"} <= metadata.keys():
        raise ValueError(f"{path}: found no config or provenance in the metadata, expected both")
    return metadata


def matched_tensors(
    path: str | Path, found: dict[str, torch.Tensor], network: torch.nn.Module
) -> dict[str, torch.Tensor]:
    """The network's tensors in float32, copied out of the file.

    Raises ValueError that names the first tensor missing, unexpected, misshapen, of another type or not finite.
    """
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    for name in sorted(expected.keys() - found.keys()):
        raise ValueError(f"{path}: tensor {name} is missing")
    for name in sorted(found.keys() - expected.keys()):
        raise ValueError(f"{path}: found an unexpected tensor {name}")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise ValueError(f"{path}: tensor {name} has shape {tuple(found[name].shape)}, expected {shape}")
        if found[name].dtype not in DTYPES:
            raise ValueError(f"{path}: tensor {name} has type {found[name].dtype}, expected floating point")
    copied = {name: found[name].to(torch.float32, copy=True) for name in expected}
    for name, tensor in copied.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: tensor {name} holds numbers that are not finite, expected only finite ones")
    return copied
