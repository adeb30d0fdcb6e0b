"""Tasks that turn one text into another: what their data looks like and how a model is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig
from wenloom.tasks.lost import Lost
from wenloom.tasks.rows import RowReader, TableColumn, content_suffix, files_in, text_of, texts_of
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, Targets, Tokens
from wenloom.training.cross_entropy import IGNORED


class Pair(NamedTuple):
    """A text and what is to be made of it, by one person or several."""

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class PairTask:
    """A kind of pairs."""

    name: str
    sources: tuple[str, ...]
    """Names under which rows may hold the source."""
    targets: tuple[str, ...]
    """Names under which rows may hold the target."""
    metric: Literal["bleu", "rouge"] | None
    """What answers are measured by; None where there is no right one."""
    cue: str
    """What stands between source and target for a model that continues its prompt."""


TRANSLATION = PairTask(
    "translation",
    ("source", "src", "en", "input"),
    ("target", "tgt", "translation", "output"),
    "bleu",
    "\nTranslation:",
)
SUMMARIZATION = PairTask(
    "summarization",
    ("source", "document", "dialogue", "article", "text", "input"),
    ("target", "summary", "highlights", "tldr", "output"),
    "rouge",
    "\nSummary:",
)
STORY, POETRY, CODE = (PairTask(name, ("prompt",), ("text",), None, "\n") for name in ("story", "poetry", "code"))
"""See `tasks.writing`."""
PAIR_TASKS = {task.name: task for task in (TRANSLATION, SUMMARIZATION, STORY, POETRY, CODE)}


def read_pairs(
    where: str, task: PairTask, reader: RowReader, source: str | None = None, target: str | None = None
) -> list[Pair]:
    """Pairs of a file.

    Args:
        where: jsonl files (or JSON lists) of objects, comma-separated; a file of columns between tabs (.tsv, .txt), or two files of
            lines as `train.en,train.de`; each may be compressed.
        source, target: fields, or columns by their names or numbers (from 1 on); default: those that the task knows,
            or the first two columns.

    Raises:
        InputError: see `RowReader`.
    """
    names = ([source] if source else task.sources, [target] if target else task.targets)
    paths = files_in(where)
    if len(paths) > 1 and content_suffix(paths[0]) not in (".json", ".jsonl", ".csv"):
        if len(paths) != 2:
            raise InputError(f"{where}: name two files, as in train.en,train.de.")
        return reader.lines(paths, lambda texts: _pair(texts[0], (texts[1],)))
    if content_suffix(paths[0]) in (".tsv", ".txt"):
        wanted = [TableColumn(source, task.sources, 1), TableColumn(target, task.targets, 2)]
        return reader.columns(paths[0], wanted, lambda cells: _pair(cells[0], (cells[1],)))

    def from_row(row: dict[str, Any]) -> Pair:
        return Pair(text_of(row, names[0]), texts_of(row, names[1]))

    return reader.objects(where, from_row)


def _pair(source: str, targets: tuple[str, ...]) -> Pair:
    for side, text in (("source", source), *(("target", target) for target in targets)):
        if not text.strip():
            raise ValueError(f"the {side} is empty")
    return Pair(source.strip(), tuple(each.strip() for each in targets))


MAX_TARGET_TOKENS = 256
"""Most tokens of a target, unless asked for otherwise."""


def bounds(config: ModelConfig, max_source_tokens: int | None, max_target_tokens: int | None) -> tuple[int, int]:
    """Most tokens of a source and of a target: as asked for, as far as the model's context takes them.

    A model with an encoder has a context for each of them (none at all with relative positions); one that goes on with its
    prompt has one for both, of which targets get half at most.
    """
    encoder, target = config.encoder, max_target_tokens or MAX_TARGET_TOKENS
    if encoder is None:
        target = min(target, config.context_length // 2)
        room = config.context_length - target
    elif encoder.n_positions is None:
        room = 1 << 20
    else:
        target, room = min(target, config.context_length), encoder.n_positions
    return min(max_source_tokens or room, room), target


class PairEncoder:
    """From pairs to what a model reads: the same for training and for use.

    Args:
        max_source_tokens, max_target_tokens: most tokens; a longer source loses its end, a longer target is not learned
            from.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: TextTokenizer,
        task: PairTask,
        max_source_tokens: int,
        max_target_tokens: int,
    ):
        self.config, self.tokenizer, self.task = config, tokenizer, task
        self.max_source_tokens, self.max_target_tokens = max_source_tokens, max_target_tokens
        if not config.eos_token_ids:
            raise InputError("this model has no end token: it could not learn where an answer ends.")
        self.eos = config.eos_token_ids[0]
        self.cut = Lost()
        """Sources that lost their end."""
        self.dropped = Lost()
        """Pairs whose target is too long."""

    def sources(self, texts: Sequence[str]) -> list[list[int]]:
        """What the model reads before it answers."""
        if self.config.encoder is not None:
            rows = self.tokenizer.encode_documents(texts, add_special_tokens=True)
            ends = [row[-1:] if row[-1:] == [self.eos] else [] for row in rows]
            return [self._cut(row, end) for row, end in zip(rows, ends, strict=True)]
        cue = self.tokenizer.encode(self.task.cue, add_special_tokens=False)
        opening = self.tokenizer.encode("")
        rows = self.tokenizer.encode_documents(texts)
        return [[*opening, *self._cut(row, cue)] for row in [[*row, *cue] for row in rows]]

    def _cut(self, row: list[int], end: list[int]) -> list[int]:
        if len(row) <= self.max_source_tokens:
            return row
        self.cut.add(len(row) - self.max_source_tokens)
        return row[: self.max_source_tokens - len(end)] + end

    def examples(self, pairs: Sequence[tuple[str, str]]) -> list[Example]:
        """Examples to learn from; those whose target is too long are left out."""
        space = "" if self.config.encoder is not None or self.task.cue.endswith("\n") else " "
        targets = self.tokenizer.encode_documents([space + target for _, target in pairs])
        sources = self.sources([source for source, _ in pairs])
        examples: list[Example] = []
        for source, target in zip(sources, targets, strict=True):
            if len(target) + 1 > self.max_target_tokens:
                self.dropped.add(len(source) + len(target))
                continue
            answer = [*target, self.eos]
            if self.config.encoder is not None:
                assert self.config.decoder_start_token_id is not None
                inputs = [self.config.decoder_start_token_id, *target]
                examples.append({"source_BS": Tokens(source), "source_mask_BS": Column([1] * len(source)),
                                 "inputs_BT": Tokens(inputs), "targets_BT": Targets(answer)})  # fmt: skip
            else:
                hidden = [IGNORED] * (len(source) - 1)
                examples.append({"inputs_BT": Tokens([*source, *target]), "targets_BT": Targets([*hidden, *answer])})
        return examples
