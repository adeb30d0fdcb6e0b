"""Copies of documents with mistakes of typing (Belinkov & Bisk 2018), for models that are to stand them."""

from dataclasses import dataclass

import numpy as np

from wenloom.core.errors import InputError
from wenloom.text.digest import content_hash
from wenloom.text.document import Document
from wenloom.text.hashing import kinds_of_letters
from wenloom.text.steps.counterfactual import check_share
from wenloom.text.steps.step import Dropped, Kept, drawn


@dataclass(frozen=True)
class TypingNoise:
    """Adds to training a copy of a document in which some letters are left out, written twice, or exchanged with the next."""

    rate: float = 0.02
    """Part of the letters."""
    share: float = 0.1
    """Part of the documents that have a copy."""
    seed: int = 1

    def __post_init__(self) -> None:
        check_share("noise", self.share)
        if not 0 < self.rate <= 0.5:
            raise InputError(f"noise.rate {self.rate:g}: must be above 0 and at most 0.5.")

    def copy_of(self, text: str) -> str | None:
        """The copy, or None: there is none to be made."""
        if not drawn(text, self.share, self.seed):
            return None
        rng = np.random.default_rng([self.seed, int.from_bytes(content_hash(text)[8:])])
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).copy()
        is_letter = kinds_of_letters()[codes] > 0
        kinds = np.where(is_letter & (rng.random(len(codes)) < self.rate), rng.integers(1, 4, len(codes)), 0)
        swaps = np.flatnonzero(kinds[:-1] == 3)
        swaps = swaps[is_letter[swaps + 1] & (np.diff(swaps, prepend=-2) > 1)]
        codes[swaps], codes[swaps + 1] = codes[swaps + 1], codes[swaps].copy()
        times = np.where(kinds == 1, 0, np.where(kinds == 2, 2, 1))
        found = np.repeat(codes, times).tobytes().decode("utf-32-le", "surrogatepass")
        return found if found != text else None

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step noise adds copies: it goes into a recipe.")
