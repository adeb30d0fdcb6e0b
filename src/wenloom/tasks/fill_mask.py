"""Hidden tokens: to learn by filling them in, and to fill them in (Devlin et al. 2019)."""

from collections.abc import Iterator
from typing import NamedTuple, cast, get_args

import numpy as np
import torch
from tokenizers import AddedToken

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.build import Model, build
from wenloom.model.encoder import Encoder
from wenloom.model.presets import EncoderArchitecture, encoder_from_scratch
from wenloom.tasks.plain_text import fresh_tokenizer, read_stretches
from wenloom.tasks.recipe import SHOWN, EncodedExamples, Figures, TaskRecipe
from wenloom.tasks.rows import RowReader
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, Targets, Tokens
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.objectives import MaskedObjective, Objective
from wenloom.training.report import Sample, SamplePreview

MASK, OPENING, CLOSING = "[MASK]", "[CLS]", "[SEP]"
_SPAN = 0.2
"""Spans have so many words with a geometric distribution of this probability, ten at most (Joshi et al. 2020)."""


class Masking:
    """Hides tokens: of those chosen, 80 % become the mask, 10 % any other token, 10 % stay (section 3.1).

    Args:
        vocab_size: what another token is drawn from.
        part: of the tokens, how many are to be predicted.
        kind: token, word or span.
    """

    def __init__(self, mask_id: int, vocab_size: int, part: float, kind: str):
        self.mask_id, self.vocab_size, self.part, self.kind = mask_id, vocab_size, part, kind

    def __call__(self, example: Example, seed: int) -> Example:
        """The example with other tokens hidden for every seed.

        Args:
            example: inputs_BT, and words_BT: the number of the word of each token, 0 for special ones.
        """
        tokens, words = np.array(example["inputs_BT"]), np.array(example["words_BT"])
        drawn = np.random.default_rng(seed)
        chosen = self._chosen(words, drawn)
        targets = np.where(chosen, tokens, IGNORED)
        fate = drawn.random(len(tokens))
        hidden = np.where(chosen & (fate < 0.8), self.mask_id, tokens)
        hidden = np.where(chosen & (fate >= 0.9), drawn.integers(0, self.vocab_size, len(tokens)), hidden)
        return {"inputs_BT": Tokens(hidden.tolist()), "targets_BT": Targets(targets.tolist()),
                "mask_BT": Column([1] * len(tokens))}  # fmt: skip

    def _chosen(self, words: np.ndarray, drawn: np.random.Generator) -> np.ndarray:
        places = np.flatnonzero(words)
        groups = words if self.kind != "token" else np.where(words > 0, np.arange(1, len(words) + 1), 0)
        order = drawn.permutation(np.unique(groups[places]))
        wanted, chosen = max(1, round(self.part * len(places))), np.zeros(len(words), bool)
        by_group = np.argsort(groups, kind="stable")
        ordered, n_chosen = groups[by_group], 0
        for start in order:
            if n_chosen >= wanted:
                break
            length = min(10, int(drawn.geometric(_SPAN))) if self.kind == "span" else 1
            members = by_group[slice(*np.searchsorted(ordered, (start, start + length)))]
            n_chosen += len(members) - int(chosen[members].sum())
            chosen[members] = True
        return chosen


class FillMaskRecipe(TaskRecipe[str]):
    """Learn to fill in hidden tokens of any text; what comes of it can be tuned to classify."""

    needs_base = False

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[str]:
        """Stretches of the documents of files or folders."""
        return read_stretches(where, reader)

    def question(self, row: str) -> str:
        """The text."""
        return row

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """An encoder without classes."""
        if not isinstance(model, Encoder) or not model.predicts_tokens:
            raise InputError(f"{self.settings.base}: fill-mask takes an encoder that predicts tokens, such as BERT.")
        return model

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Rows of as many tokens as are seen at once; of validation examples, the same are hidden each time."""
        if tokenizer.mask_token_id is None:
            raise InputError("this model's tokenizer has no mask token.")
        learning, room = self.settings.learning, min(self.settings.data.max_source_tokens, model.config.context_length)
        hide = Masking(tokenizer.mask_token_id, model.config.vocab_size, learning.mask_ratio, learning.masking)
        self.change = hide
        train = [example for text in self.train for example in _rows(tokenizer, text, room)]
        validation = [example for text in self.validation for example in _rows(tokenizer, text, room)]
        validation = [hide(example, seed) for seed, example in enumerate(validation)]
        for example in train:
            tokens = example["inputs_BT"]
            assert isinstance(tokens, Column)
            example["targets_BT"] = Targets(tokens)  # which of them, is drawn later
        return EncodedExamples(train, validation, {})

    def objective(self, model: Model) -> Objective:
        """-log P(hidden | the rest)."""
        return MaskedObjective(model)

    def fresh(self) -> tuple[Model, TextTokenizer]:
        """An encoder with a vocabulary of its own."""
        fresh, data = self.settings.fresh, self.settings.data
        arch = fresh.arch or "bert"
        if arch not in get_args(EncoderArchitecture):
            raise InputError(f"--arch {arch}: fill-mask takes {', '.join(get_args(EncoderArchitecture))}.")
        tokenizer = fresh_tokenizer(fresh, self.train, factor=0.5)
        if tokenizer.mask_token_id is None:
            tokenizer = masked_tokenizer(tokenizer)
        assert tokenizer.pad_token_id is not None
        config = encoder_from_scratch(
            cast(EncoderArchitecture, arch), vocab_size=tokenizer.vocab_size, n_layers=fresh.layers, d_model=fresh.width, n_heads=fresh.heads,
            context_length=data.max_source_tokens, dropout=fresh.dropout, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        model = build(config)
        model.initialise(generator(self.settings.training.seed, "weights"))
        return model, tokenizer

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """A few texts with a word in their middle hidden, and what the model puts there."""
        samples = []
        for text in self.validation[:SHOWN]:
            before, after = _around_a_word(tokenizer, text.replace(MASK, ""), min(16, model.config.context_length // 2))
            guesses = fill(model, tokenizer, f"{before}{tokenizer.mask_token}{after}", 3)[0]
            shown = f"{before}{MASK}{after}"
            samples.append(
                Sample(
                    f"{shown}\n→ ",
                    ", ".join(f"{each.text.strip()} ({100 * each.probability:.0f} %)" for each in guesses),
                )
            )
        return SamplePreview(samples)

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Nothing beyond the loss."""
        return {}


def masked_tokenizer(tokenizer: TextTokenizer) -> TextTokenizer:
    """The tokenizer with a mask token, and with an opening and a closing token around every text."""
    added = [
        AddedToken(MASK, lstrip=True, special=True),
        *(AddedToken(name, special=True) for name in (OPENING, CLOSING)),
    ]
    special = {"pad_token": str(tokenizer.pad_token), "mask_token": MASK, "cls_token": OPENING, "sep_token": CLOSING}
    return tokenizer.extended(added, special, f"{OPENING} $A {CLOSING}", f"{OPENING} $A {CLOSING} $B:1 {CLOSING}:1")


def _around_a_word(tokenizer: TextTokenizer, text: str, most: int) -> tuple[str, str]:
    """What stands before and behind a token in the middle of the first `most` of a text; one that is a whole word if
    there is one."""
    encoded = tokenizer.encoding(text, add_special_tokens=False)
    words, offsets = encoded.word_ids[: most + 1], encoded.offsets[:most]  # each a new list at every access
    if not offsets:
        return "", ""
    middle = len(offsets) // 2
    whole = [at for at in range(len(offsets)) if words.count(words[at]) == 1 and text[slice(*offsets[at])].strip()]
    hidden = min(whole, key=lambda at: abs(at - middle), default=middle)
    start, end = offsets[hidden]
    word = text[start:end]
    start += len(word) - len(word.lstrip())
    return text[:start], text[end : offsets[-1][1]]


def _rows(tokenizer: TextTokenizer, text: str, room: int) -> Iterator[Example]:
    """The tokens of a text in rows, each with what the tokenizer puts around a text."""
    around = tokenizer.encode("")
    before, after = around[: len(around) // 2], around[len(around) // 2 :]
    encoded = tokenizer.encoding(text, add_special_tokens=False)
    ids, numbers = encoded.ids, encoded.word_ids  # each a new list at every access
    width = room - len(around)
    if width < 1:
        raise InputError(f"--max-source-tokens {room}: leaves no room for a token.")
    words = [0 if word is None else word + 1 for word in numbers]
    for start in range(0, len(ids), width):
        part = slice(start, start + width)
        yield {"inputs_BT": Tokens([*before, *ids[part], *after]),
               "words_BT": Column([0] * len(before) + words[part] + [0] * len(after))}  # fmt: skip


class Filling(NamedTuple):
    """A token that may stand where one is hidden."""

    text: str
    token: int
    probability: float


@torch.inference_mode()
def fill(model: Model, tokenizer: TextTokenizer, text: str, count: int = 5) -> list[list[Filling]]:
    """The most probable tokens for every mask of a text, best first.

    Raises:
        InputError: the model is no such encoder, the text holds no mask, or does not fit.
    """
    if not isinstance(model, Encoder) or not model.predicts_tokens or tokenizer.mask_token_id is None:
        raise InputError("this model cannot fill in masks: it takes an encoder that predicts tokens, such as BERT.")
    ids = tokenizer.encode(text)
    places = [index for index, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if not places:
        raise InputError(f"the text holds no {tokenizer.mask_token}: write it where a word is to be filled in.")
    if len(ids) > model.config.context_length:
        raise InputError(f"{len(ids):,} tokens do not fit: this model reads {model.config.context_length:,}.")
    hidden_BTD = model.hidden(torch.tensor([ids], device=model.embed.weight.device))
    probabilities = model.unembed(hidden_BTD[0, places]).float().softmax(-1).cpu()
    top = probabilities.topk(min(count, probabilities.shape[1]))
    return [
        [Filling(tokenizer.decode([token]), token, value) for value, token in zip(values, tokens, strict=True)]
        for values, tokens in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]
