"""`wenloom import llama2c`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_free, folder_aside


def llama2c(model: Path, /, *, tokenizer: Path, out: Path, json: Json = False) -> None:
    """Convert a llama2.c model (.bin, the legacy export) and its tokenizer into a model folder.

        wenloom import llama2c stories260K.bin --tokenizer tok512.bin --out stories260K
        wenloom generate stories260K --greedy

    Parameters
    ----------
    model
        The model, such as stories15M.bin.
    tokenizer
        Its tokenizer, such as tokenizer.bin.
    out
        Folder to write; new or empty.
    """
    check_free(out)
    from wenloom.checkpoint.folder import write_model_files
    from wenloom.checkpoint.llama2c import read_decoder, read_tokenizer

    decoder, text = read_decoder(model), read_tokenizer(tokenizer)
    if text.vocab_size != decoder.config.vocab_size:
        raise InputError(
            f"{tokenizer}: has {text.vocab_size:,} tokens, the model {decoder.config.vocab_size:,}; they do not belong together."
        )
    text.model_max_length = decoder.config.context_length
    with folder_aside(out) as folder:
        write_model_files(decoder, folder)
        text.save_pretrained(folder)
    facts = {"folder": str(out), "family": decoder.config.family, "parameters": decoder.n_parameters()}
    print_json(facts) if json else say(f"{out}: {facts['family']}, {facts['parameters']:,} parameters.")
