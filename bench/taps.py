"""What taps cost where there are none: decoding, prefill and training against the same model without the calls.

The other model's methods are those of this one with every `tapped(taps, place, x)` written as `x`. Both in one
process with the same weights, alternating; prints the lower quartile of each one's processor time and their ratio.

    python bench/taps.py [--rounds 60]
"""

import argparse
import ast
import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from typing import Any

import torch

from wenloom.core.randomness import generator
from wenloom.model.attention import Attention, CrossAttention
from wenloom.model.block import Block
from wenloom.model.cache import KVCache
from wenloom.model.decoder import Decoder
from wenloom.model.feedforward import FeedForward
from wenloom.model.presets import from_scratch
from wenloom.model.stack import Stack
from wenloom.training.objectives import CausalObjective

CLASSES = (Attention, CrossAttention, Block, FeedForward, Stack, Decoder)


class _Untapped(ast.NodeTransformer):
    """Leaves out what looks at taps."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return node.args[2] if name == "tapped" else ast.Constant(None) if name == "within" else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if isinstance(node.left, ast.Name) and node.left.id == "taps" and isinstance(node.ops[0], ast.Is | ast.IsNot):
            return ast.Constant(isinstance(node.ops[0], ast.Is))
        return node


def untapped(function: Any) -> Any:
    """The function without them; none if it has none."""
    source = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(source)
    plain = ast.fix_missing_locations(_Untapped().visit(tree))
    if ast.unparse(plain) == ast.unparse(ast.parse(source)):
        return None
    made: dict[str, Any] = {}
    exec(compile(plain, f"<untapped {function.__qualname__}>", "exec"), function.__globals__, made)
    return made[function.__name__]


def switches() -> list[tuple[type, str, Any, Any]]:
    """Class, name, method with taps, method without."""
    found = []
    for each in CLASSES:
        for name, function in vars(each).items():
            if inspect.isfunction(function) and (plain := untapped(function)) is not None:
                found.append((each, name, function, plain))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    config = from_scratch(
        "qwen3", vocab_size=4096, n_layers=7, d_model=320, n_heads=5, n_kv_heads=5, context_length=512
    )
    decoder = Decoder(config)
    decoder.initialise(generator(0, "bench"))
    tokens = torch.randint(4096, (4, 129), generator=torch.Generator().manual_seed(0))
    objective = CausalObjective(decoder)

    @torch.inference_mode()
    def decode() -> None:
        decoder.eval()
        cache = KVCache(config.n_layers)
        for token in tokens[0, :32]:
            decoder(token.view(1, 1), cache=cache)

    @torch.inference_mode()
    def prefill() -> None:
        decoder.eval()
        decoder(tokens[:1])

    def train() -> None:
        decoder.train()
        objective(tokens[:, :-1], tokens[:, 1:]).total.backward()
        decoder.zero_grad()

    methods = switches()
    print(f"without: {', '.join(f'{each.__name__}.{name}' for each, name, _, _ in methods)}")
    tasks: dict[str, Callable[[], None]] = {"decode 32 tokens": decode, "prefill 129": prefill, "train 4 x 128": train}
    for name, task in tasks.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(2 * rounds):
            which = (turn + turn // 2) % 2  # with, without, without, with
            for each, method, *versions in methods:
                setattr(each, method, versions[which])
            started = time.process_time()
            task()
            seconds[which].append(time.process_time() - started)
        tapped, plain = (statistics.quantiles(each, n=4)[0] for each in seconds)
        print(f"{name:18} {1e3 * tapped:8.2f} ms, without the calls {1e3 * plain:8.2f} ms: {tapped / plain - 1:+.2%}")


if __name__ == "__main__":
    main()
