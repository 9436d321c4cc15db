"""How a compiled CPU kernel runs: on PyTorch's own threads, which take pieces of the work one after another.

A kernel is a C function of one pointer, to its parameters. The first of these counts the pieces that were taken, so
that threads need no numbers and a busy core does less; a result never depends on who took what.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import cfunc


def compiled(kernel: Callable[[int], None]) -> Any:
    """A function of an address, compiled to one of C, kept on the disk for the next process."""
    try:
        return cfunc("void(int64)", cache=True)(kernel)
    except RuntimeError:  # there is no folder to keep it in
        return cfunc("void(int64)")(kernel)


Fork = Callable[[int, int, int], None]


def run(kernel: Any, parameters: np.ndarray, threads: int) -> None:
    """Run a kernel on at most so many threads. parameters: int64, the first 0."""
    threads = min(threads, torch.get_num_threads())
    if threads > 1:
        _fork()(kernel.address, parameters.ctypes.data, threads)
    else:
        kernel.ctypes(parameters.ctypes.data)


@cache
def _fork() -> Fork:
    """Calls function(data) on several threads at once.

    Threads of another pool than PyTorch's would share the cores with those of it, which wait for work in a loop.
    """
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel  # of the OpenMP library that PyTorch has loaded
    except (AttributeError, OSError, TypeError):
        return _fork_by_pool
    parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return lambda function, data, threads: parallel(function, data, threads, 0)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="latentprint kernel")


def _fork_by_pool(function: int, data: int, threads: int) -> None:
    """Where there is no such library: threads of our own. ctypes lets go of Python's lock while it calls."""
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    others = [_pool().submit(call, data) for _ in range(threads - 1)]
    call(data)
    for other in others:
        other.result()
