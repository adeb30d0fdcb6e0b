"""The server as replicas on a cluster of two machines, which Ray plays on this one."""

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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
from .test_safety import ENDLESS

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


class Machines(NamedTuple):
    """Two, and what they are to serve."""

    address: str
    """Of the cluster."""
    folder: Path
    """The model's."""
    url: str

    def deploy(self, replicas: Replicas) -> str:
        """Serve by so many replicas from here on; returns where."""
        serve = importlib.import_module("ray.serve")
        loader = functools.partial(load_served, self.folder, "cpu", "float32", None, None, None, {}, {})
        settings = ServerSettings(Access(port=urlsplit(self.url).port or 0), limits=LIMITS)
        serve.delete(APP)  # its replicas would stay for minutes
        serve.run(deployment({"tiny": loader}, settings, replicas, False), name=APP, route_prefix="/")
        return self.url


@pytest.fixture(scope="module")
def machines(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    import ray  # pyright: ignore[reportMissingImports]
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    folder: Path = tmp_path_factory.mktemp("served") / "tiny"
    model = chat_model(tokenizer)
    save_model(model.decoder, folder)
    model.tokenizer.save_pretrained(folder)
    port = free_port()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield Machines(cluster.address, folder, f"http://127.0.0.1:{port}")
        serve.shutdown()
        ray.shutdown()
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def url(machines: Machines) -> str:
    return machines.deploy(Replicas(2, 2))


def free_port() -> int:
    """A port at which nobody listens."""
    with listen(Access(port=0)) as free:
        return free.getsockname()[1]


def figure(url: str, replica: str, beginning: str) -> int:
    """A figure of one replica, which is asked among others until it answers."""
    while True:
        answer = httpx2.get(f"{url}/metrics", timeout=30)
        if answer.headers["x-replica"] == replica:
            lines = [each for each in answer.text.splitlines() if each.startswith(beginning)]
            return int(float(lines[0].rsplit(" ", 1)[1])) if lines else 0


def until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    """Wait; fails where it never comes about."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.1)


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


def streamed(url: str, number: int, began: Callable[[], object] = lambda: None) -> str:
    """The last line of a long text, or "cut" where its end has no reason."""
    body = {**ENDLESS, "prompt": f"{number} lamps"}
    with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as answer:
        lines = answer.iter_lines()
        next(lines)
        began()
        *_, reason, last = (line for line in lines if line)
    return last if '"finish_reason":"length"' in reason.replace(" ", "") else "cut"


@pytest.mark.slow
def test_a_client_that_leaves_frees_the_slots_of_its_replica(url: str):
    """Before all of its texts are written, which a tiny model does in seconds."""
    written, body = 'wenloom_tokens_total{kind="completion",', {**ENDLESS, "prompt": "A lamp", "n": 16}
    before: dict[str, int] = {}
    while len(before) < 2:
        replica = httpx2.get(f"{url}/metrics", timeout=30).headers["x-replica"]
        before[replica] = figure(url, replica, written)
    with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
        replica = answer.headers["x-replica"]
    until(lambda: figure(url, replica, written) > before[replica])
    assert figure(url, replica, written) - before[replica] < 16 * ENDLESS["max_tokens"]
    assert figure(url, replica, "wenloom_slots_in_use{") == 0


@pytest.mark.slow
def test_more_replicas_are_started_when_requests_wait(machines: Machines):
    url = machines.deploy(Replicas(1, 2, under_way=1))

    def names() -> set[str]:
        return {httpx2.get(f"{url}/metrics", timeout=60).headers["x-replica"] for _ in range(4)}

    assert len(names()) == 1
    with ThreadPoolExecutor(6) as pool:
        ended = threading.Event()

        def load(number: int) -> set[str]:
            found: set[str] = set()
            while not ended.is_set():
                found.add(streamed(url, number))
            return found

        loads = [pool.submit(load, number) for number in range(6)]
        try:
            until(lambda: len(names()) == 2)
        finally:
            ended.set()
        assert set.union(*(each.result() for each in loads)) == {"data: [DONE]"}


@pytest.mark.slow
def test_the_first_signal_truncates_no_stream_of_a_replica(machines: Machines):
    command = [sys.executable, "-m", "wenloom", "serve", f"tiny={machines.folder}", "--on", "ray", "--replicas", "2",
               "--port", str(urlsplit(machines.url).port)]  # fmt: skip
    running = subprocess.Popen(
        command, env={**os.environ, "RAY_ADDRESS": machines.address}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        assert any("Ready" in line for line in running.stderr)
        began = threading.Barrier(9)
        with ThreadPoolExecutor(8) as pool:
            streams = [pool.submit(streamed, machines.url, number, began.wait) for number in range(8)]
            began.wait()
            running.send_signal(signal.SIGTERM)
            assert [each.result() for each in streams] == ["data: [DONE]"] * 8
        assert running.wait(60) == 0
    finally:
        running.kill()
