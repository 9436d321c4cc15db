"""CUDA C++ to machine code at first use, by NVRTC through the cuda-core package, kept in a cache on disk.

No nvcc, no host compiler and no header is needed. An entry of the cache is named by the hash of all that the result
depends on: source, options, architecture, versions; it carries a hash of its own, and a damaged one is compiled again.
"""

import hashlib
import io
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).with_name("kernels")
DIGEST = hashlib.sha256().digest_size
OPTIONS: dict[str, Any] = {"std": "c++17", "ptxas_options": ["-v"]}

Defines = tuple[tuple[str, int], ...]


class CompilationError(RuntimeError):
    """NVRTC refused a kernel; the message holds its whole log."""


@dataclass(frozen=True)
class Cubin:
    """Machine code of one kernel for one architecture, and what ptxas said of registers, shared memory and spills."""

    code: bytes
    log: str


def missing() -> str | None:
    """The reason in one line why nothing can be compiled here, None where it can."""
    try:
        installed_version("cuda-core")
    except PackageNotFoundError:
        return "cuda-core is not installed"
    try:
        version()
    except Exception as error:  # whatever the bindings raise where the library is not there
        return f"NVRTC can't be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return None


@cache
def version() -> str:
    """NVRTC's version, such as 13.2."""
    from cuda.bindings import nvrtc

    status, major, minor = nvrtc.nvrtcVersion()
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"nvrtcVersion: {status.name}")
    return f"{major}.{minor}"


@cache
def architectures() -> frozenset[str]:
    """The architectures that this NVRTC compiles for."""
    from cuda.bindings import nvrtc

    status, numbers = nvrtc.nvrtcGetSupportedArchs()
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"nvrtcGetSupportedArchs: {status.name}")
    return frozenset(f"sm_{n}" for n in numbers)


def cache_directory() -> Path:
    """LATENTPRINT_CACHE, or latentprint in the user's directory for caches."""
    if os.environ.get("LATENTPRINT_CACHE"):
        return Path(os.environ["LATENTPRINT_CACHE"])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "latentprint"


@cache
def source(kernel: str) -> str:
    """The text of a kernel, the number types in place of their include: NVRTC then needs no path."""
    text = (KERNELS / f"{kernel}.cu").read_text(encoding="utf-8")
    numbers = (KERNELS / "numbers.cuh").read_text(encoding="utf-8")
    include = '#include "numbers.cuh"\n'
    before, _, after = text.partition(include)
    line = before.count("\n") + 2
    return f'{before}#line 1 "numbers.cuh"\n{numbers}\n#line {line} "{kernel}.cu"\n{after}'


def compile_kernel(kernel: str, defines: Defines, arch: str) -> Cubin:
    """Machine code for a kernel of kernels/ with macros defined, from the cache where it is there.

    arch: such as sm_90. Raises CompilationError with the whole log. A cache that can't be written is done without.
    """
    text = source(kernel)
    key = json.dumps([text, OPTIONS, sorted(defines), arch, version(), installed_version("cuda-core")])
    path = cache_directory() / "kernels" / f"{kernel}-{arch}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    cubin = _read(path)
    if cubin is None:
        cubin = _compile(kernel, text, defines, arch)
        _write(path, cubin)
    return cubin


def _compile(kernel: str, text: str, defines: Defines, arch: str) -> Cubin:
    from cuda.core import Program, ProgramOptions

    macros = [(name, str(value)) for name, value in defines]
    options = ProgramOptions(name=f"{kernel}.cu", arch=arch, define_macro=macros, **OPTIONS)
    log = io.StringIO()
    try:
        code = Program(text, "c++", options).compile("cubin", logs=log).code
    except Exception as error:  # the message already holds the log: chained, it would be printed twice
        settings = ", ".join(f"{name}={value}" for name, value in defines)
        raise CompilationError(f"{kernel}.cu for {arch} with {settings}: {error}") from None
    return Cubin(bytes(code), log.getvalue())


def _read(path: Path) -> Cubin | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, payload = data[:DIGEST], data[DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    size = int.from_bytes(payload[:8], "little")
    return Cubin(payload[8 + size :], payload[8 : 8 + size].decode())


def _write(path: Path, cubin: Cubin) -> None:
    """All or nothing: another process never sees half an entry."""
    log = cubin.log.encode()
    payload = len(log).to_bytes(8, "little") + log + cubin.code
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        os.replace(file.name, path)
    except OSError:  # a read-only home, a full disk: compile again next time
        return


@cache
def load(kernel: str, defines: Defines, arch: str) -> Any:
    """The kernel, ready to be launched on every device of that architecture."""
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(compile_kernel(kernel, defines, arch).code, name=kernel).get_kernel(kernel)
