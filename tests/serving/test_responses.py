"""OpenAI's Responses API as its own client speaks it, stateless."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pydantic
import pytest

from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.serving.settings import ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from .conftest import LIMITS, Served, chat_model, serving
from .test_response_format import SCHEMAS, Lamp
from .test_tools import BARE, TAGGED, WEATHER

TOOLS: Any = [
    {"type": "function", "name": "weather", "description": "How it will be.", "parameters": WEATHER, "strict": True}
]
FORCED: Any = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
ASK = "Will it rain in 苏州?"


@pytest.fixture(scope="module", params=[TAGGED, BARE], ids=["tagged", "bare"])
def asked(request: pytest.FixtureRequest, tokenizer: TextTokenizer) -> Iterator[Served]:
    model = chat_model(tokenizer, request.param, context_length=1024)
    with serving(create_app(Models({"tiny": lambda: model}), ServerSettings(limits=LIMITS)), model) as running:
        yield running


def test_a_reply_is_that_of_chat_completions(client: openai.OpenAI):
    options: Any = {"model": "tiny", "temperature": 0.7, "top_p": 0.9}
    for seed in range(5):
        found = client.responses.create(input=ASK, instructions="Be kind.", max_output_tokens=12, extra_body={"seed": seed}, **options)  # fmt: skip
        chat = client.chat.completions.create(
            messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": ASK}], max_tokens=12, seed=seed, **options
        )  # fmt: skip
        assert found.output_text == chat.choices[0].message.content
        assert found.usage is not None and chat.usage is not None
        assert (found.usage.input_tokens, found.usage.output_tokens) == (chat.usage.prompt_tokens, chat.usage.completion_tokens)  # fmt: skip
        is_cut = chat.choices[0].finish_reason == "length"
        assert found.status == ("incomplete" if is_cut else "completed")
        assert (
            found.incomplete_details is not None and found.incomplete_details.reason == "max_output_tokens"
        ) == is_cut
        assert found.object == "response" and found.error is None and found.temperature == 0.7


def check_events(events: list[Any]) -> None:
    """The order that OpenAI's own have, and that what is told in pieces is what is told in the end."""
    assert [each.sequence_number for each in events] == list(range(len(events)))
    assert [each.type for each in events[:2]] == ["response.created", "response.in_progress"]
    final = events[-1].response
    assert events[-1].type == f"response.{final.status}" and final.usage is not None
    for index, item in enumerate(final.output):
        mine = [each for each in events if getattr(each, "output_index", None) == index]
        kinds = [each.type.removeprefix("response.") for each in mine]
        assert kinds[0] == "output_item.added" and kinds[-1] == "output_item.done" and mine[-1].item == item
        assert mine[0].item.status == "in_progress" and mine[0].item.id == item.id
        middle = mine[1:-1]
        assert all(each.item_id == item.id for each in middle)
        told = "".join(each.delta for each in middle if each.type.endswith(".delta"))
        if item.type == "message":
            assert kinds[1] == "content_part.added" and kinds[-3:-1] == ["output_text.done", "content_part.done"]
            assert set(kinds[2:-3]) <= {"output_text.delta"}
            assert told == item.content[0].text == middle[-2].text == middle[-1].part.text
        else:
            assert kinds[-2] == "function_call_arguments.done" and set(kinds[1:-2]) == {"function_call_arguments.delta"}
            assert told == item.arguments == middle[-1].arguments


@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}, FORCED, {**FORCED, "parallel_tool_calls": True},
                                  {"text": {"format": {"type": "json_object"}}}], ids=lambda each: str(list(each)))  # fmt: skip
def test_streams_are_the_typed_events_of_the_original(asked: Served, more: dict[str, Any]):
    client = asked.client()
    options: Any = {"model": "tiny", "input": ASK, "max_output_tokens": 200, "extra_body": {"seed": 4}, **more}
    whole = client.responses.create(**options)
    events = list(client.responses.create(**options, stream=True))
    check_events(events)
    final: Any = events[-1]

    def without_ids(output: Any) -> Any:
        return [{**each.model_dump(), "id": "", "call_id": ""} for each in output]

    assert without_ids(final.response.output) == without_ids(whole.output)
    assert final.response.usage.total_tokens == whole.usage.total_tokens
    body = {"model": "tiny", "input": ASK, "max_output_tokens": 2, "stream": True}
    text = asked.post("/v1/responses", body).text
    assert text.startswith("event: response.created\ndata: {") and "[DONE]" not in text


def test_functions_are_called_and_their_answers_read(asked: Served):
    client = asked.client()
    first = client.responses.create(model="tiny", input=ASK, **FORCED)
    (call,) = first.output
    assert call.type == "function_call" and call.name == "weather" and call.status == "completed"
    jsonschema.validate(json.loads(call.arguments), WEATHER)
    then: Any = [{"role": "user", "content": ASK}, *[each.model_dump(exclude_none=True) for each in first.output],
                 {"type": "function_call_output", "call_id": call.call_id, "output": "dry"}]  # fmt: skip
    second = client.responses.create(model="tiny", input=then, max_output_tokens=5, tools=TOOLS)
    chat: Any = [{"role": "user", "content": ASK}, {"role": "assistant", "tool_calls": [
        {"id": call.call_id, "type": "function", "function": {"name": "weather", "arguments": call.arguments}}]},
        {"role": "tool", "tool_call_id": call.call_id, "content": "dry"}]  # fmt: skip
    flat: Any = [{"type": "function", "function": {k: v for k, v in TOOLS[0].items() if k != "type"}}]
    same = client.chat.completions.create(model="tiny", messages=chat, max_tokens=5, tools=flat)
    assert second.usage is not None and same.usage is not None
    assert second.usage.input_tokens == same.usage.prompt_tokens
    for choice in ({"type": "function", "name": "weather"}, {"type": "allowed_tools", "mode": "required", "tools": TOOLS_BY_NAME}):  # fmt: skip
        found = client.responses.create(model="tiny", input=ASK, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)  # fmt: skip # pyright: ignore
        assert [each.type for each in found.output] == ["function_call"]


TOOLS_BY_NAME = [{"type": "function", "name": "weather"}]


def test_what_was_said_is_sent_back_as_it_came(client: openai.OpenAI):
    first = client.responses.create(
        model="tiny", input="Hi", max_output_tokens=4, include=["message.output_text.logprobs"]
    )
    back: Any = [{"role": "user", "content": "Hi"}, *[each.model_dump(exclude_none=True) for each in first.output],
                 {"role": "user", "content": [{"type": "input_text", "text": "Go on"}]}]  # fmt: skip
    found = client.responses.create(model="tiny", input=back, max_output_tokens=4)
    assert found.usage is not None and first.usage is not None
    assert found.usage.input_tokens > first.usage.input_tokens


def test_formats_hold(client: openai.OpenAI):
    for schema in SCHEMAS[:2]:
        form: Any = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
        found = client.responses.create(model="tiny", input=ASK, text=form, extra_body={"seed": 1})
        jsonschema.validate(json.loads(found.output_text), schema)
    parsed = client.responses.parse(model="tiny", input=ASK, text_format=Lamp, extra_body={"seed": 3})
    assert isinstance(parsed.output_parsed, Lamp)


class Weather(pydantic.BaseModel):
    sunny: bool


def test_the_clients_own_tools_are_parsed(asked: Served):
    tool = openai.pydantic_function_tool(Weather)["function"]
    with asked.client().responses.stream(
        model="tiny", input="Hi", tools=[{"type": "function", **tool}], tool_choice="required",  # pyright: ignore
        parallel_tool_calls=False,
    ) as stream:  # fmt: skip
        (call,) = stream.get_final_response().output
    assert call.type == "function_call" and Weather.model_validate(call.parsed_arguments)


def test_log_probabilities_are_those_of_chat_completions(client: openai.OpenAI):
    options: Any = {"model": "tiny", "max_output_tokens": 5, "extra_body": {"seed": 3, "eos_token_id": []}}
    asked: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    found: Any = client.responses.create(input="Hi", **asked, **options)
    told = found.output[0].content[0].logprobs
    chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=5, seed=3,
                                          logprobs=True, top_logprobs=2, extra_body={"eos_token_id": []})  # fmt: skip
    scores = chat.choices[0].logprobs
    assert scores is not None and scores.content is not None
    assert [each.logprob for each in told] == pytest.approx([each.logprob for each in scores.content], abs=1e-5)
    assert all(len(each.top_logprobs) == 2 for each in told)
    events = list(client.responses.create(input="Hi", **asked, **options, stream=True))
    streamed = [each for event in events if event.type == "response.output_text.delta" for each in event.logprobs]
    assert [each.token for each in streamed] == [each.token for each in told]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"), ({"background": True}, "background"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tools": [{"type": "local_shell"}]}, "tools[0].type"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"), ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"input": []}, "input"), ({"input": [{"type": "reasoning", "summary": []}]}, "input[0]"), ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user"}]}, "input[0].content"), ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call", "call_id": "x", "name": "f", "arguments": "{"}]}, "input[0].arguments"),
    ({"include": ["reasoning.encrypted_content"]}, "include"), ({"top_logprobs": 2}, "top_logprobs"), ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"), ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "text.format"), ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"max_output_tokens": 5000}, "max_output_tokens"), ({"truncation": "auto", "on_overflow": "left"}, "truncation"), ({"store": True}, "store"),
    ({"stream_options": {}}, "stream_options"), ({"input": "lamp " * 1000}, "input"), ({"messages": []}, "messages"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "param"), BAD, ids=lambda each: str(each)[:50])
def test_what_a_server_without_memory_cannot_do_is_refused_by_name(served: Served, more: dict[str, Any], param: str):
    answer = served.post("/v1/responses", {"model": "tiny", "input": "Hi", **more})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_a_stream_that_fails_ends_with_an_error_event(client: openai.OpenAI):
    body = {"allowed_token_ids": [7], "suppress_tokens": [7], "eos_token_id": []}
    events = list(client.responses.create(model="tiny", input="Hi", stream=True, extra_body=body))
    assert [each.type for each in events] == ["response.created", "response.in_progress", "error"]
    assert events[-1].type == "error" and "no token" in events[-1].message and events[-1].sequence_number == 2
