"""A launch of a CUDA kernel as a value, and the one function that needs a GPU: it runs such a value."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from cuda_ops import compiler

THREADS = 256  # per block, in every kernel


@dataclass(frozen=True)
class Launch:
    """A compiled variant of a kernel, its one-dimensional grid, and its arguments in the kernel's order."""

    kernel: str
    defines: dict[str, int]
    grid: int
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor | None, ...]
    scalars: tuple[ctypes._SimpleCData, ...]


def available() -> tuple[bool, str]:
    """Whether the kernels can run on the current device: (True, "CUDA sm_90") or (False, the reason in one line)."""
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    reason = compiler.missing()
    if reason:
        return False, reason
    arch = architecture(torch.device("cuda"))
    if arch not in compiler.architectures():
        return False, f"NVRTC {compiler.version()} does not compile for {arch}"
    return True, f"CUDA {arch}"


def architecture(device: torch.device) -> str:
    """The name under which the compiler knows a device, such as sm_90."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


class _CurrentStream:
    """torch's current stream in the form in which CUDA libraries in Python hand streams to each other."""

    def __init__(self, device: torch.device):
        self.handle = torch.cuda.current_stream(device).cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle  # version of the protocol, handle


def run(work: Launch) -> None:
    """Compile the kernel, where that has not been done, and launch it on the current stream of the outputs' device.

    Raises compiler.CompilationError with the compiler's whole log; the driver's errors pass through.
    """
    from cuda.core import Device, LaunchConfig, launch

    where = work.outputs[0].device
    with torch.cuda.device(where):
        device = Device(where.index)
        device.set_current()
        kernel = compiler.load(work.kernel, tuple(sorted(work.defines.items())), architecture(where))
        pointers = [0 if t is None else t.data_ptr() for t in (*work.outputs, *work.inputs)]
        stream = device.create_stream(_CurrentStream(where))
        launch(stream, LaunchConfig(grid=work.grid, block=THREADS), kernel, *pointers, *work.scalars)
