"""Clients of the OpenAI API that other people made, unmodified: `python other_clients.py NAME URL MODEL EMBEDDER`.

Each is asked for text, streaming, tools, structured output and what else it offers; ends with 77 where the package is missing.
"""

import asyncio
import json
import os
import sys
from typing import Any

import pydantic

ASK: Any = [{"role": "user", "content": "Will it rain in Bath?"}]
WEATHER: Any = {
    "type": "object",
    "properties": {"town": {"enum": ["Bath", "苏州"]}},
    "required": ["town"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "How it will be.", "parameters": WEATHER},
}
SCHEMA: Any = {
    "type": "object",
    "properties": {"lit": {"type": "boolean"}},
    "required": ["lit"],
    "additionalProperties": False,
}


class Lamp(pydantic.BaseModel):
    lit: bool


def check_town(arguments: Any) -> None:
    found = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert found["town"] in ("Bath", "苏州"), found


def use_openai(url: str, model: str, embedder: str) -> None:
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    whole = client.chat.completions.create(
        model=model, messages=ASK, seed=1, max_tokens=20, logprobs=True, top_logprobs=2
    )
    text = whole.choices[0].message.content
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2  # pyright: ignore
    stream = client.chat.completions.create(
        model=model, messages=ASK, seed=1, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == text
    assert chunks[-1].usage == whole.usage or chunks[-1].usage.completion_tokens == whole.usage.completion_tokens  # pyright: ignore
    with client.chat.completions.stream(model=model, messages=ASK, tools=[TOOL], tool_choice="required") as events:
        check_town(events.get_final_completion().choices[0].message.tool_calls[0].function.arguments)  # pyright: ignore
    assert isinstance(
        client.chat.completions.parse(model=model, messages=ASK, response_format=Lamp).choices[0].message.parsed, Lamp
    )
    assert isinstance(client.responses.parse(model=model, input=ASK, text_format=Lamp).output_parsed, Lamp)
    with client.responses.stream(model=model, input=ASK, text_format=Lamp) as events:
        assert isinstance(events.get_final_response().output_parsed, Lamp)
    vectors = client.embeddings.create(model=embedder, input=["a", "b"]).data
    plain = client.embeddings.create(model=embedder, input=["a", "b"], encoding_format="float").data
    assert max(abs(a - b) for a, b in zip(vectors[1].embedding, plain[1].embedding, strict=True)) < 1e-6
    assert {model, embedder} <= {each.id for each in client.models.list()}

    async def at_once() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as many:
            texts = await asyncio.gather(
                *(many.chat.completions.create(model=model, messages=ASK, seed=1, max_tokens=20) for _ in range(8))
            )
            assert {each.choices[0].message.content for each in texts} == {text}

    asyncio.run(at_once())


def use_litellm(url: str, model: str, embedder: str) -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices
    import litellm  # pyright: ignore[reportMissingImports]

    options: Any = {
        "model": f"openai/{model}",
        "messages": ASK,
        "api_base": url,
        "api_key": "none",
        "seed": 1,
        "max_tokens": 20,
    }
    whole: Any = litellm.completion(**options, logprobs=True, top_logprobs=2)
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    chunks: Any = list(litellm.completion(**options, stream=True, stream_options={"include_usage": True}))  # pyright: ignore
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == whole.choices[0].message.content
    options.pop("max_tokens")
    called: Any = litellm.completion(**options, tools=[TOOL], tool_choice="required")
    check_town(called.choices[0].message.tool_calls[0].function.arguments)
    pieces: Any = list(litellm.completion(**options, tools=[TOOL], tool_choice="required", stream=True))  # pyright: ignore
    built: Any = litellm.stream_chunk_builder(pieces, messages=ASK)
    assert [c.function.arguments for c in built.choices[0].message.tool_calls] == [
        c.function.arguments for c in called.choices[0].message.tool_calls
    ]
    form = {"type": "json_schema", "json_schema": {"name": "lamp", "schema": SCHEMA, "strict": True}}
    lamp: Any = litellm.completion(**options, response_format=form)
    assert set(json.loads(lamp.choices[0].message.content)) == {"lit"}
    vectors: Any = litellm.embedding(
        model=f"openai/{embedder}", input=["a", "b"], api_base=url, api_key="none", encoding_format="float"
    )
    assert len(vectors.data) == 2
    text: Any = litellm.text_completion(
        model=f"text-completion-openai/{model}", prompt="The", max_tokens=5, api_base=url, api_key="none"
    )
    assert text.choices[0].text


def use_langchain(url: str, model: str, embedder: str) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # pyright: ignore[reportMissingImports]

    chat = ChatOpenAI(base_url=url, api_key="none", model=model, seed=1, max_tokens=20, stream_usage=True)
    whole = chat.invoke("Will it rain in Bath?")
    chunks = list(chat.stream("Will it rain in Bath?"))
    assert "".join(each.content for each in chunks) == whole.content
    usage = [each.usage_metadata for each in chunks if each.usage_metadata]
    assert len(usage) == 1 and usage[0]["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert chat.bind(logprobs=True, top_logprobs=2).invoke("Hi").response_metadata["logprobs"]["content"]
    free = ChatOpenAI(base_url=url, api_key="none", model=model, seed=1)
    call = free.bind_tools([TOOL], tool_choice="required").invoke("Will it rain in Bath?")
    check_town(call.tool_calls[0]["args"])
    streamed = None
    for each in free.bind_tools([TOOL], tool_choice="weather").stream("Will it rain in Bath?"):
        streamed = each if streamed is None else streamed + each
    assert streamed is not None
    check_town(streamed.tool_calls[0]["args"])
    for method in ("json_schema", "function_calling"):
        assert isinstance(free.with_structured_output(Lamp, method=method).invoke("A lamp."), Lamp)
    turns = [
        ("user", "Will it rain?"),
        call,
        {"role": "tool", "content": "no", "tool_call_id": call.tool_calls[0]["id"]},
    ]
    if len(call.tool_calls) == 1:
        assert chat.invoke(turns).content is not None
    responses = ChatOpenAI(base_url=url, api_key="none", model=model, use_responses_api=True, max_tokens=20)
    assert responses.invoke("Will it rain?").text
    vectors = OpenAIEmbeddings(base_url=url, api_key="none", model=embedder, check_embedding_ctx_length=False)
    assert len(vectors.embed_documents(["a", "b"])) == 2 and vectors.embed_query("a")


def use_instructor(url: str, model: str, embedder: str) -> None:
    import instructor  # pyright: ignore[reportMissingImports]
    import openai

    for mode in (
        instructor.Mode.TOOLS,
        instructor.Mode.JSON_SCHEMA,
        instructor.Mode.TOOLS_STRICT,
        instructor.Mode.JSON,
    ):
        client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="none"), mode=mode)
        if mode is instructor.Mode.JSON:  # only asks for an object, which a model of random weights makes of anything
            continue
        found = client.chat.completions.create(model=model, messages=ASK, response_model=Lamp, max_retries=0)
        assert isinstance(found, Lamp), mode
        partial = list(client.chat.completions.create_partial(model=model, messages=ASK, response_model=Lamp))
        assert isinstance(partial[-1].lit, bool), mode


USES = {"openai": use_openai, "litellm": use_litellm, "langchain": use_langchain, "instructor": use_instructor}

if __name__ == "__main__":
    try:
        USES[sys.argv[1]](*sys.argv[2:])
    except ModuleNotFoundError as missing:
        print(missing)
        raise SystemExit(77) from None
