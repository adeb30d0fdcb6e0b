"""One step of the engine: what is to be read, one pass over the weights, and the scores to those who asked."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wenloom.generation.jobs import NOT_OURS, ForwardResult, Job, Text
from wenloom.generation.sequence_group import SequenceGroup, Wanted
from wenloom.model.cache import Segment
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.slots import PAGE
from wenloom.runtime.steering import Addition

ScheduledReads = list[tuple[SequenceGroup, int, Segment]]
"""(group, which of its reads, what of its text)."""
Fail = Callable[[Job, BaseException], None]
_SHORT = 16
"""Reads up to this many tokens (decoding, guesses) go before chunks of prompts."""
_BESIDE = 128
"""Tokens of prompts in a step by the processor for which texts that decode wait: with 512 (SmolLM2 in bf16, 16 texts) they wait
3.5 times as long, and the whole takes 2 % less processor time."""


def schedule(runner: ModelRunner, running: Sequence[SequenceGroup], chunk: int) -> ScheduledReads:
    """What to read in one step: (group, which of its reads, segment); short reads first, then chunks of prompts.

    Args:
        chunk: tokens of prompts at most; fewer where a text, by whichever model, would wait for them.
    """
    if runner.device.type == "cpu" and any(
        all(_unread(read.text) <= _SHORT for read in each.reads) for each in running
    ):
        chunk = min(chunk, _BESIDE)
    waiting = [
        (sequences, index, _unread(read.text))
        for sequences in running
        for index, read in enumerate(sequences.reads)
        if read.text.runner is runner and index not in sequences.arrived
    ]
    waiting.sort(key=lambda each: each[2] > _SHORT)
    budget, work = chunk, []
    for sequences, index, count in waiting:
        if count > _SHORT:
            count = min(count, budget)
            budget -= count
        if count > 0:
            text = sequences.reads[index].text
            visible = len(text.tokens) - text.view.first
            work.append((sequences, index, Segment(text.slot, text.known, count, visible, text.encoder_kv)))
    return work


def _unread(text: Text) -> int:
    """Tokens that are to be read."""
    return len(text.tokens) - text.view.first - text.known


def read(runner: ModelRunner, work: ScheduledReads, fail: Fail) -> None:
    """Read what `schedule` found and hand the scores to those who asked; calls `fail` with every job that fails of it."""
    started = time.perf_counter()
    tokens: list[int] = []
    wanted: list[Wanted] = []
    additions: list[Addition] = []
    layers = sorted({layer for sequences, index, _ in work for layer in sequences.reads[index].layers})
    for sequences, index, segment in work:
        text, read = sequences.reads[index].text, sequences.reads[index]
        begin = text.view.first + segment.start
        here = len(tokens), len(tokens) + segment.count
        additions += [Addition(layer, *here, vector_D) for layer, vector_D in text.steering.parts]
        tokens += text.tokens[begin : begin + segment.count]
        missing = segment.length - segment.start - segment.count  # read in later steps
        rows = min(segment.count, read.logits - missing)
        if rows > 0:
            wanted.append(Wanted(sequences, index, len(tokens) - rows, len(tokens), segment.count > 1))
    rows = [row for each in wanted for row in range(each.begin, each.end)]
    hidden = any(sequences.reads[index].hidden for sequences, index, _ in work)
    try:
        found = runner.read(tokens, [segment for _, _, segment in work], rows, layers, additions, hidden)
    except NOT_OURS:
        raise
    except BaseException as error:
        _read_apart(runner, work, error, fail)
        return
    for sequences, index, segment in work:
        sequences.reads[index].text.known += segment.count
    _deliver(wanted, *found, fail)
    runner.timed(len(tokens), time.perf_counter() - started)


def _read_apart(runner: ModelRunner, work: ScheduledReads, error: BaseException, fail: Fail) -> None:
    """After a step that failed, such as of a lack of memory: each request by itself, and who fails alone has failed."""
    jobs = list(dict.fromkeys(sequences.job for sequences, _, _ in work))
    if len(jobs) == 1:
        fail(jobs[0], error)
        return
    for job in jobs:
        read(runner, [each for each in work if each[0].job is job], fail)


def _deliver(
    wanted: list[Wanted], logits: Tensor, hidden_ND: Tensor | None, early: dict[int, Tensor], fail: Fail
) -> None:
    """Scores to those who asked; kept until a read is complete."""
    done = 0
    for each in wanted:
        here = slice(done, done + each.end - each.begin)
        done = here.stop
        try:
            _hand_to(each, here, logits, hidden_ND, early)
        except NOT_OURS:
            raise
        except BaseException as error:
            fail(each.sequences.job, error)


def _hand_to(wanted: Wanted, here: slice, logits: Tensor, hidden_ND: Tensor | None, early: dict[int, Tensor]) -> None:
    sequences, index, begin, end, is_prompt = wanted
    if sequences.job.error is not None:  # by another of its reads
        return
    read, before = sequences.reads[index], sequences.readings[index]
    stream = [hidden_ND[begin:end]] if read.hidden and hidden_ND is not None else []
    parts = [logits[here], *stream, *(early[n][here] for n in read.layers)]
    whole = parts if before is None else [torch.cat(pair) for pair in zip(before, parts, strict=True)]
    if len(whole[0]) < read.logits:
        sequences.readings[index] = whole
        return
    at_page = (len(read.text.tokens) - read.text.view.first) % PAGE == 0
    is_kept = read.text.encoder_kv is None and sequences.job.request.use_cache
    if read.logits == 1 and is_kept and (at_page or is_prompt):
        runner = read.text.runner
        runner.prefixes.remember(read.text.tokens, read.text.view, read.text.slot)
    scores, *others = whole
    hidden = others.pop(0) if read.hidden else None
    sequences.arrived[index] = ForwardResult(scores, hidden, dict(zip(read.layers, others, strict=True)))
