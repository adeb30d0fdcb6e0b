"""Gopher's rules of quality (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1), with bounds of each language."""

from dataclasses import dataclass

from wenloom.text.document import Document
from wenloom.text.languages import language, named
from wenloom.text.steps.language import language_of
from wenloom.text.steps.step import Dropped, Kept
from wenloom.text.words import Words, words_of


@dataclass(frozen=True)
class Gopher:
    """Drops what is too short or long, has words of odd lengths, too many marks or list lines, or no frequent words.

    A bound of 0 turns its rule off.
    """

    min_words: int = 50
    max_words: int = 100_000
    mean_word: tuple[float, float] = (0.0, 0.0)
    """Letters of a word on average, least and most; default: by language (English 3 to 10, others 2 to 15)."""
    symbols: float = 0.1
    """Most # or … per word."""
    bullets: float = 0.9
    """Most lines that begin with a bullet."""
    ellipses: float = 0.3
    """Most lines that end in …"""
    alphabetic: float = 0.8
    """Least part of words with a letter."""
    stop_words: int = 2
    """Least number of different frequent words, in languages of which they are listed."""

    def __call__(self, document: Document) -> Kept | Dropped:
        rules = language(language_of(document))
        words = words_of(document.text, rules)
        reason = self._of_words(words, rules.code) or self._of_lines(document.text, words)
        if reason is None and words.n_alphabetic < self.alphabetic * words.n_tokens:
            part = words.n_alphabetic / words.n_tokens
            reason = f"{100 * part:.1f} % of its words have a letter, at least {100 * self.alphabetic:.0f} % must"
        if reason is None and self.stop_words and rules.stop_words:
            found = _frequent(document.text, words, rules.stop_words, rules.per_word > 0, self.stop_words)
            if found < self.stop_words:
                reason = f"has {found} of the frequent words of {named(rules.code)}, at least {self.stop_words} must be there"
        return Kept(document) if reason is None else Dropped(reason)

    def _of_words(self, words: Words, code: str) -> str | None:
        count = words.n_words
        if count < self.min_words:
            return f"has {count:,.0f} words, at least {self.min_words:,} must be there"
        if self.max_words and count > self.max_words:
            return f"has {count:,.0f} words, at most {self.max_words:,} may be there"
        least, most = self.mean_word if any(self.mean_word) else language(code).mean_word
        is_parted = not language(code).per_word  # else those that blanks part are names and numbers among others
        if is_parted and words.mean_length and not least <= words.mean_length <= (most or words.mean_length):
            return f"its words have {words.mean_length:.1f} letters on average, {least:g} to {most:g} are usual in {named(code)}"
        return None

    def _of_lines(self, text: str, words: Words) -> str | None:
        n_words = max(1.0, words.n_tokens)
        for what, count in (("#", text.count("#")), ("…", text.count("...") + text.count("…"))):
            if self.symbols and count > self.symbols * n_words:
                return f"has {count / n_words:.2f} {what} per word, at most {self.symbols:g} may be there"
        lines = text.splitlines() or [""]
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines)
        if self.bullets and bullets > self.bullets:
            return f"{100 * bullets:.0f} % of its lines begin with a bullet, at most {100 * self.bullets:.0f} % may"
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines)
        if self.ellipses and ellipses > self.ellipses:
            return f"{100 * ellipses:.0f} % of its lines end in …, at most {100 * self.ellipses:.0f} % may"
        return None


def _frequent(text: str, words: Words, wanted: frozenset[str], within: bool, enough: int) -> int:
    """How many of the frequent words are there; counting stops where there are enough. Case is no difference."""
    if within:
        return sum(each in text for each in wanted)
    found = set[str]()
    for token in words.tokens:
        if token in wanted or (token := token.lower()) in wanted:
            found.add(token)
            if len(found) >= enough:
                break
    return len(found)
