"""Log-likelihoods of many token sequences, in batches of equal length that share what their beginnings share."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.evaluation.scorer import Span
from wenloom.model.cache import KVCache
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer

_BATCH_TOKENS = 1024
"""Tokens of a batch: more no longer fit into the processor's caches (5 M parameters: 8,192 takes twice the time)."""
_LOGITS = 2**24
"""Most logits that are held at once."""
_SHARED = 16
"""Tokens that all questions must begin with to be read once: below, copying their keys and values saves nothing."""


class ScoredRow(NamedTuple):
    """Tokens, of which those from `start` on are scored, each by all that stand before it."""

    tokens: list[int]
    start: int
    spans: Sequence[Span] = ()
    """Characters of the continuation that each token holds, where they are known; below 0 of the context."""


class Likelihood(NamedTuple):
    """What a model makes of a row."""

    log_probabilities: list[float]
    """log P of every scored token, nats."""
    is_greedy: bool
    """Whether each of them was the most probable one."""
    cut_off: int
    """Tokens of the row's beginning that did not fit into the context."""

    @property
    def total(self) -> float:
        """log P of all scored tokens, nats."""
        return sum(self.log_probabilities)


def continuation_row(tokenizer: TextTokenizer, context: str, continuation: str, before: list[int]) -> ScoredRow:
    """A continuation after a context, cut at the letter where it begins.

    Blanks at the end of the context are counted to the continuation, where most tokenizers put them. The whole text
    is tokenized at once. A token that reaches across the cut (Chinese BPE, SentencePiece) belongs to the
    continuation: what the model is asked for are the tokens that it would have to write.

    Args:
        before: tokens before everything, see `tokens_before`; without any, the first token cannot be scored.
    """
    stripped = context.rstrip()
    encoding = tokenizer.encoding(context + continuation, add_special_tokens=False)
    offsets = encoding.offsets  # a new list at every access
    inside = sum(1 for begin, end in offsets if end <= len(stripped) and begin < end)
    spans = [(begin - len(context), end - len(context)) for begin, end in [(0, 0)] * len(before) + offsets]
    return ScoredRow([*before, *encoding.ids], max(1, len(before) + inside), spans)


def tokens_before(tokenizer: TextTokenizer, is_empty: bool) -> list[int]:
    """What stands before a context: what the tokenizer's own template puts there (Llama: BOS); before an empty one, where
    that is nothing, BOS or the end of the text before."""
    encoding = tokenizer.backend.encode("x", add_special_tokens=True)
    own = [
        token
        for token, _ in takewhile(lambda pair: pair[1], zip(encoding.ids, encoding.special_tokens_mask, strict=True))
    ]
    if own or not is_empty:
        return own
    return [each for each in (tokenizer.bos_token_id, tokenizer.eos_token_id) if each is not None][:1]


class _RowGroup(NamedTuple):
    """Rows of one question after their common beginning."""

    number: int
    first: int
    """Which of the question's rows come here."""
    prefix: list[int]
    suffixes: list[list[int]]
    starts: list[int]
    cut_off: int


def likelihoods(
    decoder: Decoder, questions: Sequence[Sequence[ScoredRow]], on_rows: Callable[[int], None] = lambda n: None
) -> list[list[Likelihood]]:
    """Score the rows of many questions; rows of one question should begin alike, which is then read once, as is what
    all questions begin with (worked examples).

    A row longer than the context loses its beginning.

    Args:
        decoder: in evaluation mode.
        on_rows: told how many rows were scored.

    Returns:
        Per question, its rows' scores in order.
    """
    limit, share = decoder.config.context_length, not decoder.config.positions.depends_on_length
    groups = [group for number, rows in enumerate(questions) if rows for group in _groups(number, rows, limit, share)]
    groups.sort(key=lambda each: (len(each.prefix), max(map(len, each.suffixes))))
    found: list[list[Likelihood | None]] = [[None] * len(rows) for rows in questions]
    whole, cut = [each for each in groups if not each.cut_off], [each for each in groups if each.cut_off]
    with torch.inference_mode():
        for some, beginning in ((whole, _beginning(decoder, whole) if share else None), (cut, None)):
            for _, alike in groupby(some, lambda each: len(each.prefix)):
                for batch in _batches(list(alike), beginning.length if beginning else 0):
                    for group, scores in zip(batch, _score(decoder, batch, beginning), strict=True):
                        found[group.number][group.first : group.first + len(scores)] = scores
                    on_rows(sum(len(each.suffixes) for each in batch))
    return [[each for each in rows if each is not None] for rows in found]


def _beginning(decoder: Decoder, groups: Sequence[_RowGroup]) -> KVCache | None:
    """What all groups begin with, read once; it ends before the first token that is scored or needed by itself."""
    if len({each.number for each in groups}) < 2:
        return None
    rows = [ScoredRow(each.prefix[: min(each.starts) - 1] + [0], 0) for each in groups]
    length = min(_common(rows), min(len(each.prefix) for each in groups) - 1)
    if length < _SHARED:
        return None
    cache = KVCache(decoder.config.n_layers)
    decoder.hidden(torch.tensor([groups[0].prefix[:length]], device=decoder.embed.weight.device), cache=cache)
    return cache


def _groups(number: int, rows: Sequence[ScoredRow], limit: int, share: bool) -> Iterator[_RowGroup]:
    common = _common(rows) if share and max(len(row.tokens) for row in rows) <= limit + 1 else 0
    if common and len(rows) > 1:
        prefix = rows[0].tokens[:common]
        yield _RowGroup(number, 0, prefix, [row.tokens[common:] for row in rows], [row.start for row in rows], 0)
        return
    for place, row in enumerate(rows):
        cut = max(0, len(row.tokens) - limit - 1)
        tokens = row.tokens[cut:]
        yield _RowGroup(number, place, tokens[:-1], [tokens[-1:]], [max(1, row.start - cut)], cut)


def _common(rows: Sequence[ScoredRow]) -> int:
    """Tokens that all rows begin with, leaving each at least one."""
    shortest = min(len(row.tokens) for row in rows) - 1
    first = rows[0].tokens
    for place in range(shortest):
        if any(row.tokens[place] != first[place] for row in rows):
            return place
    return shortest


def _batches(groups: list[_RowGroup], n_read: int) -> Iterator[list[_RowGroup]]:
    """
    Args:
        n_read: tokens of every group that are read already.
    """
    batch: list[_RowGroup] = []
    tokens = 0
    for group in groups:
        size = len(group.suffixes) * (len(group.prefix) - n_read + max(map(len, group.suffixes)))
        if batch and tokens + size > _BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(group)
        tokens += size
    yield batch


def _score(decoder: Decoder, batch: list[_RowGroup], beginning: KVCache | None) -> list[list[Likelihood]]:
    device = decoder.embed.weight.device
    rows = [(index, suffix, start) for index, group in enumerate(batch)
            for suffix, start in zip(group.suffixes, group.starts, strict=True)]  # fmt: skip
    prefix_length, longest = len(batch[0].prefix), max(len(suffix) for _, suffix, _ in rows)
    n_read = beginning.length if beginning else 0
    if beginning:
        cache = beginning.of_rows(torch.zeros(len(batch), dtype=torch.long, device=device))
    else:
        cache = KVCache(decoder.config.n_layers) if longest > 1 else None
    prefix_BT = torch.tensor([group.prefix[n_read:] for group in batch], device=device)
    hidden_BTD = decoder.hidden(prefix_BT, cache=cache)
    owner_R = torch.tensor([index for index, _, _ in rows], device=device)
    # scores of the prefix's own tokens, where a row asks for them
    earliest = min(start for _, _, start in rows)
    early_logs: list[list[float]] = [[] for _ in batch]
    early_greedy: list[list[bool]] = [[] for _ in batch]
    if earliest < prefix_length:
        logs, greedy = scored_targets(
            decoder,
            hidden_BTD[:, earliest - n_read - 1 : -1].flatten(0, 1),
            prefix_BT[:, earliest - n_read :].flatten(),
        )
        early_logs, early_greedy = (each.view(len(batch), -1).tolist() for each in (logs, greedy))
    # and of the suffixes: the first token by the prefix's last position, the others after it
    targets_RS = torch.tensor([[*suffix, *[0] * (longest - len(suffix))] for _, suffix, _ in rows], device=device)
    lengths_R = torch.tensor([len(suffix) for _, suffix, _ in rows], device=device)
    hidden_RSD = hidden_BTD[owner_R, -1:]
    if cache is not None and longest > 1:
        cache.keep(owner_R)
        hidden_RSD = torch.cat([hidden_RSD, decoder.hidden(targets_RS[:, :-1], cache=cache)], 1)
    real_RS = torch.arange(longest, device=device) < lengths_R[:, None]
    logs_N, greedy_N = scored_targets(decoder, hidden_RSD[real_RS], targets_RS[real_RS])
    pieces = zip(logs_N.split(lengths_R.tolist()), greedy_N.split(lengths_R.tolist()), strict=True)
    found: list[list[Likelihood]] = [[] for _ in batch]
    for (index, _, start), (logs, greedy) in zip(rows, pieces, strict=True):
        inside = max(0, start - prefix_length)  # of the suffix, tokens that are context still
        own = slice(start - earliest, None) if start < prefix_length else slice(0, 0)
        log_probabilities = [*early_logs[index][own], *logs[inside:].tolist()]
        is_greedy = all(early_greedy[index][own]) and bool(greedy[inside:].all())
        found[index].append(Likelihood(log_probabilities, is_greedy, batch[index].cut_off))
    return found


def scored_targets(decoder: Decoder, hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """log P of each target, and whether it is the most probable token; logits are made a part at a time."""
    size = max(1, _LOGITS // decoder.config.vocab_size)
    logs, greedy = [], []
    for part_ND, part_N in zip(hidden_ND.split(size), targets_N.split(size), strict=True):
        logits_NV = decoder.unembed(part_ND).float()
        picked_N = logits_NV.gather(1, part_N[:, None])[:, 0]
        logs.append((picked_N - logits_NV.logsumexp(-1)).double().cpu())
        greedy.append((picked_N >= logits_NV.amax(-1)).cpu())
    return torch.cat(logs), torch.cat(greedy)
