"""The answer to a request to /v1/responses, whole or in its typed events."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

from wenloom.generation.jobs import TokenScore
from wenloom.serving.answer import JSON
from wenloom.serving.chat_answer import call_id, score_as_json
from wenloom.serving.errors import APIError
from wenloom.serving.reply_reader import ReplyForm
from wenloom.serving.responses_schema import ResponseRequest
from wenloom.serving.run import ChoiceEvent, EngineRun, finish_reason
from wenloom.serving.tool_reader import Called, Part, Said, Thought

LOGPROBS = "message.output_text.logprobs"


class ResponseAnswer:
    """Writes it: items of output that open, grow and close one after the other."""

    last = b""

    def __init__(self, body: ResponseRequest, run: EngineRun, form: ReplyForm):
        self.run, self._body = run, body
        self._id, self._created = _new("resp"), int(time.time())
        self._reader = form.reader()
        self._output: list[JSON] = []
        self._is_open = False
        """Whether the last item is not closed yet."""
        self._scores: list[TokenScore] = []
        """Of tokens whose text is not told yet."""
        self._endings = run.served.model.engine.vocabulary.endings(run.prompts[0].request)
        self._number = 0
        self._reason: str | None = None

    def opening(self) -> Iterator[JSON]:
        """That there is a response."""
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self._response("in_progress"))

    def pieces(self, each: ChoiceEvent) -> Iterator[JSON]:
        """What was said or called."""
        event, reason = each.event, finish_reason(each.event)
        if event.score is not None and event.token not in self._endings:
            self._scores.append(event.score)
        yield from self._read(event.text, reason)

    def ending(self) -> Iterator[JSON]:
        """The whole response."""
        status = self._status
        yield self._event(f"response.{status}", response=self._response(status))

    def failure(self, error: APIError) -> JSON:
        """What went wrong on the way."""
        return self._event("error", code=error.code, message=str(error), param=error.param)

    def whole(self) -> JSON:
        """The response."""
        (found,) = self.run.continuations()
        self._scores = [each for each in found.scores if each.token not in self._endings]
        for _ in self._read(found.text, finish_reason(found)):
            pass
        return self._response(self._status)

    @property
    def _status(self) -> str:
        return "incomplete" if self._reason == "length" else "completed"

    def _read(self, text: str, reason: str | None) -> Iterator[JSON]:
        """Go on by a piece of the reply, and end it where there is a reason."""
        self._reason = reason
        if self._reader is None:
            parts: list[Part] = [Said(text)] if text else []
        else:
            parts = [*self._reader.feed(text), *(self._reader.finish() if reason is not None else ())]
        for part in parts:
            yield from self._grow(part)
        if reason is not None:
            if not self._output:
                yield from self._open({"type": "message", "id": _new("msg"), "role": "assistant", "content": []})
            if self._is_open:
                yield from self._close("incomplete" if reason == "length" else "completed")

    def _grow(self, part: Part) -> Iterator[JSON]:
        if isinstance(part, Thought):
            if not self._is_open:
                yield from self._open({"type": "reasoning", "id": _new("rs"), "summary": [], "content": []})
            self._output[-1]["content"][0]["text"] += part.text
            yield self._of_item("response.reasoning_text.delta", content_index=0, delta=part.text)
        elif isinstance(part, Said):
            if self._is_open and self._output[-1]["type"] == "reasoning":
                yield from self._close("completed")
                self._scores = []
            if not self._is_open:
                yield from self._open({"type": "message", "id": _new("msg"), "role": "assistant", "content": []})
            content = self._output[-1]["content"][0]
            logprobs = self._logprobs()
            content["text"] += part.text
            content["logprobs"] += logprobs
            yield self._of_item("response.output_text.delta", content_index=0, delta=part.text, logprobs=logprobs)
        elif isinstance(part, Called):
            if self._is_open:
                yield from self._close("completed")
            self._scores = []
            yield from self._open({"type": "function_call", "id": _new("fc"), "call_id": call_id(), "name": part.name, "arguments": ""})  # fmt: skip
        else:
            self._output[-1]["arguments"] += part.text
            yield self._of_item("response.function_call_arguments.delta", delta=part.text)

    def _open(self, item: JSON) -> Iterator[JSON]:
        item["status"] = "in_progress"
        self._output.append(item)
        self._is_open = True
        yield self._event("response.output_item.added", output_index=len(self._output) - 1, item=_copied(item))
        if item["type"] != "function_call":
            is_said = item["type"] == "message"
            said = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item["content"] = [said if is_said else {"type": "reasoning_text", "text": ""}]
            part = _copied(item["content"][0])
            yield self._of_item("response.content_part.added", content_index=0, part=part)

    def _close(self, status: str) -> Iterator[JSON]:
        item = self._output[-1]
        if item["type"] == "message":
            part = item["content"][0]
            told = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._of_item("response.output_text.done", content_index=0, **told)
            yield self._of_item("response.content_part.done", content_index=0, part=part)
        elif item["type"] == "reasoning":
            part = item["content"][0]
            yield self._of_item("response.reasoning_text.done", content_index=0, text=part["text"])
            yield self._of_item("response.content_part.done", content_index=0, part=part)
        else:
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield self._of_item("response.function_call_arguments.done", **told)
        item["status"], self._is_open = status, False
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _logprobs(self) -> list[JSON]:
        """Of the tokens since the last text, where they are asked for."""
        scores, self._scores = self._scores, []
        names = self.run.served.token_names
        return [score_as_json(each, names) for each in scores] if self._body.include else []

    def _of_item(self, kind: str, **more: Any) -> JSON:
        return self._event(kind, item_id=self._output[-1]["id"], output_index=len(self._output) - 1, **more)

    def _event(self, kind: str, **more: Any) -> JSON:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **more}

    def _response(self, status: str) -> JSON:
        body, is_done = self._body, status != "in_progress"
        text = {"format": {"type": "text"}} if body.text is None else _as_sent(body.text)
        return {
            "id": self._id, "object": "response", "created_at": self._created, "status": status, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens, "model": self.run.served.name,
            "output": self._output if is_done else [], "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None, "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None}, "store": False, "background": False,
            "temperature": 1.0 if body.temperature is None else body.temperature, "text": text,
            "tool_choice": _as_sent(body.tool_choice) if body.tool_choice is not None else "auto",
            "tools": [{"parameters": None, "strict": None, **_as_sent(each)} for each in body.tools or ()],
            "top_p": 1.0 if body.top_p is None else body.top_p, "top_logprobs": body.top_logprobs or 0,
            "truncation": body.truncation or "disabled", "usage": self._usage() if is_done else None, "user": body.user,
            "metadata": body.metadata or {}, "service_tier": "default",
        }  # fmt: skip

    def _usage(self) -> JSON:
        used: Any = self.run.usage()
        return {"input_tokens": used["prompt_tokens"], "input_tokens_details": used["prompt_tokens_details"],
                "output_tokens": used["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": used["completion_tokens_details"]["reasoning_tokens"]},
                "total_tokens": used["total_tokens"]}  # fmt: skip


def _new(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


def _copied(item: JSON) -> JSON:
    """An item as it is now; what it holds is replaced, not changed."""
    return {name: list(value) if isinstance(value, list) else value for name, value in item.items()}


def _as_sent(value: Any) -> Any:
    return value if isinstance(value, str) else value.model_dump(by_alias=True, exclude_none=True)
