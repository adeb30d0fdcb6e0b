"""What a run learns from: rows by number, the same in whatever order and by however many processes they are read."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.tokens.batches import Samples
from wenloom.tokens.shards import TokenStream
from wenloom.training.cross_entropy import IGNORED

Rows = dict[str, Tensor]
"""Tensors with one row per sample, by the names under which an objective takes them."""


class Batch(NamedTuple):
    """This process's rows of one optimizer step."""

    first: int
    """Index of the first row among all samples of the run."""
    rows: Rows
    """Among them `dropout_keys_B`, a function of (seed, sample): a sample drops out alike in whatever process and part
    of a batch it comes."""
    weight: Tensor
    """What the sum over these rows is divided by, summed over all processes: targets that count, or whatever the source
    counts."""

    @property
    def n_rows(self) -> int:
        """How many there are."""
        return len(self.texts)

    @property
    def texts(self) -> Tensor:
        """The token ids that tell people which samples these are, one row each."""
        return next(iter(self.rows.values()))

    def part(self, rows: slice) -> Rows:
        """Some of the rows."""
        return {name: tensor[rows] for name, tensor in self.rows.items()}


class Source(ABC):
    """Samples numbered from 0 on without end, epoch after epoch."""

    batch: int
    """Samples of an optimizer step, over all processes."""
    per_epoch: float
    """Samples of an epoch."""
    row_tokens: int
    """Tokens of a row, on average."""
    longest: int
    """Tokens of the longest row."""
    read_ahead = True
    """Whether rows may be read while the step before them is computed; not where the model makes them itself."""
    one_shape = False
    """Whether all rows have one shape, so that code compiled for one serves them all."""

    @abstractmethod
    def rows(self, begin: int, end: int) -> Rows:
        """Samples begin .. end - 1, which are of one optimizer step, on the CPU."""

    def widest(self) -> Rows:
        """A row as long as any, to measure memory with."""
        return self.rows(0, 1)

    def tokens(self, begin: int, end: int) -> int:
        """How many tokens these samples have."""
        return (end - begin) * self.row_tokens

    def work(self, samples: int) -> float:
        """What the first samples of the run cost together, in samples of average length; it never falls."""
        return float(samples)

    def weight(self, rows: Rows) -> Tensor:
        """What the sum over rows is divided by: how many targets count."""
        return (next(tensor for name, tensor in rows.items() if name.startswith("targets")) != IGNORED).sum()


class CorpusSource(Source):
    """Windows of a stream of tokens, see `tokens.batches.Samples`."""

    one_shape = True

    def __init__(self, stream: TokenStream, context: int, batch: int, seed: int):
        self._samples = Samples(stream, context, seed)
        self.batch, self.per_epoch = batch, self._samples.per_epoch
        self.row_tokens = self.longest = context

    def rows(self, begin: int, end: int) -> Rows:
        """Tokens, and those that follow them."""
        inputs_BT, targets_BT = self._samples.batch(begin, end - begin)
        return {"inputs_BT": inputs_BT, "targets_BT": targets_BT}


class MixtureSource(Source):
    """Samples of several sources, evenly mixed by their shares.

    Of the samples from number 0 on, those of the sources after the first are where floor((i + 1) r) > floor(i r), r the part of all
    but the first; their own samples are numbered in this order and divided in the same way among the rest. A sample remains a
    function of its number, and so does its number in its source.
    """

    def __init__(self, sources: Sequence[Source], shares: Sequence[float]):
        """
        Args:
            shares: parts of the samples, which sum to 1.
        """
        self.sources, self.shares = sources, shares
        left = [sum(shares[place:]) for place in range(len(shares))]
        self._rest = [after / before for before, after in itertools.pairwise(left)]
        self.batch, self.per_epoch = sources[0].batch, sum(source.per_epoch for source in sources)
        self.row_tokens, self.longest = sources[0].row_tokens, max(source.longest for source in sources)
        self.one_shape = all(source.one_shape and source.longest == self.longest for source in sources)

    def rows(self, begin: int, end: int) -> Rows:
        """See `Source`; rows of all have the same names."""
        found = []
        for sample in range(begin, end):
            which, number = self.place(sample)
            found.append(self.sources[which].rows(number, number + 1))
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    def place(self, sample: int) -> tuple[int, int]:
        """Which source a sample is of, and its number there."""
        for which, rest in enumerate(self._rest):
            before, after = math.floor(sample * rest), math.floor((sample + 1) * rest)
            if after == before:
                return which, sample - before
            sample = before
        return len(self._rest), sample


class MixedSource(Source):
    """Samples of two sources, evenly mixed: of every 1 / share samples one is the second's.

    Sample i is the second's where floor((i + 1) share) > floor(i share); each source's own samples stay in order, so
    that a sample remains a function of its number.
    """

    def __init__(self, first: Source, second: Source, share: float):
        self._first, self._second, self._share = first, second, share
        self.batch, self.per_epoch = first.batch, first.per_epoch / (1 - share)
        self.row_tokens, self.longest = first.row_tokens, max(first.longest, second.longest)
        self.one_shape = first.one_shape and second.one_shape and first.longest == second.longest

    def rows(self, begin: int, end: int) -> Rows:
        """See `Source`; rows of both have the same names."""
        places = [self.place(sample) for sample in range(begin, end)]
        found = []
        for source, number in places:
            found.append((self._second if source else self._first).rows(number, number + 1))
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    def place(self, sample: int) -> tuple[int, int]:
        """Which source a sample is of, 0 or 1, and its number there."""
        before, after = math.floor(sample * self._share), math.floor((sample + 1) * self._share)
        return (1, before) if after > before else (0, sample - before)
