"""Documents without text."""

from wenloom.text.documents import Document
from wenloom.text.steps.step import Dropped, Kept


class Empty:
    """Drops what is blanks and line breaks alone."""

    def __call__(self, document: Document) -> Kept | Dropped:
        return Kept(document) if document.text.strip() else Dropped("empty")
