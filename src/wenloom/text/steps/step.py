"""What a step is: a document goes in and is kept, perhaps changed, or dropped with the reason."""

from typing import NamedTuple, Protocol

from wenloom.text.documents import Document


class Kept(NamedTuple):
    """A document that goes on to the next step."""

    document: Document


class Dropped(NamedTuple):
    """Why a document ends here, as a person would say it."""

    reason: str


class Step(Protocol):
    """One decision about documents, asked for each in the order of reading; it may remember those before."""

    def __call__(self, document: Document, /) -> Kept | Dropped: ...
