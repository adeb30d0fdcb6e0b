"""Functions that a model calls, as the official client offers them."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import jsonschema
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from wenloom.api import LanguageModel
from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.serving.settings import ServerSettings
from wenloom.serving.tool_form import TOLD, Pairs, ToolForm
from wenloom.serving.tool_probe import form_of
from wenloom.serving.tool_reader import Argued, Called, CallReader, Part, Said
from wenloom.tokens.chat import ChatRenderer, Message
from wenloom.tokens.tokenizer import TextTokenizer

from .conftest import LIMITS, TEMPLATE, Served, chat_model, serving

TAGGED = (
    "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}Functions:"
    "{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}<|im_end|>\n{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content }}\n</tool_response><|im_end|>\n"
    "{% elif not (loop.first and m.role == 'system' and tools) %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{% if m.content or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n'
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen's and Hermes': a tag around each call."""
BARE = (
    "{% for m in messages %}{% if loop.index0 == 0 and tools %}{% for tool in tools %}{{ tool | tojson(indent=4) }}\n{% endfor %}{% endif %}"
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    '<|im_start|>assistant\n{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}<|im_end|>'
    "{% elif m.role == 'tool' %}<|im_start|>ipython\n{{ m.content | tojson }}<|im_end|>"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Llama's: a reply is one call, and no more."""
LISTED = (
    "{% for m in messages %}{% if loop.last and tools %}TOOLS{{ tools | tojson }}{% endif %}{% if m.role == 'user' %}USER {{ m.content }}"
    "{% elif m.role == 'tool' %}RESULT {{ m.content }}{% elif m.tool_calls %}[CALLS][{% for call in m.tool_calls %}"
    '{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments if call.function.arguments is string '
    'else 1 / 0 }}, "id": "{{ call.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}]<|im_end|>'
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
"""As Mistral's: a list of calls with their ids; arguments as text."""
SPELLED = TAGGED.replace('{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}',
                         "<function={{ call.function.name }}>\n{% for key, value in call.function.arguments.items() %}"
                         "<parameter={{ key }}>\n{{ value if value is string else value | tojson }}\n</parameter>\n{% endfor %}</function>")  # fmt: skip
"""As Qwen3-Coder's: names and values of arguments between tags."""
CONTROL = (
    "{% for m in messages %}{% if loop.last and tools %}TOOLS{{ tools | tojson }}{% endif %}{% if m.role == 'user' %}USER {{ m.content }}"
    "{% elif m.role == 'tool' %}RESULT {{ m.content }}{% elif m.tool_calls %}{% for call in m.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('nine letters') }}{% endif %}"
    "[CALLS]{{ call.function.name }}[ID]{{ call.id }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}<|im_end|>"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
"""As Mistral's newer ones: special tokens instead of tags, and an id before the arguments."""
WRITTEN = TAGGED.replace('{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}',
                         "{{ call.function.name }}({% for key, value in call.function.arguments.items() %}{{ key }}={{ value | tojson }}"
                         "{% if not loop.last %}, {% endif %}{% endfor %})")  # fmt: skip
"""As a program, which is not read."""
TEMPLATES = {"tagged": TAGGED, "bare": BARE, "told": TEMPLATE, "spelled": SPELLED, "control": CONTROL}
WEATHER = {"type": "object", "properties": {"town": {"enum": ["苏州", "Bath"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
           "required": ["town", "days"], "additionalProperties": False}  # fmt: skip
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "How it will be.", "parameters": WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "now"}},
]  # fmt: skip
SCHEMAS: dict[str, Any] = {
    "weather": WEATHER,
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
ASK: Any = [{"role": "user", "content": "Will it rain in 苏州?"}]


def calling_model(tokenizer: TextTokenizer, template: str) -> LanguageModel:
    return chat_model(tokenizer, template, 1024, ("[CALLS]", "[ID]", "[ARGS]") if template == CONTROL else ())


@pytest.fixture(scope="module", params=TEMPLATES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def asked(tokenizer: TextTokenizer, kind: str) -> Iterator[Served]:
    model = calling_model(tokenizer, TEMPLATES[kind])
    with serving(create_app(Models({"tiny": lambda: model}), ServerSettings(limits=LIMITS)), model) as running:
        yield running


def check_calls(calls: Any, reason: str = "tool_calls") -> None:
    """Each obeys, but for the last where the reply was cut off."""
    assert len({call.id for call in calls}) == len(calls) and reason in ("tool_calls", "length")
    for call in calls if reason == "tool_calls" else calls[:-1]:
        assert call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def test_forms_are_read_from_templates(tokenizer: TextTokenizer):
    def form(template: str) -> ToolForm | None:
        return form_of(ChatRenderer(calling_model(tokenizer, template).tokenizer))

    assert form(TEMPLATE) == TOLD
    tagged = form(TAGGED)
    assert tagged is not None and tagged.is_in_template
    assert tagged == dataclasses.replace(TOLD, is_in_template=True)
    hermes = calling_model(tokenizer, TEMPLATE).tokenizer
    hermes.other_templates = {"tool_use": TAGGED}
    assert form_of(ChatRenderer(hermes)) == tagged
    assert form(BARE) == ToolForm('{"name": "', '", "parameters": ', None, "}")
    assert form(LISTED) == ToolForm('[CALLS][{"name": "', '", "arguments": ', '}, {"name": "', "}]", True, True)
    spelled = form(SPELLED)
    assert spelled is not None and spelled.pairs == Pairs("<parameter=", ">\n", "\n</parameter>\n")
    assert (spelled.begin, spelled.neck, spelled.end) == ("<tool_call>\n<function=", ">\n", "</function>\n</tool_call>")
    control = form(CONTROL)
    assert control is not None and (control.begin, control.neck, control.between, control.end) == (
        "[CALLS]",
        "[ARGS]",
        "[CALLS]",
        "",
    )
    assert control.id_begin == "[ID]" and {name for name, _ in control.special} == {"[CALLS]", "[ID]", "[ARGS]"}
    assert form(WRITTEN) is None


@pytest.mark.parametrize(
    "template", [TAGGED, BARE, LISTED, SPELLED, CONTROL], ids=["tagged", "bare", "listed", "spelled", "control"]
)
def test_calls_and_tools_are_rendered_as_transformers_renders_them(tokenizer: TextTokenizer, template: str):
    arguments: Any = {"town": "苏州", "days": 2}
    if template == LISTED:
        arguments = json.dumps(arguments)
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    turns = [Message("user", "Rain?"), Message("assistant", "", {"tool_calls": [call]}),
             Message("tool", "no", {"tool_call_id": "abcdefghi", "name": "weather"})]  # fmt: skip
    ours = ChatRenderer(chat_model(tokenizer, template).tokenizer).render(turns, tools=TOOLS).text
    theirs, _ = render_jinja_template(
        [[{"role": each.role, "content": each.content, **(each.more or {})} for each in turns]],
        tools=TOOLS, chat_template=template, add_generation_prompt=True,
    )  # fmt: skip
    assert ours == theirs[0]


def test_required_calls_obey_their_schemas(asked: Served, kind: str):
    for seed in range(4):
        whole = asked.client().chat.completions.create(
            model="tiny", messages=ASK, tools=TOOLS, tool_choice="required", n=3, seed=seed
        )
        for each in whole.choices:
            assert each.message.content is None and each.message.tool_calls
            check_calls(each.message.tool_calls, each.finish_reason)
            assert kind != "bare" or len(each.message.tool_calls) == 1


def test_streamed_calls_are_the_same_ones(asked: Served):
    options: Any = dict(model="tiny", messages=ASK, tools=TOOLS, tool_choice="required", n=2, seed=5)
    whole = asked.client().chat.completions.create(**options)
    chunks = list(asked.client().chat.completions.create(**options, stream=True))
    for choice in whole.choices:
        mine = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
        deltas = [call for c in mine for call in c.delta.tool_calls or []]
        names, arguments = {}, {}
        for delta in deltas:
            assert delta.function is not None
            if delta.index not in names:
                assert delta.id and delta.type == "function" and delta.function.arguments == ""
                names[delta.index] = delta.function.name
            else:
                assert delta.id is None and delta.type is None and delta.function.name is None
                arguments[delta.index] = arguments.get(delta.index, "") + (delta.function.arguments or "")
        assert list(names) == list(range(len(names)))
        assert [(names[n], arguments[n]) for n in names] == [
            (call.function.name, call.function.arguments) for call in choice.message.tool_calls or []  # pyright: ignore
        ]  # fmt: skip
    with asked.client().chat.completions.stream(**{**options, "n": 1, "parallel_tool_calls": False}) as stream:
        final = stream.get_final_completion()
    check_calls(final.choices[0].message.tool_calls, final.choices[0].finish_reason)


def test_a_named_function_is_called_once(asked: Served):
    for choice in (
        {"type": "function", "function": {"name": "now"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}},
    ):  # fmt: skip
        found = asked.client().chat.completions.create(
            model="tiny", messages=ASK, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False
        ).choices[0]  # pyright: ignore # fmt: skip
        assert found.finish_reason == ("stop" if choice["type"] == "function" else "tool_calls")
        assert [(call.function.name, call.function.arguments) for call in found.message.tool_calls] == [("now", "{}")]


def test_one_call_at_a_time(asked: Served):
    for seed in range(6):
        found = asked.client().chat.completions.create(
            model="tiny", messages=ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed
        )
        assert len(found.choices[0].message.tool_calls or []) == 1


def test_a_free_reply_is_text_or_calls_that_obey(asked: Served, kind: str):
    """What follows the tag that begins a call is a call, however little the model knows of them."""
    tag = asked.model.tokenizer.backend.token_to_id("[CALLS]" if kind == "control" else "<tool_call>")
    options: Any = dict(model="tiny", messages=ASK, tools=TOOLS, seed=3, max_tokens=60, parallel_tool_calls=False)
    free = asked.client().chat.completions.create(**options, logit_bias={str(tag): -100}).choices[0]
    assert free.message.content and not free.message.tool_calls and free.finish_reason != "tool_calls"
    none = asked.client().chat.completions.create(**{**options, "parallel_tool_calls": None}, tool_choice="none")
    assert none.choices[0].message.content and not none.choices[0].message.tool_calls
    if kind != "bare":
        call = asked.client().chat.completions.create(**options, logit_bias={str(tag): 100}).choices[0]
        assert call.finish_reason == "tool_calls" and call.message.content is None
        check_calls(call.message.tool_calls)


def test_a_format_holds_beside_tools(asked: Served, kind: str):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [[True]]}}}
    body = {"model": "tiny", "messages": ASK, "tools": TOOLS, "response_format": form}
    answer = asked.post("/v1/chat/completions", body)
    if kind == "bare":
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "response_format"
        return
    message = answer.json()["choices"][0]["message"]
    assert json.loads(message["content"]) == [True] if message["content"] else message["tool_calls"]


def test_answers_of_functions_are_read(asked: Served, kind: str):
    """A conversation with calls takes the tokens that its text takes, and names of control tokens in it are text."""
    said: Any = [*ASK, {"role": "assistant", "content": None, "tool_calls": [
        {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Bath", "days": 3}'}}]},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": [{"type": "text", "text": "dry <|im_end|>"}]}]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "now", "description": "<|im_start|>"}}]
    one = asked.client().chat.completions.create(model="tiny", messages=said, max_tokens=1, tools=tools)  # pyright: ignore
    assert one.usage is not None
    plain = json.loads(json.dumps([said, tools]).replace("<|im_end|>", "the end").replace("<|im_start|>", "a start"))
    two = asked.client().chat.completions.create(model="tiny", messages=plain[0], max_tokens=1, tools=plain[1])
    assert two.usage is not None
    encode = asked.model.tokenizer.literal(()).encoding
    extra = sum(len(encode(word, False).ids) - len(encode(other, False).ids)
                for word, other in (("<|im_end|>", "the end"), ("<|im_start|>", "a start")))  # fmt: skip
    assert (
        abs(one.usage.prompt_tokens - two.usage.prompt_tokens - extra) <= 4
    )  # where words meet what stands beside them


BAD: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"), ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": TOOLS + TOOLS[:1]}, "tools"), ({"tool_choice": "required"}, "tool_choice"), ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls"), ({"tools": TOOLS, "regex": "a"}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}, "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 3}}}], "on_overflow": "left"}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": ["x" * 70_000]}}}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(129)]}, "tools"),
    ({"messages": [*ASK, {"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[1].tool_call_id"),
    ({"messages": [*ASK, {"role": "assistant"}]}, "messages[1].content"),
    ({"messages": [*ASK, {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{"}}]}]}, "messages[1].tool_calls"),
    ({"messages": [*ASK, {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "[" * 100_000}}]}]}, "messages[1].tool_calls"),
    ({"messages": [*ASK, {"role": "assistant", "tool_calls": [{"id": "x", "type": "custom"}]}]}, "messages[1].tool_calls[0].type"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "param"), BAD, ids=lambda each: str(each)[:50])
def test_tools_that_cannot_be_offered_are_refused_by_name(served: Served, more: dict[str, Any], param: str):
    answer = served.post("/v1/chat/completions", {"model": "tiny", "messages": ASK, "max_tokens": 2, **more})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_a_form_that_is_not_read_is_refused(tokenizer: TextTokenizer):
    model = chat_model(tokenizer, WRITTEN)
    with (
        serving(create_app(Models({"tiny": lambda: model})), model) as running,
        pytest.raises(openai.BadRequestError, match="tools"),
    ):
        running.client().chat.completions.create(model="tiny", messages=ASK, tools=TOOLS)  # fmt: skip


IN_PAIRS = ToolForm("<tool_call>\n<function=", ">\n", "</function>\n</tool_call>\n<tool_call>\n<function=", "</function>\n</tool_call>",
                    pairs=Pairs("<parameter=", ">\n", "\n</parameter>\n"))  # fmt: skip
TIGHT = ToolForm("<tool_call>", "", "</tool_call><tool_call>", "</tool_call>", pairs=Pairs("<k>", "</k><v>", "</v>"))
FORMS = (
    TOLD,
    ToolForm('{"name": "', '", "parameters": ', None, "}"),
    ToolForm("[CALLS]", "[ARGS]", "[CALLS]", "", id_begin="[ID]"),
    IN_PAIRS,
    TIGHT,
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("</v>\n</parameter>\n"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)  # fmt: skip
KEYS = st.text(st.characters(exclude_characters="<>\n", codec="utf-8"), min_size=1, max_size=5)


@given(st.sampled_from(FORMS), st.text("ab <tool_c\n{", max_size=12), st.lists(st.dictionaries(KEYS, JSON_VALUES, max_size=3), max_size=3), st.lists(st.integers(1, 30), min_size=1), st.booleans())  # fmt: skip
@settings(max_examples=300)
def test_a_reply_is_taken_apart_alike_however_it_comes(
    form: ToolForm, text: str, arguments: list[Any], sizes: list[int], in_ascii: bool
):
    calls = [(f"f{n}", json.dumps(each, ensure_ascii=in_ascii)) for n, each in enumerate(arguments)]
    if form.between is None:
        calls = calls[:1]
    if calls and form.is_first:
        text = ""
    ends = () if form.pairs is None else (form.pairs.end,)
    are_text = {f"f{n}": frozenset(key for key, value in each.items() if isinstance(value, str) and not any(end in value + end[:-1] for end in ends))
                for n, each in enumerate(arguments)}  # fmt: skip
    written = calls
    if form.pairs is not None:
        written = [(name, "".join(f"{form.pairs.begin}{key}{form.pairs.neck}{value if key in are_text[name] else json.dumps(value)}{form.pairs.end}"
                                  for key, value in json.loads(whole).items())) for name, whole in calls]  # fmt: skip
    if form.id_begin is not None:
        written = [(f"{name}[ID]abcdefghi", whole) for name, whole in calls]
    reply = text + (form.written(written) if calls else "")
    reader, parts, at, steps = CallReader(form, are_text), list[Part](), 0, itertools.cycle(sizes)
    while at < len(reply):
        size = next(steps)
        parts += reader.feed(reply[at : at + size])
        at += size
    parts += reader.finish()
    said, found = taken_apart(parts)
    assert said == (text.rstrip() if calls else text)
    if form.pairs is None:
        assert found == calls
    else:
        assert [(name, json.loads(whole)) for name, whole in found] == [
            (name, json.loads(whole)) for name, whole in calls
        ]


def taken_apart(parts: Sequence[Part]) -> tuple[str, list[tuple[str, str]]]:
    said = "".join(part.text for part in parts if isinstance(part, Said))
    return said, [
        (each.name, "".join(part.text for part in parts if isinstance(part, Argued) and part.number == each.number))
        for each in parts
        if isinstance(each, Called)
    ]
