"""Memory of files that are mapped: what was read of them is given back, as the system reads it again where it is asked for."""

import ctypes
import mmap
import platform

import numpy as np


def forget(address: int, n_bytes: int) -> None:
    """Give back the memory of a mapped file that was read (Linux); anything else there would lose its content.

    So a process that copies a large file holds it once, not twice.

    Args:
        address: where in memory it begins; whole pages from there on are given back.
    """
    start, end = (each // mmap.PAGESIZE * mmap.PAGESIZE for each in (address + mmap.PAGESIZE - 1, address + n_bytes))
    if platform.system() == "Linux" and end > start:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        madvise(start, end - start, mmap.MADV_DONTNEED)


def let_go(values: np.ndarray) -> None:
    """The same of an array, where it lies in a mapped file (`numpy.memmap`)."""
    under = values
    while isinstance(under, np.ndarray):
        under = under.base
    if isinstance(under, mmap.mmap) and values.flags.c_contiguous:
        forget(values.ctypes.data, values.nbytes)
