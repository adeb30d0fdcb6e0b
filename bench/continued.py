"""Going on with training: what it costs to prolong a run instead of planning it longer, and what a trained model gains on
new text and forgets of old.

    python bench/continued.py prolong --steps 1000 --seeds 2
    python bench/continued.py new-text MODEL --text NEW --kept OLD --test OTHER

`prolong`: for each schedule a run of twice the steps, and one of the steps that is prolonged by as many; the validation
losses and their ratio. `new-text`: bits per byte of a model on new text and on a test text, before and after it was
trained on the new text, with a part of the samples from kept text; intervals by the bootstrap over pieces of text.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wenloom.api import load
from wenloom.tokens.prepare import prepare
from wenloom.tokens.shards import Dataset
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.settings import ModelSettings, TrainSettings

TEXT = Path(__file__).parent.parent / "src/wenloom/text/tinyshakespeare.txt"
SHAPE = ModelSettings(layers=4, width=128, context=128, dropout=0.1)
_PIECE = 1024
"""Tokens over which losses are summed before they are drawn."""


def prolong(steps: int, seeds: int, work: Path) -> None:
    """Print validation losses of runs that were planned longer and of runs that were prolonged."""
    data = prepare([str(TEXT)], work / "data").dataset.folder
    for schedule in ("linear", "cosine", "wsd"):
        for seed in range(seeds):
            settings = TrainSettings(steps=2 * steps, batch=8, evaluations=1, schedule=schedule, seed=seed)
            name = work / f"{schedule}-{seed}"
            planned = pretrain(data, name.with_suffix(".planned"), SHAPE, settings)
            short = pretrain(data, name.with_suffix(".prolonged"), SHAPE, replace(settings, steps=steps))
            longer = resume(short.folder, more=TrainSettings(steps=steps))
            print(json.dumps({
                "schedule": schedule, "seed": seed, "steps": steps, "half": short.loss.nats_per_token,
                "planned": planned.loss.nats_per_token, "prolonged": longer.loss.nats_per_token,
                "ratio": longer.loss.nats_per_token / planned.loss.nats_per_token,
            }), flush=True)  # fmt: skip


def losses(model: Path, dataset: Dataset, most: int) -> np.ndarray:
    """(nats, bytes) of each piece of a validation text, shape (pieces, 2)."""
    decoder, stream = load(model).decoder, dataset.stream("validation")
    sizes = dataset.tokenizer().token_bytes(dataset.tokenizer().vocab_size)
    found = []
    for start in range(0, min(most, len(stream)) - _PIECE, _PIECE):
        tokens = torch.from_numpy(stream.window(start, _PIECE + 1))
        with torch.no_grad():
            logits = decoder(tokens[None, :-1])[0].float()
        nats = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="sum").item()
        found.append((nats, sum(len(sizes[token]) for token in tokens[1:].tolist())))
    return np.array(found)


def bits_per_byte(pieces: np.ndarray) -> np.ndarray:
    """Of all pieces together."""
    return pieces[..., 0].sum(-1) / pieces[..., 1].sum(-1) / math.log(2)


def compared(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Bits per byte before and after, and the relative change with a 95 % interval over pieces drawn 2,000 times."""
    drawn = np.random.default_rng(0).integers(0, len(before), (2000, len(before)))
    changes = bits_per_byte(after[drawn]) / bits_per_byte(before[drawn]) - 1
    low, high = np.quantile(changes, (0.025, 0.975))
    one, other = float(bits_per_byte(before)), float(bits_per_byte(after))
    return {"before": one, "after": other, "change": other / one - 1, "from": float(low), "to": float(high)}


def new_text(model: Path, trained: Path | None, texts: dict[str, Path], work: Path, options: Sequence[str]) -> None:
    """Print what a model gains on new text and loses on other."""
    for name, text in texts.items():
        prepare_with(model, text, work / name)
    if trained is None:
        trained = work / "trained"
        command = ["pretrain", work / "new", "--init", model, "--keep-data", work / "kept", "--out", trained, *options]
        subprocess.run([sys.executable, "-m", "wenloom", *map(str, command)], check=True)
    for name in texts:
        dataset = Dataset.open(work / name)
        figures = compared(losses(model, dataset, 60_000), losses(trained, dataset, 60_000))
        print(json.dumps({"text": name} | figures), flush=True)


def prepare_with(model: Path, text: Path, out: Path) -> None:
    """Prepare a text in the vocabulary of a model."""
    command = ["prepare", text, "--tokenizer", model, "--out", out]
    subprocess.run([sys.executable, "-m", "wenloom", *map(str, command)], check=True)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("prolong")
    one.add_argument("--steps", type=int, default=1000)
    one.add_argument("--seeds", type=int, default=1)
    other = commands.add_parser("new-text")
    other.add_argument("model", type=Path)
    for name in ("text", "kept", "test"):
        other.add_argument(f"--{name}", type=Path, required=True)
    other.add_argument("--trained", type=Path, help="a run that was trained already")
    for each in (one, other):
        each.add_argument("--work", type=Path, help="folder for corpora and runs; default: a temporary one")
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        if given.command == "prolong":
            prolong(given.steps, given.seeds, work)
        else:
            texts = {"new": given.text, "kept": given.kept, "test": given.test}
            new_text(given.model, given.trained, texts, work, options)


if __name__ == "__main__":
    main()
