"""Equal text becomes equal: Unicode and line ends."""

from dataclasses import replace

from wenloom.text.clean import normalize
from wenloom.text.documents import Document
from wenloom.text.steps.step import Kept


class Normalize:
    """Changes every document as `clean.normalize` says, and keeps it."""

    def __call__(self, document: Document) -> Kept:
        return Kept(replace(document, text=normalize(document.text)))
