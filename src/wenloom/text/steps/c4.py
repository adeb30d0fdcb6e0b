"""C4's rules (Raffel et al. 2020, section 2.2), with the marks and words of each language."""

import re
from dataclasses import dataclass, replace

from wenloom.text.document import Document
from wenloom.text.languages import language
from wenloom.text.sentences import CLOSERS, ENDS, sentence_count
from wenloom.text.steps.language import language_of
from wenloom.text.steps.step import Dropped, Kept
from wenloom.text.words import words_of

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_NOTICES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_ENGLISH_ENDS = (".", "?", "!", '"', "'")


@dataclass(frozen=True)
class C4:
    """Takes out lines that are no sentences, and drops pages of which too little is left, or that hold code or filler.

    In languages without blanks between words a line is measured by its characters, and closing brackets may follow the mark that
    ends a sentence. Thai, Lao and Tibetan have no such mark: there lines are kept, and sentences not counted.
    """

    min_sentences: int = 5
    min_line_words: int = 3
    max_word: int = 1000
    """Letters of a word, from which its line is taken out."""
    ended_lines: bool = True
    """Take out lines that do not end as a sentence does."""
    javascript: bool = True
    """Take out lines that speak of JavaScript."""
    notices: bool = True
    """Take out lines about cookies, privacy and terms of use (English)."""
    braces: bool = True
    """Drop pages with { in a line that is kept."""
    lorem_ipsum: bool = True
    """Drop pages with this filler."""
    citations: bool = True
    """Take out [1], [edit] and the like."""

    def __call__(self, document: Document) -> Kept | Dropped:
        rules = language(language_of(document))
        is_parted, kept, sentences = not rules.per_word, list[str](), 0
        ends = _ENGLISH_ENDS if rules.code == "en" else (*ENDS, *CLOSERS, "…")
        for line in document.text.splitlines():
            line = line.strip()
            parts = line.split()
            if is_parted and len(line) > self.max_word and any(len(part) > self.max_word for part in parts):
                continue
            if self.citations:
                line = _CITATION.sub("", line)
            if (
                self.ended_lines
                and rules.has_sentence_ends
                and (not line.endswith(ends) or (is_parted and line.endswith("...")))
            ):
                continue
            if (len(parts) if is_parted else words_of(line, rules).n_words) < self.min_line_words:
                continue
            lower = line.lower()
            if self.lorem_ipsum and "lorem ipsum" in lower:
                return Dropped("holds the filler lorem ipsum")
            if self.javascript and "javascript" in lower:
                continue
            if self.braces and "{" in line:
                return Dropped("holds { in a line of text, as code does")
            if self.notices and any(notice in lower for notice in _NOTICES):
                continue
            sentences += sentence_count(line)
            kept.append(line)
        if rules.has_sentence_ends and sentences < self.min_sentences:
            return Dropped(
                f"has {sentences} sentences in lines that are kept, at least {self.min_sentences} must be there"
            )
        if not kept:
            return Dropped("has no line that is kept")
        return Kept(replace(document, text="\n".join(kept).strip()))
