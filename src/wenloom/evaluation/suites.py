"""Datasets by name: where their files are, how their rows become questions, and what is reported first."""

from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.core.plugins import Registry
from wenloom.evaluation.choice import Question
from wenloom.evaluation.choice_suite import ChoiceSuite, Headline
from wenloom.evaluation.instruction_suite import InstructionSuite
from wenloom.evaluation.multiple_choice import multiple_choice
from wenloom.evaluation.programs import Problem
from wenloom.evaluation.rows import field, made_of_rows, read_lines, texts_in
from wenloom.evaluation.suite import Suite
from wenloom.evaluation.text_suite import TextSuite
from wenloom.evaluation.toml_suite import load_suite
from wenloom.evaluation.writing_suites import AnswerSuite, OwnSuite, ProgramSuite
from wenloom.text.refusals import Refusals

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


def _blimp(path: Path, refusals: Refusals | None = None) -> list[Question]:
    def made(row: Row) -> Question:
        pair = field(path, row, ["sentence_good"]), field(path, row, ["sentence_bad"])
        return Question(("",), pair, 0, field(path, row, ["UID"]))

    return made_of_rows(path, made, refusals)


def _gsm8k(path: Path, refusals: Refusals | None = None) -> list[Problem]:
    def made(row: Row) -> Problem:
        solution, prompt = field(path, row, ["answer"]), f"Question: {field(path, row, ['question'])}\nAnswer:"
        return Problem(str(row["_line"]), prompt, solution.rpartition("####")[2].strip(), solution=solution)

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
    return ChoiceSuite(name, "commonsense", dataset, (file,), about, _FOUNDRY, headline, multiple_choice)


_OWN: tuple[Suite, ...] = (
        TextSuite("wikitext2", "language modelling", "WikiText-2", ("wikitext2/test.txt", "wiki.test.tokens", "wiki.test.raw"),
              "articles of Wikipedia", "github.com/pytorch/examples, word_language_model/data"),
        ChoiceSuite("lambada", "language modelling", "LAMBADA (OpenAI)", ("lambada_test.jsonl", "lambada.jsonl"),
              "the last word of a passage", "the dataset EleutherAI/lambada_openai", "greedy", _lambada),
        ChoiceSuite("hellaswag", "commonsense", "HellaSwag", ("hellaswag_val_full.txt", "hellaswag_val.jsonl"),
              "how an everyday scene goes on", "github.com/rowanz/hellaswag", "character", _hellaswag),
        _choice("arc_easy", "ARC-Easy", "arc_easy.jsonl", "science questions of grade schools"),
        _choice("piqa", "PIQA", "piqa.jsonl", "how to reach everyday goals", "character"),
        _choice("openbookqa", "OpenBookQA", "openbook_qa.jsonl", "elementary science", "character"),
        _choice("copa", "COPA", "copa.jsonl", "causes and effects"),
        _choice("winogrande", "WinoGrande", "winogrande.jsonl", "who a pronoun means, adversarially chosen"),
        _choice("wsc", "Winograd (WSC273)", "winograd_wsc.jsonl", "who a pronoun means"),
        ChoiceSuite("blimp", "grammar", "BLiMP", ("blimp.jsonl",), "67,000 pairs of a sentence and its ungrammatical twin",
              "github.com/alexwarstadt/blimp (the files of data/ joined)", "raw", _blimp),
        InstructionSuite("ifeval", "instructions", "IFEval", ("ifeval/input_data.jsonl", "IFEval.jsonl", "ifeval.jsonl"),
              "541 prompts with instructions that a program verifies", "the dataset google/IFEval"),
        AnswerSuite("gsm8k", "mathematics", "GSM8K", ("gsm8k/test.jsonl",), "word problems of grade schools",
              "github.com/openai/grade-school-math", _gsm8k, example_files=("gsm8k/train.jsonl",)),
        ProgramSuite("humaneval", "code", "HumanEval", ("HumanEval.jsonl",), "Python functions by their docstring",
              "github.com/openai/human-eval", _humaneval),
        ProgramSuite("mbpp", "code", "MBPP", ("mbpp.jsonl",), "short Python programs by a sentence",
              "github.com/google-research/google-research, mbpp", _mbpp),
)  # fmt: skip
_CATALOGUE = sorted((Path(__file__).parent / "catalogue").glob("*.toml"))
SUITES: Registry[Suite] = Registry(
    "wenloom.suites",
    {each.name: each for each in (*_OWN, *map(load_suite, _CATALOGUE))},
    lambda thing: isinstance(thing, Suite),
)
"""Every suite by name."""


def suite_of(name: str) -> Suite:
    """
    Raises:
        InputError: no suite has this name.
    """
    if name not in SUITES:
        raise InputError(f"--on {name}: neither a file nor a suite. Suites: {', '.join(SUITES)}.")
    return SUITES[name]


def suite_of_file(path: Path) -> Suite:
    """What a user's own file is: a suite's description in TOML, rows of jsonl, or a text."""
    if path.suffix == ".toml":
        return load_suite(path)
    kind = OwnSuite if ".jsonl" in path.suffixes else TextSuite
    return kind(path.stem, "own data", path.name)
