"""log P(text) of a model that is only served: `/v1/completions` gives the prompt's own log-probabilities back (`echo`)."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

from wenloom.core.endpoint import Endpoint, EndpointError
from wenloom.core.errors import InputError
from wenloom.evaluation.scorer import Advance, ContinuationScore, Score, Span, TextInContext, Windows, counted
from wenloom.tokens.tokenizer import TextTokenizer

WHY_NOT = (
    "the server does not give log-probabilities of a prompt (completions with echo and logprobs), so questions with choices and pairs of "
    "sentences cannot be told apart by them; what the model writes can be asked for (gsm8k, triviaqa, ifeval, questions.jsonl; bold)"
)


_NEW_LINE = "\n"


class _Echo(NamedTuple):
    """What a server says of a text."""

    tokens: list[str]
    logs: list[float | None]
    ends: list[int]
    """Where each ends, in bytes of the text."""
    is_best: list[bool]


class EndpointScorer:
    """log P(text | context) = Σ log P(token | all tokens before it), as a server computes it."""

    kind: Literal["causal"] = "causal"
    takes_texts = False
    dtype = "served"

    def __init__(self, endpoint: Endpoint):
        self._endpoint, self._ids = endpoint, dict[str, int]()

    @property
    def tokenizer(self) -> TextTokenizer:
        """
        Raises:
            InputError: always: it is the server's.
        """
        raise InputError("the vocabulary of a served model is not known here.")

    def n_tokens(self, text: str) -> int | None:
        return None

    def opens(self, is_empty: bool) -> bool:
        """An empty context is opened by BOS where the server shows which token that is, else by a new line."""
        return not is_empty or self._opening != _NEW_LINE

    @cached_property
    def _opening(self) -> str:
        """What is put before a text without context, so that its first token has a probability: nothing, where the server opens a
        text by itself; the token that it makes of an empty prompt, where it reads that token's name as the token; else a new line."""
        alone = self._tokens("x")
        try:
            first = self._tokens("")[:1]
        except EndpointError:
            return _NEW_LINE
        if first and first == alone[:1]:
            return ""
        return first[0] if first and self._tokens(first[0] + "x") == [first[0], *alone] else _NEW_LINE

    def _tokens(self, text: str) -> list[str]:
        """The names of a prompt's tokens, what is written after it left out."""
        answer = self._endpoint.post("completions", _asked(text))
        try:
            return [str(each) for each in answer["choices"][0]["logprobs"]["tokens"]][:-1]
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{WHY_NOT}.") from None

    def continuations(
        self, groups: Sequence[Sequence[TextInContext]], on_rows: Advance = lambda n: None
    ) -> list[list[ContinuationScore]]:
        flat = [each for group in groups for each in group]
        if any(each.is_whole for each in flat):
            raise InputError("the end of a text cannot be scored by a server that is asked for texts.")
        opened = [each if each.context else each._replace(context=self._opening) for each in flat]
        found = iter(self._endpoint.together(self._score, opened, on_rows))
        return [[next(found) for _ in group] for group in groups]

    def _score(self, each: TextInContext) -> ContinuationScore:
        text = each.context + each.text
        echo = self._echo(text)
        end_of_context = len(each.context.rstrip().encode())
        first = sum(end <= end_of_context for end in echo.ends)
        spans = _spans(text, echo.ends, len(each.context))
        scored = [place for place in range(first, len(echo.tokens)) if echo.logs[place] is not None]
        logs = [float(log) for place in scored if (log := echo.logs[place]) is not None]
        ids = [self._ids.setdefault(echo.tokens[place], len(self._ids)) for place in scored]
        is_greedy = all(echo.is_best[place] for place in scored)
        begin = max(0, spans[scored[0] - 1][1]) if scored and scored[0] else 0
        return counted(each, ids, logs, sum(logs), is_greedy, 0, [spans[place] for place in scored], begin)

    def _echo(self, text: str) -> _Echo:
        try:
            answer = self._endpoint.post("completions", _asked(text))
        except EndpointError as error:
            if error.status in (400, 404, 405, 422):
                raise InputError(f"{WHY_NOT}. It said: {error}") from None
            raise
        return _parsed(answer, text)

    def text(self, text: str, windows: Windows | None = None, on_tokens: Advance = lambda n: None) -> Score:
        """
        Raises:
            InputError: always: windows need the model's own tokens.
        """
        raise InputError(
            "the perplexity of a long text needs the model itself, not a server: windows are cut by its tokens."
        )


def _asked(text: str) -> dict[str, Any]:
    return {"prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def _parsed(answer: dict[str, Any], text: str) -> _Echo:
    try:
        told = answer["choices"][0]["logprobs"]
        tokens, logs, offsets = (list(told[name]) for name in ("tokens", "token_logprobs", "text_offset"))
        tops = list(told.get("top_logprobs") or [None] * len(tokens))
        if not len(tokens) == len(logs) == len(offsets) == len(tops):
            raise ValueError
        ends = _ends([str(each) for each in tokens], [int(each) for each in offsets], text)
        inside = range(len(ends))
        return _Echo(
            [str(tokens[place]) for place in inside],
            [None if logs[place] is None else float(logs[place]) for place in inside],
            ends,
            [_is_best(logs[place], tops[place]) for place in inside],
        )
    except (KeyError, IndexError, TypeError, ValueError):
        raise InputError(f"{WHY_NOT}.") from None


def _ends(tokens: list[str], offsets: list[int], text: str) -> list[int]:
    """Where the tokens of a text end in its bytes, those behind it left out: by the tokens themselves, where they are its bytes, else
    by what the server says of their characters."""
    data, ends, end = text.encode(), [], 0
    for token in tokens:
        if end >= len(data):
            return ends
        piece = _bytes(token)
        if data[end : end + len(piece)] != piece:
            break
        end += len(piece)
        ends.append(end)
    if end >= len(data):
        return ends
    inside = [each for each in offsets if each < len(text)]
    return [len(text[:each].encode()) for each in [*inside[1:], len(text)]]


def _spans(text: str, ends: list[int], before: int) -> list[Span]:
    """The characters of the text that each token holds, also in part, counted from a character on.

    >>> _spans("a灯", [1, 2, 4], 0)
    [(0, 1), (1, 2), (1, 2)]
    """
    data = text.encode()
    begins = [len(data[:end].decode(errors="ignore")) for end in [0, *ends[:-1]]]
    stops = [len(data[:end].decode(errors="replace")) for end in ends]
    return [(begin - before, stop - before) for begin, stop in zip(begins, stops, strict=True)]


def _bytes(token: str) -> bytes:
    r"""A token's bytes; `bytes:\xe4` is how servers spell what is no whole character.

    >>> _bytes(r"bytes:\xe4\xba"), _bytes("bytes: x")
    (b'\xe4\xba', b'bytes: x')
    """
    if re.fullmatch(r"bytes:(?:\\x[0-9a-f]{2})+", token):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()


def _is_best(log: float | None, top: Any) -> bool:
    if log is None or not isinstance(top, dict) or not top:
        return False
    return log >= max(float(each) for each in top.values()) - 1e-9
