"""What does not fit into a model, counted: examples, and the tokens of them that nobody learns from."""

import re
from dataclasses import dataclass

from wenloom.core.quantities import show_percent

MUCH = 0.1
"""Part of the examples, or of their tokens, from which leaving them out deserves a warning."""


@dataclass
class Lost:
    """Examples that were too long, and how much of them is lost."""

    examples: int = 0
    tokens: int = 0

    def add(self, tokens: int) -> None:
        """One more, which loses so many tokens."""
        self.examples += 1
        self.tokens += tokens

    def said(self, what: str, n_examples: int, n_tokens: int, mend: str) -> str:
        """A sentence about them; a warning with the mend, where they are many or hold much.

        Args:
            what: happened to them, after their number.
            n_examples, n_tokens: that there are in all, these included.

        >>> Lost(2, 900).said("texts have more than 64 tokens", 100, 4000, "allow more")
        'Warning: 2 texts have more than 64 tokens (2 %, with 22 % of all tokens); allow more.'
        >>> Lost(2, 100).said("texts have more than 64 tokens", 100, 4000, "allow more")
        '2 texts have more than 64 tokens.'
        """
        parts = self.examples / n_examples, self.tokens / max(1, n_tokens)
        if max(parts) <= MUCH:
            return f"{self.told(what)}."
        of = f"{show_percent(parts[0])}, with {show_percent(parts[1])} of all tokens"
        return f"Warning: {self.told(what)} ({of}); {mend}."

    def told(self, what: str) -> str:
        """Their number and what happened to them.

        >>> Lost(1, 900).told("texts have more than 64 tokens: they lost their end")
        '1 text has more than 64 tokens: it lost its end'
        """
        if self.examples == 1:
            what = re.sub(r"^(\w+)s have ", r"\1 has ", what)
            for several, one in (
                ("they lost their", "it lost its"),
                ("in their", "in its"),
                ("or do not", "or does not"),
            ):
                what = what.replace(several, one)
        return f"{self.examples:,} {what}"
