"""`wenloom search`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path
from typing import Literal

from wenloom.cli.answers import piped
from wenloom.cli.embed import BatchSize, Dimensions, Pooling, loaded_embedder
from wenloom.cli.options import Device, Dtype, Json
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError, printable

_EXCERPT = 300
"""Characters of a passage that are shown."""


def search(
    model: str,
    corpus: Path,
    /,
    *queries: str,
    count: int = 5,
    by: Literal["line", "paragraph"] = "line",
    field: str = "text",
    index: Path | None = None,
    pooling: Pooling = None,
    dimensions: Dimensions = None,
    batch_size: BatchSize = 2048,
    device: Device = "auto",
    dtype: Dtype = "float32",
    json: Json = False,
) -> None:
    """Search texts by meaning: the passages most like a question, with file and line.

    Vectors of the passages are kept in a file beside the corpus; of a corpus that changed, only what is new is embedded. The
    search is exact. A model's prompts for queries and documents are used.

        wenloom search runs/embedder texts.txt "Who lit the lamp?"
        wenloom search runs/embedder my-texts "Who lit the lamp?" --by paragraph --count 3

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    corpus
        A file of text, jsonl or a table (.csv, .tsv), or a folder of such files; also compressed.
    queries
        One question or several; without one, a pipe is read, a question per line.
    count
        How many passages to show for each question.
    by
        What a passage of plain text is: a line, or a paragraph (up to an empty line). Rows of jsonl and tables are passages.
    field
        Field or column of the text.
    index
        Keep the vectors in this file; default: beside the corpus, with .vectors.safetensors behind its name.
    """
    if count < 1:
        raise InputError(f"--count {count}: must be at least 1.")
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be at least 1.")
    asked = [each for each in (list(queries) or piped().split("\n")) if each.strip()]
    if not asked:
        raise InputError("the question is empty.")
    from wenloom.checkpoint.hub import resolve
    from wenloom.tasks.passages import read_passages
    from wenloom.tasks.search import described, fingerprint, index_file, indexed
    from wenloom.tasks.search import search as find

    passages = read_passages(corpus, by, field)
    embedder = loaded_embedder(model, device, dtype, pooling)
    file = index_file(corpus) if index is None else index
    made_by = fingerprint(resolve(model), pooling, dtype)
    found = indexed(embedder, made_by, passages, file, batch_size)
    remark(described(found, file))
    hits = find(embedder, found, asked, count, dimensions)
    if json:
        answers = [
            {"query": query, "hits": [{"score": hit.score, "file": str(hit.passage.file), "line": hit.passage.line, "text": hit.passage.text}
                                      for hit in each]}
            for query, each in zip(asked, hits, strict=True)
        ]  # fmt: skip
        print_json(
            {
                "model": model,
                "corpus": str(corpus),
                "passages": len(passages),
                "embedded": found.n_made,
                "answers": answers,
            }
        )
        return
    blocks = []
    for query, each in zip(asked, hits, strict=True):
        lines = [
            f"{hit.score:.3f}  {hit.passage.file}:{hit.passage.line}  {printable(hit.passage.text.strip(), _EXCERPT)}"
            for hit in each
        ]
        blocks.append("\n".join([query, *lines] if len(asked) > 1 else lines))
    say("\n\n".join(blocks))
