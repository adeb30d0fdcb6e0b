"""IFEval: how many of the instructions of a prompt a model's answer obeys, as far as a program can tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.instructions import Instruction, instruction, language_of
from wenloom.evaluation.rows import field as row_field
from wenloom.evaluation.rows import made_of_rows, texts_in
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import interval
from wenloom.evaluation.suite import EvaluationRequest, MetricResult, Suite, by_group
from wenloom.evaluation.writing import written_texts
from wenloom.text.refusals import Refusals

_MOST_TOKENS = 1280
"""Of an answer, as in lm-evaluation-harness."""


@dataclass(frozen=True)
class InstructedPrompt:
    """A prompt with instructions."""

    prompt: str
    instructions: tuple[Instruction, ...]
    lead: str = ""
    examples: tuple[int, ...] = ()


@dataclass(frozen=True)
class InstructionSuite(Suite):
    """Prompts with instructions that can be verified."""

    kind: ClassVar[str] = "written"

    def read(self, path: Path, refusals: Refusals | None = None) -> list[InstructedPrompt]:
        def made(row: dict[str, Any]) -> InstructedPrompt:
            names = texts_in(path, row, "instruction_id_list")
            values = row_field(path, row, ["kwargs"], list)
            if len(values) != len(names) or not all(isinstance(each, dict) for each in values):
                raise InputError(
                    f'{path}, line {row["_line"]}: "kwargs" must hold one object for each of the {len(names)} instructions.'
                )
            try:
                found = tuple(instruction(name, value) for name, value in zip(names, values, strict=True))
            except InputError as error:
                raise InputError(f"{path}, line {row['_line']}: {error}") from None
            return InstructedPrompt(row_field(path, row, ["prompt"]), found)

        return made_of_rows(path, made, refusals)

    def run(
        self, model: EvaluatedModel, samples: Sequence[InstructedPrompt], request: EvaluationRequest
    ) -> list[MetricResult]:
        language_of("a word")  # before hours of writing: what tells languages may be missing
        texts, cut_off = written_texts(
            self.name, model, samples, request, 1, (), _MOST_TOKENS,
            as_turns=model.takes_turns,
        )  # fmt: skip
        answers = [each[0] for each in texts]
        made = []
        for way in ("strict", "loose"):
            obeyed = [_obeyed(sample, text, way) for sample, text in zip(samples, answers, strict=True)]
            whole = np.array([100.0 * all(each) for each in obeyed])
            single = np.array([100.0 * each for some in obeyed for each in some])
            names = [each.name for sample in samples for each in sample.instructions]
            for metric, values, details in (
                (f"prompt_{way}", whole, {}), (f"instruction_{way}", single, by_group(names, single)),
            ):  # fmt: skip
                found = interval(values)
                signature = Signature.of(
                    metric, **self.signed(request), template="chat" if model.takes_turns else "none", n=len(samples),
                    data=request.data, version=1,
                )  # fmt: skip
                made.append(
                    MetricResult(self.task, self.dataset, metric, found.value, found.low, found.high, len(values), signature,
                                 is_headline=metric == "prompt_strict", details=details | cut_off)
                )  # fmt: skip
        return made

    def per_sample(
        self, rows: Sequence[dict[str, Any]], samples: Sequence[InstructedPrompt], request: EvaluationRequest
    ) -> tuple[str, np.ndarray] | None:
        if not rows:
            return None
        values = [
            100.0 * all(_obeyed(sample, row["written"][0], "strict")) for row, sample in zip(rows, samples, strict=True)
        ]
        return "prompt_strict", np.array(values)


def _obeyed(sample: InstructedPrompt, text: str, way: str) -> list[bool]:
    return [
        each.is_followed(text) if way == "strict" else each.is_followed_loosely(text) for each in sample.instructions
    ]
