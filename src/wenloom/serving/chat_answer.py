"""The answer to a request to /v1/chat/completions, whole or in chunks."""

import secrets
from collections.abc import Iterator, Sequence

from wenloom.generation.jobs import TokenScore
from wenloom.serving.answer import JSON, Head
from wenloom.serving.chat_schema import ChatRequest
from wenloom.serving.errors import APIError
from wenloom.serving.reply_reader import ReplyForm, ReplyReader
from wenloom.serving.run import ChoiceEvent, EngineRun, finish_reason
from wenloom.serving.sse import DONE
from wenloom.serving.token_names import TokenNames
from wenloom.serving.tool_reader import Argued, Called, Part, Said, Thought


class ChatAnswer:
    """Writes it."""

    last = DONE

    def __init__(self, body: ChatRequest, run: EngineRun, form: ReplyForm):
        self.run, self._body, self._use = run, body, form.use
        self._head = Head("chatcmpl", "chat.completion.chunk", run)
        self._includes_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        self._more = {"usage": None} if self._includes_usage else {}
        self._endings = run.served.model.engine.vocabulary.endings(run.prompts[0].request)
        self._readers = {index: reader for index in range(body.n or 1) if (reader := form.reader()) is not None}

    def opening(self) -> Iterator[JSON]:
        """Whose turn it is, per choice."""
        for index in range(self._body.n or 1):
            content = None if self._use is not None else ""
            yield self._chunk(index, {"role": "assistant", "content": content, "refusal": None})

    def pieces(self, each: ChoiceEvent) -> Iterator[JSON]:
        """What was said or called, and in a chunk of its own why it ends."""
        event, reason = each.event, finish_reason(each.event)
        scores = [] if event.score is None else [event.score]
        logprobs = self._logprobs(scores)
        reader = self._readers.get(each.choice)
        if reader is None:
            deltas = [{"content": event.text}] if event.text else []
        else:
            parts = [*reader.feed(event.text), *(reader.finish() if reason is not None else ())]
            deltas = [_delta(part) for part in parts]
        if logprobs is not None and logprobs["content"] and not deltas:
            deltas = [{"content": ""}]
        for number, delta in enumerate(deltas):
            yield self._chunk(each.choice, delta, None if number else logprobs)
        if reason is not None:
            yield self._chunk(each.choice, {}, None, self._reason(reason, reader))

    def ending(self) -> Iterator[JSON]:
        """Usage, where it was asked for."""
        if self._includes_usage:
            yield self._head([], usage=self.run.usage())

    def failure(self, error: APIError) -> JSON:
        """What went wrong on the way."""
        return error.body()

    def whole(self) -> JSON:
        """All choices."""
        choices = []
        for index, found in enumerate(self.run.continuations()):
            reader = self._readers.get(index)
            message: JSON = {"role": "assistant", "content": found.text, "refusal": None}
            if reader is not None:
                message |= _message([*reader.feed(found.text), *reader.finish()])
            choices.append({"index": index, "message": message, "logprobs": self._logprobs(found.scores),
                            "finish_reason": self._reason(finish_reason(found), reader)})  # fmt: skip
        return self._head(choices, "chat.completion", usage=self.run.usage())

    def _reason(self, reason: str | None, reader: ReplyReader | None) -> str | None:
        """As OpenAI has it: a function that the client named is no news."""
        if self._use is None or reader is None or not reader.n_calls or self._use.is_named or reason != "stop":
            return reason
        return "tool_calls"

    def _chunk(self, index: int, delta: JSON, logprobs: JSON | None = None, reason: str | None = None) -> JSON:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._head([choice], **self._more)

    def _logprobs(self, scores: Sequence[TokenScore]) -> JSON | None:
        """The tokens of the text, the end token aside."""
        if not self._body.logprobs:
            return None
        names = self.run.served.token_names
        found = [score_as_json(each, names) for each in scores if each.token not in self._endings]
        return {"content": found, "refusal": None}


def call_id() -> str:
    """A new call's id, in the letters and the length that strict templates ask for."""
    return secrets.token_hex(5)[:9]


def _delta(part: Part) -> JSON:
    if isinstance(part, Said):
        return {"content": part.text}
    if isinstance(part, Thought):
        return {"reasoning": part.text, "reasoning_content": part.text}  # clients know one or the other
    if isinstance(part, Called):
        call = {
            "index": part.number,
            "id": call_id(),
            "type": "function",
            "function": {"name": part.name, "arguments": ""},
        }
    else:
        call = {"index": part.number, "function": {"arguments": part.text}}
    return {"tool_calls": [call]}


def _message(parts: Sequence[Part]) -> JSON:
    """Content and calls of a whole message."""
    said = "".join(part.text for part in parts if isinstance(part, Said))
    calls = []
    for called in (part for part in parts if isinstance(part, Called)):
        arguments = "".join(part.text for part in parts if isinstance(part, Argued) and part.number == called.number)
        function = {"name": called.name, "arguments": arguments}
        calls.append({"id": call_id(), "type": "function", "function": function})
    thought = "".join(part.text for part in parts if isinstance(part, Thought))
    return {
        "content": said,
        **({"reasoning": thought, "reasoning_content": thought} if thought else {}),
        **({"content": said or None, "tool_calls": calls} if calls else {}),
    }


def score_as_json(score: TokenScore, names: TokenNames) -> JSON:
    """A token with its log-probability and those of the most probable ones."""

    def named(token: int, logprob: float) -> JSON:
        return {"token": names.text(token), "logprob": logprob, "bytes": list(names.data(token))}

    top = [named(token, logprob) for token, logprob in score.top]
    return {**named(score.token, score.logprob), "top_logprobs": top}
