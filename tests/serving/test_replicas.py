"""The server as replicas on a cluster of two machines, which Ray plays on this one."""

import functools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from wenloom.checkpoint.folder import save_model
from wenloom.serving.loading import load_served
from wenloom.serving.replicas import APP, Replicas, beginning_of, deployment
from wenloom.serving.server import listen
from wenloom.serving.settings import Access, ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from .conftest import LIMITS, chat_model

ASK: Any = [{"role": "user", "content": "Will it rain in Bath?"}]


@pytest.mark.parametrize(
    ("one", "other", "are_alike"),
    [
        ({"prompt": "x" * 300 + "a"}, {"prompt": "x" * 300 + "b", "n": 2}, True), ({"prompt": "a"}, {"prompt": "b"}, False),
        ({"messages": ASK}, {"messages": [*ASK, {"role": "assistant", "content": "No."}, *ASK]}, True),
        ({"messages": ASK}, {"messages": [{"role": "system", "content": "Be brief."}, *ASK]}, False),
        ({"model": "a", "input": "x"}, {"model": "b", "input": "x"}, False), ({"input": ASK}, {"input": [*ASK, *ASK]}, True),
    ],
)  # fmt: skip
def test_requests_with_one_beginning_are_known_by_it(one: Any, other: Any, are_alike: bool):
    first, second = (beginning_of("/v1/x", json.dumps(each).encode()) for each in (one, other))
    assert first and second and (first == second) == are_alike


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"[" * 100_000])
def test_what_has_no_beginning_goes_anywhere(body: bytes):
    assert beginning_of("/v1/x", body) == ""


@pytest.fixture(scope="module")
def url(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    import ray  # pyright: ignore[reportMissingImports]
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    folder: Path = tmp_path_factory.mktemp("served") / "tiny"
    model = chat_model(tokenizer)
    save_model(model.decoder, folder)
    model.tokenizer.save_pretrained(folder)
    with listen(Access(port=0)) as free:
        port = free.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        loader = functools.partial(load_served, folder, "cpu", "float32", None, None, None, {}, {})
        settings = ServerSettings(Access(port=port), limits=LIMITS)
        serve.run(deployment({"tiny": loader}, settings, Replicas(2, 2), False), name=APP, route_prefix="/")
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()
        ray.shutdown()
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_replicas_on_two_machines_answer_as_one_server(url: str):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    options: Any = dict(model="tiny", messages=ASK, max_tokens=20, seed=3)
    whole = client.chat.completions.create(**options).choices[0].message.content
    chunks = list(client.chat.completions.create(**options, stream=True))
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == whole
    with ThreadPoolExecutor(8) as pool:
        texts = list(
            pool.map(lambda _: client.chat.completions.create(**options).choices[0].message.content, range(16))
        )
    assert set(texts) == {whole}
    with pytest.raises(openai.BadRequestError, match="store"):
        client.chat.completions.create(model="tiny", messages=ASK, store=True)
    assert httpx2.post(f"{url}/v1/completions", content=b"x" * 3_000_000).status_code == 413
    asked = {}
    for n in range(12):
        for _ in range(2):
            answer = client.completions.with_raw_response.create(
                model="tiny", prompt=f"The {n} lamps " * 9, max_tokens=1
            )
            asked.setdefault(n, set()).add(answer.headers["x-replica"])
    assert all(len(each) == 1 for each in asked.values()), "a beginning goes to the replica that has read it"
    assert len(set.union(*asked.values())) == 2, "both machines are asked"
