"""One step of the engine: what is to be read, one pass over the weights, and the scores to those who asked."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wenloom.generation.jobs import NOT_OURS, Job, Reading
from wenloom.generation.lanes import Lane, Wanted
from wenloom.generation.prefixes import BLOCK
from wenloom.generation.reader import Reader
from wenloom.model.cache import Segment

Work = list[tuple[Lane, int, Segment]]
"""(lane, which of its reads, what of its text)."""
Fail = Callable[[Job, BaseException], None]
_SHORT = 16
"""Reads up to this many tokens (decoding, guesses) go before chunks of prompts."""


def work_for(reader: Reader, running: Sequence[Lane], chunk: int) -> Work:
    """What to read in one step: (lane, which of its reads, segment); short reads first, then chunks of prompts."""
    waiting = [
        (lane, index, len(read.text.tokens) - read.text.view.first - read.text.known)
        for lane in running
        for index, read in enumerate(lane.reads)
        if read.text.reader is reader and index not in lane.arrived
    ]
    waiting.sort(key=lambda each: each[2] > _SHORT)
    budget, work = chunk, []
    for lane, index, count in waiting:
        if count > _SHORT:
            count = min(count, budget)
            budget -= count
        if count > 0:
            text = lane.reads[index].text
            visible = len(text.tokens) - text.view.first
            work.append((lane, index, Segment(text.slot, text.known, count, visible, text.memory)))
    return work


def read(reader: Reader, work: Work, fail: Fail) -> None:
    """Read what `work_for` found, and hand the scores to those who asked; who fails of it is told to `fail`."""
    started = time.perf_counter()
    tokens: list[int] = []
    wanted: list[Wanted] = []
    layers = sorted({layer for lane, index, _ in work for layer in lane.reads[index].layers})
    for lane, index, segment in work:
        text, read = lane.reads[index].text, lane.reads[index]
        begin = text.view.first + segment.start
        tokens += text.tokens[begin : begin + segment.count]
        missing = segment.length - segment.start - segment.count  # read in later steps
        rows = min(segment.count, read.logits - missing)
        if rows > 0:
            wanted.append(Wanted(lane, index, len(tokens) - rows, len(tokens), segment.count > 1))
    rows = [row for each in wanted for row in range(each.begin, each.end)]
    try:
        found = reader.read(tokens, [segment for _, _, segment in work], rows, layers)
    except NOT_OURS:
        raise
    except BaseException as error:
        _read_apart(reader, work, error, fail)
        return
    for lane, index, segment in work:
        lane.reads[index].text.known += segment.count
    _deliver(wanted, *found, fail)
    reader.timed(len(tokens), time.perf_counter() - started)


def _read_apart(reader: Reader, work: Work, error: BaseException, fail: Fail) -> None:
    """After a step that failed, such as of a lack of memory: each request by itself, and who fails alone has failed."""
    jobs = list(dict.fromkeys(lane.job for lane, _, _ in work))
    if len(jobs) == 1:
        fail(jobs[0], error)
        return
    for job in jobs:
        read(reader, [each for each in work if each[0].job is job], fail)


def _deliver(wanted: list[Wanted], logits: Tensor, hidden_ND: Tensor, early: dict[int, Tensor], fail: Fail) -> None:
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
            fail(each.lane.job, error)


def _hand_to(wanted: Wanted, here: slice, logits: Tensor, hidden_ND: Tensor, early: dict[int, Tensor]) -> None:
    lane, index, begin, end, is_prompt = wanted
    if lane.job.error is not None:  # by another of its reads
        return
    read, before = lane.reads[index], lane.readings[index]
    parts = [logits[here], *([hidden_ND[begin:end]] if read.hidden else []), *(early[n][here] for n in read.layers)]
    whole = parts if before is None else [torch.cat(pair) for pair in zip(before, parts, strict=True)]
    if len(whole[0]) < read.logits:
        lane.readings[index] = whole
        return
    at_block = (len(read.text.tokens) - read.text.view.first) % BLOCK == 0
    is_kept = read.text.memory is None and lane.job.request.use_cache
    if read.logits == 1 and is_kept and (at_block or is_prompt):
        reader = read.text.reader
        reader.prefixes.remember(read.text.tokens, read.text.view, reader.slots, read.text.slot)
    scores, *others = whole
    hidden = others.pop(0) if read.hidden else None
    lane.arrived[index] = Reading(scores, hidden, dict(zip(read.layers, others, strict=True)))
