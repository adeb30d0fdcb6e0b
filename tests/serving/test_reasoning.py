"""What a model thinks before it replies, and replies that are known beforehand."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.serving.reasoning import Reasoning, ThoughtReader
from wenloom.serving.settings import ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from .conftest import LIMITS, TEMPLATE, Served, chat_model, serving

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As Qwen3's: it thinks unless it is told not to."""
BEGUN = THINKING.replace(
    "{% if enable_thinking is", "{% if not enable_thinking is defined %}<think>\n{% elif enable_thinking is"
)
"""As DeepSeek-R1's: the prompt ends with the tag."""
CONTROL = THINKING.replace("<think>", "[THINK]").replace("</think>", "[/THINK]")
"""As Mistral's: the tags are special tokens."""
GRADED = TEMPLATE + "{% if reasoning_effort is defined %}{{ reasoning_effort }}{% endif %}"
ASK: Any = [{"role": "user", "content": "Why?"}]
TAGS = ("<think>", "</think>")
KINDS = {"tagged": THINKING, "begun": BEGUN, "control": CONTROL}


@pytest.fixture(scope="module")
def thinking(tokenizer: TextTokenizer) -> Iterator[Served]:
    models = {name: chat_model(tokenizer, template, 1024, ("[THINK]", "[/THINK]") if name == "control" else (), TAGS)
              for name, template in {**KINDS, "graded": GRADED, "plain": TEMPLATE}.items()}  # fmt: skip
    app = create_app(
        Models({name: lambda model=model: model for name, model in models.items()}), ServerSettings(limits=LIMITS)
    )
    with serving(app, models["tagged"]) as running:
        yield running


def thought(kind: str) -> dict[str, Any]:
    """Options that make a model of random weights think."""
    begin = "" if kind == "begun" else "<think>\\n"
    return {"extra_body": {"regex": begin + "[a-z\\n]{3,9}</think>\\n\\n[A-Z]{3}"}}


@pytest.mark.parametrize("kind", ["tagged", "begun"])
@pytest.mark.parametrize("n", [1, 2])
def test_reasoning_is_told_apart_and_counted(thinking: Served, kind: str, n: int):
    options: Any = dict(model=kind, messages=ASK, seed=4, n=n, logprobs=True, **thought(kind))
    whole = thinking.client().chat.completions.create(**options)
    chunks = list(
        thinking.client().chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    n_thought = 0
    for choice in whole.choices:
        message: Any = choice.message
        assert message.reasoning == message.reasoning_content and message.reasoning.strip("\n") == message.reasoning
        assert len(message.content) == 3 and message.content.isupper()
        tokens = [each.token for each in choice.logprobs.content]  # pyright: ignore
        n_thought += next(place for place in range(len(tokens)) if "</think>" in "".join(tokens[: place + 1])) + 1
        deltas: Any = [c.delta for chunk in chunks for c in chunk.choices if c.index == choice.index]
        for name in ("reasoning", "reasoning_content", "content"):
            assert "".join(getattr(each, name, None) or "" for each in deltas) == getattr(message, name)
    for usage in (whole.usage, chunks[-1].usage):
        assert usage.completion_tokens_details.reasoning_tokens == n_thought < usage.completion_tokens  # pyright: ignore


def test_reasoning_between_special_tokens(thinking: Served):
    tokens = {name: token_of(thinking, "control", name) for name in ("[THINK]", "[/THINK]")}
    grammar = f"start: <[{tokens['[THINK]']}]> /[a-z]{{3,9}}/ <[{tokens['[/THINK]']}]> /[A-Z]{{3}}/"
    options: Any = dict(model="control", messages=ASK, seed=4, extra_body={"grammar": grammar})
    found: Any = thinking.client().chat.completions.create(**options).choices[0].message
    assert found.reasoning.islower() and found.content.isupper()
    deltas: Any = [
        c.delta for chunk in thinking.client().chat.completions.create(**options, stream=True) for c in chunk.choices
    ]
    assert "".join(getattr(each, "reasoning", None) or "" for each in deltas) == found.reasoning


def token_of(thinking: Served, model: str, name: str) -> int:
    (token,) = thinking.post("/v1/tokenize", {"model": model, "prompt": name, "add_special_tokens": False}).json()[
        "tokens"
    ]
    return token


def test_what_is_never_finished_is_all_thought(thinking: Served):
    found: Any = thinking.client().chat.completions.create(
        model="begun", messages=ASK, max_tokens=9, extra_body={"regex": "[a-z]{99}"}
    )
    assert found.choices[0].message.content == "" and found.choices[0].message.reasoning
    assert found.usage.completion_tokens_details.reasoning_tokens == 9


@pytest.mark.parametrize("kind", ["tagged", "begun"])
def test_effort_none_switches_it_off_and_what_cannot_be_told_is_refused(thinking: Served, kind: str):
    client = thinking.client()
    text = client.chat.completions.create(model=kind, messages=ASK, reasoning_effort="none", max_tokens=5)
    assert not hasattr(text.choices[0].message, "reasoning")
    for model, effort in ((kind, "high"), ("plain", "low")):
        for path, body in (("chat/completions", {"messages": ASK, "reasoning_effort": effort}),
                           ("responses", {"input": "Why?", "reasoning": {"effort": effort}})):  # fmt: skip
            answer = thinking.post(
                f"/v1/{path}", {"model": model, "max_tokens" if "chat" in path else "max_output_tokens": 1, **body}
            )
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == ("reasoning_effort" if "chat" in path else "reasoning.effort")
    assert client.chat.completions.create(model="plain", messages=ASK, reasoning_effort="none", max_tokens=1)


def test_effort_is_told_to_a_template_that_reads_it(thinking: Served):
    def read(**more: Any) -> int:
        found = thinking.client().chat.completions.create(model="graded", messages=ASK, max_tokens=1, **more)
        return found.usage.prompt_tokens  # pyright: ignore

    assert read(reasoning_effort="high") == read() + len(
        thinking.model.tokenizer.encode("high", add_special_tokens=False)
    )


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_taken_back_under_either_name(thinking: Served, name: str):
    turns = [*ASK, {"role": "assistant", "content": "So.", name: "Hm."}, *ASK]
    read = thinking.post("/v1/tokenize", {"model": "tagged", "messages": turns}).json()["tokens"]
    oracle, _ = render_jinja_template(
        [[*ASK, {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}, *ASK]], chat_template=THINKING, add_generation_prompt=True,
    )  # fmt: skip
    assert read == thinking.model.tokenizer.encoding(oracle[0], add_special_tokens=False).ids
    items = [{"role": "user", "content": "Why?"}, {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}], "summary": []},
             {"role": "assistant", "content": "So."}, {"role": "user", "content": "Why?"}]  # fmt: skip
    reply = thinking.client().responses.create(model="tagged", input=items, max_output_tokens=1)  # pyright: ignore
    assert reply.usage is not None and reply.usage.input_tokens == len(read)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_and_calls_obey_behind_reasoning(thinking: Served, kind: str):
    schema = {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    tool: Any = {"type": "function", "function": {"name": "switch", "parameters": schema}}
    tags = ("[THINK]", "[/THINK]") if kind == "control" else TAGS
    favoured = {str(token_of(thinking, kind, tag)): bias for tag, bias in zip(tags, (50, 100), strict=True)}
    for seed in range(3):
        options: Any = dict(model=kind, messages=ASK, seed=seed, logit_bias=favoured)
        document: Any = thinking.client().chat.completions.create(**options, response_format=form)
        call: Any = thinking.client().chat.completions.create(
            **options, tools=[tool], tool_choice="required", parallel_tool_calls=False
        )
        for each in (document, call):
            assert each.usage.completion_tokens_details.reasoning_tokens == (1 if kind == "begun" else 2)
        assert (document.choices[0].finish_reason, call.choices[0].finish_reason) == ("stop", "tool_calls")
        jsonschema.validate(json.loads(document.choices[0].message.content), schema)
        jsonschema.validate(json.loads(call.choices[0].message.tool_calls[0].function.arguments), schema)


@pytest.mark.parametrize("kind", ["tagged", "begun"])
def test_reasoning_is_an_item_of_its_own_in_responses(thinking: Served, kind: str):
    options: Any = dict(model=kind, input="Why?", extra_body={**thought(kind)["extra_body"], "seed": 4})
    whole = thinking.client().responses.create(**options)
    assert [each.type for each in whole.output] == ["reasoning", "message"] and len(whole.output_text) == 3
    with thinking.client().responses.stream(**options) as stream:
        events: Any = list(stream)
        final = stream.get_final_response()
    texts = [item.content[0].text for item in whole.output]  # pyright: ignore
    assert [item.content[0].text for item in final.output] == texts  # pyright: ignore
    assert "".join(each.delta for each in events if each.type == "response.reasoning_text.delta") == texts[0]
    assert next(each.text for each in events if each.type == "response.reasoning_text.done") == texts[0]
    assert whole.usage is not None and whole.usage.output_tokens_details.reasoning_tokens > 0


@given(
    st.text("a \n", max_size=8), st.text("b <tk\n", max_size=8), st.lists(st.integers(1, 9), min_size=1), st.booleans()
)
@settings(max_examples=300)
def test_reasoning_is_read_alike_however_it_comes(thought: str, said: str, sizes: list[int], is_begun: bool):
    reader = ThoughtReader(Reasoning("<think>", "</think>", (), is_begun))
    text, at, steps, found = (
        ("" if is_begun else "\n<think>") + thought + "</think>" + said,
        0,
        itertools.cycle(sizes),
        [],
    )
    while at < len(text):
        size = next(steps)
        found += reader.feed(text[at : at + size])
        at += size
    found += reader.finish()
    assert "".join(piece for is_thought, piece in found if is_thought) == thought.strip("\n")
    assert "".join(piece for is_thought, piece in found if not is_thought) == said.lstrip("\n")


def test_a_prediction_changes_nothing_but_the_pace(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "wenloom.generation.speculative._Worth.trying", lambda self, n: True
    )  # else by the time of steps
    model = chat_model(tokenizer)
    with serving(create_app(Models({"tiny": lambda: model}), ServerSettings(limits=LIMITS)), model) as running:
        options: Any = dict(
            model="tiny", messages=ASK, max_tokens=40, temperature=0, extra_body={"regex": "[a-z ]{20,60}"}
        )
        plain = running.client().chat.completions.create(**options)
        text = plain.choices[0].message.content
        for content in (text, [{"type": "text", "text": text}], "Something else.", ""):
            found = running.client().chat.completions.create(  # pyright: ignore[reportCallIssue]
                **options, prediction={"type": "content", "content": content}
            )
            assert found.choices[0].message.content == text
            usage: Any = found.usage
            details = usage.completion_tokens_details
            assert usage.completion_tokens == plain.usage.completion_tokens  # pyright: ignore
            assert (details.accepted_prediction_tokens > 0) == (content not in ("Something else.", ""))
            assert details.accepted_prediction_tokens <= usage.completion_tokens
        drawn: Any = {**options, "temperature": 1, "seed": 3, "n": 2}
        guessed = running.client().chat.completions.create(
            **drawn, prediction={"type": "content", "content": "the lamp"}
        )
        assert [c.message.content for c in guessed.choices] == [
            c.message.content for c in running.client().chat.completions.create(**drawn).choices
        ]
        for more in ({"num_beams": 2, "temperature": 0}, {"prompt_lookup_num_tokens": 2}):
            answer = running.post(
                "/v1/chat/completions",
                {"model": "tiny", "messages": ASK, "prediction": {"type": "content", "content": "x"}, **more},
            )
            assert answer.status_code == 400 and answer.json()["error"]["param"] in (
                "prediction",
                "prompt_lookup_num_tokens",
            ), answer.text
