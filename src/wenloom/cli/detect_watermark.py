"""`wenloom detect-watermark`."""

import dataclasses
import sys
from pathlib import Path

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest


def detect_watermark(
    model: str,
    file: Path | None = None,
    /,
    *,
    watermark_key: int,
    watermark_greenlist_ratio: float = 0.25,
    json: Json = False,
) -> None:
    """Detect a watermark in a text.

        wenloom generate runs/mine "Once" --watermark-key 42 --min-new-tokens 100 > text.txt
        wenloom detect-watermark runs/mine text.txt --watermark-key 42

    Parameters
    ----------
    model
        The folder of the model that wrote, for its tokenizer.
    file
        The text; without one it is read from a pipe.
    watermark_key
        The key it was written with.
    watermark_greenlist_ratio
        The share of the vocabulary that was favoured.
    """
    GenerationRequest(watermark_key=watermark_key, watermark_greenlist_ratio=watermark_greenlist_ratio)
    if watermark_greenlist_ratio == 1:
        raise InputError("--watermark-greenlist-ratio 1 favours every token: there is nothing to detect.")
    from wenloom.checkpoint.folder import load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.foreign import reading
    from wenloom.evaluation.rows import read_text
    from wenloom.generation.watermark import detect

    if file is not None:
        text = read_text(file)
    else:
        with reading("standard input", what="is not valid UTF-8"):
            text = sys.stdin.buffer.read().decode()
    ids = load_tokenizer(resolve(model)).encode(text, add_special_tokens=False)
    found = detect(ids, watermark_key, watermark_greenlist_ratio)
    if json:
        print_json(dataclasses.asdict(found))
        return
    verdict = "bears the mark" if found.z > 4 else "may bear the mark" if found.z > 3 else "shows no mark"
    say(f"The text {verdict}: {found.green} of {found.tokens} tokens are favoured by the key, "
        f"z = {found.z:.1f}, p = {found.p_value:.1g}.")  # fmt: skip
