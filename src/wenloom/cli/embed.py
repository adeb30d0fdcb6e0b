"""`wenloom embed`. torch is loaded when there is work, so that --help answers at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from wenloom.cli.answers import piped
from wenloom.cli.options import Device, Dtype, Json
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_no_folder, file_aside
from wenloom.core.foreign import json_text
from wenloom.core.quantities import counted

if TYPE_CHECKING:
    import numpy as np

    from wenloom.runtime.embedder import Embedder

_FORMATS = (".npy", ".jsonl")
Pooling = Annotated[
    Literal["mean", "cls", "lasttoken", "max", "weightedmean", "mean_sqrt_len_tokens"] | None,
    Parameter(
        help="Pooling: how the vectors of tokens become one of the text; default: as the model's folder says, else the mean."
    ),
]
Dimensions = Annotated[
    int | None,
    Parameter(help="Keep only the first dimensions of every vector, for models trained for that (Matryoshka)."),
]
BatchSize = Annotated[int, Parameter(help="Tokens per batch; texts of similar length share one.")]


def embed(
    model: str,
    /,
    *texts: str,
    file: Path | None = None,
    field: str = "text",
    out: Path | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    pooling: Pooling = None,
    dimensions: Dimensions = None,
    normalize: Annotated[bool | None, Parameter(negative="--no-normalize")] = None,
    batch_size: BatchSize = 2048,
    device: Device = "auto",
    dtype: Dtype = "float32",
    json: Json = False,
) -> None:
    """Make vectors of texts, by an embedding model or any encoder or decoder.

    A folder of sentence-transformers says how (pooling, prompts, dense layers, length 1), and its vectors are the same here. Of
    other models it is the mean over tokens, normalized to length 1.

        wenloom embed runs/embedder "A lamp was lit." "The lamp went out."
        wenloom embed runs/embedder --file texts.txt --out vectors.npy
        wenloom embed runs/embedder --file rows.jsonl --field title --out vectors.jsonl --prompt-name query

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    texts
        The texts; without any, and without --file, a pipe is read, a text per line.
    file
        A file with a text per line (empty lines count), jsonl or a table (.csv, .tsv); also compressed.
    field
        Field or column of the text.
    out
        Where the vectors go: .npy (an array of float32, a row per text) or .jsonl (text and embedding per line).
    prompt_name
        A prompt of the model to put before each text, such as query or document.
    prompt
        A prompt of your own to put before each text.
    normalize
        Normalize vectors to length 1; default: as the model's folder says.
    """
    if out is not None:
        check_no_folder(out)
        if out.suffix not in _FORMATS:
            raise InputError(f"--out {out}: the name must end in {' or '.join(_FORMATS)}.")
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be at least 1.")
    given = _texts(texts, file, field)
    embedder = loaded_embedder(model, device, dtype, pooling)
    from wenloom.core.progress import progress

    with progress("Embedding", len(given), "texts") as bar:
        vectors = embedder.embed(given, prompt_name, prompt, dimensions, normalize, batch_size, bar.advance)
    if out is not None:
        _write(out, given, vectors)
    if json:
        shown: dict[str, Any] = {"out": str(out)} if out is not None else {"embeddings": vectors.tolist()}
        print_json({"model": model, "texts": len(given), "dimensions": vectors.shape[1], **shown})
    elif out is not None:
        say(f"{out}: {counted(len(given), 'vector')} of {vectors.shape[1]:,} numbers.")
    else:
        say("\n".join(json_text(numbers) for numbers in vectors.tolist()))


def _texts(texts: Sequence[str], file: Path | None, field: str) -> list[str]:
    if texts and file is not None:
        raise InputError("give texts or --file FILE, not both.")
    if file is None:
        if field != "text":
            raise InputError("--field: goes with --file.")
        if named := next((each for each in texts if 0 < len(each) < 256 and Path(each).is_file()), None):
            raise InputError(f"{named}: is a file; --file {named} embeds what stands in it.")
        return list(texts) or piped().split("\n")
    from wenloom.tasks.passages import read_passages

    return [each.text for each in read_passages(file, field=field, keep_empty=True)]


def loaded_embedder(model: str, device: str, dtype: str, pooling: str | None) -> "Embedder":
    """The model as one that makes vectors; a remark says how it does where its folder does not.

    Raises:
        InputError, CheckpointError: see `runtime.embedder.load_embedder`.
    """
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import number_type, probe
    from wenloom.runtime.embedder import load_embedder

    loaded = load_embedder(resolve(model), probe(device).device, number_type(dtype), pooling)
    if not loaded.config.is_written and pooling is None:
        remark(f"{model}: has no modules.json; a vector is the mean over a text's tokens, of length 1 (--pooling takes another).")  # fmt: skip
    return loaded


def _write(out: Path, texts: Sequence[str], vectors: "np.ndarray[Any, Any]") -> None:
    import numpy as np

    with file_aside(out) as aside:
        if out.suffix == ".npy":
            np.save(aside, vectors)
            return
        for text, numbers in zip(texts, vectors, strict=True):
            aside.write((json_text({"text": text, "embedding": numbers.tolist()}) + "\n").encode())
