"""`wenloom import llama2c` and `wenloom import gguf`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path
from typing import TYPE_CHECKING

from wenloom.cli.options import Dtype, Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_free, folder_aside

if TYPE_CHECKING:
    from wenloom.model.build import Model
    from wenloom.model.pooling import PoolingMode
    from wenloom.tokens.tokenizer import TextTokenizer


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
    from wenloom.checkpoint.llama2c import read_decoder, read_tokenizer

    decoder, text = read_decoder(model), read_tokenizer(tokenizer)
    if text.vocab_size != decoder.config.vocab_size:
        raise InputError(
            f"{tokenizer}: has {text.vocab_size:,} tokens, the model {decoder.config.vocab_size:,}; they do not belong together."
        )
    text.model_max_length = decoder.config.context_length
    _write(decoder, text, out, json)


def gguf(file: Path, /, *, out: Path, dtype: Dtype = "auto", json: Json = False) -> None:
    """Convert a GGUF file, as llama.cpp, Ollama and LM Studio have them, into a model folder.

    Weights, tokenizer, special tokens and chat template come along. Quantized weights are widened; quantize them again
    with `wenloom quantize` if memory is short.

        wenloom import gguf SmolLM2-135M-Instruct-Q8_0.gguf --out smollm2
        wenloom chat smollm2

    Parameters
    ----------
    file
        The file; of a model in parts (-00001-of-00003.gguf) any of them.
    out
        Folder to write; new or empty.
    dtype
        Dtype of the weights: auto, float32, bfloat16 or float16. auto keeps what the file has and widens quantized weights
        to bfloat16.
    """
    check_free(out)
    from wenloom.api import number_type
    from wenloom.checkpoint.gguf.folder import read_gguf

    found = read_gguf(file, None if dtype == "auto" else number_type(dtype, "--dtype"))
    _write(found.model, found.tokenizer, out, json, found.kinds, found.pooling)


def _write(
    model: "Model",
    text: "TextTokenizer",
    out: Path,
    json: bool,
    kinds: dict[str, int] | None = None,
    pooling: "PoolingMode | None" = None,
) -> None:
    from wenloom.checkpoint.folder import write_model_files
    from wenloom.checkpoint.sentence import SentenceConfig, write_sentence_config

    with folder_aside(out) as folder:
        write_model_files(model, folder)
        text.save_pretrained(folder)
        if pooling is not None:
            write_sentence_config(SentenceConfig((pooling,)), model.config.d_model, folder)
    facts = {"folder": str(out), "family": model.config.family, "parameters": model.n_parameters()}
    more = {} if kinds is None else {"kinds": kinds}
    print_json(facts | more) if json else say(f"{out}: {facts['family']}, {facts['parameters']:,} parameters.")
