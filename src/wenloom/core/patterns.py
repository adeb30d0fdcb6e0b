"""Regular expressions of strangers: matched within a bounded time, whatever they are."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from wenloom.core.errors import InputError, printable

SECONDS = 10.0
"""What matching may take; Python's matcher can be led to take years for thirty letters, and cannot be interrupted."""
MOST = 10_000
"""Expressions of one file. EVA's ranks, the longest lists that PEFT writes, name every matrix of a model once."""
_CHILD = """
import json, re, sys
patterns, names, how = json.load(sys.stdin)
found = [{name: match.groupdict() for name in names if (match := getattr(re, how)(each, name))} for each in patterns]
json.dump(found, sys.stdout)
"""
_SLOW = re.compile(r"\)[*+{]|\\\d|\(\?\(")
"""A repeated group, a reference to one, a condition: what can take exponential time."""


def matches(
    patterns: Sequence[str], names: Sequence[str], whole: bool = False
) -> list[dict[str, dict[str, str | None]]]:
    """Which names each expression matches, with what its named groups hold.

    Plain expressions are matched at once; those that could take long in a process that can be ended.

    Args:
        whole: the whole name must match (`re.fullmatch`), not its beginning (`re.match`).

    Raises:
        InputError: one of them is not a regular expression, there are too many, or they take too long.
    """
    if len(patterns) > MOST:
        raise InputError(f"{len(patterns):,} regular expressions; more than {MOST:,} are not matched.")
    how = "fullmatch" if whole else "match"
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(getattr(re.compile(pattern), how))
        except (re.error, RecursionError, OverflowError, MemoryError) as error:
            raise InputError(f'"{printable(pattern, 80)}" is not a regular expression ({error}).') from None
    if not any(_SLOW.search(pattern) or len(re.findall("[*+{]", pattern)) > 3 for pattern in patterns):
        return [{name: match.groupdict() for name in names if (match := each(name))} for each in compiled]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD], input=json.dumps([list(patterns), list(names), how]),
            capture_output=True, text=True, timeout=SECONDS, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InputError(f"its regular expressions take more than {SECONDS:g} s to match.") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"its regular expressions could not be matched ({error}).") from None
    return json.loads(done.stdout)
