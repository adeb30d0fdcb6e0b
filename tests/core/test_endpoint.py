"""A server of the OpenAI API as clients find it: busy, failing, redirecting, breaking off."""

from collections.abc import Iterator

import pytest

from tests.stand_in_endpoint import GOOD, StandIn, standing_in, url
from wenloom.core.endpoint import Endpoint, EndpointError
from wenloom.core.errors import InputError


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with standing_in() as server:
        yield server


def test_a_request_is_made_again_as_late_as_the_server_says_and_no_longer_than_six_times(stand_in: StandIn):
    waits: list[float] = []
    endpoint = Endpoint(url(stand_in), "m", wait=waits.append)
    stand_in.script = [(429, {"Retry-After": "7"}, b""), (503, {}, b""), (500, {"Retry-After": "soon"}, b""), GOOD]
    assert endpoint.post("completions", {"prompt": "x"})["choices"] == []
    assert waits[0] == 7 and 1 < waits[1] < waits[2] * 2 and len(waits) == 3
    assert stand_in.seen[0][:2] == ("/v1/completions", {"model": "m", "prompt": "x"})
    assert (endpoint.count.requests, endpoint.count.prompt, endpoint.count.written) == (1, 3, 2)
    stand_in.script = [(500, {}, b'{"error": {"message": "on fire"}}')]
    stand_in.seen.clear()
    with pytest.raises(EndpointError, match="answered with 500: on fire"):
        endpoint.post("completions", {})
    assert len(stand_in.seen) == 6


@pytest.mark.parametrize(
    "status, headers, data, words",
    [
        (400, {}, b'{"error": {"message": "max_tokens: too many.", "type": "x"}}', "answered with 400: max_tokens: too many"),
        (401, {}, b"no", "answered with 401: Unauthorized (the key is read from the variable OPENAI_API_KEY)"),
        (302, {"Location": "http://elsewhere/v1"}, b"", "redirects (302) to http://elsewhere/v1; name that address"),
        (200, {}, b"<html>", "answered with something that is no JSON object"),
        (200, {}, b"[1]", "answered with something that is no JSON object"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_said_once_and_in_a_sentence(
    stand_in: StandIn, status: int, headers: dict[str, str], data: bytes, words: str
):
    stand_in.script = [(status, headers, data)]
    with pytest.raises(EndpointError) as refused:
        Endpoint(url(stand_in), "m", wait=lambda seconds: pytest.fail("not again")).post("completions", {})
    assert words in str(refused.value) and len(stand_in.seen) == 1


def test_the_key_goes_to_the_named_address_and_nowhere_else(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    stand_in.script = [(307, {"Location": url(stand_in) + "/other"}, b"")]
    with pytest.raises(EndpointError) as refused:
        Endpoint(url(stand_in), "m").post("completions", {})
    assert [key for _, _, key in stand_in.seen] == ["Bearer secret"] and "secret" not in str(refused.value)


def test_a_stream_gives_its_events_and_says_where_it_breaks_off(stand_in: StandIn):
    endpoint = Endpoint(url(stand_in), "m")
    lines = b': ping\n\ndata: {"n": 1}\n\ndata: {"n": 2}\n\n'
    stand_in.script = [(200, {}, lines + b"data: [DONE]\n\n")]
    assert (
        list(endpoint.stream("chat/completions", {})) == [{"n": 1}, {"n": 2}] and stand_in.seen[0][1]["stream"] is True
    )
    for data, words in ((lines, "broke off in the midst"), (lines + b'data: {"error": {"message": "full"}}\n\n', "full"),
                        (b"data: [1]\n\n", "an event that is no JSON object")):  # fmt: skip
        stand_in.script = [(200, {}, data)]
        with pytest.raises(EndpointError, match=words):
            list(endpoint.stream("chat/completions", {}))


def test_many_are_asked_together_and_answered_in_order(stand_in: StandIn):
    stand_in.script, done = [GOOD], list[int]()
    endpoint = Endpoint(url(stand_in), "m", at_once=3)
    found = endpoint.together(lambda n: (n, endpoint.post("completions", {"n": n}))[0], range(20), done.append)
    assert found == list(range(20)) and sum(done) == 20 and endpoint.count.requests == 20
    stand_in.script = [(400, {}, b"{}")]
    with pytest.raises(EndpointError):
        endpoint.together(lambda n: endpoint.post("completions", {"n": n}), range(20))


def test_an_address_that_is_none_or_answers_nothing():
    with pytest.raises(InputError, match="beginning with http:// or https://"):
        Endpoint("file:///etc/passwd", "m")
    with pytest.raises(EndpointError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "m", wait=lambda seconds: None).post("completions", {})
