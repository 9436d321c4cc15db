"""What the tests of the kernels share: random tensors in every layout, recorded launches, and when numbers agree."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from cuda_ops import driver
from cuda_ops.driver import Launch
from tests import kernel_harness

EPSILON = {torch.float64: 1e-14, torch.float32: 3e-7, torch.float16: 2**-11, torch.bfloat16: 2**-8}
DTYPES = list(EPSILON)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """The launches of the block, executed as well."""
    launches: list[Launch] = []
    with pytest.MonkeyPatch.context() as patch:

        def run(work: Launch) -> None:
            launches.append(work)
            kernel_harness.run(work)

        patch.setattr(driver, "run", run)
        yield launches


def random_tensor(rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype, layout: str = "nchw") -> Tensor:
    """Normal numbers; layout: nchw, channels_last, sliced (gaps, odd alignment), transposed."""
    if layout == "sliced":
        wide = torch.from_numpy(rng.normal(size=[n + 2 for n in shape])).to(dtype)
        return wide[tuple(slice(1, n + 1) for n in shape)]
    if layout == "transposed":
        return torch.from_numpy(rng.normal(size=shape[::-1])).to(dtype).permute(*reversed(range(len(shape))))
    x = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else x


def assert_close(found: Tensor, expected: np.ndarray, size: np.ndarray | float = 1.0) -> None:
    """Equal up to a few roundings of numbers of that size, NaN and infinity in the same places."""
    tolerance = 4 * EPSILON[found.dtype] * np.maximum(size, np.abs(np.where(np.isfinite(expected), expected, 0)))
    numbers = found.double().numpy()
    assert numbers.shape == expected.shape
    with np.errstate(invalid="ignore"):
        same = (numbers == expected) | (np.isnan(numbers) & np.isnan(expected))
        wrong = ~same & ~(np.abs(numbers - expected) <= tolerance)
    assert not wrong.any(), (
        f"{numbers[wrong][:4]} instead of {expected[wrong][:4]} at {np.argwhere(wrong)[:4].tolist()}"
    )
