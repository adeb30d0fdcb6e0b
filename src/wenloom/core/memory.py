"""How memory of the CPU is asked of the system."""

import ctypes
import functools
import gc
import mmap
import platform
from collections.abc import Sequence

import torch
from torch import Tensor

from wenloom.core.mapped import forget

_BLOCK = 16 * 2**20
_ALIGNMENT = 64
_PAGE = 2 * 2**20
_SMALL = 64 * 2**10
"""Bytes. A smaller tensor would gain nothing, and hold on to a block whose others are gone."""


class LargePages:
    """Room for tensors in pages of 2 MB, where the system has them; they stand one after the other.

    What is read whole at every step, such as weights, is read faster so: with pages of 4 KB the processor looks up
    where each of them is. With 124m parameters in float32, a step of one text takes 8.4 ms instead of 9.4 ms. A block
    is given back when the last of its tensors is gone.
    """

    def __init__(self):
        self._block: mmap.mmap | None = None
        self._used = 0

    def zeros(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor of zeros; elsewhere than on the CPU of a Linux machine an ordinary one.

        Raises:
            MemoryError: the system has no room for it.
        """
        count = torch.Size(shape).numel()
        if count == 0 or device.type != "cpu" or not hasattr(mmap, "MADV_HUGEPAGE"):
            return torch.zeros(tuple(shape), dtype=dtype, device=device)
        size = -(-count * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        if self._block is None or self._used + size > len(self._block):
            try:
                self._block = mmap.mmap(-1, max(size, _BLOCK) + _PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            except (OSError, OverflowError):
                raise MemoryError(f"no room for a tensor of {size:,} bytes") from None
            self._used = -torch.frombuffer(self._block, dtype=torch.uint8).data_ptr() % _PAGE
            self._block.madvise(mmap.MADV_HUGEPAGE)
        tensor = torch.frombuffer(self._block, dtype=dtype, count=count, offset=self._used).view(tuple(shape))
        self._used += size
        return tensor

    def keep(self, tensor: Tensor, dtype: torch.dtype | None = None, device: str | None = None) -> Tensor:
        """A copy of a tensor, of this dtype and on this device; a small one in ordinary memory."""
        dtype, place = dtype or tensor.dtype, torch.device(device) if device else tensor.device
        if tensor.numel() * dtype.itemsize < _SMALL:
            return tensor.to(place, dtype, copy=True)
        return self.zeros(tensor.shape, dtype, place).copy_(tensor)

    def take(self, mapped: Tensor, dtype: torch.dtype, device: str) -> Tensor:
        """A copy of a tensor that is mapped from a file, whose pages are given back piece by piece: see `mapped.forget`."""
        if mapped.nbytes < _BLOCK or not mapped.is_contiguous():
            return self.keep(mapped, dtype, device)
        room = self.zeros(mapped.shape, dtype, torch.device(device))
        rows = max(1, _BLOCK // (mapped.nbytes // len(mapped)))
        for to, source in zip(room.split(rows), mapped.split(rows), strict=True):
            to.copy_(source)
            forget(source.data_ptr(), source.nbytes)
        return room


def release_freed_memory() -> None:
    """Give what was freed back to the system, where the C library can (glibc): before something else needs the room."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if platform.system() == "Linux" else None
    if trim is not None:
        gc.collect()
        trim(0)


@functools.cache
def reuse_freed_memory() -> None:
    """Let the C library keep what is freed for the next allocation, instead of giving it back to the system.

    glibc maps every block above 32 MB afresh, and the system clears it page by page: in a training step of 124m
    parameters that is a quarter of the time (510 to 640 tokens/s and more without it, at the same peak memory).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.system() == "Linux" else None
    if mallopt is not None:
        trim_threshold, max_mapped_blocks = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(max_mapped_blocks, 0)
        mallopt(trim_threshold, 2**31 - 1)
