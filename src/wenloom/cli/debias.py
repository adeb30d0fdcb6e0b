"""`wenloom debias`. torch is loaded when there is work, so that --help answers at once."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wenloom.cli.options import Json
from wenloom.core.clock import command_began
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_free
from wenloom.fairness.unfinished import refuse_unfinished

if TYPE_CHECKING:
    from wenloom.fairness.debias import Debiased
    from wenloom.text.lexicon import Lexicon


def debias(
    model: str | None = None,
    /,
    *,
    method: list[str] | None = None,
    out: Path | None = None,
    data: list[str] | None = None,
    lexicon: str | None = None,
    axis: str = "gender",
    tuning: Literal["lora", "full"] = "lora",
    strength: float = 1.0,
    budget: str | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    resume: Path | None = None,
    json: Json = False,
) -> None:
    """Debias a model through its data, its loss or its weights; `audit` measures the effect and what it cost.

    filter continues training on texts without the passages that praise or blame a group; cda on texts and copies of them in which
    the words of one group are exchanged for those of the other; equalize adds a penalty where a word of one group is more probable
    than its counterpart; leace erases from the output matrix what predicts which group's word follows. Several methods combine,
    comma-separated. To debias a model while it writes, see --self-debias of `generate`.

        wenloom debias runs/mine --method cda --data texts/ --budget 5min --out runs/fair
        wenloom debias runs/mine --method cda,equalize --data texts/ --steps 200 --out runs/fairer
        wenloom debias runs/mine --method leace --data texts/ --out runs/erased
        wenloom debias --resume runs/fair

    Parameters
    ----------
    model
        A model folder or a hub model: a decoder.
    method
        filter, cda, equalize, leace; several are comma-separated.
    out
        Folder for the model that is made; new or empty.
    data
        Text files or folders like those that the model is to write. Default: only the lexicon's sentences about people.
    lexicon
        Lexicon of words for groups: en, de, zh, or a TOML file of your own. Default: by the language of the texts.
    axis
        Axis of the lexicon.
    tuning
        lora (a small adapter beside frozen weights) or full, for filter, cda and equalize.
    strength
        Weight of the penalty of equalize.
    budget
        Training time, such as 5min; or give --steps. Default: 2 epochs.
    steps
        Optimizer steps.
    learning_rate
        Of the training.
    seed
        Of the training.
    resume
        Continue an interrupted run into this folder, with its own settings: first the training, then what comes after it.
    """
    started = command_began()
    if resume is not None:
        given = {"the model": model, "--method": method, "--out": out, "--data": data, "--lexicon": lexicon, "--budget": budget,
                 "--steps": steps, "--learning-rate": learning_rate, "--axis": None if axis == "gender" else axis,
                 "--tuning": None if tuning == "lora" else tuning, "--strength": None if strength == 1.0 else strength,
                 "--seed": seed or None}  # fmt: skip
        if told := [name for name, value in given.items() if value is not None]:
            raise InputError(f"--resume goes on with the model and the settings that there are: leave {told[0]} out.")
        from wenloom.cli.show import showing
        from wenloom.fairness.debias import resume as go_on

        done = go_on(resume, lambda known: showing(_prompts(known)), started)
        print_json(_data(done)) if json else _show(str(done.model), done)
        return
    if model is None or out is None:
        raise InputError(
            "name the model and --out, as in: wenloom debias runs/mine --method cda --data texts/ --out runs/fair"
        )
    refuse_unfinished(out)
    check_free(out)
    names = tuple(dict.fromkeys(name for each in method or [] for name in each.split(",") if name))
    _refuse_unread(names, {"--budget": budget, "--steps": steps, "--learning-rate": learning_rate}, strength)
    from wenloom.checkpoint.hub import resolve
    from wenloom.cli.show import showing
    from wenloom.fairness.debias import DebiasRequest, texts_of
    from wenloom.fairness.debias import debias as work
    from wenloom.text.lexicon import language_of
    from wenloom.text.lexicon import lexicon as read_lexicon
    from wenloom.training.settings import TrainSettings

    texts = texts_of(data or ())
    if lexicon is None:
        lexicon = language_of([each[:5000] for each in texts[:20]])
        if texts:
            remark(f"Words of the lexicon {lexicon}; --lexicon names another.")
    words = f"{Path(lexicon).resolve() if Path(lexicon).is_file() else lexicon}:{axis}"
    request = DebiasRequest(names, read_lexicon(lexicon), words, tuning, strength,
                            tuple(str(Path(each).expanduser().absolute()) for each in data or ()))  # fmt: skip
    training = TrainSettings(budget=budget, steps=steps, learning_rate=learning_rate, seed=seed)
    done = work(resolve(model), out, request, texts, training, showing(_prompts(request.lexicon)), started)
    print_json(_data(done)) if json else _show(model, done)


def _prompts(known: "Lexicon") -> list[str]:
    """What samples while training continue."""
    return [" ".join(each.split()[:3]) for each in known.people[:2]]


def _refuse_unread(names: tuple[str, ...], of_training: dict[str, Any], strength: float) -> None:
    """
    Raises:
        InputError: an option that no chosen method reads.
    """
    given = [option for option, value in of_training.items() if value is not None]
    if given and not {"filter", "cda", "equalize"} & set(names):
        raise InputError(f"{given[0]} is of a training: --method filter, cda or equalize has one.")
    if strength != 1.0 and "equalize" not in names:
        raise InputError("--strength goes with --method equalize.")


def _data(done: "Debiased") -> dict[str, Any]:
    found: dict[str, Any] = {"folder": str(done.folder)}
    if done.augmented is not None:
        found["texts"] = {"all": len(done.augmented.texts), "exchanged": done.augmented.exchanged,
                          "unclear": done.augmented.unclear, "people": done.augmented.people}  # fmt: skip
    if done.left_out is not None:
        found["passages left out"] = done.left_out
    if done.training is not None:
        found["training"] = {"folder": str(done.training.folder), "steps": done.training.steps,
                             "seconds": done.training.seconds, "validation": done.training.figures}  # fmt: skip
    if done.erasure is not None:
        each = done.erasure
        found["erasure"] = {"words": each.n_words, "directions": each.n_directions, "probe_before": each.before._asdict(),
                            "probe_after": each.after._asdict(), "lacking": each.what_is_lacking or None}  # fmt: skip
    return found


def _show(model: str, done: "Debiased") -> None:
    folder = shlex.quote(str(done.folder))
    if done.left_out is not None:
        say(
            f"{done.left_out:,} passages left out, in which a word of a group stands in one sentence with one that speaks well or ill"
        )
    if done.augmented is not None:
        made = done.augmented
        say(f"{len(made.texts):,} texts: {made.exchanged:,} stand there with the words of either group, {made.people:,} sentences about "
            f"people; {made.unclear:,} could not surely be exchanged")  # fmt: skip
    if done.training is not None:
        say(
            f"trained {done.training.steps:,} steps in {done.training.seconds:,.0f} s; report: {done.training.folder / 'report.html'}"
        )
    if done.erasure is not None:
        each = done.erasure
        say(f"which group's word follows: a linear reader was right in {100 * each.before.accuracy:.1f} % of {each.n_words:,} words before and in "
            f"{100 * each.after.accuracy:.1f} % after; always naming the more frequent group is right in {100 * each.after.chance:.1f} %")  # fmt: skip
        if each.what_is_lacking:
            say(f"{each.what_is_lacking[0].upper()}{each.what_is_lacking[1:]}.")
    say(
        f"{done.folder}: the model. What it did, and at what price: wenloom audit {shlex.quote(model)} {folder} --data datasets/ --text FILE"
    )
