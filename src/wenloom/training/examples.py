"""The examples of a task as a run learns from them: encoded, in batches of similar length."""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wenloom.checkpoint.card import write_task_card
from wenloom.core.randomness import derive_seed
from wenloom.tokens.sizes import TextSizes
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, collated, tokens_of
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.history import BestBy
from wenloom.training.memorization import CopiedSpan
from wenloom.training.objectives import Loss
from wenloom.training.parallel import World
from wenloom.training.source import Rows, Source

_SORTED_TOGETHER = 64
"""Batches whose examples are sorted by length together."""
_EVALUATION_TOKENS = 4096


class Examples(Source):
    """Batches of examples; the order is a function of seed and epoch.

    An epoch shuffles all examples, sorts them by length in stretches of 64 batches, so that little is padding, and
    shuffles the batches.

    Args:
        batch: examples in an optimizer step.
        change: makes of an example and a seed what is learned this time.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch: int,
        seed: int,
        change: Callable[[Example, int], Example] | None = None,
    ):
        self._change = change
        self.examples, self.batch, self._seed = examples, min(batch, len(examples)), seed
        self._lengths = np.array([tokens_of(each) for each in examples])
        self.n_batches = -(-len(examples) // self.batch)
        self.per_epoch = self.n_batches * self.batch
        self.row_tokens, self.longest = max(1, round(self._lengths.mean())), int(self._lengths.max())

    def rows(self, begin: int, end: int) -> Rows:
        """Samples begin .. end - 1, which are of one batch; short columns are filled up."""
        chosen = [self.examples[index] for index in self._indices(begin, end)]
        if self._change is not None:
            chosen = [self._change(each, derive_seed(self._seed, "change", begin + n)) for n, each in enumerate(chosen)]
        return collated(chosen)

    def widest(self) -> Rows:
        """The longest example."""
        longest = self.examples[int(self._lengths.argmax())]
        return collated([longest if self._change is None else self._change(longest, 0)])

    def tokens(self, begin: int, end: int) -> int:
        """By the examples as they are, without what changes them."""
        return int(self._lengths[self._indices(begin, end)].sum())

    def work(self, samples: int) -> float:
        """By their lengths."""
        epoch, first = divmod(samples, int(self.per_epoch))
        done = self._done(epoch)
        return self.per_epoch * (epoch + (float(done[first - 1] / done[-1]) if first else 0.0))

    @functools.lru_cache(maxsize=2)  # noqa: B019 - one object a run
    def _done(self, epoch: int) -> np.ndarray[Any, Any]:
        """Tokens of the first samples of an epoch."""
        return np.cumsum(self._lengths[self._order(epoch)])

    def _indices(self, begin: int, end: int) -> np.ndarray[Any, Any]:
        epoch, first = divmod(begin, self.per_epoch)
        return self._order(epoch)[first : first + end - begin]

    @functools.lru_cache(maxsize=2)  # noqa: B019 - one object a run
    def _order(self, epoch: int) -> np.ndarray[Any, Any]:
        drawn = np.random.default_rng(derive_seed(self._seed, "examples", epoch))
        order = drawn.permutation(len(self.examples))
        order = np.concatenate([order, order[: self.per_epoch - len(order)]])  # the last batch is filled up
        stretch = _SORTED_TOGETHER * self.batch
        parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        batches = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in parts])
        return batches.reshape(self.n_batches, self.batch)[drawn.permutation(self.n_batches)].reshape(-1)


def targets_of(example: Example) -> int:
    """How many targets count."""
    value = next(value for name, value in example.items() if name.startswith("targets"))
    return sum(token != IGNORED for token in value) if isinstance(value, Column) else 1


def runs_of_targets(example: Example) -> list[list[int]] | None:
    """The tokens that are to be predicted, those side by side together; None where no tokens are (classes, pairs)."""
    value = next(value for name, value in example.items() if name.startswith("targets"))
    if not isinstance(value, Column):
        return None
    groups = itertools.groupby(value, key=lambda token: token != IGNORED)
    return [list(run) for counts, run in groups if counts]


_SAMPLED = 1000
"""Examples from which the bytes of an average target are taken."""


class ExampleData:
    """Training examples and validation examples.

    Every validation example has a size of its own: targets, and the bytes and characters of the text that they
    are. What is summed over examples, nats or sizes, is summed over the same ones.

    Args:
        train: what is learned.
        table: what run.toml says of the data.
    """

    command, best = "finetune", BestBy()

    def __init__(
        self, tokenizer: TextTokenizer, train: Sequence[Example], validation: Sequence[Example], table: dict[str, Any]
    ):
        self.tokenizer, self._table = tokenizer, dict(table)
        self._sizes = TextSizes(tokenizer)
        self._whole = sorted(validation, key=tokens_of, reverse=True)
        self._score(self._whole)
        learned = self._size(train[:: -(-len(train) // _SAMPLED) or 1])
        self.bytes_per_token = learned.bytes / max(1, learned.tokens) or None

    def _score(self, validation: Sequence[Example]) -> None:
        self._validation = validation
        self.validation_size = self._size(self._validation)

    def limit(self, part: float) -> None:
        """Score validation examples of all lengths, evenly chosen, at least one."""
        n_all = len(self._whole)
        n_kept = max(1, round(part * n_all))
        self._score([self._whole[(2 * number + 1) * n_all // (2 * n_kept)] for number in range(n_kept)])
        self._table.pop("scored_examples", None)
        if n_kept < n_all:
            self._table["scored_examples"] = n_kept

    def _size(self, examples: Sequence[Example]) -> Loss:
        """Targets, bytes and characters; no nats yet."""
        tokens = n_bytes = characters = 0
        for each in examples:
            runs = runs_of_targets(each)
            size = self._sizes.of(runs or [])
            tokens += 1 if runs is None else sum(map(len, runs))
            n_bytes, characters = n_bytes + size.bytes, characters + size.characters
        return Loss(0.0, tokens, n_bytes, characters)

    @torch.no_grad()
    def evaluate(self, objective: nn.Module, device: str, world: World, on_tokens: Callable[[int], None]) -> Loss:
        """The loss over the validation examples, without dropout or smoothing."""
        totals = torch.zeros(4, dtype=torch.float64)
        batches = _of_like_length(self._validation)
        for turn in range(-(-len(batches) // world.size)):
            number = turn * world.size + world.rank
            examples = batches[number % len(batches)]  # sharded models need every process at every turn
            rows = {name: each.to(device) for name, each in collated(examples).items()}
            loss: Tensor = objective(**rows).total
            size = self._size(examples)
            if number < len(batches):
                totals += torch.tensor([loss.item(), size.tokens, size.bytes, size.characters], dtype=torch.float64)
            on_tokens(size.tokens * world.size)
        if world.size > 1:
            totals = world.total(totals.to(device)).cpu()
        nats, tokens, n_bytes, characters = totals.tolist()
        return Loss(nats, int(tokens), int(n_bytes), int(characters))

    def table(self) -> dict[str, Any]:
        """Files, fields and counts."""
        return self._table

    def overlap(self, texts: list[str]) -> CopiedSpan | None:
        """Nobody looks: a task's answers may well repeat its examples."""
        return None

    def write_card(self, folder: Path, tables: dict[str, dict[str, Any]], samples: list[str]) -> None:
        """See `checkpoint.card`."""
        write_task_card(folder, tables, samples)


def _of_like_length(examples: Sequence[Example]) -> list[list[Example]]:
    batches: list[list[Example]] = [[]]
    room = _EVALUATION_TOKENS
    for each in examples:  # the longest first: the first of a batch says how wide it is
        width = tokens_of(batches[-1][0]) if batches[-1] else tokens_of(each)
        if batches[-1] and room < width:
            batches.append([])
            room, width = _EVALUATION_TOKENS, tokens_of(each)
        batches[-1].append(each)
        room -= width
    return batches
