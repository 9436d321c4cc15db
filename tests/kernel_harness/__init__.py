"""Runs the CUDA kernels' own text on the host: g++ compiles it against device.h, grids run thread by thread.

`run` stands in for `cuda_ops.driver.run`, so that what is tested includes the launchers: variants, grids, arguments.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from mmap import PAGESIZE as PAGE
from pathlib import Path

from torch import Tensor

from cuda_ops import compiler
from cuda_ops.driver import THREADS, Launch

HERE = Path(__file__).parent
LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PROT_NONE = 0
COMPILER = shutil.which("g++")
OPTIONS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off", "-w")


def directory() -> Path:
    """Where compiled variants stay between sessions, named by their content."""
    return Path(tempfile.gettempdir()) / f"latentprint-harness-{os.getuid()}"


@cache
def build(kernel: str, defines: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
    """The kernel as a shared library with the one function run_grid(grid, block, arguments)."""
    assert COMPILER is not None
    text = f'#include "device.h"\n{compiler.source(kernel)}\nHARNESS({kernel})\n'
    macros = [f"-D{name}={value}" for name, value in (*defines, ("BLOCK", THREADS))]
    key = repr((text, (HERE / "device.h").read_text(encoding="utf-8"), macros, OPTIONS, COMPILER))
    path = directory() / f"{kernel}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        command = [COMPILER, *OPTIONS, *macros, f"-I{HERE}", "-x", "c++", "-", "-o", str(new), "-lm"]
        result = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
        new.replace(path)
    return ctypes.CDLL(str(path))


class Guarded:
    """A copy of a tensor's memory, aligned as that is, ending (within 64 bytes) at a page that nobody may touch.

    Outputs start as NaN, inputs can't be written. Memory too large to copy is used as it is.
    """

    LARGEST = 2**26

    def __init__(self, tensor: Tensor, is_output: bool):
        self.storage, self.is_output = tensor.untyped_storage(), is_output
        self.size, self.home = self.storage.nbytes(), self.storage.data_ptr()
        self.copied, self.pointer = self.size <= self.LARGEST, tensor.data_ptr()
        if not self.copied:
            return
        self.inner = -(-(self.size + 64) // PAGE) * PAGE
        self.base = LIBC.mmap(None, self.inner + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        first, end = self.base + PAGE, self.base + PAGE + self.inner
        self.start = end - self.size - (end - self.size - self.home) % 64
        ctypes.memset(first, 0xFF, self.inner)
        if not is_output:
            ctypes.memmove(self.start, self.home, self.size)
            LIBC.mprotect(first, self.inner, PROT_READ)
        for page in (self.base, end):
            LIBC.mprotect(page, PAGE, PROT_NONE)
        self.pointer = self.start + tensor.data_ptr() - self.home

    def bring_home(self) -> None:
        """Copy an output back; fail where the kernel wrote beside it."""
        if self.copied and self.is_output:
            before = ctypes.string_at(self.base + PAGE, self.start - self.base - PAGE)
            behind = ctypes.string_at(self.start + self.size, self.base + PAGE + self.inner - self.start - self.size)
            assert not (before + behind).strip(b"\xff"), "the kernel wrote outside its tensors"
            ctypes.memmove(self.home, self.start, self.size)

    def close(self) -> None:
        """Give the pages back."""
        if self.copied:
            LIBC.munmap(self.base, self.inner + 2 * PAGE)


def run(work: Launch) -> None:
    """Execute a launch on CPU tensors. An access outside a tensor or a write to an input fails."""
    library = build(work.kernel, tuple(sorted(work.defines.items())))
    guarded = [
        None if t is None else Guarded(t, i < len(work.outputs)) for i, t in enumerate(work.outputs + work.inputs)
    ]
    values = [*[ctypes.c_void_p(0 if g is None else g.pointer) for g in guarded], *work.scalars]
    addresses = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
    try:
        outcome = library.run_grid(work.grid, THREADS, addresses)
        assert outcome != 1, "some threads of a block left out a barrier"
        assert outcome != 2, "the kernel touched memory outside its tensors, or wrote to an input"
        for g in guarded:
            if g is not None:
                g.bring_home()
    finally:
        for g in guarded:
            if g is not None:
                g.close()
