"""What happens to the memory of arrays between training steps."""

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


@functools.cache
def keep_freed():
    """Ask glibc to keep freed memory for the next array, for the rest of the process.

    By default it maps new memory for every large array and returns it to the system when freed; the
    system then zeroes each page at its first use: thousands of page faults in every training step,
    which took a fifth of the VAE's time. Peak memory stays the same. Without glibc nothing happens.
    """
    mallopt = sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
