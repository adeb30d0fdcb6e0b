"""`wenloom classify`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path

from wenloom.cli.answers import texts_to_work_on
from wenloom.cli.options import Device, Json
from wenloom.core.console import print_json, say


def classify(
    model: str,
    text: str | None = None,
    /,
    *,
    file: Path | None = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Classify a text, or each line of a file.

    The model is one that `wenloom finetune --task classification` made, or a hub model with classes.

        wenloom classify runs/mine "A fine film."
        wenloom classify runs/mine --file reviews.txt --json

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    text
        The text; without one, a pipe is read.
    file
        A file with a text per line, also compressed.
    """
    texts = texts_to_work_on(text, file)
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.tasks import classification

    folder = resolve(model)
    loaded = load_model(folder, probe(device).device)
    guesses = list(classification.classify(loaded, load_tokenizer(folder), texts))
    if json:
        answers = [{"text": each, "label": guess.label, "probabilities": dict(guess.others)}
                   for each, guess in zip(texts, guesses, strict=True)]  # fmt: skip
        print_json({"model": model, "answers": answers})
    else:
        say("\n".join(f"{guess.label}\t{guess.probability:.3f}" for guess in guesses))
