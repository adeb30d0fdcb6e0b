"""/v1/tokenize, /v1/detokenize and /v1/score: texts as tokens, tokens as text, and how probable a text is."""

import math
from typing import Any

from wenloom.evaluation.likelihood import ScoredRow, continuation_row, tokens_before
from wenloom.generation.request import GenerationRequest
from wenloom.serving.answer import JSON
from wenloom.serving.chat import turns_of
from wenloom.serving.context import check_text, check_tokens
from wenloom.serving.conversation import prompt_of
from wenloom.serving.errors import refused
from wenloom.serving.models import ServedModel
from wenloom.serving.run import EngineRun, PreparedPrompt
from wenloom.serving.settings import RequestLimits
from wenloom.serving.text_schema import DetokenizeRequest, ScoreRequest, TokenizeRequest
from wenloom.serving.tools import ChosenTools, tool_use


def tokenized(body: TokenizeRequest, served: ServedModel, limits: RequestLimits) -> JSON:
    """The tokens of a text, or of a conversation.

    Raises:
        APIError, InputError: it cannot be read.
    """
    if (body.prompt is None) == (body.messages is None):
        raise refused("prompt", "prompt, messages: give one of them.")
    tokenizer = served.model.tokenizer
    if body.messages is not None:
        if body.add_special_tokens is not None:
            raise refused(
                "add_special_tokens", "add_special_tokens: the chat template says what stands around messages."
            )
        functions = [each.function for each in body.tools or ()]
        use = tool_use(functions, ChosenTools("auto"), None, served, limits, None)
        ids = prompt_of(served, list(turns_of(body.messages)), use).ids
    elif body.tools is not None:
        raise refused("tools", "tools: needs messages.")
    elif body.add_special_tokens is False:
        ids = tokenizer.encoding(body.prompt or "", add_special_tokens=False).ids
    else:
        ids = tokenizer.encode(body.prompt or "")
    names = served.token_names
    strings = {"token_strs": [names.text(each) for each in ids]} if body.return_token_strs else {}
    return {"model": served.name, "count": len(ids), "max_model_len": served.context, "tokens": ids, **strings}


def detokenized(body: DetokenizeRequest, served: ServedModel, _: RequestLimits) -> JSON:
    """The text of tokens.

    Raises:
        APIError: one is not in the vocabulary.
    """
    size = served.model.decoder.config.vocab_size
    if outside := [each for each in body.tokens if each >= size]:
        raise refused("tokens", f"tokens: {outside[0]} is not in the model's vocabulary of {size:,}.")
    text = served.model.tokenizer.backend.decode(body.tokens, skip_special_tokens=bool(body.skip_special_tokens))
    return {"model": served.name, "prompt": text}


def score_run(body: ScoreRequest, served: ServedModel, limits: RequestLimits) -> "tuple[EngineRun, ScoreAnswer]":
    """The reading of texts, ready for the engine.

    Raises:
        APIError, InputError: it cannot be done.
    """
    texts, given = [body.input] if isinstance(body.input, str) else body.input, body.given or ""
    if len(texts) > limits.max_choices:
        raise refused("input", f"input: {len(texts):,} texts, at most {limits.max_choices:,} are allowed.")
    before = tokens_before(served.model.tokenizer, not given)
    rows = []
    for number, text in enumerate(texts):
        param = "input" if isinstance(body.input, str) else f"input[{number}]"
        check_text(served, given + text, param)
        rows.append(continuation_row(served.model.tokenizer, given, text, before))
        if rows[-1].start >= len(rows[-1].tokens):
            raise refused(param, f"{param}: has no token that could be scored.")
        check_tokens(served, len(rows[-1].tokens), param)
    request = GenerationRequest(max_new_tokens=1, do_sample=False, prompt_logprobs=body.top_logprobs or 0,
                                adapter=served.adapter, on_overflow="error")  # fmt: skip
    run = EngineRun(served, [PreparedPrompt(row.tokens, request) for row in rows])
    return run, ScoreAnswer(body, run, texts, rows)


class ScoreAnswer:
    """The answer to a request to /v1/score."""

    def __init__(self, body: ScoreRequest, run: EngineRun, texts: list[str], rows: list[ScoredRow]):
        self.run, self._body, self._texts, self._rows = run, body, texts, rows

    def whole(self) -> JSON:
        """All texts."""
        self.run.continuations()
        n_read = sum(len(row.tokens) for row in self._rows)
        return {"object": "list", "model": self.run.served.name, "data": [self._one(n) for n in range(len(self._rows))],
                "usage": {"prompt_tokens": n_read, "total_tokens": n_read}}  # fmt: skip

    def _one(self, number: int) -> JSON:
        row, names = self._rows[number], self.run.served.token_names
        scores = [each for each in self.run.jobs[number].prompt_scores[row.start :] if each is not None]
        top: Any = None
        if self._body.top_logprobs:
            top = [{names.unique(token): value for token, value in each.top} for each in scores]
        return {
            "object": "score",
            "index": number,
            "logprob": math.fsum(each.logprob for each in scores),
            "tokens": [names.unique(each) for each in row.tokens[row.start :]],
            "token_ids": row.tokens[row.start :],
            "token_logprobs": [each.logprob for each in scores],
            "top_logprobs": top,
            "bytes": len(self._texts[number].encode()),
        }
