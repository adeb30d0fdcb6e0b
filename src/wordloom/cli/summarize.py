"""`wordloom summarize`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path

from wordloom.cli.answers import answer
from wordloom.cli.options import Device, Json


def summarize(
    model: str,
    text: str | None = None,
    /,
    *,
    file: Path | None = None,
    out: Path | None = None,
    beams: int = 5,
    length_penalty: float = 1.0,
    longest: int = 256,
    no_repeat: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Summarize a text, or each line of a file.

    The model is one that `wordloom finetune --task summarization` made, or a hub model of a known family.

        wordloom summarize runs/mine "..."
        wordloom summarize runs/mine --file texts.txt --out answers.txt

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    text
        The text; without one, a pipe is read.
    file
        A file with a text per line, also compressed.
    out
        Where the answers to a file go, one per line.
    beams
        Texts that are weighed against each other; 1 takes the most probable token each time (faster).
    length_penalty
        Beams are compared by log-probability / length^this; higher favours longer texts.
    longest
        Most tokens of an answer.
    no_repeat
        Never write so many tokens twice in the same order; 0 allows it.
    """
    options: dict[str, float] = {"num_beams": beams, "no_repeat_ngram_size": no_repeat}
    if beams > 1:
        options["length_penalty"] = length_penalty
    answer("summarization", model, text, file, out, longest, device, json, options)
