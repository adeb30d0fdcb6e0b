"""`wenloom pretrain`. torch is loaded when there is work, so that --help answers at once."""

import math
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from wenloom.cli.options import Json, flags, named_flags
from wenloom.core.clock import command_began
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted, show_unit
from wenloom.training.settings import LENGTHS, InitSettings, ModelSettings, TrainSettings

if TYPE_CHECKING:
    from wenloom.evaluation.significance import Paired
    from wenloom.training.run_result import RunResult


def pretrain(
    data: list[str] | None = None,
    /,
    *,
    out: Path | None = None,
    model: Annotated[ModelSettings, flags("Model", 2)] = ModelSettings(),
    init: Annotated[InitSettings, flags("Going on with a trained model", 3)] = InitSettings(),
    training: Annotated[TrainSettings, flags("Training", 4)] = TrainSettings(),
    mix_temperature: Annotated[
        float | None,
        Parameter(
            help="For a mixture without weights: samples in proportion to tokens^(1 / temperature); 1 is by size, larger is more even."
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        Parameter(help="Prompts that the samples of a run continue; default: openings of the validation text."),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            help="Continue this interrupted run, with its own settings; with --steps, --tokens, --epochs or --budget "
            "train it for that much longer."
        ),
    ] = None,
    from_step: Annotated[
        int | None,
        Parameter(
            help="With --resume and --out: branch from the checkpoint of this step into a new folder; a length counts from "
            "there."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train a model on text: a new one, or one that you have (--init).

    The run folder is the model: a Hugging Face folder with its tokenizer, beside the settings (run.toml), the
    curves (report.html, metrics.jsonl) and the last checkpoint. Ctrl-C saves and says how to go on.

        wenloom pretrain data/mine --out runs/mine --budget 30min
        wenloom pretrain data/mine --out runs/wide --width 512 --layers 8 --heads 8 --epochs 2
        wenloom pretrain my-texts/ --init runs/mine --out runs/more --method lora
        wenloom pretrain data/mine:0.6 data/poems:0.4 --out runs/both
        wenloom pretrain --resume runs/mine
        wenloom pretrain --resume runs/mine --steps 1000
        # settings of a file, over which flags win:
        wenloom pretrain data/mine --out runs/again --config runs/mine/run.toml

    Parameters
    ----------
    data
        Folder made by `wenloom prepare`; or text, which is prepared into a folder beside --out. Several folders are a mixture, in
        parts by weight (FOLDER:WEIGHT) or by size; each is validated by itself.
    out
        Folder for the run; new or empty.
    """
    if resume is not None:
        if data or mix_temperature is not None or model != ModelSettings() or init != InitSettings():
            raise InputError("--resume continues a run with its own corpus and model: leave them out.")
        result = _go_on(resume, from_step, out, training, prompt)
    else:
        if from_step is not None:
            raise InputError("--from-step branches from a run: name it by --resume.")
        if not data or out is None:
            raise InputError("name the corpus and --out, as in: wenloom pretrain data/mine --out runs/mine")
        result = _begin(data, mix_temperature, out, model, init, training, prompt)
    print_json(as_json(result)) if json else say(summary(result))


def _begin(
    texts: list[str],
    temperature: float | None,
    out: Path,
    model: ModelSettings,
    init: InitSettings,
    training: TrainSettings,
    prompt: list[str] | None,
) -> "RunResult":
    from wenloom.cli.show import prompts_from, showing
    from wenloom.tokens.mixture import parse_ingredient
    from wenloom.training import pretrain as work
    from wenloom.training.output import check_output

    started = command_began()
    check_output(out)
    if len(texts) > 1:
        if temperature is not None and not 0 < temperature <= 100:
            raise InputError(f"--mix-temperature {temperature}: must be above 0 and at most 100.")
        if temperature is not None and any(parse_ingredient(text).weight is not None for text in texts):
            raise InputError("--mix-temperature: is for sources without weights; leave out one or the other.")
        data = work.mixture_of(texts, out, temperature or 1.0)
    elif temperature is not None:
        raise InputError("--mix-temperature: goes with several sources.")
    else:
        data = work.corpus_of(Path(texts[0]), out, init.init)
    if init.keep_data is not None:
        kept = work.corpus_of(Path(init.keep_data), out.with_name(f"{out.name}-kept"), init.init)
        init = replace(init, keep_data=str(kept))
    show = showing(prompt or prompts_from(data))
    return work.pretrain(data, out, model, training, show, started, init)


def _go_on(
    run: Path, from_step: int | None, out: Path | None, training: TrainSettings, prompt: list[str] | None
) -> "RunResult":
    from wenloom.cli.show import prompts_from, showing
    from wenloom.training import pretrain as work
    from wenloom.training.prolong import BRANCHING, has_length, how_to_prolong
    from wenloom.training.run_file import read_run

    started = command_began()
    folder = Path(read_run(run).get("data", {}).get("folder", ""))
    open_names = (*LENGTHS, *BRANCHING) if from_step is not None else LENGTHS
    if replace(training, **dict.fromkeys(open_names)) != TrainSettings():
        raise InputError(
            f"a run continues with its own settings; --resume takes {named_flags(LENGTHS)}, to train for that much longer, "
            f"and with --from-step also {named_flags(BRANCHING)}."
        )
    if (from_step is None) != (out is None):
        raise InputError("--from-step and --out go together: they branch from a run into a new folder.")
    if from_step is not None and out is not None:
        show = showing(prompt or prompts_from(folder))
        return work.go_on_elsewhere(run, from_step, out, training, show, started)
    done = None if has_length(training) else work.finished_result(run)
    if done is not None:
        remark(how_to_prolong(run, "pretrain"))
        return done
    show = showing(prompt or prompts_from(folder))
    return work.resume(run, show, training if has_length(training) else None, started)


def as_json(result: "RunResult") -> dict[str, object]:
    """The result for machines."""
    figures = asdict(result.loss) | result.loss.figures()
    del figures["pieces"]
    test = change(result)
    return {
        "folder": str(result.folder),
        "steps": result.steps,
        "training_seconds": result.seconds,
        "validation": figures,
        **({"before": result.before} if result.before else {}),
        **({"change_in_bits_per_byte": test._asdict()} if test else {}),
    }


def change(result: "RunResult") -> "Paired | None":
    """How many bits per byte more than before the training, by a paired test over pieces of the validation text; None
    where too few pieces were scored."""
    if result.pieces is None or len(result.pieces[0]) < _FEWEST_PIECES or not result.loss.bytes:
        return None
    import numpy as np

    from wenloom.evaluation.significance import paired

    before, now = result.pieces
    bits = len(now) / (math.log(2) * result.loss.bytes)
    return paired(np.array(before) * bits, np.array(now) * bits)


_FEWEST_PIECES = 5
"""Of a text, for an interval."""
_SUMMED_UP = ("bits_per_byte", "nats_per_character", "nats_per_token")


def summary(result: "RunResult") -> str:
    """The result, and what to try next."""
    loss, folder = result.loss, shlex.quote(str(result.folder))
    before = [f"{result.before[name]:.3f} {show_unit(name)}" for name in _SUMMED_UP if name in result.before]
    if (test := change(result)) is not None and result.pieces is not None:
        pieces = f"{len(result.pieces[0]):,} pieces of the text"
        said = f"{test.difference:+.3f} bits per byte, {test.low:+.3f} to {test.high:+.3f} with 95 % ({pieces}, paired)"
    else:
        said = "of too little text for an interval"
    return (
        f"{result.folder}: trained {counted(result.steps, 'step')} in {result.seconds:,.0f} s.\n"
        f"  validation {loss.bits_per_byte:.3f} bits per byte, {loss.nats_per_character:.3f} nats per character, "
        f"{loss.nats_per_token:.3f} nats per token{result.scored()}\n"
        + f"  before     {', '.join(before)}, on the same text\n" * bool(before)
        + f"  change     {said}\n" * bool(before)
        + f"  report     {result.folder / 'report.html'}\n"
        f"  try        wenloom generate {folder}"
    )
