"""Classification: texts and their classes."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.build import Model, with_classes
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tasks.lost import Lost
from wenloom.tasks.recipe import SHOWN, EncodedExamples, Figures, TaskRecipe
from wenloom.tasks.rows import RowReader, TableColumn, content_suffix, text_of, value_of
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, Tokens, collated
from wenloom.training.objectives import ClassificationObjective, Objective
from wenloom.training.report import Sample, SamplePreview

_BATCH = 32


_TEXTS, _LABELS = ("text", "sentence", "content"), ("label", "class", "category")
"""Names of fields and columns, unless others are given."""


class Labelled(NamedTuple):
    """A text and its class."""

    text: str
    label: str


class Guess(NamedTuple):
    """What a model makes of a text."""

    label: str
    probability: float
    others: tuple[tuple[str, float], ...]
    """All classes with their probabilities, best first."""


def read_labelled(where: str, reader: RowReader, text: str | None = None, label: str | None = None) -> list[Labelled]:
    """Texts with classes, of jsonl or csv files (fields text and label) or of columns between tabs (label, then text,
    where no header says otherwise).

    Args:
        text, label: other fields, or columns by their names or numbers (from 1 on).
    """
    if content_suffix(Path(where)) in (".tsv", ".txt"):

        def from_cells(cells: list[str]) -> Labelled:
            if not all(cells):
                raise ValueError("needs a label, a tab and a text")
            return Labelled(cells[1], cells[0])

        return reader.columns(Path(where), [TableColumn(label, _LABELS, 1), TableColumn(text, _TEXTS, 2)], from_cells)

    def from_row(row: dict[str, Any]) -> Labelled:
        name, value = value_of(row, [label] if label else _LABELS)
        if isinstance(value, float) and value.is_integer():  # what a data frame makes of a column with gaps
            value = int(value)
        if not isinstance(value, str | int) or (isinstance(value, str) and not value.strip()):
            raise ValueError(f'"{name}" must be a text or a whole number, got {value!r}')
        return Labelled(text_of(row, [text] if text else _TEXTS), str(value).strip())

    return reader.objects(where, from_row)


def encoded(tokenizer: TextTokenizer, texts: Sequence[str], longest: int, cut: Lost | None = None) -> list[list[int]]:
    """Texts as a classifier reads them, cut to fit and counted in `cut`; what the tokenizer puts at the end stays."""
    rows = tokenizer.encode_documents(texts, add_special_tokens=True)
    bare = tokenizer.encode_documents(texts)
    for row in rows:
        if cut is not None and len(row) > longest:
            cut.add(len(row) - longest)
    return [
        row if len(row) <= longest else row[: longest - 1] + row[-1:] if len(row) > len(plain) else row[:longest]
        for row, plain in zip(rows, bare, strict=True)
    ]


@torch.inference_mode()
def classify(model: Model, tokenizer: TextTokenizer, texts: Sequence[str]) -> Iterator[Guess]:
    """The class of every text, in order.

    Raises:
        InputError: the model has no classes.
    """
    labels = model.config.labels
    if not labels or isinstance(model, EncoderDecoder):
        raise InputError("this model has no classes: wenloom finetune --task classification makes one.")
    device = model.embed.weight.device
    rows = encoded(tokenizer, texts, model.config.context_length)
    for start in range(0, len(rows), _BATCH):
        part: list[Example] = [
            {"inputs_BT": Tokens(row or [0]), "mask_BT": Column([1] * max(1, len(row)))}
            for row in rows[start : start + _BATCH]
        ]
        batch = {name: tensor.to(device) for name, tensor in collated(part).items()}
        probabilities = model.classify(batch["inputs_BT"], batch["mask_BT"]).float().softmax(-1)
        for each in probabilities.cpu():
            order = each.argsort(descending=True).tolist()
            ranked = tuple((labels[index], float(each[index])) for index in order)
            yield Guess(ranked[0][0], ranked[0][1], ranked)


class ClassificationRecipe(TaskRecipe[Labelled]):
    """Learn the classes of texts, by an encoder or a decoder."""

    measuring = 0.05

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Labelled]:
        """Texts with classes."""
        return read_labelled(where, reader, data.source, data.target)

    def question(self, row: Labelled) -> str:
        """The text."""
        return row.text

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """The model with a fresh head for the classes of the examples."""
        labels = tuple(sorted({row.label for row in self.train}))
        if len(labels) < 2:
            raise InputError(f"all examples are of one class ({self.train[0].label}): there is nothing to tell apart.")
        if strange := sorted({row.label for row in self.validation} - set(labels)):
            raise InputError(f"the class {strange[0]!r} is in the validation data, but not in the training data.")
        return with_classes(model, labels, generator(self.settings.training.seed, "head"))

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Texts cut to fit."""
        longest, cut = min(self.settings.data.max_source_tokens, model.config.context_length), Lost()
        made: list[list[Example]] = []
        for rows in (self.train, self.validation):
            ids = encoded(tokenizer, [row.text for row in rows], longest, cut)
            made.append([
                {"inputs_BT": Tokens(each), "mask_BT": Column([1] * len(each)), "targets_B": model.config.labels.index(row.label)}
                for row, each in zip(rows, ids, strict=True)
            ])  # fmt: skip
        self.change = self.noise(model, tokenizer)
        return EncodedExamples(made[0], made[1], {f"texts have more than {longest} tokens: they lost their end": cut})

    def objective(self, model: Model) -> Objective:
        """Cross-entropy over classes."""
        return ClassificationObjective(model)

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """The classes of a few texts."""
        texts = [row.text for row in self.validation[:SHOWN]]
        found = zip(texts, classify(model, tokenizer, texts), strict=True)
        return SamplePreview(
            [Sample(f"{text}\n→ ", f"{guess.label} ({100 * guess.probability:.0f} %)") for text, guess in found]
        )

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Accuracy."""
        found = classify(model, tokenizer, [row.text for row in self.validation])
        right = [guess.label == row.label for guess, row in zip(self.in_time(found), self.validation, strict=False)]
        return {"accuracy": share(right)}


def share(right: Sequence[bool]) -> tuple[float, float]:
    """Part that is true, and its standard error."""
    part = sum(right) / len(right)
    return part, math.sqrt(part * (1 - part) / len(right))
