"""Many prompts from a file, each with a result of its own: one that fails is named and the others are answered."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wenloom.core.console import print_json, remark
from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text, kind_of, parsed_json
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.generation.request_types import shown
from wenloom.text.lines import Line, lines_of, utf8

if TYPE_CHECKING:
    from wenloom.api import LanguageModel
    from wenloom.generation.jobs import Continuation, Job


class Row(NamedTuple):
    """A line of a file of prompts."""

    line: int
    prompt: Any
    request: GenerationRequest | None
    """None where the line cannot be run."""
    error: str | None
    """Why."""
    seed_index: int
    """Tells it apart from others that share its seed: its place, from 0; 0 where the line brings a seed of its own."""
    own: dict[str, Any]
    """What its result repeats of it: number of the line, "id" and prompt."""


def zero_is_greedy(options: Mapping[str, Any]) -> dict[str, Any]:
    """Temperature 0, as other programs spell it, takes the most probable token each time.

    Raises:
        InputError: it is asked to draw as well.
    """
    if isinstance(options.get("temperature"), bool) or options.get("temperature") != 0:
        return dict(options)
    if options.get("do_sample"):
        raise InputError("temperature 0 takes the most probable token each time and do_sample draws: give one of them.")
    return {**options, "temperature": None, "do_sample": False}


def as_json(each: "Continuation") -> dict[str, Any]:
    """A continuation as a JSON object."""
    found: dict[str, Any] = {"text": each.text, "tokens": each.tokens, "finish_reason": each.finish_reason}
    if each.error is not None:
        found["error"] = each.error
    if each.scores:
        found["scores"] = [dataclasses.asdict(score) for score in each.scores]
    if each.sum_logprobs is not None:
        found["sum_logprobs"] = each.sum_logprobs
    return found


def job_as_json(job: "Job") -> dict[str, Any]:
    """What came of a request as a JSON object."""
    if job.error is not None:
        return {"error": str(job.error)}
    found: dict[str, Any] = {"continuations": [as_json(each) for each in job.continuations]}
    if job.prompt_scores:
        found["prompt_scores"] = [score and dataclasses.asdict(score) for score in job.prompt_scores]
    if job.unseen:
        found["unseen_prompt_tokens"] = job.unseen
    return found


def disobedience(loaded: "LanguageModel", job: "Job") -> str:
    """Why continuations are not what their constraint (a JSON schema, a pattern, ...) asks for; empty where they are.

    A text that was cut off obeys none: nobody's parser should have to find that out.
    """
    request = job.request
    if request.constraint is None:
        return ""
    vocabulary = loaded.engine.vocabulary
    grammars = vocabulary.grammars(vocabulary.endings(request))
    broken = [
        each for each in job.continuations if not grammars.obeyed(*request.constraint, each.text[each.n_echoed :])
    ]
    if not broken:
        return ""
    which = "the text does" if len(job.continuations) == 1 else f"{len(broken)} of {len(job.continuations)} texts do"
    return f"{which} not obey `{request.constraint[0]}`: {_how_it_ended(broken[0], request)}."


def _how_it_ended(each: "Continuation", request: GenerationRequest) -> str:
    if each.ended_by == "stop string":
        return "a stop string ended it"
    if each.ended_by == "dead end":
        return "the other options left no token that it allows"
    if each.ended_by != "length":
        return "its grammar is too large to follow; give a smaller one"
    after = f"it was cut off after {counted(len(each.tokens), 'token')}"
    if len(each.tokens) < request.max_new_tokens:
        return f"{after}, where `max_length` or the model's context ends"
    return f"{after}; raise `max_new_tokens`"


def rows_of(path: Path, options: Mapping[str, Any]) -> list[Row]:
    """The prompts of a file.

    Raises:
        InputError: it cannot be read or holds none that can be run.
    """
    found = []
    for line in lines_of(path):
        own: dict[str, Any] = {"line": line.number}
        try:
            row = _row(line, path.suffix == ".jsonl")
            own |= {name: row[name] for name in ("id", "prompt") if name in row}
            if "prompt" not in row:
                raise ValueError('no field "prompt"')
            if not isinstance(row["prompt"], str | list):
                raise ValueError(f'"prompt" must be text or a list of tokens, got {shown(row["prompt"])}')
            mine = {name: value for name, value in row.items() if name not in ("prompt", "id")}
            request = request_from(zero_is_greedy({**options, **mine}))
            place = 0 if "seed" in row else len(found)
            found.append(Row(line.number, row["prompt"], request, None, place, own))
        except ValueError as error:
            found.append(Row(line.number, None, None, str(error).rstrip(".") + ".", 0, own))
    if not found:
        raise InputError(f"{path}: holds no prompt.")
    if all(row.error for row in found):
        more = f" (none of {len(found):,} lines can be used)" if len(found) > 1 else ""
        raise InputError(f"{path}, line {found[0].line}: {found[0].error}{more}")
    return found


def _row(line: Line, is_json: bool) -> dict[str, Any]:
    if not line.is_whole:
        raise ValueError("the line is too long")
    text = utf8(line)
    if not is_json:
        return {"prompt": text}
    row = parsed_json(text)
    if not isinstance(row, dict):
        raise ValueError(f"holds {kind_of(row)}, expected an object {{...}}")
    return row


def unanswered(rows: list[Row], path: Path, out: Path) -> list[Row]:
    """Rows that have no result yet. Results that failed, and a last one that was cut off, leave the file.

    Raises:
        InputError: the file holds something else, or answers other prompts.
    """
    kept: dict[int, bytes] = {}
    asked = {row.line: row for row in rows}
    lines = list(lines_of(out)) if out.exists() else []
    for place, line in enumerate(lines):
        try:
            answer = parsed_json(utf8(line))
        except ValueError as error:
            if place == len(lines) - 1:
                break
            raise InputError(f"{out}, line {line.number}: {error}.") from None
        number = answer.get("line") if isinstance(answer, dict) else None
        if not isinstance(number, int):
            raise InputError(f'{out}, line {line.number}: no field "line": this file holds no results of prompts.')
        if "error" in answer:
            continue
        if number in asked and asked[number].own.get("prompt", answer.get("prompt")) != answer.get("prompt"):
            raise InputError(f"{out}, line {line.number}: answers another prompt than {path}, line {number} "
                             "holds now: give another --out.")  # fmt: skip
        kept[number] = line.data
    if kept:
        remark(f"{out} holds {len(kept):,} of {len(rows):,} results already.")
    if lines:
        write_atomically(out, "".join(data.decode() + "\n" for data in kept.values()))
    return [row for row in rows if row.line not in kept]


def answer(loaded: "LanguageModel", rows: list[Row], path: Path, out: Path | None, json: bool) -> None:
    """Write a result per prompt as soon as it is done.

    Raises:
        InputError: some failed; the others are answered.
    """
    failed: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    unseen = 0
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file = None if out is None else stack.enter_context(out.open("a", encoding="utf-8"))
        bar = stack.enter_context(progress("Writing", len(rows), "prompts"))
        for row, result in _results(loaded, rows):
            if "error" in result:
                failed.append({"line": row.line, "error": result["error"]})
                remark(f"{path}, line {row.line}: {result['error']}")
            unseen += "unseen_prompt_tokens" in result
            if file is None:
                results.append({**row.own, **result})
            else:
                file.write(json_text({**row.own, **result}) + "\n")
                file.flush()
            bar.advance()
    if unseen:
        remark(
            f"{counted(unseen, 'prompt')} longer than the model's context: truncated at the beginning "
            '("unseen_prompt_tokens"; --on-overflow error refuses them).'
        )
    failed.sort(key=lambda each: each["line"])
    results.sort(key=lambda each: each["line"])
    if json:
        where: dict[str, Any] = {"out": str(out)} if out is not None else {"results": results}
        print_json({"prompts": str(path), "answered": len(rows) - len(failed), "failed": failed, **where})
    if failed:
        lines = ", ".join(str(each["line"]) for each in failed[:10]) + ", …" * (len(failed) > 10)
        error = InputError(
            f"{path}: {len(failed):,} of {counted(len(rows), 'prompt')} failed (line{'s' * (len(failed) > 1)} {lines})"
            f"{'; the others are answered' if len(failed) < len(rows) else ''}."
        )
        error.is_reported = json
        raise error


def _results(loaded: "LanguageModel", rows: list[Row]) -> Iterator[tuple[Row, dict[str, Any]]]:
    engine, running = loaded.engine, dict[int, tuple[Row, "Job"]]()
    upcoming = iter(rows)
    try:
        while True:
            while len(running) < _AT_ONCE and (row := next(upcoming, None)) is not None:
                if row.request is None:
                    yield row, {"error": row.error}
                else:
                    running[row.line] = row, engine.attempt(row.prompt, row.request, seed_index=row.seed_index)
            if not running:
                return
            engine.step()
            for line, (row, job) in list(running.items()):
                if job.done:
                    del running[line]
                    result = job_as_json(job)
                    if "error" not in result and (why := disobedience(loaded, job)):
                        result["error"] = why
                    yield row, result
    finally:
        for _, job in running.values():
            engine.cancel(job)


_AT_ONCE = 32
"""Prompts that are under way at a time."""
