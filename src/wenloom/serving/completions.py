"""/v1/completions: a text goes on."""

import math
from collections.abc import Iterator, Sequence

from wenloom.generation.jobs import Continuation, TokenScore
from wenloom.serving.answer import JSON, Head
from wenloom.serving.completion_schema import CompletionRequest
from wenloom.serving.context import check_text, check_tokens
from wenloom.serving.errors import APIError, refused
from wenloom.serving.models import ServedModel
from wenloom.serving.run import ChoiceEvent, EngineRun, PreparedPrompt, finish_reason
from wenloom.serving.sampling import check_limits, request_of
from wenloom.serving.settings import RequestLimits
from wenloom.serving.sse import DONE

DEFAULT_MAX_TOKENS = 16


def completion_run(
    body: CompletionRequest, served: ServedModel, limits: RequestLimits
) -> "tuple[EngineRun, CompletionAnswer]":
    """The work of a request, ready for the engine.

    Raises:
        APIError, InputError: it cannot be done.
    """
    prompts = _prompts(body)
    n, best_of = body.n or 1, body.best_of or body.n or 1
    if best_of < n:
        raise refused("best_of", f"best_of: must be at least n ({n}), got {best_of}.")
    if best_of > n and body.stream:
        raise refused("best_of", "best_of: the best is known at the end only: leave stream out.")
    if body.max_tokens == 0 and not body.echo:
        raise refused("max_tokens", "max_tokens: 0 needs echo, which gives the prompt back.")
    if body.stream_options is not None and not body.stream:
        raise refused("stream_options", "stream_options: needs stream.")
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    check_limits(body, limits, len(prompts), best_of, max_tokens)
    scores = body.logprobs if body.logprobs is not None or best_of == n else 0
    request = request_of(
        body, served, best_of, max(1, max_tokens), logprobs=scores,
        prompt_logprobs=body.logprobs if body.echo else None,
    )  # fmt: skip
    vocabulary = served.model.engine.vocabulary
    vocabulary.prepare(request)
    ids = []
    for prompt in prompts:
        if isinstance(prompt, str) and request.on_overflow == "error":
            check_text(served, prompt, "prompt")
        ids.append(vocabulary.prompt_ids(prompt))
        if request.on_overflow == "error":
            check_tokens(served, len(ids[-1]), "prompt")
    run = EngineRun(served, [PreparedPrompt(each, request) for each in ids])
    texts = [
        p if isinstance(p, str) else served.model.tokenizer.decode(each) for p, each in zip(prompts, ids, strict=True)
    ]
    return run, CompletionAnswer(body, run, texts)


def _prompts(body: CompletionRequest) -> list[str | list[int]]:
    prompt = "" if body.prompt is None else body.prompt
    if isinstance(prompt, str):
        return [prompt]
    return list(prompt) if isinstance(prompt[0], str | list) else [prompt]  # pyright: ignore[reportReturnType]


class CompletionAnswer:
    """The answer to a request, whole or in chunks."""

    last = DONE

    def __init__(self, body: CompletionRequest, run: EngineRun, texts: Sequence[str]):
        self.run, self._body, self._texts = run, body, texts
        self._head = Head("cmpl", "text_completion", run)
        self._written: dict[int, int] = {}
        """Characters of each choice so far."""
        self._includes_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        self._more = {"usage": None} if self._includes_usage else {}

    def opening(self) -> Iterator[JSON]:
        """Nothing: a text begins with its first token."""
        return iter(())

    def pieces(self, each: ChoiceEvent) -> Iterator[JSON]:
        """A chunk with text, log-probabilities, or the reason why the text ends."""
        event, reason = each.event, finish_reason(each.event)
        is_first = each.choice not in self._written
        text = event.text if self._body.max_tokens != 0 else ""
        scores = [(event.token, event.score)] if event.token is not None and self._body.max_tokens != 0 else []
        prompt = self._prompt_of(each.choice) if is_first and self._body.echo else ("", [])
        offset = self._written.get(each.choice, 0)
        self._written[each.choice] = offset + len(prompt[0]) + len(text)
        if not (prompt[0] or text or reason or (scores and self._body.logprobs is not None)):
            return
        logprobs = self._logprobs([*prompt[1], *scores], offset)
        choice = {"index": each.choice, "text": prompt[0] + text, "logprobs": logprobs, "finish_reason": reason}
        yield self._head([choice], **self._more)

    def ending(self) -> Iterator[JSON]:
        """Usage, where it was asked for."""
        if self._includes_usage:
            yield self._head([], usage=self.run.usage())

    def failure(self, error: APIError) -> JSON:
        """What went wrong on the way."""
        return error.body()

    def whole(self) -> JSON:
        """All choices."""
        n, best_of = self._body.n or 1, self._body.best_of or self._body.n or 1
        choices, found = [], self.run.continuations()
        for number in range(len(self._texts)):
            mine = list(range(number * best_of, (number + 1) * best_of))
            if best_of > n:
                mine.sort(key=lambda choice: -_mean_logprob(found[choice]))
            choices += [
                self._choice(len(choices) + place, choice, found[choice]) for place, choice in enumerate(mine[:n])
            ]
        return self._head(choices, usage=self.run.usage())

    def _choice(self, index: int, choice: int, found: Continuation) -> JSON:
        reason = finish_reason(found)
        text, prompt = found.text, self._prompt_of(choice) if self._body.echo else ("", [])
        scores = list(zip(found.tokens, found.scores or [None] * len(found.tokens), strict=True))
        if self._body.max_tokens == 0:
            text, scores, reason = "", [], "length"
        logprobs = self._logprobs([*prompt[1], *scores], 0)
        return {"index": index, "text": prompt[0] + text, "logprobs": logprobs, "finish_reason": reason}

    def _prompt_of(self, choice: int) -> tuple[str, list[tuple[int, TokenScore | None]]]:
        """The text and the scored tokens of a choice's prompt."""
        job = self.run.jobs[choice // self.run.prompts[0].request.num_return_sequences]
        number = choice // self.run.prompts[0].request.num_return_sequences
        scores = list(zip(job.prompt, job.prompt_scores, strict=False)) if job.prompt_scores else []
        return self._texts[number], scores

    def _logprobs(self, scored: Sequence[tuple[int, TokenScore | None]], offset: int) -> JSON | None:
        """OpenAI's four lists, of which the last tells how the most probable tokens did, the chosen one among them."""
        if self._body.logprobs is None:
            return None
        names = self.run.served.token_names
        top = [None if score is None else {names.unique(token): value for token, value in
                                           [*score.top[: self._body.logprobs], (score.token, score.logprob)]}
               for _, score in scored]  # fmt: skip
        return {
            "tokens": [names.unique(token) for token, _ in scored],
            "token_logprobs": [None if score is None else score.logprob for _, score in scored],
            "top_logprobs": top if self._body.logprobs else None,
            "text_offset": [offset + each for each in text_offsets([names.data(token) for token, _ in scored])],
        }


def text_offsets(pieces: Sequence[bytes]) -> list[int]:
    """How many characters of a text stand before each of its pieces; a piece inside a character has that character's place.

    >>> text_offsets(["a".encode(), "灯".encode()[:1], "灯".encode()[1:], b"b"])
    [0, 1, 1, 2]
    """
    found, before = [], 0
    for piece in pieces:
        found.append(max(0, before - (bool(piece) and _is_inside(piece[0]))))
        before += sum(not _is_inside(byte) for byte in piece)
    return found


def _is_inside(byte: int) -> bool:
    """Of a byte of UTF-8: whether a character goes on with it."""
    return byte & 0xC0 == 0x80


def _mean_logprob(found: Continuation) -> float:
    return sum(each.logprob for each in found.scores) / len(found.scores) if found.scores else -math.inf
