"""Vectors of texts: learned from pairs, triplets or scored pairs, and measured by retrieval or by rank correlation."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from wenloom.checkpoint.folder import is_adapter, is_model, read_config
from wenloom.checkpoint.sentence import SentenceConfig, read_sentence_config, write_sentence_config
from wenloom.core.errors import InputError
from wenloom.evaluation.ranking import ndcg, pearson, spearman
from wenloom.model.build import Model, without_head
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.runtime.embedder import Embedder, lowercased
from wenloom.tasks.lost import Lost
from wenloom.tasks.recipe import SHOWN, EncodedExamples, Figures, TaskRecipe, TaskResult
from wenloom.tasks.rows import RowReader, TableColumn, content_suffix, files_in, text_of, texts_of, value_of
from wenloom.tasks.search import similarity
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, Tokens
from wenloom.training.contrastive import ContrastiveObjective, ScoredPairsObjective, VectorSettings
from wenloom.training.objectives import Objective
from wenloom.training.report import Sample, SamplePreview
from wenloom.training.settings import ADAPTERS

ANCHORS = ("anchor", "query", "question", "sentence1", "source", "text1")
POSITIVES = ("positive", "answer", "passage", "document", "sentence2", "target", "text2")
NEGATIVES = ("negative", "negatives")
SCORES = ("score", "similarity_score")
"""Names of fields and columns, unless others are given."""
_DEPTH = 10
"""Passages that nDCG looks at."""


class TextPair(NamedTuple):
    """Two texts that belong together, or whose likeness is known."""

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    """Texts that the anchor does not belong to."""
    score: float | None = None
    """How like the two are; more is more alike."""


def read_text_pairs(
    where: str, reader: RowReader, anchor: str | None = None, positive: str | None = None
) -> list[TextPair]:
    """Pairs, triplets or scored pairs of jsonl or csv files, or pairs of a file of columns between tabs or of two files of lines.

    Args:
        anchor, positive: other fields, or columns by their names or numbers (from 1 on).

    Raises:
        InputError: see `RowReader`; or some rows have scores and others none.
    """
    paths = files_in(where)
    if len(paths) == 2 and content_suffix(paths[0]) not in (".json", ".jsonl", ".csv"):
        return reader.lines(paths, _from_cells)
    if content_suffix(paths[0]) in (".tsv", ".txt"):
        wanted = [TableColumn(anchor, ANCHORS, 1), TableColumn(positive, POSITIVES, 2)]
        return reader.columns(paths[0], wanted, _from_cells)

    def from_row(row: dict[str, Any]) -> TextPair:
        one, two = text_of(row, [anchor] if anchor else ANCHORS), text_of(row, [positive] if positive else POSITIVES)
        negatives = texts_of(row, NEGATIVES) if any(row.get(name) for name in NEGATIVES) else ()
        score = None
        if any(name in row for name in SCORES):
            name, value = value_of(row, SCORES)
            try:
                score = float(value) if not isinstance(value, bool) else math.nan
            except (TypeError, ValueError):
                score = math.nan
            if not math.isfinite(score):
                raise ValueError(f'"{name}" must be a number, got {value!r}')
        return TextPair(one, two, negatives, score)

    found = reader.objects(where, from_row)
    if 0 < sum(each.score is None for each in found) < len(found):
        raise InputError(f"{where}: some rows have a score and others none: give pairs, or scored pairs.")
    return found


def _from_cells(cells: list[str]) -> TextPair:
    if not all(cell.strip() for cell in cells):
        raise ValueError("needs two texts")
    return TextPair(cells[0].strip(), cells[1].strip())


class EmbeddingRecipe(TaskRecipe[TextPair]):
    """Learn vectors of texts, by an encoder or a decoder."""

    measuring = 0.05
    longer = "allow more by --max-source-tokens, as far as the model takes them"
    config = SentenceConfig()

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[TextPair]:
        """Pairs, triplets or scored pairs."""
        return read_text_pairs(where, reader, data.source, data.target)

    def question(self, row: TextPair) -> str:
        """The anchor."""
        return row.anchor

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """The model without a head for tokens or classes, which vectors have no use for."""
        assert self.settings.base is not None
        if not isinstance(model, Encoder | Decoder):
            raise InputError(f"{self.settings.base}: has an encoder and a decoder; embedding takes a model of one.")
        self.config = read_sentence_config(self.settings.base)
        if self.config.lowercase:
            lowercased(tokenizer)
        if not self.config.include_prompt:
            raise InputError(
                f"{self.settings.base}: leaves its prompts out of the pooling (include_prompt), which cannot be learned further."
            )
        is_whole = self.settings.learning.method not in ADAPTERS  # an adapter is for the model as it is
        return without_head(model) if isinstance(model, Encoder) and is_whole else model

    def _embedder(self, model: Model, tokenizer: TextTokenizer) -> Embedder:
        assert isinstance(model, Encoder | Decoder)
        return Embedder(model, tokenizer, self._bounded(model.config))

    def _bounded(self, shape: ModelConfig) -> SentenceConfig:
        """How texts are embedded, with the most tokens of one as --max-source-tokens and the model allow."""
        bounds = (self.config.max_tokens, self.settings.data.max_source_tokens, shape.context_length)
        return replace(self.config, max_tokens=min(each for each in bounds if each), is_written=True)

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Texts cut to fit, with the model's prompts for queries and documents."""
        kinds = {row.score is None for row in (*self.train, *self.validation)}
        if len(kinds) > 1:
            raise InputError("training and validation data must both be scored, or both not.")
        embedder = self._embedder(model, tokenizer)
        prompts = (embedder.prompt_of("query"), embedder.prompt_of("document", "passage", "corpus"))
        made, cut = list[list[Example]](), Lost()
        for rows in (self.train, self.validation):
            flat = [(row, negative) for row in rows for negative in row.negatives or ("",)]
            texts = [
                [row.anchor for row, _ in flat],
                [row.positive for row, _ in flat],
                [negative for _, negative in flat],
            ]
            anchors, positives = embedder.rows(texts[0], prompts[0]), embedder.rows(texts[1], prompts[1])
            for each in (anchors, positives):
                cut.examples += each.n_cut
                cut.tokens += each.n_lost
            negatives = embedder.rows(texts[2], prompts[1]).ids if any(texts[2]) else None
            examples: list[Example] = []
            for place, (row, negative) in enumerate(flat):
                one, two = anchors.ids[place], positives.ids[place]
                example: Example = {"anchor_BT": Tokens(one), "anchor_length_B": len(one), "positive_BT": Tokens(two),
                                    "positive_length_B": len(two), "targets_B": 1}  # fmt: skip
                if row.score is not None:
                    example["scores_B"] = self._scaled(row.score)
                else:
                    example["ids_BN"] = Column(_number(text) for text in (row.anchor, row.positive, negative))
                    if negatives is not None:
                        third = negatives[place] if negative else []
                        example |= {"negative_BT": Tokens(third), "negative_length_B": len(third)}
                if one and two:
                    examples.append(example)
            made.append(examples)
        return EncodedExamples(
            made[0], made[1], {f"texts have more than {embedder.max_tokens} tokens: they lost their end": cut}
        )

    def _scaled(self, score: float) -> float:
        """A score as a cosine, for the loss that compares the two: the largest is 1."""
        largest = max(abs(row.score or 0.0) for row in self.train)
        return score / largest if largest > 1 else score

    def objective(self, model: Model) -> Objective:
        """In-batch negatives; of scored pairs, what --pair-loss says."""
        learning = self.settings.learning
        width = self.config.head(torch.zeros(1, model.config.d_model * len(self.config.pooling))).shape[-1]
        dimensions = tuple(sorted({width, *learning.matryoshka_dimensions}))
        if dimensions[-1] > width:
            raise InputError(f"--matryoshka {learning.matryoshka}: this model's vectors have {width:,} numbers.")
        vectors = VectorSettings(self.config.pooling, self.config.head, dimensions, learning.temperature)
        if self.train[0].score is None:
            return ContrastiveObjective(model, vectors)
        return ScoredPairsObjective(model, vectors, learning.pair_loss)

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """The likeness of a few pairs."""
        rows, embedder = self.validation[:SHOWN], self._embedder(model, tokenizer)
        scores = pair_scores(embedder, rows)
        return SamplePreview(
            [
                Sample(f"{row.anchor}\n→ ", f"{row.positive} ({score:.2f})")
                for row, score in zip(rows, scores, strict=True)
            ]
        )

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Rank correlation with the scores, or retrieval of the positives."""
        return measured(self._embedder(model, tokenizer), self.validation)

    def run(self, out: Path, checkpoint: Path | None = None) -> TaskResult:
        """Train to the end; what is left on Ctrl-C is a model that embeds, too."""
        try:
            return super().run(out, checkpoint)
        finally:
            if is_model(out) or is_adapter(out):
                shape = read_config(out)
                write_sentence_config(self._bounded(shape), shape.d_model, out)


def _number(text: str) -> int:
    """A number that only equal texts share, as good as always."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def pair_scores(embedder: Embedder, rows: Sequence[TextPair]) -> list[float]:
    """The likeness of each pair by its vectors, as the model compares them."""
    one = torch.from_numpy(embedder.embed([row.anchor for row in rows], prompt=embedder.prompt_of("query")))
    two = torch.from_numpy(
        embedder.embed([row.positive for row in rows], prompt=embedder.prompt_of("document", "passage", "corpus"))
    )
    return [float(similarity(a[None], b[None], embedder.config.similarity)) for a, b in zip(one, two, strict=True)]


def measured(embedder: Embedder, rows: Sequence[TextPair]) -> Figures:
    """How good vectors are: of scored pairs, Spearman's and Pearson's correlation; of others, retrieval of an anchor's positives
    among all positives and negatives: nDCG@10, and how often the first one found is right.

    Returns:
        Figures, with standard errors: of a correlation (1 - r²) / sqrt(n - 1).
    """
    if rows[0].score is not None:
        given, found = [row.score or 0.0 for row in rows], pair_scores(embedder, rows)
        values = {"spearman": spearman(given, found), "pearson": pearson(given, found)}
        return {name: (value, (1 - value**2) / math.sqrt(max(1, len(rows) - 1))) for name, value in values.items()}
    texts = list(dict.fromkeys(text for row in rows for text in (row.positive, *row.negatives)))
    places, right = {text: place for place, text in enumerate(texts)}, dict[str, set[int]]()
    for row in rows:
        right.setdefault(row.anchor, set()).add(places[row.positive])
    passages = torch.from_numpy(embedder.embed(texts, prompt=embedder.prompt_of("document", "passage", "corpus")))
    queries = torch.from_numpy(embedder.embed(list(right), prompt=embedder.prompt_of("query")))
    gains, first = [], []
    for vector, wanted in zip(queries, right.values(), strict=True):
        best = similarity(vector[None], passages, embedder.config.similarity)[0].argsort(descending=True, stable=True)
        found = best[:_DEPTH].tolist()
        gains.append(ndcg(found, wanted, _DEPTH))
        first.append(float(found[0] in wanted))
    return {name: (float(np.mean(each)), float(np.std(each) / math.sqrt(len(each)))) for name, each in
            (("ndcg_at_10", gains), ("accuracy_at_1", first))}  # fmt: skip
