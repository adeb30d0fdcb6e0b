"""Where an answer may come from: the places of the training text that read on as the answer does, and what followed there.

The longest end of the text that stands in the training text is looked for, and what comes behind it there (the infini-gram
model: Liu et al. 2024); then the longest end of text and answer together, which says from where the answer could be quoted.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.explanation.influence import Influence, TrainingPoint, influences
from wenloom.explanation.inquiry import AnswerRow, Inquiry
from wenloom.explanation.subject import Subject
from wenloom.model.quantize import require_unquantized
from wenloom.tokens.index import Match, TokenIndex, has_index, indexed
from wenloom.tokens.places import DocumentPlaces, has_places
from wenloom.tokens.shards import MANIFEST, Dataset
from wenloom.tokens.sizes import TextSizes
from wenloom.tokens.tokenizer import TextTokenizer

CANDIDATES = 12
"""Places that are read of each kind: where the answer follows, and where something else does."""
SHOWN = 8
"""Tokens that followed, by name."""
_PART = "\ufffd"
"""How a part of a character is decoded."""
_AROUND = 24
"""Tokens shown before and after what was found."""
_WINDOW = 128
"""Tokens of a passage whose gradient is taken."""
SMALL_CORPUS = 2**24
"""Tokens up to which a run's own corpus is indexed without being asked: seconds, and 64 MB beside it."""


@dataclass(frozen=True)
class Passage:
    """A place of the training text."""

    source: str
    """Its document: file and, where a file holds several, line."""
    character: int
    """Where in the document, as it was prepared, the passage begins; from 0 on."""
    length: int
    """Tokens that it has in common with the end of the text (and the answer, where that follows)."""
    has_answer: bool
    """Whether the answer follows there."""
    is_whole: bool
    """Whether all of the text stands there, word for word, and the answer behind it."""
    before: str
    found: str
    """What it has in common."""
    after: str
    influence: Influence | None = None


@dataclass(frozen=True)
class TrainingText:
    """What the training text has of a text and its answer."""

    corpus: str
    """Its folder."""
    n_tokens: int
    context: str
    """The longest end of the text that stands there."""
    context_length: int
    """Its tokens."""
    context_count: int
    """How often it stands there."""
    following: list[tuple[str, int]]
    """What came behind it there, the most frequent first, at most `SHOWN` tokens, and how often each."""
    answer_count: int
    """How often it was the answer's first token."""
    length: int
    """Tokens of the longest end of text and answer together that stands there."""
    count: int
    """How often that stands there."""
    n_answer: int
    """Tokens of the answer."""
    passages: list[Passage]
    """Those where the answer follows come first, the most influential of them first."""

    @property
    def quoted(self) -> Passage | None:
        """A place where the text and the answer stand word for word; None where there is none."""
        return next((each for each in self.passages if each.is_whole), None)


def training_text(
    inquiry: Inquiry, corpus: Path | TokenIndex, points: Sequence[TrainingPoint] = (TrainingPoint(None, 1.0),)
) -> TrainingText:
    """What the training text of a corpus has of an answer.

    Args:
        corpus: its folder; it is indexed where it is not.
        points: the model at one or more points of its training, for the influence of passages; none: it is left out.

    Raises:
        InputError: a model that is not a decoder of text; the folder holds no corpus, or one of another tokenizer.
    """
    subject, row = inquiry.subject, inquiry.rows[0]
    dataset = Dataset.open(corpus) if isinstance(corpus, Path) else corpus.dataset
    check_searchable(subject, dataset)
    index = indexed(dataset)[0] if isinstance(corpus, Path) else corpus
    documents = DocumentPlaces.open(index.dataset.folder, "train", len(index.stream))
    own = row.signs > 0
    answer = row.answers[own].tolist()
    context = row.reading.tokens[0, : int(row.places[own][0]) + 1].tolist()
    before, whole = index.longest(context), index.longest([*context, *answer])
    tokens, counts = index.following(before)
    followed = dict(zip(tokens.tolist(), counts.tolist(), strict=True))
    n_window = min(_WINDOW, subject.model.config.context_length + 1)
    reader = _PassageReader(subject.tokenizer, index, documents, TextSizes(subject.tokenizer), n_window)
    places = [(place, whole, True) for place in index.places(whole, CANDIDATES)]
    if before.length:
        for place in index.places(before, 2 * CANDIDATES):
            next_one = index.stream.window(place, before.length + 1).tolist()[-1]
            if next_one != answer[0] and len(places) < 2 * CANDIDATES:
                places.append((place, before, False))
    found = [reader.passage(place, match, [*context, *answer], is_one) for place, match, is_one in places]
    moved = _influences(subject, row, [reader.window(place, match) for place, match, _ in places], points)
    found = [replace(each, influence=value) for each, value in zip(found, moved, strict=True)]
    found.sort(key=lambda each: (not each.has_answer, -each.influence.value if each.influence is not None else 0.0))
    return TrainingText(
        corpus=str(index.dataset.folder), n_tokens=len(index.stream),
        context=subject.tokenizer.decode(context[len(context) - before.length :]),
        context_length=before.length, context_count=before.count,
        following=[(subject.piece(token), number) for token, number in list(followed.items())[:SHOWN]],
        answer_count=followed.get(answer[0], 0), length=whole.length, count=whole.count, n_answer=len(answer), passages=found,
    )  # fmt: skip


def check_searchable(subject: Subject, dataset: Dataset) -> None:
    """
    Raises:
        InputError: see `training_text`.
    """
    subject.writer("training text is searched for what a decoder predicts next; this model reads otherwise.")
    check_tokenizer(subject.tokenizer, dataset)


def check_tokenizer(tokenizer: TextTokenizer, dataset: Dataset) -> None:
    """
    Raises:
        InputError: a corpus whose tokens are not the model's; a model may have more of them.
    """
    theirs, own = (json.loads(each.backend.to_str()) for each in (dataset.tokenizer(), tokenizer))
    parts = ("normalizer", "pre_tokenizer", "model")
    if any(theirs[part] != own[part] for part in parts) or any(
        each not in own["added_tokens"] for each in theirs["added_tokens"]
    ):
        raise InputError(
            f"{dataset.folder}: was prepared with another tokenizer than the model's; prepare the text with "
            "--tokenizer MODEL to search it."
        )


def corpus_of(run: Path, tables: dict[str, dict[str, object]]) -> Path | None:
    """The corpus that a run learned from, where it is still there, unchanged, and indexed or soon indexed.

    Args:
        tables: of its run.toml.
    """
    folder = tables["data"].get("folder")
    if not isinstance(folder, str) or not (Path(folder) / MANIFEST).is_file():
        return None
    try:
        dataset = Dataset.open(Path(folder))
        is_ready = has_index(dataset) or dataset.splits["train"].tokens <= SMALL_CORPUS
    except InputError:  # damaged since; nobody asked for it
        return None
    return Path(folder) if dataset.key == tables["data"]["key"] and is_ready and has_places(Path(folder)) else None


def _influences(
    subject: Subject, row: AnswerRow, windows: list[list[int]], points: Sequence[TrainingPoint]
) -> list[Influence | None]:
    """By passage; none of quantized weights, which have no gradients."""
    if not points:
        return [None] * len(windows)
    try:
        require_unquantized(subject.model, "influence needs gradients")
    except InputError:
        return [None] * len(windows)
    with progress("Comparing gradients", len(points) * (len(windows) + 1), "gradients") as bar, torch.enable_grad():
        return list(influences(subject, row, windows, points, bar.advance))


@dataclass(frozen=True)
class _PassageReader:
    tokenizer: TextTokenizer
    index: TokenIndex
    documents: DocumentPlaces
    sizes: TextSizes
    n_window: int

    def passage(self, place: int, match: Match, wanted: list[int], has_answer: bool) -> Passage:
        document, end = self.documents.of(place), place + match.length
        begin, last = max(document.begin, place - _AROUND), min(document.end, end + _AROUND)
        # a cut may go through a character, whose part before it is then left to what comes behind
        first, second = (len(self._text(begin, cut).rstrip(_PART)) for cut in (place, end))
        around = self._text(begin, last)
        before, found, after = around[:first].lstrip(_PART), around[first:second], around[second:].rstrip(_PART)
        missing = self.tokenizer.decode(wanted[: len(wanted) - match.length], skip_special_tokens=True)
        is_whole = has_answer and self._text(max(document.begin, place - len(wanted) - _AROUND), place).endswith(
            missing
        )
        character = self.sizes.of([self._tokens(document.begin, place)]).characters
        return Passage(document.source, character, match.length, has_answer, is_whole, before, found, after)

    def window(self, place: int, match: Match) -> list[int]:
        """The passage with what stands around it, as long as a training sample of which it is the middle."""
        document = self.documents.of(place)
        middle = place + match.length
        begin = max(document.begin, middle - self.n_window // 2)
        end = min(document.end, begin + self.n_window)
        return self._tokens(max(0, min(begin, end - 2)), end)

    def _tokens(self, begin: int, end: int) -> list[int]:
        return self.index.stream.window(begin, end - begin).tolist() if end > begin else []

    def _text(self, begin: int, end: int) -> str:
        return self.tokenizer.decode(self._tokens(begin, end), skip_special_tokens=True)
