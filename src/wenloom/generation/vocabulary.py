"""What an engine needs of the vocabulary: prompts as tokens, end tokens, grammars, and tokens as text."""

import functools
import threading
from collections.abc import Sequence

from wenloom.core.errors import InputError, printable
from wenloom.generation.grammars import Grammars
from wenloom.generation.request import GenerationRequest
from wenloom.generation.request_types import WrongTypeError, entries, shown, whole
from wenloom.generation.stream import Spelling, TextStream
from wenloom.model.config import ModelConfig
from wenloom.tokens.tokenizer import TextTokenizer


class Vocabulary:
    """A model's tokens, and the tokenizer that tells their text, if there is one."""

    def __init__(self, config: ModelConfig, tokenizer: TextTokenizer | None):
        self.config, self.tokenizer = config, tokenizer
        self._grammars: dict[frozenset[int], Grammars] = {}
        self._breakers: dict[tuple[str, ...], frozenset[int]] = {}
        self._lock = threading.Lock()

    def tokenizer_for(self, what: str) -> TextTokenizer:
        """The tokenizer.

        Raises:
            InputError: there is none; says what needs it.
        """
        if self.tokenizer is None:
            raise InputError(f"{what} needs tokenizer=, to know the text of the tokens.")
        return self.tokenizer

    def prompt_ids(self, prompt: str | Sequence[int]) -> list[int]:
        """The tokens of a prompt.

        Raises:
            InputError: it is neither text nor tokens of the vocabulary, or empty.
        """
        config = self.config
        if not isinstance(prompt, str):
            try:
                ids = [whole(token) for token in entries(prompt)]
            except WrongTypeError as error:
                raise InputError(f"a prompt must be text or a list of tokens ({error}), got {shown(prompt)}.") from None
        elif config.encoder is None:
            ids = self.tokenizer_for("a text").prompt_ids(prompt)
        else:
            ids = self.tokenizer_for("a text").encode(prompt)
        vocab_size = config.vocab_size if config.encoder is None else config.encoder.vocab_size
        if not ids:
            raise InputError(
                "a prompt needs at least one token; begin with the model's BOS token to write from nothing."
            )
        if min(ids) < 0 or max(ids) >= vocab_size:
            outside = shown(max(ids, key=abs))
            raise InputError(f"token {outside} is not in the model's vocabulary of {vocab_size:,}.")
        return ids

    def endings(self, request: GenerationRequest) -> frozenset[int]:
        """Tokens that end a continuation; of the model's own, those that it can write."""
        if request.eos_token_id is not None:
            return frozenset(request.eos_token_id)
        return frozenset(token for token in self.config.eos_token_ids if 0 <= token < self.config.vocab_size)

    def grammars(self, endings: frozenset[int]) -> Grammars:
        """The compiler of grammars for these end tokens."""
        with self._lock:
            if endings not in self._grammars:
                if len(self._grammars) >= _KEPT:
                    self._grammars.pop(next(iter(self._grammars)))
                self._grammars[endings] = Grammars(self.tokenizer_for("a grammar"), self.config.vocab_size, endings)
            return self._grammars[endings]

    def breakers(self, texts: tuple[str, ...]) -> frozenset[int]:
        """Tokens that hold one of these texts."""
        with self._lock:
            if texts not in self._breakers:
                if len(self._breakers) >= _KEPT:
                    self._breakers.pop(next(iter(self._breakers)))
                wanted = [text.encode() for text in texts]
                vocabulary = self.tokenizer_for("dry_sequence_breakers").token_bytes(self.config.vocab_size)
                found = (token for token, data in enumerate(vocabulary) if any(each in data for each in wanted))
                self._breakers[texts] = frozenset(found)
            return self._breakers[texts]

    def prepare(self, request: GenerationRequest) -> None:
        """Make ready what a request needs of the vocabulary and what takes long, its grammar above all; for any thread.

        An engine that takes the request afterwards finds it, and does not hold up others meanwhile.

        Raises:
            InputError: the grammar is not valid or too large.
        """
        if request.constraint is not None:
            self.grammars(self.endings(request)).matcher(*request.constraint)
        if request.dry_multiplier and self.tokenizer is not None:
            self.breakers(request.dry_sequence_breakers)

    @functools.cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self.tokenizer_for("a text"))

    def stream(self, prompt: list[int], request: GenerationRequest) -> TextStream | None:
        """The text that follows a prompt; None where there is no tokenizer.

        Raises:
            InputError: there is none, and the request needs the text.
        """
        if self.tokenizer is None:
            for name in ("stop_strings", "echo", "shown_special_tokens"):
                if getattr(request, name):
                    self.tokenizer_for(name)
            return None
        special = self._spelling.special
        shown = frozenset(token for token, name in special.items() if name in request.shown_special_tokens)
        for name in request.shown_special_tokens:
            if name not in special.values():
                raise InputError(f"shown_special_tokens: the model has no special token {printable(name, 60)}.")
        return TextStream(self.tokenizer, prompt, request.stop_strings, self._spelling, shown)


_KEPT = 32
"""Sets of end tokens, and of texts, that stay ready for the next request."""
