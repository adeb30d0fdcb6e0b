"""Datasets by name: where their files are, how their rows become questions, and what is reported first."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wenloom.core.errors import InputError
from wenloom.evaluation.choice import Question
from wenloom.evaluation.programs import Problem
from wenloom.evaluation.rows import field, made_of_rows, read_lines, texts_in
from wenloom.text.refusals import Refusals

DATA_FOLDER = "WENLOOM_DATA"
"""Environment variable: where datasets lie."""

Headline = Literal["raw", "token", "byte", "character", "unconditional", "greedy"]


@dataclass(frozen=True)
class Suite:
    """A dataset that models are scored on."""

    name: str
    task: str
    dataset: str
    files: tuple[str, ...]
    """Names that its file may have, without .gz."""
    about: str
    where: str
    """Where it can be had."""
    kind: Literal["choice", "text", "answer", "program"]
    headline: Headline = "raw"
    """The norm that publications report."""
    questions: Callable[[Path, Refusals | None], list[Question]] | None = None
    problems: Callable[[Path, Refusals | None], list[Problem]] | None = None

    def find(self, folder: Path | None = None) -> Path:
        """Its file, anywhere below the data folder.

        Raises:
            InputError: not there; says where it can be had.
        """
        root = folder or Path(os.environ.get(DATA_FOLDER, "data"))
        if root.is_dir():
            for name in self.files:
                for ending in ("", ".gz", ".zst"):
                    if found := sorted(root.rglob(name + ending)):
                        return found[0]
        raise InputError(
            f"{self.name}: none of {', '.join(self.files)} (or .gz) below {root}. It can be had from {self.where}; "
            f"name the folder with --data or the variable {DATA_FOLDER}."
        )


Row = dict[str, Any]


def _lambada(path: Path, refusals: Refusals | None = None) -> list[Question]:
    def made(row: Row) -> Question:
        context, blank, word = field(path, row, ["text"]).rpartition(" ")
        if not blank:
            raise InputError(f"{path}, line {row['_line']}: a single word; LAMBADA asks for the last of several.")
        return Question((context,), (" " + word,), 0)

    return made_of_rows(path, made, refusals)


def _hellaswag(path: Path, refusals: Refusals | None = None) -> list[Question]:
    if ".jsonl" in path.suffixes:

        def made(row: Row) -> Question:
            endings, label = texts_in(path, row, "endings"), field(path, row, ["label"], (int, str))
            if str(label) not in map(str, range(len(endings))):
                raise InputError(
                    f"{path}, line {row['_line']}: label {label!r}, but the endings are 0 to {len(endings) - 1}."
                )
            return Question((field(path, row, ["ctx"]),), tuple(f" {each}" for each in endings), int(label))

        return made_of_rows(path, made, refusals)
    lines, questions, refusals = read_lines(path), [], refusals or Refusals()
    if len(lines) % 6:
        raise InputError(f"{path}: {len(lines):,} lines; six per task were expected: context, label, four endings.")
    for at in range(0, len(lines), 6):
        if lines[at + 1] not in ("0", "1", "2", "3"):
            refusals.refuse(path, at + 2, f"a label 0 to 3 was expected, not {lines[at + 1][:40]!r}")
            continue
        choices = tuple(f" {each}" for each in lines[at + 2 : at + 6])
        questions.append(Question((lines[at],), choices, int(lines[at + 1])))
    return questions


def multiple_choice(path: Path, refusals: Refusals | None = None) -> list[Question]:
    """Rows of {"query", "choices", "gold"}, or {"context_options", "continuation", "gold"}; also other people's names
    for these fields.

    Args:
        refusals: told of rows that are left out.

    Raises:
        InputError: a row that does not fit, if the refusals are strict; no row that does.
    """

    def made(row: Row) -> Question:
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
            contexts, choices = (asked,), tuple(_led(asked, each) for each in texts)
        if not 0 <= gold < len(texts):
            raise InputError(f"{path}, line {row['_line']}: gold {gold}, but the choices are 0 to {len(texts) - 1}.")
        return Question(contexts, choices, gold)

    return made_of_rows(path, made, refusals)


def _led(context: str, choice: str) -> str:
    """A choice with the blank before it, where neither has one and the script uses blanks."""
    bare = not context or context[-1].isspace() or choice[0].isspace() or not context[-1].isascii()
    return choice if bare else f" {choice}"


def _blimp(path: Path, refusals: Refusals | None = None) -> list[Question]:
    def made(row: Row) -> Question:
        pair = field(path, row, ["sentence_good"]), field(path, row, ["sentence_bad"])
        return Question(("",), pair, 0, field(path, row, ["UID"]))

    return made_of_rows(path, made, refusals)


def _gsm8k(path: Path, refusals: Refusals | None = None) -> list[Problem]:
    def made(row: Row) -> Problem:
        answer = field(path, row, ["answer"]).rpartition("####")[2].strip()
        return Problem(str(row["_line"]), f"Question: {field(path, row, ['question'])}\nAnswer:", answer=answer)

    return made_of_rows(path, made, refusals)


def _humaneval(path: Path, refusals: Refusals | None = None) -> list[Problem]:
    def made(row: Row) -> Problem:
        prompt = field(path, row, ["prompt"])
        after = f"\n{field(path, row, ['test'])}\ncheck({field(path, row, ['entry_point'])})\n"
        return Problem(field(path, row, ["task_id"]), prompt, before=prompt, after=after)

    return made_of_rows(path, made, refusals)


def _mbpp(path: Path, refusals: Refusals | None = None) -> list[Problem]:
    def made(row: Row) -> Problem:
        tests = texts_in(path, row, "test_list")
        setup = field(path, row, ["test_setup_code"]) if row.get("test_setup_code") else ""
        prompt = f'"""\n{field(path, row, ["text", "prompt"])}\n' + "\n".join(tests) + '\n"""\n'
        return Problem(str(row.get("task_id", row["_line"])), prompt, after="\n" + "\n".join([setup, *tests]) + "\n")

    return made_of_rows(path, made, refusals)


_FOUNDRY = "github.com/mosaicml/llm-foundry, scripts/eval/local_data"


def _choice(name: str, dataset: str, file: str, about: str, headline: Headline = "raw") -> Suite:
    return Suite(name, "commonsense", dataset, (file,), about, _FOUNDRY, "choice", headline, questions=multiple_choice)


SUITES = {
    suite.name: suite
    for suite in (
        Suite("wikitext2", "language modelling", "WikiText-2", ("wikitext2/test.txt", "wiki.test.tokens", "wiki.test.raw"),
              "articles of Wikipedia", "github.com/pytorch/examples, word_language_model/data", "text"),
        Suite("lambada", "language modelling", "LAMBADA (OpenAI)", ("lambada_test.jsonl", "lambada.jsonl"),
              "the last word of a passage", "the dataset EleutherAI/lambada_openai", "choice", "greedy", _lambada),
        Suite("hellaswag", "commonsense", "HellaSwag", ("hellaswag_val_full.txt", "hellaswag_val.jsonl"),
              "how an everyday scene goes on", "github.com/rowanz/hellaswag", "choice", "character", _hellaswag),
        _choice("arc_easy", "ARC-Easy", "arc_easy.jsonl", "science questions of grade schools"),
        _choice("piqa", "PIQA", "piqa.jsonl", "how to reach everyday goals", "character"),
        _choice("openbookqa", "OpenBookQA", "openbook_qa.jsonl", "elementary science", "character"),
        _choice("copa", "COPA", "copa.jsonl", "causes and effects"),
        _choice("winogrande", "WinoGrande", "winogrande.jsonl", "who a pronoun means, adversarially chosen"),
        _choice("wsc", "Winograd (WSC273)", "winograd_wsc.jsonl", "who a pronoun means"),
        Suite("blimp", "grammar", "BLiMP", ("blimp.jsonl",), "67,000 pairs of a sentence and its ungrammatical twin",
              "github.com/alexwarstadt/blimp (the files of data/ joined)", "choice", "raw", _blimp),
        Suite("gsm8k", "mathematics", "GSM8K", ("gsm8k/test.jsonl",), "word problems of grade schools",
              "github.com/openai/grade-school-math", "answer", problems=_gsm8k),
        Suite("humaneval", "code", "HumanEval", ("HumanEval.jsonl",), "Python functions by their docstring",
              "github.com/openai/human-eval", "program", problems=_humaneval),
        Suite("mbpp", "code", "MBPP", ("mbpp.jsonl",), "short Python programs by a sentence",
              "github.com/google-research/google-research, mbpp", "program", problems=_mbpp),
    )
}  # fmt: skip
"""Every suite by name."""


def suite_of(name: str) -> Suite:
    """
    Raises:
        InputError: no suite has this name.
    """
    if name not in SUITES:
        raise InputError(f"--on {name}: neither a file nor a suite. Suites: {', '.join(SUITES)}.")
    return SUITES[name]
