"""Stories, poems and programs from a prompt: how each is asked for, and by what it can be checked."""

import ast
import re
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from wenloom.evaluation.programs import cut_to_program
from wenloom.evaluation.quality import distinct_n, repetition
from wenloom.evaluation.sandbox import run_program
from wenloom.model.build import Model
from wenloom.tasks.apply import PairWriter
from wenloom.tasks.classification import share
from wenloom.tasks.pair_recipe import PairRecipe
from wenloom.tasks.pairs import PAIR_TASKS, Pair
from wenloom.tasks.poetry import FORMS, faults, form_of, rhymes
from wenloom.tasks.recipe import Figures
from wenloom.tasks.rows import RowReader, text_of, value_of
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.tokenizer import TextTokenizer

_FIELDS = {
    "story": (("prompt", "title", "instruction"), ("text", "story", "paragraphs", "output", "content")),
    "poetry": (("title", "prompt", "instruction"), ("paragraphs", "poem", "text", "output", "content")),
    "code": (("instruction", "prompt", "question"), ("output", "code", "completion", "response", "text")),
}
"""Names under which rows may hold the prompt, and what is to be written."""
STYLES = tuple(_FIELDS)
_ASKED_FORM = re.compile(rf"（({'|'.join(FORMS)})）$")
_MEASURED = 100
"""Prompts that are answered at the end."""


def prompt_for(style: str, prompt: str, form: str | None = None) -> str:
    """How a model is asked: a poem's title with its form in brackets, everything else as it is.

    >>> prompt_for("poetry", "春晓", "五言绝句")
    '春晓（五言绝句）'
    """
    return f"{prompt}（{form}）" if style == "poetry" and form is not None else prompt


def piece_of(row: dict[str, Any], style: str, source: str | None = None, target: str | None = None) -> Pair:
    """Prompt and text of a row; of a poem in a known form, the prompt names it.

    Args:
        source, target: names of fields, where they are none of those that the style knows.

    Raises:
        ValueError: one of both is missing.
    """
    sources, targets = _FIELDS[style]
    prompt = text_of(row, [source] if source else sources)
    if style == "code" and isinstance(row.get("input"), str) and row["input"].strip():
        prompt += "\n\n" + row["input"].strip()
    name, value = value_of(row, [target] if target else targets)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):  # lines of a poem, paragraphs
        value = "\n".join(value)
    text = text_of({name: value}, [name])
    form = form_of(text) if style == "poetry" else None
    return Pair(prompt_for(style, prompt, form and form.name), (text,))


class CheckedText(NamedTuple):
    """What a check says of a text."""

    passed: bool
    remarks: tuple[str, ...]


def check_poem(poem: str, form: str | None) -> CheckedText:
    """Whether a Chinese poem keeps to a form (any of the known ones, if none is named), and whether it rhymes."""
    found = form_of(poem) if form is None else FORMS[form]
    if found is None:
        return CheckedText(False, ("is in none of the forms " + "、".join(FORMS),))
    wrong, sounds = faults(poem, found), rhymes(poem)
    rhyme = {
        None: "rhyme not looked at (pip install 'wenloom[chinese]')",
        True: "rhymes",
        False: "does not rhyme today",
    }
    return CheckedText(not wrong, (*wrong, *([] if wrong else [f"is a {found.name}", rhyme[sounds]])))


def check_program(written: str, run: bool) -> CheckedText:
    """Whether what was written is Python; run, if asked, in a bounded process (time, memory, files, no network)."""
    source = cut_to_program(written)
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return CheckedText(False, (f"is not a Python program ({getattr(error, 'msg', error)})",))
    if not source.strip():
        return CheckedText(False, ("is empty",))
    if not run:
        return CheckedText(True, ("is a Python program (--run executes it within bounds)",))
    outcome = run_program(source)
    return CheckedText(outcome.passed, (f"ran: {outcome.reason}",))


class WritingRecipe(PairRecipe):
    """Stories, poetry and code: from prompts, by a model of either kind."""

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Pair]:
        """Prompts and texts."""
        return reader.objects(where, lambda row: piece_of(row, self.settings.task, data.source, data.target))

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Of texts drawn for validation prompts, what can be counted."""
        rows = self.validation[:_MEASURED]
        writer = PairWriter(model, tokenizer, PAIR_TASKS[self.settings.task], *self.bounds(model))
        prompts = [row.source for row in rows]
        answers = writer.write(prompts, self.until, do_sample=True, temperature=0.8, seed=0)
        found = [answer.text.strip() for answer in self.written(answers, len(rows), "texts")]
        return figures_of(self.settings.task, prompts[: len(found)], found) if found else {}


def figures_of(style: str, prompts: Sequence[str], texts: Sequence[str]) -> Figures:
    """story: part of different word pairs, and of repeated word fours; poetry: part of the poems that keep to the form
    their prompt names, and of those that do, the part that rhymes; code: part that is Python."""
    if style == "code":
        return {"parses": share([check_program(text, run=False).passed for text in texts])}
    if style == "story":
        return {
            "distinct_2": (distinct_n(texts, 2), None),
            "repetition_4": (statistics.fmean(map(repetition, texts)), None),
        }
    asked = [
        (found[1], text) for prompt, text in zip(prompts, texts, strict=True) if (found := _ASKED_FORM.search(prompt))
    ]
    keeps = [not faults(text, FORMS[form]) for form, text in asked]
    figures: Figures = {"form": share(keeps)} if asked else {}
    sounds = [rhymes(text) for (_, text), kept in zip(asked, keeps, strict=True) if kept]
    heard = [sound for sound in sounds if sound is not None]
    return figures | ({"rhyme": share(heard)} if heard else {})
