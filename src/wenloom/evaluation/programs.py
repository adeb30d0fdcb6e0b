"""Tasks that are solved by writing: answers that are a number, and programs that are run (pass@k)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wenloom.core.errors import InputError


@dataclass(frozen=True)
class Problem:
    """What a model is to solve by writing."""

    name: str
    prompt: str
    answer: str = ""
    """The number asked for."""
    before: str = ""
    """Of a program: what stands before what the model wrote."""
    after: str = ""
    """Of a program: the tests that follow."""
    solution: str = ""
    """The right answer with the way to it, for worked examples."""
    group: str = ""
    lead: str = ""
    """What stands before the prompt."""
    examples: tuple[int, ...] = ()
    """Which worked examples that are."""

    def solved(self) -> str:
        """The prompt with its answer, see `shots`."""
        return f"{self.prompt} {self.solution}"

    def led_by(self, examples: str, numbers: tuple[int, ...]) -> "Problem":
        """The problem after worked examples."""
        return replace(self, lead=self.lead + examples, examples=numbers)

    def program(self, written: str) -> str:
        """The whole program with its tests."""
        return self.before + cut_to_program(written) + "\n" + self.after


_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def final_number(text: str) -> float | None:
    """The number after "####", else the last one in a text.

    >>> final_number("so 16 - 3 = 13 eggs.\\n#### 1,300"), final_number("That makes $18."), final_number("none")
    (1300.0, 18.0, None)
    """
    marked = text.partition("####")[2]
    numbers = _NUMBER.findall(marked)[:1] or _NUMBER.findall(text)[-1:]
    return float(re.sub(r"[$,]", "", numbers[0])) if numbers else None


def is_right(problem: Problem, written: str) -> bool:
    """Whether the number that a text comes to is the answer."""
    wanted, found = final_number(problem.answer), final_number(written)
    return found is not None and wanted is not None and abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted))


def cut_to_program(written: str) -> str:
    """What a model wrote up to where something else begins: a call, tests, prose after a code block.

    Text that goes on with the body of a function ends at the next definition; a whole program may have several.
    """
    fenced = re.search(r"```(?:python|py)?\n(.*?)(?:\n```|\Z)", written, re.DOTALL)
    text = (fenced[1] if fenced else written).replace("\r", "")
    is_body = text.lstrip("\n")[:1].isspace()
    ends = r"print\(|assert |```|\"\"\"|if __name__"
    found = re.search(rf"\n(?=(?:{ends}{'|def |class |@|if ' if is_body else ''}))", text)
    return text[: found.start()] if found else text


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that at least one of k attempts is right, from n attempts (Chen et al. 2021, eq. 1), unbiased.

    >>> pass_at_k(10, 3, 1), pass_at_k(5, 5, 2), pass_at_k(4, 0, 4)
    (0.3, 1.0, 0.0)

    Raises:
        InputError: more attempts asked than there are.
    """
    if not 1 <= k <= n:
        raise InputError(f"pass@{k} needs at least {k} attempts per problem; there are {n}.")
    if n - correct < k:
        return 1.0
    return round(1 - float(np.prod(1 - k / np.arange(n - correct + 1, n + 1))), 12)


def pass_rates(counts: Sequence[tuple[int, int]], k: int) -> np.ndarray:
    """pass@k of every problem in percent, from (attempts, right ones)."""
    return np.array([100 * pass_at_k(n, correct, k) for n, correct in counts])
