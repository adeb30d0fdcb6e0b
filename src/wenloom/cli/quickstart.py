"""`wenloom quickstart`. torch is loaded when there is work, so that --help answers at once."""

import importlib.resources
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from wenloom.cli.options import Json
from wenloom.cli.pretrain import as_json, summary
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.tokens.prepare import prepare
from wenloom.training.settings import ModelSettings, TrainSettings

if TYPE_CHECKING:
    from wenloom.training.loop import RunResult

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
        Optimizer steps; default: 2,000, which take about a minute and a half on two cores.
    """
    from wenloom.cli.show import showing
    from wenloom.training.checkpoints import latest_checkpoint
    from wenloom.training.pretrain import pretrain, resume

    training = TrainSettings(steps=_STEPS if steps is None else steps, batch=8, evaluations=6)
    _check_what_is_there(out, steps)
    show = showing(PROMPTS)
    finished = _finished(out)
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


def _finished(out: Path) -> "RunResult | None":
    """The result of an earlier quickstart, if it came to its end."""
    from wenloom.training.loop import RunResult
    from wenloom.training.objectives import Loss
    from wenloom.training.run_file import RUN, read_run

    if not (out / RUN).exists():
        return None
    tables = read_run(out)
    done, data = tables.get("result", {}), tables.get("data", {})
    if "validation_nats_per_token" not in done or done["steps"] < done["of_steps"]:
        return None
    tokens = data["validation_tokens"] - 1
    loss = Loss(
        done["validation_nats_per_token"] * tokens, tokens, data["validation_bytes"], data["validation_characters"]
    )
    return RunResult(out, loss, loss.figures(), done["best_step"], done["steps"], done["training_seconds"])
