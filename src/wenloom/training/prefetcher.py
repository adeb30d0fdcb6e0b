"""The batches of a run, read while the model computes."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from wenloom.core.randomness import derive_seed
from wenloom.training.parallel import World
from wenloom.training.source import Batch, Source


class Prefetcher:
    """Reads ahead by one batch in a thread of its own, where the source allows it."""

    def __init__(self, source: Source, seed: int, device: str, world: World):
        self._source, self._seed, self._device, self._world = source, seed, device, world
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="prefetcher")
        self._ahead: tuple[int, Future[Batch]] | None = None

    def batch(self, position: int) -> Batch:
        """The rows of the step that begins at sample `position`; that of the step after it may be read on return."""
        if self._ahead is not None and self._ahead[0] == position:
            batch = self._ahead[1].result()
        else:
            batch = self._read(position)
        if self._source.read_ahead:
            following = position + self._source.batch
            self._ahead = following, self._reader.submit(self._read, following)
        return batch

    def _read(self, position: int) -> Batch:
        begin, end = (position + offset for offset in self._world.share(self._source.batch))
        keys = torch.tensor([derive_seed(self._seed, "dropout", index) & 0x7FFFFFFF for index in range(begin, end)])
        rows = self._source.rows(begin, end)
        weight = self._source.weight(rows)
        rows |= {"dropout_keys_B": keys}
        if self._device == "cuda":
            rows = {name: each.pin_memory().to("cuda", non_blocking=True) for name, each in rows.items()}
        return Batch(begin, {name: each.to(self._device) for name, each in rows.items()}, weight.to(self._device))

    def close(self) -> None:
        """End the thread."""
        self._reader.shutdown(wait=True, cancel_futures=True)
