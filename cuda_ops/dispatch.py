"""Which kernel runs where, and why: a value that reports and `latentprint doctor` show."""

import os
import warnings
from functools import cache

import numba
import torch

from cuda_ops import launch
from cuda_ops.driver import architecture

VARIABLE = "LATENTPRINT_OPS"


def reference_forced() -> bool:
    """Whether LATENTPRINT_OPS=reference asks for the reference kernels. Raises ValueError for another value."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "reference"):
        raise ValueError(f"{VARIABLE}: found {value!r}, expected reference, or nothing for the fast kernels")
    return value == "reference"


def kernel_in_use(device: str | torch.device = "cpu") -> str:
    """The kernels that the operators run on a device, and the reason where they aren't the fast ones."""
    kind = torch.device(device).type
    if reference_forced():
        return f"{kind}: reference, {VARIABLE}=reference"
    if kind == "cpu":
        return (
            f"cpu: compiled by numba {numba.__version__}; bias_act by PyTorch where channels lie apart or act is curved"
        )
    available, reason = launch.available()
    if kind != "cuda" or not available:
        return f"{kind}: reference, {reason if kind == 'cuda' else 'there are no kernels for it'}"
    return f"cuda: {architecture(torch.device(device))}"


@cache
def cuda_kernels_run() -> bool:
    """Whether CUDA tensors take the CUDA kernels; where they don't, one warning says why. Decided once."""
    if reference_forced():
        return False
    available, reason = launch.available()
    if not available:
        warnings.warn(f"upfirdn2d and bias_act run their slow reference kernels on this GPU: {reason}", stacklevel=2)
    return available
