"""`wenloom generate`. torch is loaded when there is work, so that --help answers at once."""

import dataclasses
import json as json_text
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wenloom.cli.options import Device, Dtype, Json, KVCache, Quantize, flags
from wenloom.core.console import print_json, progress, remark
from wenloom.core.errors import InputError
from wenloom.generation.request import (
    Form,
    GenerationRequest,
    Length,
    Output,
    Penalties,
    Sampling,
    Search,
    Speed,
    Watermark,
    request_from,
)

if TYPE_CHECKING:
    from wenloom.api import LanguageModel
    from wenloom.generation.jobs import Continuation, Job


def generate(
    model: str,
    prompt: str | None = None,
    /,
    *,
    greedy: Annotated[bool, Parameter(negative="")] = False,
    stop: list[str] | None = None,
    n: int | None = None,
    prompts: Path | None = None,
    out: Path | None = None,
    draft: str | None = None,
    adapters: list[str] | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    kv_cache: KVCache = None,
    json: Json = False,
    length: Annotated[Length, flags("Length", 1)] = Length(),
    sampling: Annotated[Sampling, flags("Sampling", 2)] = Sampling(),
    penalties: Annotated[Penalties, flags("Penalties and bans", 3)] = Penalties(),
    search: Annotated[Search, flags("Search and steering", 4)] = Search(),
    form: Annotated[Form, flags("Form", 5)] = Form(),
    output: Annotated[Output, flags("Output", 6)] = Output(),
    speed: Annotated[Speed, flags("Speed", 7)] = Speed(),
    watermark: Annotated[Watermark, flags("Watermark", 8)] = Watermark(),
) -> None:
    """Let a model write.

    The text appears as it is written. Without a prompt, one is read from a pipe; without either, the model
    begins a text of its own.

        wenloom generate runs/quickstart "ROMEO:"
        wenloom generate runs/quickstart "ROMEO:" --n 3 --temperature 1.1 --seed 7
        echo "Once upon a time" | wenloom generate runs/mine --greedy --stop "."
        wenloom generate runs/mine "The answer: " --choices yes --choices no
        wenloom generate runs/mine --prompts questions.jsonl --out answers.jsonl

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    prompt
        The text to continue.
    greedy
        Always take the most probable token; short for --no-do-sample.
    stop
        Stop before this text; may be given several times. Short for --stop-strings.
    n
        Write this many continuations; short for --num-return-sequences.
    prompts
        A file of prompts, continued side by side: jsonl with "prompt" and options of this list per line (such as
        {"prompt": "...", "seed": 3}), or text with a prompt per line.
    out
        With --prompts: the jsonl file of results, one line per prompt in the order in which they finish. Called
        again, it goes on where it stopped.
    draft
        A smaller model with the same vocabulary, for --num-assistant-tokens and --contrastive-beta.
    adapters
        A folder with an adapter, which --adapter (or "adapter" in a line of --prompts) chooses by the folder's name;
        may be given several times.
    """
    groups = (length, sampling, penalties, search, form, output, speed, watermark)
    options = {
        field.name: value
        for group in groups
        for field in dataclasses.fields(group)
        if (value := getattr(group, field.name)) != field.default
    }
    if greedy or sampling.temperature == 0:
        options = {**options, "do_sample": False, "temperature": None}
    if stop:
        options["stop_strings"] = (*length.stop_strings, *stop)
    if n is not None:
        options["num_return_sequences"] = n
    request = GenerationRequest(**options)
    if prompts is not None:
        if prompt is not None:
            raise InputError("give a prompt or --prompts FILE, not both.")
        if out is None:
            raise InputError("--prompts needs --out FILE for the results.")
        waiting = _unanswered(prompts, out, options)
    elif out is not None:
        raise InputError("--out needs --prompts FILE (one text goes to standard output: use > FILE).")
    elif prompt is None:
        prompt = "" if sys.stdin.isatty() else _piped()
    from wenloom.api import load

    loaded = load(model, device, dtype, companion=draft, quantize=quantize, kv_cache=kv_cache, adapters=adapters or ())
    if prompts is not None and out is not None:
        _answer(loaded, waiting, out)
        return
    assert prompt is not None
    job = loaded.engine.submit(prompt, request)
    if json:
        loaded.engine.run([job])
        found = [_as_json(each) for each in job.result()]
        extra = {"prompt_scores": [s and dataclasses.asdict(s) for s in job.prompt_scores]} if job.prompt_scores else {}
        print_json({"model": model, "prompt": prompt, "continuations": found, **extra})
        return
    _show(loaded, job, prompt)


def _show(loaded: "LanguageModel", job: "Job", prompt: str) -> None:
    """One text as it is written; several one after the other as they are done."""
    started = time.monotonic()
    if len(job.continuations) == 1:
        _write(prompt)
        for _, _, piece in loaded.engine.stream(job):
            _write(piece)
        _write("\n")
    else:
        loaded.engine.run([job])
        for number, each in enumerate(job.result(), 1):
            _write(f"{'' if number == 1 else chr(10)}--- {number} ---\n{prompt}{each.text}\n")
    for each in job.result():
        if each.finish_reason == "dead end":
            remark("The text ends here because the options leave no token that is allowed.")
    if sys.stderr.isatty():
        tokens, seconds = sum(len(each.tokens) for each in job.continuations), time.monotonic() - started
        remark(f"({tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} a second)")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _as_json(each: "Continuation") -> dict[str, Any]:
    found: dict[str, Any] = {"text": each.text, "tokens": each.tokens, "finish_reason": each.finish_reason}
    if each.scores:
        found["scores"] = [dataclasses.asdict(score) for score in each.scores]
    if each.sum_logprobs is not None:
        found["sum_logprobs"] = each.sum_logprobs
    return found


# --- many prompts ---


def _unanswered(prompts: Path, out: Path, options: dict[str, Any]) -> list[tuple[int, str, GenerationRequest]]:
    """(line, prompt, request) of the prompts that have no result yet; all are checked before anything is written."""
    answered = {line for line, _ in _lines(out, "line")} if out.exists() else set()
    found = []
    for line, row in _lines(prompts, "prompt"):
        if not isinstance(row["prompt"], str):
            raise InputError(
                f'{prompts}, line {line}: "prompt" must be text, got {json_text.dumps(row["prompt"])[:60]}.'
            )
        own = {name: value for name, value in row.items() if name not in ("prompt", "id")}
        try:
            found.append((line, row["prompt"], request_from({**options, **own})))
        except InputError as error:
            raise InputError(f"{prompts}, line {line}: {error}") from None
    if not found:
        raise InputError(f"{prompts}: holds no prompt.")
    waiting = [each for each in found if each[0] not in answered]
    if answered:
        remark(f"{out} holds {len(found) - len(waiting):,} of {len(found):,} results already.")
    return waiting


def _lines(path: Path, needed: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, object) of the lines of a jsonl file; of a text file's lines, as prompts."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not valid UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            yield number, {"prompt": line}
            continue
        try:
            row = json_text.loads(line)
        except json_text.JSONDecodeError as error:
            if needed == "line" and number == len(lines):
                continue  # cut off in the middle: written again
            raise InputError(f"{path}, line {number}: not valid JSON ({error.msg}).") from None
        if not isinstance(row, dict) or needed not in row:
            raise InputError(f'{path}, line {number}: no field "{needed}".')
        yield (row["line"] if needed == "line" else number), row


def _answer(loaded: "LanguageModel", waiting: list[tuple[int, str, GenerationRequest]], out: Path) -> None:
    """Write a line per prompt as soon as it is done."""
    engine, running = loaded.engine, {}
    upcoming = iter(waiting)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        _drop_cut_line(out)
    with out.open("a", encoding="utf-8") as file, progress("Writing", len(waiting), "prompts") as bar:
        while True:
            while len(running) < _AT_ONCE and (each := next(upcoming, None)) is not None:
                line, prompt, request = each
                running[line] = (prompt, engine.submit(prompt, request, seed_index=line))
            if not running:
                return
            engine.step()
            for line, (prompt, job) in list(running.items()):
                if job.done:
                    del running[line]
                    texts = [_as_json(continuation) for continuation in job.result()]
                    row = {"line": line, "prompt": prompt, "continuations": texts}
                    file.write(json_text.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
                    bar.advance()


_AT_ONCE = 32
"""Prompts that are under way at a time."""


def _drop_cut_line(path: Path) -> None:
    """Remove a last line that was cut off."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _piped() -> str:
    """Standard input, without the line break that `echo` adds."""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None
