"""Copies of documents in other words, by two translators of one's own (Sennrich et al. 2016; as augmentation: Yu et al. 2018)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.sentences import sentences
from wenloom.text.steps.counterfactual import check_share
from wenloom.text.steps.step import Dropped, Kept, drawn

Translator = Callable[[Sequence[str]], list[str]]
"""Sentences in another language."""
_load: list[Callable[[str], Translator]] = []


def provide(load: Callable[[str], Translator]) -> None:
    """Say how a model's folder becomes what translates: models are none of this room's business."""
    _load[:] = [load]


@dataclass(frozen=True)
class BackTranslation:
    """Adds to training a copy of a document that was translated into another language and back, sentence by sentence; lines stay."""

    there: str = ""
    """Folder of a model that translates from the language of the documents."""
    back: str = ""
    """Folder of one that translates into it."""
    share: float = 0.1
    """Part of the documents that have a copy."""
    seed: int = 1

    def __post_init__(self) -> None:
        check_share("back_translation", self.share)

    @cached_property
    def _translators(self) -> tuple[Translator, Translator]:
        for name, folder in (("there", self.there), ("back", self.back)):
            if not folder:
                raise InputError(f"back_translation.{name}: name the folder of a model that translates.")
        if not _load:
            raise InputError("The step back_translation needs models: it works in recipes of the command line.")
        return _load[0](self.there), _load[0](self.back)

    def copy_of(self, text: str) -> str | None:
        """The copy, or None: there is none to be made."""
        there, back = self._translators
        if not drawn(text, self.share, self.seed):
            return None
        lines = [list(sentences(line)) for line in text.split("\n")]
        again = iter(back(there([each for line in lines for each in line])))
        blanks = [" " if " " in line else "" for line in text.split("\n")]
        made = "\n".join(
            blank.join(next(again).strip() for _ in line) for blank, line in zip(blanks, lines, strict=True)
        )
        return made if made.strip() and made != text else None

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step back_translation adds copies: it goes into a recipe.")
