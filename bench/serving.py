"""Serving speed, side by side with llama-server and `transformers serve` on the same weights, and with the engine alone.

    WENLOOM_REAL_MODELS=models python -m bench.serving [--llama-server FILE --gguf FILE] [--transformers] [--rounds 5]

SmolLM2-135M-Instruct in float32, prompts of 20 to 300 words, 64 new tokens, streamed, greedy. Contestants take turns, one round each
after the other. Told are the time to the first token, tokens a second over all clients, and the times between tokens; of the
rounds the median with the least and the greatest, and the load of the machine. llama-server is built from the source that the sdist of
llama-cpp-python holds (`cmake -S vendor/llama.cpp -B build -DBUILD_SHARED_LIBS=OFF; cmake --build build --target llama-server`); its
file is what `wenloom export gguf` makes of the same folder.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import openai
from bench.servers import free_port, running

from wenloom.api import load
from wenloom.generation.background import BackgroundEngine
from wenloom.generation.request import GenerationRequest

MODELS = Path(os.environ.get("WENLOOM_REAL_MODELS", "models"))
N_TOKENS = 64
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
    open: Callable[[], AbstractContextManager[object]]
    """Starts it."""
    ask: "Callable[[int], Ask]"
    """Streams the answer to a prompt; tells at each token."""


Ask = Callable[[str, Callable[[], None]], "asyncio.Future[None]"]


def prompt(number: int) -> str:
    """A prompt of its own for each request."""
    n_words = (20, 60, 120, 300)[number % 4]
    return f"Number {number}. " + " ".join(WORDS[(number + n) % len(WORDS)] for n in range(n_words))


async def measured(ask: Ask, clients: int, number: int) -> Figures:
    """A round: each client asks twice, one after the other."""
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


def over_http(port: int, model: str) -> Callable[[int], Ask]:
    """Asks a server through the official client."""

    def opened(_: int) -> Ask:
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=600, max_retries=0)

        async def ask(text: str, told: Callable[[], None]) -> None:
            stream = await client.completions.create(
                model=model, prompt=text, max_tokens=N_TOKENS, temperature=0, stream=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].text:
                    told()

        return ask  # pyright: ignore[reportReturnType]

    return opened


class EngineAlone:
    """Asks the engine in this process."""

    def __init__(self, folder: Path):
        self._engine = load(folder).engine
        self._background: BackgroundEngine | None = None

    def open(self) -> BackgroundEngine:
        """Its thread."""
        self._background = BackgroundEngine(self._engine)
        return self._background

    def opened(self, _: int) -> Ask:
        """Asks it."""

        async def ask(text: str, told: Callable[[], None]) -> None:
            assert self._background is not None
            async for event in self._background.stream(
                text, GenerationRequest(max_new_tokens=N_TOKENS, do_sample=False)
            ):
                if event.text:
                    told()

        return ask  # pyright: ignore[reportReturnType]


def contestants(given: argparse.Namespace) -> list[Contestant]:
    """Those that are there."""
    folder = MODELS / "smollm2"
    alone = EngineAlone(folder)
    found = [Contestant("engine alone", alone.open, alone.opened)]
    port = free_port()
    command = [sys.executable, "-m", "wenloom", "serve", f"smollm2={folder}", "--port", port]
    found.append(Contestant("wenloom serve", lambda: running(command, port, "/readyz"), over_http(port, "smollm2")))
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
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--llama-server", type=Path)
    arguments.add_argument("--gguf", type=Path)
    arguments.add_argument("--transformers", action="store_true")
    given = arguments.parse_args()
    all_of_them = contestants(given)
    figures: dict[tuple[str, int], list[Figures]] = {}
    for turn in range(given.rounds):
        for each in all_of_them:
            with each.open():
                for clients in given.clients:
                    found = asyncio.run(measured(each.ask(turn), clients, turn))
                    figures.setdefault((each.name, clients), []).append(found)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {given.rounds} rounds")
    for (name, clients), rows in sorted(figures.items(), key=lambda each: each[0][1]):
        print(f"{clients:3} clients  {name:20}{told(rows)}")


if __name__ == "__main__":
    main()
