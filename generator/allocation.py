"""How the C library deals with large blocks of memory that are freed and wanted again in every step."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt's, from glibc's malloc.h
NEVER = -1  # a limit of 2 GiB, the largest that fits, is what a batch of 8 at 256x256 leaves free


def keep_freed_memory() -> bool:
    """Have this process keep freed memory for itself; return whether the C library is one that can.

    Otherwise glibc gives every block above 32 MiB back at once, and each step of a search or training takes its large
    tensors anew from the system, page by page: at 256x256, 680,000 page faults and a third of the time. What is kept
    makes the peak about a fifth larger.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER))
