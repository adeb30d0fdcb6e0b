"""`wenloom export gguf`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_no_folder
from wenloom.core.quantities import show_bytes


def gguf(
    model: str,
    /,
    *,
    out: Path,
    kind: Annotated[str, Parameter(name="--type")] = "Q8_0",
    ollama: bool = False,
    json: Json = False,
) -> None:
    """Write a model as one GGUF file, which llama.cpp, Ollama and LM Studio run.

    The tokenizer comes along under the name of its pre-tokenizer, with special tokens and chat template. What llama.cpp would
    compute otherwise is refused with the reason.

        wenloom export gguf runs/mine --out mine.gguf
        wenloom export gguf runs/chat --out chat.gguf --type Q4_K --ollama

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    out
        File to write.
    kind
        Numbers of the matrices: F32, F16, BF16, Q8_0 (8 bits), Q4_0 or Q4_K (4 bits; embedding and output matrix keep 8).
    ollama
        Write a Modelfile beside it, from which `ollama create NAME` makes a model.
    """
    check_no_folder(out)
    if ollama and out.with_name("Modelfile").exists():
        raise InputError(f"{out.with_name('Modelfile')}: is there already; move it away, or leave --ollama out.")
    from wenloom.checkpoint.folder import load_decoder, load_model, load_tokenizer, read_config, stored_dtype
    from wenloom.checkpoint.gguf.export import export_gguf
    from wenloom.checkpoint.gguf.ollama import write_modelfile
    from wenloom.checkpoint.hub import resolve
    from wenloom.checkpoint.sentence import read_sentence_config, transformer_folder

    source = resolve(model)
    sentence, place = read_sentence_config(source), transformer_folder(source)
    if sentence.is_written and len(sentence.head) > sentence.normalizes:
        raise InputError(f"{source}: has layers behind its pooling, for which GGUF has no place.")
    load = load_decoder if read_config(place).kind == "decoder" else load_model
    made_of, text = load(place, dtype=stored_dtype(place)), load_tokenizer(place)
    pooling = sentence.pooling if sentence.is_written else ()
    kinds = export_gguf(made_of, text, out, kind, source.resolve().name, pooling)
    made = [out]
    if ollama:
        made.append(write_modelfile(text, made_of.config, place, out))
    if json:
        print_json({"file": str(out), "kinds": kinds, "bytes": out.stat().st_size, "written": list(map(str, made))})
    else:
        say(f"{out}: {show_bytes(out.stat().st_size)}" + (f", and {made[1]}." if ollama else "."))
