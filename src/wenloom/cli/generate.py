"""`wenloom generate`. torch is loaded when there is work, so that --help answers at once."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wenloom.cli.options import Device, Dtype, Json, KVCache, Quantize, as_flags, flags, typed_as_flags
from wenloom.cli.prompts import answer, disobedience, job_as_json, rows_of, unanswered, zero_is_greedy
from wenloom.cli.steering_files import vector_files
from wenloom.core.console import print_json, remark
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted
from wenloom.generation.options import Length, Output, Penalties, Sampling, Search, Speed, StructuredOutput, Watermark
from wenloom.generation.request import GenerationRequest

if TYPE_CHECKING:
    from wenloom.api import LanguageModel
    from wenloom.generation.jobs import Job


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
    structured_output: Annotated[StructuredOutput, flags("Structured output", 5)] = StructuredOutput(),
    output: Annotated[Output, flags("Output", 6)] = Output(),
    speed: Annotated[Speed, flags("Speed", 7)] = Speed(),
    watermark: Annotated[Watermark, flags("Watermark", 8)] = Watermark(),
) -> None:
    """Generate text.

    Prints what follows the prompt, as it is written; --echo repeats the prompt before it. Without a prompt, one is
    read from a pipe; without either, the model begins a text of its own. Exit code 2 if the text does not obey
    --json-schema, --regex, --choices or --grammar because it was cut off.

        wenloom generate runs/quickstart "ROMEO:" --echo
        wenloom generate runs/quickstart "ROMEO:" --n 3 --temperature 1.1 --seed 7
        echo "Once upon a time" | wenloom generate runs/mine --greedy --stop "."
        wenloom generate runs/mine "The answer: " --choices yes --choices no
        wenloom generate runs/mine "The evening was" --steer calm.safetensors:2
        wenloom generate runs/mine --prompts questions.jsonl --out answers.jsonl

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    prompt
        The prompt to continue.
    greedy
        Greedy decoding: always take the most probable token; short for --no-do-sample.
    stop
        Stop before this text; may be given several times. Short for --stop-strings.
    n
        Number of continuations; short for --num-return-sequences.
    prompts
        A file of prompts, continued side by side: jsonl with "prompt" and options of this list per line (such as
        {"prompt": "...", "seed": 3}), or text with a prompt per line. A line that cannot be answered is named; the
        others are answered.
    out
        With --prompts: the jsonl file of results, one line per prompt in the order in which they finish. Called
        again, it goes on where it stopped, with the failed ones anew.
    draft
        A draft model: a smaller one with the same vocabulary, for --num-assistant-tokens and --contrastive-beta.
    adapters
        A folder with an adapter, which --adapter (or "adapter" in a line of --prompts) chooses by the folder's name;
        may be given several times.
    """
    groups = (length, sampling, penalties, search, structured_output, output, speed, watermark)
    options = {
        field.name: value
        for group in groups
        for field in dataclasses.fields(group)
        if (value := getattr(group, field.name)) != field.default
    }
    if greedy:
        options = {**options, **_greedy(sampling, keeps_top_k=search.penalty_alpha is not None)}
    with typed_as_flags():
        options = zero_is_greedy(options)
    if stop:
        options["stop_strings"] = (*length.stop_strings, *stop)
    if n is not None:
        if output.num_return_sequences not in (1, n):
            raise InputError(f"--n {n} and --num-return-sequences {output.num_return_sequences}: give one of them.")
        options["num_return_sequences"] = n
    with typed_as_flags():
        request = GenerationRequest(**options)
    if prompts is None:
        _refuse_idle(request, draft, adapters, is_shown=not json)
    rows = []
    if prompts is not None:
        if prompt is not None:
            raise InputError("give a prompt or --prompts FILE, not both.")
        if out is None and not json:
            raise InputError("--prompts needs --out FILE for the results, or --json to print them.")
        rows = rows_of(prompts, options)
        if out is not None:
            rows = unanswered(rows, prompts, out)
    elif out is not None:
        raise InputError("--out needs --prompts FILE (one text goes to standard output: use > FILE).")
    elif prompt is None:
        prompt = "" if sys.stdin.isatty() else _piped()
    vectors = vector_files(request.steer)
    vectors |= vector_files((each for row in rows if row.request for each in row.request.steer), must_exist=False)
    from wenloom.api import load_writer as load

    loaded = load(
        model, device, dtype, draft_model=draft, quantize=quantize, kv_cache=kv_cache, adapters=adapters or (),
        steering=vectors,
    )  # fmt: skip
    if prompts is not None:
        answer(loaded, rows, prompts, out, json)
        return
    assert prompt is not None
    with typed_as_flags():
        job = loaded.engine.submit(prompt, request)
    loaded.say_unseen([job])
    if json:
        loaded.engine.run([job])
        job.result()
        print_json({"model": model, "prompt": prompt, **job_as_json(job)})
    else:
        _show(loaded, job)
    if why := disobedience(loaded, job):
        error = InputError(as_flags(why))
        error.is_reported = json
        raise error


def _greedy(sampling: Sampling, keeps_top_k: bool) -> dict[str, Any]:
    """Options of --greedy.

    Raises:
        InputError: another option draws.
    """
    drawing = [
        f"--{field.name.replace('_', '-')} {value}"
        for field in dataclasses.fields(sampling)
        if (value := getattr(sampling, field.name)) != field.default
        and field.name not in ("do_sample", "seed")
        and not (field.name == "temperature" and value == 0)
        and not (field.name == "top_k" and keeps_top_k)
    ]
    if sampling.do_sample:
        drawing.append("--do-sample")
    if drawing:
        raise InputError(f"--greedy takes the most probable token each time, {' and '.join(drawing)} "
                         f"{'is' if len(drawing) == 1 else 'are'} for drawing: give one or the other.")  # fmt: skip
    return {"do_sample": False}


def _refuse_idle(request: GenerationRequest, draft: str | None, adapters: list[str] | None, is_shown: bool) -> None:
    """
    Raises:
        InputError: an option that would change nothing.
    """
    if draft is not None and not request.num_assistant_tokens and request.contrastive_beta is None:
        raise InputError("--draft helps with --num-assistant-tokens or --contrastive-beta: give one of them.")
    if adapters and request.adapter is None:
        raise InputError("--adapters only makes them ready: --adapter NAME chooses one (the name of its folder).")
    scores = [name for name in ("logprobs", "prompt_logprobs") if getattr(request, name) is not None]
    if is_shown and scores:
        flags_given = " and ".join(f"--{name.replace('_', '-')}" for name in scores)
        raise InputError(f"{flags_given}: the text does not show log-probabilities; add --json.")


def _show(loaded: "LanguageModel", job: "Job") -> None:
    """One text as it is written; several one after the other as they are done."""
    started = time.monotonic()
    if len(job.continuations) == 1:
        for event in loaded.engine.stream(job):
            _write(event.text)
        _write("\n")
    else:
        loaded.engine.run([job])
        for number, each in enumerate(job.result(), 1):
            _write(f"{'' if number == 1 else chr(10)}--- {number} ---\n{each.text}\n")
    for each in job.result():
        if each.ended_by == "dead end":
            remark("The text ends here because the options leave no token that is allowed.")
    if sys.stderr.isatty():
        tokens, seconds = sum(len(each.tokens) for each in job.continuations), time.monotonic() - started
        remark(f"({counted(tokens, 'token')} in {seconds:.1f} s, {tokens / seconds:,.0f} a second)")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _piped() -> str:
    """Standard input, without the line break that `echo` adds."""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None
