"""Large blocks that are freed and wanted again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from generator.allocation import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
def work():
    np.ones(2**23)  # 64 MiB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_not_taken_from_the_system_again() -> None:
    plain, kept = faults(), faults("keep")
    assert kept < 100  # transparent huge pages may make the other small too
    assert kept <= plain
