"""Whether the steps of a recipe help: the same small model, trained as long on the text with and without each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.checkpoint.folder import load_decoder
from wenloom.core.console import remark
from wenloom.core.quantities import counted
from wenloom.evaluation.significance import interval
from wenloom.text.documents import ReadOptions, find_files, read_documents
from wenloom.text.recipe import Recipe
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset, TokenStream
from wenloom.tokens.sizes import TextSizes
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.objectives import CausalObjective, Loss, evaluate
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import ModelSettings, TrainSettings

_FIXED = ("normalize", "empty")
"""Steps without which there is no corpus."""
_MOST_TOKENS = 500_000
"""Of the held-out text."""
SIZE = "1m"
"""Parameters, unless others are asked for."""


@dataclass(frozen=True)
class AblatedStep:
    """What a step does to a model that is trained on the text."""

    step: str
    documents: int
    """That are in the training text without the step and not with it; repaired ones do not count."""
    gain: float
    """Bits per byte of the held-out text by which the model without the step is worse: above 0, the step helps."""
    low: float
    high: float
    """The 95 % bootstrap interval over stretches of the held-out text; that of another seed is not in it."""

    @property
    def verdict(self) -> str:
        """In a word."""
        if not self.low < 0 < self.high and self.low != self.high:
            return "helps" if self.gain > 0 else "hurts"
        return "no difference seen"


def ablate(
    paths: list[str],
    held_out: Sequence[str],
    recipe: Recipe,
    reading: ReadOptions,
    work: Path,
    model: ModelSettings | None = None,
    training: TrainSettings | None = None,
) -> Iterator[AblatedStep]:
    """Measure each step of a recipe.

    The vocabulary is that of the text after all steps; the first model sets how many steps of training the others take.

    Args:
        held_out: text that says what is good; its documents are kept out of training.
        work: a folder for corpora and runs.
        training: its length is that of each run; default: a minute.

    Raises:
        InputError: see `tokens.prepare.prepare` and `training.pretrain.pretrain`.
    """
    model, training = model or ModelSettings(size=SIZE), training or TrainSettings(budget="1min")
    options = PrepareOptions(validation_files=tuple(held_out))
    whole = prepare(paths, work / "all", options, reading, recipe=recipe).dataset
    tokenizer = whole.tokenizer()
    trained = _Trained(work, model, training, _tokens_of(held_out, reading, tokenizer))
    base = trained.bits(whole, "all")
    for step in [name for name in recipe.values if name not in _FIXED]:
        shorter = recipe.without(step)
        if not shorter.values:
            shorter = replace(shorter, values={"empty": {}})
        other = prepare(paths, work / f"without-{step}", options, reading, tokenizer, recipe=shorter).dataset
        documents = other.splits["train"].documents - whole.splits["train"].documents
        if _same(whole, other):
            yield AblatedStep(step, 0, 0.0, 0.0, 0.0)
            continue
        gaps = trained.bits(other, f"without-{step}") - base
        found = interval(gaps)
        yield AblatedStep(step, documents, found.value, found.low, found.high)


def _tokens_of(held_out: Sequence[str], reading: ReadOptions, tokenizer: TextTokenizer) -> np.ndarray:
    """The held-out text as it is, whatever the recipe would do to it."""
    texts = [document.text for document in read_documents(find_files(list(held_out)), reading) if document.text.strip()]
    opening = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    ids = [token for encoded in tokenizer.encode_documents(texts) for token in (*opening, *encoded)]
    return np.array(ids[:_MOST_TOKENS], np.uint32)


def _same(first: Dataset, second: Dataset) -> bool:
    """Whether the training tokens are the same."""
    one, other = first.stream("train"), second.stream("train")
    size = len(one)
    return len(other) == size and all(
        np.array_equal(one.window(at, min(2**20, size - at)), other.window(at, min(2**20, size - at)))
        for at in range(0, size, 2**20)
    )


class _Trained:
    """Trains models alike and measures them on the same stretches of text."""

    def __init__(self, work: Path, model: ModelSettings, training: TrainSettings, held_out: np.ndarray):
        self._work, self._model, self._training, self._held_out = work, model, training, held_out

    def bits(self, dataset: Dataset, name: str) -> np.ndarray:
        """Bits per byte of every stretch of the held-out text (one context long)."""
        remark(f"Training on {name}: {counted(dataset.splits['train'].documents, 'document')}.")
        result = pretrain(dataset.folder, self._work / f"{name}-run", self._model, self._training)
        if self._training.steps is None:
            from wenloom.training.run_file import read_run

            settings: dict[str, Any] = read_run(result.folder)["settings"]
            self._training = replace(self._training, budget=None, tokens=None, epochs=None, steps=result.steps, batch=settings["batch"],
                                     learning_rate=settings["learning_rate"])  # fmt: skip
            self._model = replace(self._model, context=settings["context"])
        decoder = load_decoder(result.folder)
        decoder.eval()
        context = decoder.config.context_length
        held_out, sizes = self._held_out, TextSizes(dataset.tokenizer())
        objective, found = CausalObjective(decoder), []
        for begin in range(0, max(1, len(held_out) - 1), context):
            tokens = held_out[begin : begin + context + 1]
            loss = evaluate(objective, TokenStream([tokens]), Loss(0.0, 1, 1, 1), context)
            n_bytes = max(1, sizes.of([tokens[1:].tolist()]).bytes)
            found.append(loss.nats / np.log(2) / n_bytes)
        return np.array(found)


def table(found: Sequence[AblatedStep]) -> str:
    """For people."""
    lines = [f"{'step':18} {'documents':>9}  {'bits per byte without it':>24}  95 % interval"]
    for each in found:
        lines.append(
            f"{each.step:18} {each.documents:>+9,}  {each.gain:>+24.4f}  {each.low:+.4f} to {each.high:+.4f}  {each.verdict}"
        )
    return "\n".join(lines)
