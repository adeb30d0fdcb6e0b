"""`wenloom translate`. torch is loaded when there is work, so that --help answers at once."""

from typing import Annotated

from wenloom.cli.answers import AnswerOptions, answer
from wenloom.cli.options import Device, Json, flags


def translate(
    model: str,
    text: str | None = None,
    /,
    *,
    how: Annotated[AnswerOptions, flags("Writing", 2)] = AnswerOptions(),
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Translate a text, or a file line by line.

    The model is one that `wenloom finetune --task translation` made, or a hub model of a known family.

        wenloom translate runs/mine "..."
        wenloom translate runs/mine --file texts.txt --out answers.txt

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    text
        The text; without one, a pipe is read.
    """
    answer("translation", model, text, how, device, json)
