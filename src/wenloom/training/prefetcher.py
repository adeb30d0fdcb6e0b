"""The batches of a run, read while the model computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.core.randomness import derive_seed
from wenloom.training.parallel import World

Rows = dict[str, Tensor]
"""Tensors with one row per sample, by the names under which an objective takes them."""


class Batch(NamedTuple):
    """This process's rows of one optimizer step."""

    first: int
    """Index of the first row among all samples of the run."""
    rows: Rows
    """Among them `dropout_keys_B`, a function of (seed, sample): a sample drops out alike in whatever process and part
    of a batch it comes."""

    @property
    def targets(self) -> Tensor:
        """What the model is to predict."""
        return next(tensor for name, tensor in self.rows.items() if name.startswith("targets"))

    @property
    def texts(self) -> Tensor:
        """The token ids that tell people which samples these are, one row each."""
        return next(iter(self.rows.values()))

    def part(self, rows: slice) -> Rows:
        """Some of the rows."""
        return {name: tensor[rows] for name, tensor in self.rows.items()}


class Prefetcher:
    """Reads ahead by one batch in a thread of its own.

    Args:
        read: the rows of samples begin .. end - 1; all of one optimizer step.
        size: samples in an optimizer step, over all processes.
    """

    def __init__(self, read: Callable[[int, int], Rows], size: int, seed: int, device: str, world: World):
        self._read_rows, self._size, self._seed, self._device, self._world = read, size, seed, device, world
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prefetcher")
        self._ahead: tuple[int, Future[Batch]] | None = None

    def batch(self, position: int) -> Batch:
        """The rows of the step that begins at sample `position`; the step after it is being read on return."""
        if self._ahead is not None and self._ahead[0] == position:
            batch = self._ahead[1].result()
        else:
            batch = self._read(position)
        following = position + self._size
        self._ahead = following, self._reader.submit(self._read, following)
        return batch

    def _read(self, position: int) -> Batch:
        begin, end = (position + offset for offset in self._world.share(self._size))
        keys = torch.tensor([derive_seed(self._seed, "dropout", index) & 0x7FFFFFFF for index in range(begin, end)])
        rows = self._read_rows(begin, end) | {"dropout_keys_B": keys}
        if self._device == "cuda":
            rows = {name: each.pin_memory().to("cuda", non_blocking=True) for name, each in rows.items()}
        return Batch(begin, {name: each.to(self._device) for name, each in rows.items()})

    def close(self) -> None:
        """End the thread."""
        self._reader.shutdown(wait=True, cancel_futures=True)
