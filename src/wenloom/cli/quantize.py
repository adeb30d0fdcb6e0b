"""`wenloom quantize`. torch is loaded when there is work, so that --help answers at once."""

import shutil
from pathlib import Path

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_free, folder_aside
from wenloom.core.quantities import show_bytes


def quantize(model: str, /, *, out: Path, to: str = "int8", json: Json = False) -> None:
    """Quantize a model to 8 or 4 bits.

    The embedding and the output matrix stay as they are; the latter is quantized to 8 bits when the model is loaded.
    transformers reads the folder too, where its companion library compressed-tensors is installed; so does vLLM.

        wenloom quantize runs/mine --to int4 --out mine-int4
        wenloom generate mine-int4 "Once upon a time"

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    out
        Folder to write; new or empty.
    to
        int8 (a scale per row) or int4 (a scale per 32 columns).
    """
    check_free(out)
    from wenloom.checkpoint.folder import load_decoder, load_tokenizer, stored_dtype, write_model_files
    from wenloom.checkpoint.hub import resolve
    from wenloom.model.quantize import is_quantized, parse_bits
    from wenloom.training.run_file import RUN

    bits, source = parse_bits(to), resolve(model)
    decoder = load_decoder(source)
    if is_quantized(decoder):
        raise InputError(f"{model}: its weights are quantized already.")
    with folder_aside(out) as folder:
        write_model_files(decoder, folder, bits=bits, dtype=stored_dtype(source))
        load_tokenizer(source).save_pretrained(folder)
        if (source / RUN).exists():  # it says what the model was trained for
            shutil.copyfile(source / RUN, folder / RUN)
    before, after = (sum(file.stat().st_size for file in path.glob("*.safetensors")) for path in (source, out))
    if json:
        print_json({"folder": str(out), "bits": bits, "bytes": after, "bytes_before": before})
    else:
        say(f"{out}: {to}, {show_bytes(after)} instead of {show_bytes(before)}.")
