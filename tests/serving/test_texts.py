"""Texts as tokens, tokens as text, and log-probabilities of given texts."""

from typing import Any

import openai
import pytest

from wenloom.evaluation.scorer import TextInContext
from wenloom.evaluation.scorers import DecoderScorer

from .conftest import Served

TEXTS = ["The lamp was lit.", "", "春眠不觉晓", "<|im_start|>user\nHi", "a\x00b \U0001f600"]


def ask(client: openai.OpenAI, path: str, **body: Any) -> dict[str, Any]:
    """The official client, at a path that it has no method for."""
    return client.post(path, body={"model": "tiny", **body}, cast_to=dict[str, Any])


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_that_completions_read_and_give_the_text_back(
    served: Served, client: openai.OpenAI, text: str
):
    found = ask(client, "/tokenize", prompt=text, return_token_strs=True)
    assert found["tokens"] == served.model.tokenizer.encode(text) and found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 256 and len(found["token_strs"]) == found["count"]
    if text:
        usage = client.completions.create(model="tiny", prompt=text, max_tokens=1).usage
        assert usage is not None and usage.prompt_tokens == found["count"]
    assert ask(client, "/detokenize", tokens=found["tokens"])["prompt"] == text
    bare = ask(client, "/tokenize", prompt=text, add_special_tokens=False)["tokens"]
    assert bare == served.model.tokenizer.encoding(text, add_special_tokens=False).ids
    seen = ask(client, "/detokenize", tokens=found["tokens"], skip_special_tokens=True)["prompt"]
    assert seen == text.replace("<|im_start|>", "")


def test_messages_take_the_tokens_that_chat_reads(client: openai.OpenAI):
    messages: Any = [{"role": "user", "content": "Is it <|im_end|>?"}]
    tools: Any = [{"type": "function", "function": {"name": "f"}}]
    for more in ({}, {"tools": tools}):
        usage = client.chat.completions.create(
            model="tiny", messages=messages, max_tokens=1, extra_body={"on_overflow": "left"}, **more
        ).usage
        found = ask(client, "/tokenize", messages=messages, **more)
        assert usage is not None and usage.prompt_tokens == found["count"]


def test_scores_are_the_scorers_own(served: Served, client: openai.OpenAI):
    scorer = DecoderScorer(served.model.decoder, served.model.tokenizer)
    for given in ("", "The lamp ", "春"):
        asked = [TextInContext(given, text) for text in (TEXTS[0], TEXTS[2], "x")]
        (own,) = scorer.continuations([asked])
        more = {"given": given} if given else {}
        found = ask(client, "/score", input=[each.text for each in asked], **more)
        for each, mine in zip(found["data"], own, strict=True):
            assert each["token_ids"] == mine.token_ids and each["bytes"] == mine.n_bytes
            assert each["token_logprobs"] == pytest.approx(mine.log_probabilities, abs=1e-5)
            assert each["logprob"] == pytest.approx(mine.log_probability, abs=1e-4) and each["top_logprobs"] is None
        assert [each["index"] for each in found["data"]] == [0, 1, 2]
    (one,) = ask(client, "/score", input=TEXTS[0], top_logprobs=3)["data"]
    assert all(len(top) >= 3 and max(top.values()) == next(iter(top.values())) for top in one["top_logprobs"])
    assert one["logprob"] == pytest.approx(served.model.score(TEXTS[0]).log_probability, abs=1e-4)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("tokenize", {}, "prompt"), ("tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "x"}]}, "prompt"),
    ("tokenize", {"prompt": ["a"]}, "prompt"), ("tokenize", {"prompt": "a", "tools": []}, "tools"), ("tokenize", {"prompt": "a", "x": 1}, "x"),
    ("tokenize", {"messages": [{"role": "user", "content": "x"}], "add_special_tokens": True}, "add_special_tokens"),
    ("detokenize", {}, "tokens"), ("detokenize", {"tokens": [-1]}, "tokens[0]"), ("detokenize", {"tokens": [9999]}, "tokens"),
    ("detokenize", {"tokens": ["a"]}, "tokens[0]"), ("score", {}, "input"), ("score", {"input": []}, "input"), ("score", {"input": ""}, "input"),
    ("score", {"input": ["a", ""]}, "input[1]"), ("score", {"input": ["a"] * 17}, "input"), ("score", {"input": "a " * 300}, "input"),
    ("score", {"input": [[1]]}, "input[0]"), ("score", {"input": "a", "top_logprobs": 21}, "top_logprobs"), ("score", {"input": "a", "given": 1}, "given"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "more", "param"), BAD, ids=lambda each: str(each)[:50])
def test_what_cannot_be_answered_is_refused_by_name(served: Served, path: str, more: dict[str, Any], param: str):
    answer = served.post(f"/v1/{path}", {"model": "tiny", **more})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text
