"""FineWeb's rules of quality (Penedo et al. 2024, arXiv 2406.17557, section 3.6), with bounds of each language."""

from dataclasses import dataclass

from wenloom.text.document import Document
from wenloom.text.languages import language
from wenloom.text.sentences import ENDS
from wenloom.text.steps.language import language_of
from wenloom.text.steps.step import Dropped, Kept
from wenloom.text.words import words_of


@dataclass(frozen=True)
class FineWeb:
    """Drops lists and menus: lines without an end, short lines, repeated lines, many lines for few words."""

    ended_lines: float = 0.12
    """Least part of lines that end in a mark of the end of a sentence; does not apply to Thai, Lao and Tibetan, which have none."""
    short_lines: float = 0.67
    """Most part of lines that are short."""
    short_line: int = 0
    """Characters of a short line; default: by language (30; Chinese 10, Japanese 12, Korean 20, Thai 25)."""
    repeated: float = 0.01
    """Most part of characters in lines that stood before."""
    lines_per_word: float = 0.3

    def __call__(self, document: Document) -> Kept | Dropped:
        text, rules = document.text, language(language_of(document))
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return Dropped("empty")
        if rules.has_sentence_ends:
            ended = sum(line.endswith(ENDS) for line in lines) / len(lines)
            if ended < self.ended_lines:
                return Dropped(
                    f"{100 * ended:.1f} % of its lines end as a sentence does, at least {100 * self.ended_lines:.0f} % must"
                )
        length = self.short_line or rules.short_line
        short = sum(len(line) <= length for line in lines) / len(lines)
        if short > self.short_lines:
            return Dropped(
                f"{100 * short:.0f} % of its lines have at most {length} characters, at most {100 * self.short_lines:.0f} % may"
            )
        seen = set[str]()
        repeated = sum(len(line) for line in lines if line in seen or seen.add(line)) / len(text.replace("\n", ""))
        if repeated > self.repeated:
            return Dropped(
                f"{100 * repeated:.1f} % of its characters are in lines that stood before, at most {100 * self.repeated:.0f} % may be"
            )
        ratio = text.count("\n") / max(1.0, words_of(text, rules).n_tokens)
        if ratio > self.lines_per_word:
            return Dropped(f"has {ratio:.2f} line breaks per word, at most {self.lines_per_word:g} may be there")
        return Kept(document)
