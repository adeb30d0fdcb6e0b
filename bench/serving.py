"""Serving speed, side by side with llama-server and `transformers serve` on the same weights, and with the engine alone.

    WENLOOM_REAL_MODELS=models python -m bench.serving [--llama-server FILE --gguf FILE] [--dtype bfloat16] [--quantize int8] [--hostile]

SmolLM2-135M-Instruct, prompts of 20 to 300 words, 64 new tokens, streamed, greedy. All contestants are up; they take turns, one
round each after the other. Told are the time to the first token, tokens a second over all clients, and the times between tokens; of the
rounds the median with the least and the greatest, and the load of the machine. llama-server is built from the source that the sdist of
llama-cpp-python holds (`cmake -S vendor/llama.cpp -B build -DBUILD_SHARED_LIBS=OFF; cmake --build build --target llama-server`); its
file is what `wenloom export gguf` makes of the same folder.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2
from bench.servers import free_port, running

from wenloom.api import load
from wenloom.generation.background import BackgroundEngine
from wenloom.generation.request import GenerationRequest

MODELS = Path(os.environ.get("WENLOOM_REAL_MODELS", "models"))
N_TOKENS = 64
TEXT = re.compile(rb'"text": ?"((?:[^"\\]|\\.)*)"')
"""What a chunk of a stream adds."""
WORDS = "The lamp burns low and nobody in the house has thought of oil since the long rains began".split()


class Figures(NamedTuple):
    """Of one round."""

    first: float
    """Seconds to the first token, median."""
    rate: float
    """Tokens a second over all clients."""
    p50: float
    p99: float
    """Seconds between tokens."""


class Contestant(NamedTuple):
    """What is measured."""

    name: str
    open: Callable[[], contextlib.AbstractContextManager[object]]
    """Starts it."""
    asking: "Callable[[], contextlib.AbstractAsyncContextManager[Ask]]"
    """Within it, what streams the answer to a prompt and tells at each token."""
    port: int | None = None
    """Where it can be attacked."""


Ask = Callable[[str, Callable[[], None]], Coroutine[None, None, None]]


def prompt(number: int) -> str:
    """A prompt of its own for each request."""
    n_words = (20, 60, 120, 300)[number % 4]
    return f"Number {number}. " + " ".join(WORDS[(number + n) % len(WORDS)] for n in range(n_words))


async def measured(each: Contestant, clients: int, number: int) -> Figures:
    """A round: each client asks twice, one after the other."""
    async with each.asking() as ask:
        return await asked(ask, clients, number)


async def warmed(each: Contestant, clients: int) -> None:
    """A round that is not measured, of as many clients: what is done once (kernels, memory of the caches) has been done."""
    await measured(each, clients, 90)


async def asked(ask: Ask, clients: int, number: int) -> Figures:
    """What the clients see."""
    firsts, gaps, n_tokens = [], [], 0

    async def one(place: int) -> None:
        nonlocal n_tokens
        began, times = time.perf_counter(), list[float]()
        await ask(prompt(place), lambda: times.append(time.perf_counter()))
        firsts.append(times[0] - began)
        gaps.extend(b - a for a, b in itertools.pairwise(times))
        n_tokens += len(times)

    async def client(place: int) -> None:
        for turn in range(2):
            await one(1000 * number + 100 * turn + place)

    began = time.perf_counter()
    await asyncio.gather(*map(client, range(clients)))
    seconds = time.perf_counter() - began
    gaps.sort()
    return Figures(statistics.median(firsts), n_tokens / seconds, gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.99)])


def over_http(port: int, model: str) -> Callable[[], contextlib.AbstractAsyncContextManager[Ask]]:
    """Asks a server by a client that costs next to nothing, since it runs on the same cores: bytes are read, not parsed."""

    async def ask(text: str, told: Callable[[], None]) -> None:
        body = {"model": model, "prompt": text, "max_tokens": N_TOKENS, "temperature": 0, "stream": True}
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n%s" % (len(content), content))  # fmt: skip
        assert b" 200 " in await reader.readline()
        async for line in reader:
            if line.startswith(b"data: {") and (found := TEXT.search(line)) and found[1]:
                told()
        writer.close()

    @contextlib.asynccontextmanager
    async def asking() -> AsyncGenerator[Ask, None]:
        yield ask

    return asking


@contextlib.asynccontextmanager
async def hostile(port: int, model: str) -> AsyncGenerator[None, None]:
    """A client that means harm, over and over: a prompt of 100,000 tokens, a schema that explodes, a reader that does not read."""
    schema: dict[str, object] = {}
    while len(json.dumps(schema)) < 30_000:
        schema = {"anyOf": [schema, {"type": "object", "properties": {"a": schema}}]}
    base = f"http://127.0.0.1:{port}/v1/completions"
    body = {"model": model, "max_tokens": 500}

    async def harm() -> None:
        async with httpx2.AsyncClient(timeout=600) as client:
            while True:
                await client.post(base, json={**body, "prompt": "lamp oil " * 50_000})
                await client.post(base, json={**body, "prompt": "lamp", "json_schema": schema})
                async with client.stream("POST", base, json={**body, "prompt": "lamp", "n": 4, "stream": True}) as lazy:
                    await anext(lazy.aiter_raw())
                    await asyncio.sleep(2)

    task = asyncio.create_task(harm())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def beside(each: Contestant, port: int, clients: int, number: int) -> Figures:
    """A round with such a client beside it."""
    async with hostile(port, "smollm2"):
        return await measured(each, clients, number + 500)  # prompts that were not read yet


class EngineAlone:
    """Asks the engine in this process."""

    def __init__(self, folder: Path, dtype: str, quantize: str | None):
        self._engine = load(folder, dtype=dtype, quantize=quantize).engine
        self._background: BackgroundEngine | None = None

    def open(self) -> BackgroundEngine:
        """Its thread."""
        self._background = BackgroundEngine(self._engine)
        return self._background

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncGenerator[Ask, None]:
        """Asks it."""
        background = self._background
        assert background is not None

        async def ask(text: str, told: Callable[[], None]) -> None:
            async for event in background.stream(text, GenerationRequest(max_new_tokens=N_TOKENS, do_sample=False)):
                if event.text:
                    told()

        yield ask


def contestants(given: argparse.Namespace) -> list[Contestant]:
    """Those that are there."""
    folder = MODELS / "smollm2"
    alone = EngineAlone(folder, given.dtype, given.quantize)
    found = [Contestant("engine alone", alone.open, alone.asking)]
    port = free_port()
    command = [sys.executable, "-m", "wenloom", "serve", f"smollm2={folder}", "--port", port, "--dtype", given.dtype]
    command += ["--quantize", given.quantize] if given.quantize else []
    found.append(
        Contestant("wenloom serve", lambda: running(command, port, "/readyz"), over_http(port, "smollm2"), port)
    )
    if given.llama_server is not None:
        other = free_port()
        llama = [
            given.llama_server,
            "-m",
            given.gguf,
            "--port",
            other,
            "-np",
            32,
            "-c",
            32 * 1024,
            "-t",
            os.cpu_count(),
        ]
        found.append(Contestant("llama-server", lambda: running(llama, other, "/health"), over_http(other, "smollm2")))
    if given.transformers:
        third = free_port()
        theirs = ["transformers", "serve", str(folder), "--port", third]
        found.append(
            Contestant("transformers serve", lambda: running(theirs, third, "/health"), over_http(third, str(folder)))
        )
    return found


def told(rows: Sequence[Figures]) -> str:
    """Medians with the least and the greatest."""
    return "  ".join(f"{statistics.median(v) * scale:8.1f} ({min(v) * scale:.1f}-{max(v) * scale:.1f}) {unit}"
                     for v, scale, unit in zip(zip(*rows, strict=True), (1000, 1, 1000, 1000), ("ms first", "tokens/s", "ms p50", "ms p99"), strict=True))  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32])
    arguments.add_argument("--dtype", default="float32", help="our numbers; llama-server's are those of its file")
    arguments.add_argument("--quantize", help="int8 or int4")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--llama-server", type=Path)
    arguments.add_argument("--gguf", type=Path)
    arguments.add_argument("--transformers", action="store_true")
    arguments.add_argument(
        "--hostile", action="store_true", help="ours once more, with a client that means harm beside it"
    )
    given = arguments.parse_args()
    all_of_them = contestants(given)
    figures: dict[tuple[str, int], list[Figures]] = {}
    # All are up all the time, so that none is younger than another; idle, they take no time.
    with contextlib.ExitStack() as stack:
        for each in all_of_them:
            stack.enter_context(each.open())
            asyncio.run(warmed(each, max(given.clients)))
        for turn, each in itertools.product(range(given.rounds), all_of_them):
            for clients in given.clients:
                found = asyncio.run(measured(each, clients, turn))
                figures.setdefault((each.name, clients), []).append(found)
                print(
                    f"round {turn + 1}  {clients:3} clients  {each.name:24}{told([found])}", file=sys.stderr, flush=True
                )
            if each.port is not None and given.hostile:
                found = asyncio.run(beside(each, each.port, max(given.clients), turn))
                figures.setdefault((f"{each.name}, attacked", max(given.clients)), []).append(found)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.rounds} rounds")
    for (name, clients), rows in sorted(figures.items(), key=lambda each: each[0][1]):
        print(f"{clients:3} clients  {name:24}{told(rows)}")


if __name__ == "__main__":
    main()
