"""Span corruption: an encoder-decoder learns language by writing what is missing from any text (Raffel et al. 2020)."""

from collections.abc import Iterator

import numpy as np
from tokenizers import AddedToken

from wenloom.core.errors import InputError
from wenloom.model.build import Model
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tasks.pair_recipe import fresh_pair_model, pair_tokenizer
from wenloom.tasks.plain_text import read_stretches
from wenloom.tasks.recipe import EncodedExamples, TaskRecipe
from wenloom.tasks.rows import RowReader
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, Targets, Tokens
from wenloom.training.objectives import EncoderDecoderObjective, Objective

SENTINELS = 100
"""As many as T5 has, under the same names."""
MEAN_SPAN = 3.0
"""Tokens of a span on average (section 3.3.4)."""


def sentinel(number: int) -> str:
    """The name of the token that stands for a span.

    >>> sentinel(0)
    '<extra_id_0>'
    """
    return f"<extra_id_{number}>"


class SpanCorruption:
    """Takes spans out of a text: the source has a sentinel in place of each, the target each sentinel and its span.

    Args:
        sentinels: their tokens, in order.
        first: the decoder's first token.
        end: what closes source and target.
        part: of the tokens, how many are taken out.
    """

    def __init__(self, sentinels: list[int], first: int, end: int, part: float):
        self.sentinels, self.first, self.end, self.part = sentinels, first, end, part

    def __call__(self, example: Example, seed: int) -> Example:
        """The example with other spans taken out for every seed.

        Args:
            example: source_BS, the text's tokens.
        """
        tokens = example["source_BS"]
        assert isinstance(tokens, list)
        source: list[int] = []
        target: list[int] = []
        at = 0
        for number, (begin, end) in enumerate(self._spans(len(tokens), np.random.default_rng(seed))):
            source += [*tokens[at:begin], self.sentinels[number]]
            target += [self.sentinels[number], *tokens[begin:end]]
            at = end
        source += [*tokens[at:], self.end]
        target += [self.end]
        return {"source_BS": Tokens(source), "source_mask_BS": Column([1] * len(source)),
                "inputs_BT": Tokens([self.first, *target[:-1]]), "targets_BT": Targets(target)}  # fmt: skip

    def _spans(self, length: int, drawn: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Spans and what stays between them, both cut at random into as many parts; a text begins with what stays."""
        hidden = min(max(1, round(self.part * length)), length - 1)
        n = min(max(1, round(hidden / MEAN_SPAN)), length - hidden, len(self.sentinels))
        spans, between = _parts(hidden, n, drawn), _parts(length - hidden, n, drawn)
        at = 0
        for gap, span in zip(between, spans, strict=True):
            yield at + gap, at + gap + span
            at += gap + span


def _parts(total: int, n: int, drawn: np.random.Generator) -> list[int]:
    """A number as a sum of n random ones, each at least 1."""
    cuts = np.sort(drawn.permutation(total - 1)[: n - 1]) + 1
    return np.diff([0, *cuts, total]).tolist()


class DenoisingRecipe(TaskRecipe[str]):
    """Learn to write what is missing from plain text; what comes of it can be tuned to translate or summarize."""

    needs_base = False

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[str]:
        """Stretches of the documents of files or folders."""
        return read_stretches(where, reader)

    def question(self, row: str) -> str:
        """The text."""
        return row

    def fresh(self) -> tuple[Model, TextTokenizer]:
        """An encoder-decoder with a vocabulary of its own, sentinels in it."""
        tokenizer = pair_tokenizer(self.train, self.settings.fresh)
        sentinels = [AddedToken(sentinel(n), special=True) for n in range(SENTINELS)]
        return fresh_pair_model(tokenizer.extended(sentinels, tokenizer.special_tokens), self.settings)

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """An encoder-decoder with sentinels."""
        if not isinstance(model, EncoderDecoder) or tokenizer.backend.token_to_id(sentinel(0)) is None:
            raise InputError(f"{self.settings.base}: denoising takes an encoder-decoder with <extra_id_0>, as T5 has.")
        return model

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Rows of as many tokens as are read at once; of validation examples, the same spans are missing each time."""
        config = model.config
        assert config.decoder_start_token_id is not None and config.encoder is not None
        known = [tokenizer.backend.token_to_id(sentinel(n)) for n in range(SENTINELS)]
        hide = SpanCorruption(
            [each for each in known if each is not None], config.decoder_start_token_id, config.eos_token_ids[0],
            self.settings.learning.mask_ratio,
        )  # fmt: skip
        self.change = hide
        room = self.settings.data.max_source_tokens - 1
        if config.encoder.n_positions is not None:
            room = min(room, config.context_length - 1)
        if room < 2:
            raise InputError("--max-source-tokens 2: leaves no room for a text and what is missing from it.")

        def rows(texts: list[str]) -> list[Example]:
            ids = tokenizer.encode_documents(texts)
            parts = [row[start : start + room] for row in ids for start in range(0, len(row), room)]
            return [{"source_BS": Tokens(part)} for part in parts if len(part) > 1]

        validation = [hide(example, seed) for seed, example in enumerate(rows(self.validation))]
        train = [example | {"targets_BT": hide(example, 0)["targets_BT"]} for example in rows(self.train)]  # for now
        return EncodedExamples(train, validation, {})

    def objective(self, model: Model) -> Objective:
        """Next tokens of what is missing."""
        assert isinstance(model, EncoderDecoder)
        return EncoderDecoderObjective(model)
