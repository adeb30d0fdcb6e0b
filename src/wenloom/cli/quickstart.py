"""`wenloom quickstart`. torch is loaded when there is work, so that --help answers at once."""

import importlib.resources
import shlex
from pathlib import Path

from wenloom.cli.options import Json
from wenloom.cli.pretrain import as_json, summary
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.tokens.prepare import prepare
from wenloom.training.settings import ModelSettings, TrainSettings

SHAPE = ModelSettings(layers=4, width=128, context=128, dropout=0.0)
_STEPS = 2000
PROMPTS = ["ROMEO:\nWhat", "My good lord", "To be or not to"]


def quickstart(*, out: Path = Path("runs/quickstart"), steps: int | None = None, json: Json = False) -> None:
    """Train a small GPT on Shakespeare in a few minutes and see what it can do.

    Everything is in the package: no download, no GPU. A second call shows what is there; a call after an
    interruption goes on.

        wenloom quickstart
        wenloom quickstart --steps 500 --out runs/short

    Parameters
    ----------
    out
        Folder for the run; the corpus is made beside it.
    steps
        Optimizer steps; default: 2,000, which take two to three minutes on two cores.
    """
    from wenloom.cli.show import showing
    from wenloom.training.checkpoints import latest_checkpoint
    from wenloom.training.pretrain import finished_result, pretrain, resume

    training = TrainSettings(steps=_STEPS if steps is None else steps, batch=8, evaluations=6)
    _check_what_is_there(out, steps)
    show = showing(PROMPTS)
    finished = finished_result(out)
    if finished is not None:
        remark(f"{out} is trained already (remove the folder to start afresh).")
        result = finished
    elif latest_checkpoint(out):
        remark(f"{out} was interrupted: going on.")
        result = resume(out, show)
    else:
        data = out.parent / f"{out.name}-data"
        with importlib.resources.as_file(importlib.resources.files("wenloom.text") / "tinyshakespeare.txt") as text:
            prepare([str(text)], data)
        result = pretrain(data, out, SHAPE, training, show)
    if json:
        print_json(as_json(result))
        return
    folder = shlex.quote(str(out))
    say(summary(result).rpartition("\n")[0])
    say(
        f"\nTry next:\n  wenloom generate {folder} \"ROMEO:\"\n  wenloom next-tokens {folder} \"To be or not to\"\n"
        "  wenloom prepare my-texts/ --out data/mine && wenloom pretrain data/mine --out runs/mine"
    )  # fmt: skip


def _check_what_is_there(out: Path, steps: int | None) -> None:
    """
    Raises:
        InputError: the folder holds another run than a quickstart of so many steps.
    """
    from wenloom.training.run_file import RUN, read_run

    if not (out / RUN).exists():
        return
    settings = read_run(out).get("settings", {})
    if "task" in settings:
        raise InputError(f"{out}: was not made by wenloom quickstart. Choose another --out.")
    there = settings.get("steps")
    if steps is not None and there != steps:
        raise InputError(f"--steps {steps}: --out {out} holds a run of {there} steps already. Remove that folder, or "
                         "choose another --out.")  # fmt: skip
