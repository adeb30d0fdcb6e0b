"""Rows of questions with several answers, in other people's names for their fields."""

from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.evaluation.choice import Question
from wenloom.evaluation.rows import field, made_of_rows, texts_in
from wenloom.text.refusals import Refusals


def multiple_choice(path: Path, refusals: Refusals | None = None) -> list[Question]:
    """Rows of {"query", "choices", "gold"}, or {"context_options", "continuation", "gold"}; also other people's names
    for these fields.

    Args:
        refusals: told of rows that are left out.

    Raises:
        InputError: a row that does not fit, if the refusals are strict; no row that does.
    """

    def made(row: dict[str, Any]) -> Question:
        gold = field(path, row, ["gold", "label", "answer"], int)
        several = "context_options" if "context_options" in row else "choices"
        texts = texts_in(path, row, several)
        if len(texts) < 2 or not all(each.strip() for each in texts):
            raise InputError(f'{path}, line {row["_line"]}: "{several}" must be two or more texts, none of them empty.')
        if several == "context_options":
            contexts = tuple(texts)
            choices = (" " + field(path, row, ["continuation"]),)
        else:
            query = field(path, row, ["query", "context", "question", "prompt"])
            asked = query.rstrip() + "\nAnswer:" if query.startswith("Question:") else query
            contexts, choices = (asked,), tuple(led(asked, each) for each in texts)
        if not 0 <= gold < len(texts):
            raise InputError(f"{path}, line {row['_line']}: gold {gold}, but the choices are 0 to {len(texts) - 1}.")
        return Question(contexts, choices, gold)

    return made_of_rows(path, made, refusals)


def led(context: str, choice: str) -> str:
    """A choice or answer with the blank before it, where neither has one and the script uses blanks."""
    bare = not context or context[-1].isspace() or choice[0].isspace() or not context[-1].isascii()
    return choice if bare else f" {choice}"
