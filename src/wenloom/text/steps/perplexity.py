"""How well a language model of one's own predicts a document: what it finds strange is noise, what it finds too easy repeats itself."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.steps.step import Dropped, Kept

Measure = Callable[[str], float]
"""Bits per byte of a text."""
_LOOKED_AT = 8000
"""Characters of a document, from its beginning."""
_load: list[Callable[[str], Measure]] = []


def provide(load: Callable[[str], Measure]) -> None:
    """Say how a model's folder becomes what measures texts: models are none of this room's business."""
    _load[:] = [load]


@dataclass(frozen=True)
class PerplexityStep:
    """Drops documents whose bits per byte under a model are out of bounds (as CCNet does by perplexity; Wenzek et al. 2020, section 3.3,
    but comparable between vocabularies)."""

    model: str = ""
    """Folder of a small model, such as one of `wenloom pretrain` on text that is good."""
    at_most: float = 3.0
    """Bits per byte."""
    at_least: float = 0.0

    @cached_property
    def _measure(self) -> Measure:
        if not self.model:
            raise InputError("perplexity.model: name the folder of a model.")
        if not _load:
            raise InputError("The step perplexity needs a model: it works in recipes of the command line.")
        return _load[0](self.model)

    def __call__(self, document: Document) -> Kept | Dropped:
        if not document.text.strip():
            return Kept(document)
        bits = self._measure(document.text[:_LOOKED_AT])
        if bits > self.at_most:
            return Dropped(f"takes the model {bits:.2f} bits per byte, at most {self.at_most:g} may be")
        if bits < self.at_least:
            return Dropped(f"takes the model {bits:.2f} bits per byte, at least {self.at_least:g} must be")
        return Kept(document)
