"""The CPU kernels' bfloat16 against PyTorch's."""

import numpy as np
import pytest
import torch
from numba import njit

from cuda_ops.cpu_numbers import from_bfloat16, pointer, round_by_instruction, round_by_integers, rounds_by_instruction

SMALLEST_NORMAL = 2.0**-126


@njit
def by_instruction(source, target, count):
    x, y = pointer(source, np.float32), pointer(target, np.uint16)
    for i in range(count):
        y[i] = round_by_instruction(x[i])


@njit
def by_integers(source, target, count):
    x, y = pointer(source, np.float32), pointer(target, np.uint16)
    for i in range(count):
        y[i] = round_by_integers(x[i])


@njit
def widened(source, target, count):
    x, y = pointer(source, np.uint16), pointer(target, np.float32)
    for i in range(count):
        y[i] = from_bfloat16(x[i])


def numbers() -> torch.Tensor:
    """Any bits, and the numbers halfway between two bfloat16 and next to these."""
    rng = np.random.default_rng(0)
    some = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    halfway = (rng.integers(0, 2**16, 10_000, dtype=np.uint32) << 16) | 0x8000
    return torch.tensor(np.concatenate([some, halfway - 1, halfway, halfway + 1]).view(np.float32))


@pytest.mark.parametrize("rounding", [by_instruction, by_integers])
def test_rounding_is_pytorchs(rounding):
    x = numbers()
    if rounding is by_instruction:
        if not rounds_by_instruction():
            pytest.skip("needs a processor with AVX512-BF16")
        x = x[~(x.abs() < SMALLEST_NORMAL)]  # these become 0
    found = torch.empty(len(x), dtype=torch.bfloat16)
    rounding(x.data_ptr(), found.data_ptr(), len(x))
    torch.testing.assert_close(found, x.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_the_instruction_makes_0_of_numbers_too_small_to_be_normal():
    if not rounds_by_instruction():
        pytest.skip("needs a processor with AVX512-BF16")
    x = torch.full([64], SMALLEST_NORMAL / 2)
    found = torch.ones(64, dtype=torch.bfloat16)
    by_instruction(x.data_ptr(), found.data_ptr(), 64)
    assert found.eq(0).all()


def test_widening_is_exact():
    x = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    found = torch.empty(2**16)
    widened(x.data_ptr(), found.data_ptr(), 2**16)
    torch.testing.assert_close(found, x.float(), rtol=0, atol=0, equal_nan=True)
