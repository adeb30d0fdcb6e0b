"""Our own client against our own server: figures through HTTP equal those of the model itself; a chat; servers that lack something."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.calling import call
from tests.stand_in_endpoint import StandIn, standing_in, url
from wenloom.cli.served import body_of
from wenloom.core.endpoint import Endpoint
from wenloom.core.errors import InputError
from wenloom.evaluation.endpoint_scorer import EndpointScorer
from wenloom.evaluation.evaluated_model import RemoteModel
from wenloom.evaluation.scorer import TextInContext
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.generation.request import request_from

from .conftest import Served, saved

CONTEXTS = ("The old lamp", "It was ", "", "灯很", "She said:\n")
TEXTS = (" was lit at dusk.", "lit", "The boats", "亮。", " nothing")


def rows() -> list[list[TextInContext]]:
    return [[TextInContext(context, text) for text in TEXTS] for context in CONTEXTS]


def test_log_probabilities_through_http_are_those_of_the_model(served: Served):
    endpoint = Endpoint(f"{served.url}/v1", "tiny")
    ours = DecoderScorer(served.model.decoder, served.model.tokenizer).continuations(rows())
    theirs = EndpointScorer(endpoint).continuations(rows())
    for mine, found in zip(ours, theirs, strict=True):
        for one, other in zip(mine, found, strict=True):
            assert other.log_probabilities == pytest.approx(one.log_probabilities, abs=1e-4)
            assert other.is_greedy == one.is_greedy and other.n_bytes == one.n_bytes
    assert endpoint.count.requests == 25 + 3 and endpoint.count.prompt > 25, (
        "three ask what opens a text without context"
    )


def test_evaluate_through_http_gives_the_same_figures(served: Served, tmp_path: Path):
    saved(served.model, tmp_path / "model")
    choices = [
        {"query": f"The old lamp {n}", "choices": ["was lit.", "is old.", "the nets"], "gold": n % 3} for n in range(9)
    ]
    texts = [{"prompt": f"The old lamp {n} was", "reference": "lit at dusk"} for n in range(5)]
    for name, some in (("choices.jsonl", choices), ("texts.jsonl", texts)):
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in some), "utf-8")
    on = ("--on", "choices.jsonl,texts.jsonl", "--max-new-tokens", 8, "--no-keep", "--json")
    local = json.loads(call("evaluate", "model", *on, "--out", "one", cwd=tmp_path).out)["figures"]["model"]
    asked = call("evaluate", "--api", f"{served.url}/v1", "--model", "tiny", *on, "--out", "two", cwd=tmp_path)
    assert asked.code == 0, asked
    through = json.loads(asked.out)["figures"]["tiny"]
    assert [(each["dataset"], each["metric"], each["n"]) for each in through] == [
        (each["dataset"], each["metric"], each["n"]) for each in local]  # fmt: skip
    for one, other in zip(local, through, strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-3, abs=1e-3), (one["dataset"], one["metric"])
    assert "tokens read" in asked.err


def test_audit_through_http_gives_the_same_figures(served: Served, tmp_path: Path):
    saved(served.model, tmp_path / "model")
    pairs = [f"The {one} was lit.,The {other} was old.,age" for one in ("lamp", "boat") for other in ("dusk", "灯")]
    (tmp_path / "crows_pairs.csv").write_text("\n".join(["sent_more,sent_less,bias_type", *pairs]), "utf-8")
    (tmp_path / "own.txt").write_text("She lit the lamp.\nThe boat of my father is old.\n", "utf-8")
    (tmp_path / "gender_prompt.json").write_text('{"a": {"x": ["The lamp"]}, "b": {"y": ["The boat"]}}', "utf-8")
    on = (
        "--on",
        "crows_pairs",
        "--data",
        ".",
        "--prompts",
        "own.txt",
        "--text",
        "own.txt",
        "--store",
        "store.sqlite",
        "--json",
    )
    local = json.loads(call("audit", "model", *on, cwd=tmp_path).out)["figures"]
    asked = call("audit", "--api", f"{served.url}/v1", "--model", "tiny", *on, cwd=tmp_path)
    assert asked.code == 0, asked
    through = json.loads(asked.out)["figures"]
    assert len(local) == len(through) > 10 and {each["model"] for each in through} == {"tiny"}
    for one, other in zip(local, through, strict=True):
        assert all(other[name] == one[name] for name in ("suite", "measure", "convention", "group", "count", "n")), (
            other
        )
        assert other["value"] == pytest.approx(one["value"], abs=1e-3) and "bos:yes" in other["signature"]
    api = ("audit", "--api", f"{served.url}/v1", "--model", "tiny", "--data", ".")
    assert "how well the model speaks" in call(*api, "--on", "bold", "--no-keep", cwd=tmp_path).out
    for arguments, words in (
        (("--on", "seat"), "seat cannot be asked of tiny: it compares vectors of texts, and those inside a model that is served"),
        (("--card",), "--card: stands in the folder of a model"), (("model",), "leave the model folders out"),
        (("--device", "cpu"), "the server decides"),
    ):  # fmt: skip
        refused = call(*api, *arguments, cwd=tmp_path)
        assert refused.code == 2 and words in refused.err, refused


def test_a_server_that_makes_nothing_of_an_empty_prompt_is_asked_after_a_new_line(stand_in: StandIn):
    def echo(*pairs: tuple[str, float | None]) -> tuple[int, dict[str, str], bytes]:
        told = {
            "tokens": [name for name, _ in pairs],
            "token_logprobs": [log for _, log in pairs],
            "text_offset": [0, 1, 3],
        }
        return 200, {}, json.dumps({"choices": [{"logprobs": told}]}).encode()

    stand_in.script = [echo(("x", None), ("!", -1.0)), (400, {}, b'{"error": {"message": "an empty prompt"}}'),
                       echo(("\n", None), ("It", -2.0), (" is", -3.0))]  # fmt: skip
    scorer = EndpointScorer(Endpoint(url(stand_in), "m"))
    (((found),),) = scorer.continuations([[TextInContext("", "It is")]])
    assert [body["prompt"] for _, body, _ in stand_in.seen] == ["x", "", "\nIt is"]
    assert found.log_probabilities == [-2.0, -3.0] and not scorer.opens(True)


def test_a_chat_with_a_served_model_is_that_of_its_server(served: Served, tmp_path: Path):
    client = served.client()
    for text in ("Hello", "The old lamp", "It was lit", "dusk"):
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=12
        )
        wanted = (answer.choices[0].message.content or "").strip()
        done = call("chat", "--api", f"{served.url}/v1", "--model", "tiny", "--temperature", 0, "--max-new-tokens", 12,
                    cwd=tmp_path, stdin=f"{text}\n")  # fmt: skip
        assert wanted in done.out and done.code == 0, done


def test_options_have_the_names_of_openai_where_it_has_them():
    request = request_from(
        {"max_new_tokens": 9, "temperature": 0.5, "seed": 3, "stop_strings": ["x"], "top_k": 5, "logit_bias": {7: 2.0}}
    )
    assert body_of(request, 2) == {
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 5,
        "stop": ["x"],
        "top_k": 5,
        "logit_bias": {"7": 2.0},
    }
    assert body_of(request_from({"do_sample": False})) == {"temperature": 0}


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as server:
        yield server


def test_a_server_without_log_probabilities_is_told_from_a_broken_one(stand_in: StandIn):
    scorer = EndpointScorer(Endpoint(url(stand_in), "m", wait=lambda seconds: None))
    for script in (
        (200, {}, b'{"choices": [{"text": "x"}]}'), (404, {}, b'{"error": {"message": "no such route"}}'),
        (200, {}, b'{"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [], "text_offset": [0]}}]}'),
    ):  # fmt: skip
        stand_in.script = [script]
        with pytest.raises(InputError, match="questions with choices and pairs of sentences cannot be told apart"):
            scorer.continuations([[TextInContext("a", " b")]])
    with pytest.raises(InputError, match="needs the model itself"):
        scorer.text("a text")


def test_a_model_that_answers_turns_alone_is_given_prompts_as_what_a_user_says(stand_in: StandIn):
    stand_in.script = [(404, {}, b'{"error": {"message": "This is a chat model"}}'),
                       (200, {}, b'{"choices": [{"message": {"content": "dusk"}}]}')]  # fmt: skip
    model = RemoteModel(Endpoint(url(stand_in), "m"))
    assert [each.text for each in model.write([(0, "When?")], request_from({"do_sample": False}))] == ["dusk"]
    assert [path for path, _, _ in stand_in.seen] == ["/v1/completions", "/v1/chat/completions"]
    assert stand_in.seen[1][1]["messages"] == [{"role": "user", "content": "When?"}]
    with pytest.raises(InputError, match="the OpenAI API takes 4"):
        model.write([(0, "x")], request_from({"stop_strings": list("abcde")}))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ("evaluate", "--api", "http://localhost:1/v1", "--on", "x.txt"),
            "--api: name the model of the server by --model",
        ),
        (("evaluate", "--model", "m", "--on", "x.txt"), "give its address by --api too"),
        (
            ("evaluate", "folder", "--api", "http://localhost:1/v1", "--model", "m", "--on", "x.txt"),
            "leave the model folders out",
        ),
        (
            ("evaluate", "--api", "http://localhost:1/v1", "--model", "m", "--on", "x.txt", "--device", "cpu"),
            "the server decides",
        ),
        (("evaluate", "--api", "localhost:1", "--model", "m", "--on", "x.txt"), "beginning with http:// or https://"),
        (("chat",), "name a model folder, or a server"),
        (("chat", "folder", "--api", "http://localhost:1/v1", "--model", "m"), "name a model folder, or a server"),
        (("chat", "--api", "http://localhost:1/v1", "--model", "m", "--quantize", "int8"), "the server decides"),
        (("chat", "--api", "http://localhost:1/v1", "--model", "m", "--model", "n"), "a chat is with one model"),
    ],
)
def test_a_wrong_call_says_what_to_give(arguments: tuple[str, ...], words: str, tmp_path: Path):
    refused = call(*arguments, cwd=tmp_path)
    assert refused.code == 2 and words in refused.err, refused
