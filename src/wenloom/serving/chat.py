"""/v1/chat/completions: a conversation goes on."""

from collections.abc import Iterator, Sequence

from wenloom.generation.jobs import TokenScore
from wenloom.serving.answer import JSON, Head
from wenloom.serving.chat_schema import ChatRequest, Content
from wenloom.serving.context import check_text, check_tokens
from wenloom.serving.errors import refused
from wenloom.serving.fields import own_options
from wenloom.serving.models import ServedModel
from wenloom.serving.response_format import (
    JSONSchemaFormat,
    NamedSchema,
    check_alone,
    description_of,
    prepare_grammar,
    schema_of,
)
from wenloom.serving.run import ChoiceEvent, EngineRun, PreparedPrompt, finish_reason
from wenloom.serving.sampling import check_limits, request_of
from wenloom.serving.settings import RequestLimits
from wenloom.serving.token_names import TokenNames
from wenloom.tokens.chat import STOP_OF_PLAIN, Message


def chat_run(body: ChatRequest, served: ServedModel, limits: RequestLimits) -> "tuple[EngineRun, ChatAnswer]":
    """The work of a request, ready for the engine.

    Raises:
        APIError, InputError: it cannot be done.
    """
    n = body.n or 1
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise refused("max_tokens", "max_tokens and max_completion_tokens: give one of them.")
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs", "top_logprobs: needs logprobs.")
    if body.stream_options is not None and not body.stream:
        raise refused("stream_options", "stream_options: needs stream.")
    asked = body.max_completion_tokens or body.max_tokens
    check_limits(body, limits, 1, n, asked)
    cuts_left = own_options(body).get("on_overflow") == "left"
    if not cuts_left:
        for each in body.messages:
            check_text(served, text_of(each.content), "messages")
    form = body.response_format
    form = form.json_schema if isinstance(form, JSONSchemaFormat) else form
    schema = schema_of(form, limits, "response_format")
    if schema is not None:
        check_alone(own_options(body), "response_format")
    told = description_of(form) if isinstance(form, NamedSchema) else None
    ids = _prompt_ids(body, served, told)
    room = limits.max_total_tokens // n
    if served.context is not None:
        if not cuts_left:
            check_tokens(served, len(ids), "messages")
        room = min(room, max(1, served.context - len(ids) + 1))
    is_plain = served.model.tokenizer.chat_template is None
    request = request_of(
        body, served, n, asked or room, logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        more_stop_strings=(STOP_OF_PLAIN,) if is_plain else None, json_schema=schema,
    )  # fmt: skip
    prepare_grammar(served, request, None if schema is None else "response_format")
    run = EngineRun(served, [PreparedPrompt(ids, request)])
    return run, ChatAnswer(body, run)


def _prompt_ids(body: ChatRequest, served: ServedModel, told: str | None) -> list[int]:
    """The conversation as the model reads it, with what else it is told at the end of the system message."""
    messages = [
        Message("system" if each.role == "developer" else each.role, text_of(each.content)) for each in body.messages
    ]
    if told:
        messages = with_system(messages, told)
    return served.chat.encode(served.chat.render(messages)).ids


def with_system(messages: Sequence[Message], told: str) -> list[Message]:
    """A conversation whose system message ends with a text.

    >>> with_system([Message("user", "Hi")], "Be brief.")
    [Message(role='system', content='Be brief.'), Message(role='user', content='Hi')]
    """
    if messages and messages[0].role == "system":
        return [Message("system", f"{messages[0].content}\n\n{told}"), *messages[1:]]
    return [Message("system", told), *messages]


def text_of(content: Content) -> str:
    """The text of a message, its pieces one behind the other."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class ChatAnswer:
    """The answer to a request, whole or in chunks."""

    def __init__(self, body: ChatRequest, run: EngineRun):
        self.run, self._body = run, body
        self._head = Head("chatcmpl", "chat.completion.chunk", run)
        self._includes_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        self._more = {"usage": None} if self._includes_usage else {}
        self._endings = run.served.model.engine.vocabulary.endings(run.prompts[0].request)

    def opening(self) -> Iterator[JSON]:
        """Whose turn it is, per choice."""
        for index in range(self._body.n or 1):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def pieces(self, each: ChoiceEvent) -> Iterator[JSON]:
        """What was said, and in a chunk of its own why it ends."""
        event, reason = each.event, finish_reason(each.event)
        scores = [] if event.score is None else [event.score]
        logprobs = self._logprobs(scores)
        if event.text or (logprobs is not None and logprobs["content"]):
            yield self._chunk(each.choice, {"content": event.text}, logprobs)
        if reason is not None:
            yield self._chunk(each.choice, {}, None, reason)

    def usage_chunk(self) -> JSON | None:
        """Usage, where it was asked for."""
        return self._head([], usage=self.run.usage()) if self._includes_usage else None

    def whole(self) -> JSON:
        """All choices."""
        choices = []
        for index, found in enumerate(self.run.continuations()):
            message = {"role": "assistant", "content": found.text, "refusal": None}
            choices.append({"index": index, "message": message, "logprobs": self._logprobs(found.scores),
                            "finish_reason": finish_reason(found)})  # fmt: skip
        return self._head(choices, "chat.completion", usage=self.run.usage())

    def _chunk(self, index: int, delta: JSON, logprobs: JSON | None = None, reason: str | None = None) -> JSON:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._head([choice], **self._more)

    def _logprobs(self, scores: Sequence[TokenScore]) -> JSON | None:
        """The tokens of the text, the end token aside."""
        if not self._body.logprobs:
            return None
        names = self.run.served.token_names
        found = [_as_json(each, names) for each in scores if each.token not in self._endings]
        return {"content": found, "refusal": None}


def _as_json(score: TokenScore, names: TokenNames) -> JSON:
    def named(token: int, logprob: float) -> JSON:
        return {"token": names.text(token), "logprob": logprob, "bytes": list(names.data(token))}

    top = [named(token, logprob) for token, logprob in score.top]
    return {**named(score.token, score.logprob), "top_logprobs": top}
