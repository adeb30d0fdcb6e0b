"""The batches of a run, read while the model computes."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from wordloom.core.randomness import derive_seed
from wordloom.tokens.batches import Samples
from wordloom.training.parallel import World


class Batch(NamedTuple):
    """This process's rows of one optimizer step."""

    first: int
    """Index of the first row among all samples of the run."""
    inputs_BT: Tensor
    targets_BT: Tensor
    dropout_keys_B: Tensor
    """A function of (seed, sample): a sample drops out alike in whatever process and part of a batch it comes."""


class Feed:
    """Reads ahead by one batch in a thread of its own.

    Args:
        size: samples in an optimizer step, over all processes.
    """

    def __init__(self, samples: Samples, size: int, seed: int, device: str, world: World):
        self._samples, self._size, self._seed, self._device, self._world = samples, size, seed, device, world
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
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
        inputs, targets = self._samples.batch(begin, end - begin)
        keys = torch.tensor([derive_seed(self._seed, "dropout", index) & 0x7FFFFFFF for index in range(begin, end)])
        if self._device == "cuda":
            inputs, targets, keys = (
                each.pin_memory().to("cuda", non_blocking=True) for each in (inputs, targets, keys)
            )
        return Batch(begin, inputs.to(self._device), targets.to(self._device), keys.to(self._device))

    def close(self) -> None:
        """End the thread."""
        self._reader.shutdown(wait=True, cancel_futures=True)
