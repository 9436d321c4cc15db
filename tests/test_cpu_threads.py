"""How compiled CPU kernels are kept and run."""

from unittest.mock import patch

import numpy as np
import pytest
from numba import cfunc, njit
from numba.core.caching import CacheImpl

from cuda_ops import cpu_threads
from cuda_ops.cpu_numbers import pointer, take

PIECES = 1000


@njit
def _mark(address):
    """Count in cell 1 + n of memory how often piece n was taken."""
    cells = pointer(address, np.int64)
    while True:
        piece = take(cells)
        if piece >= PIECES:
            return
        cells[1 + piece] += 1


def mark(address):
    _mark(address)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("own_threads", [False, True])
def test_every_piece_of_work_is_taken_once(threads, own_threads):
    kernel = cpu_threads.compiled(mark)
    cells = np.zeros(1 + PIECES, np.int64)
    fork = cpu_threads._fork_by_pool if own_threads else cpu_threads._fork()
    with patch.object(cpu_threads, "_fork", lambda: fork), patch("torch.get_num_threads", lambda: threads):
        cpu_threads.run(kernel, cells, threads)
    assert (cells[1:] == 1).all()
    assert PIECES < cells[0] <= PIECES + threads


def test_a_kernel_runs_where_there_is_no_folder_to_keep_it_in():
    with patch.object(CacheImpl, "_locator_classes", []):
        with pytest.raises(RuntimeError, match="cannot cache"):
            cfunc("void(int64)", cache=True)(mark)
        kernel = cpu_threads.compiled(mark)
    cells = np.zeros(1 + PIECES, np.int64)
    cpu_threads.run(kernel, cells, 1)
    assert (cells[1:] == 1).all()
