"""`wenloom index`. NumPy is loaded when there is work, so that --help answers at once."""

from pathlib import Path

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say


def index(corpus: Path, /, *, json: Json = False) -> None:
    """Index a corpus, so that any text is found in it at once.

    Sorts all places of the training text by what is read from there on, and keeps the order in the corpus folder, four bytes
    a token. `wenloom explain` then shows where an answer stands in the training text, and what followed there. Running it
    again does nothing, unless the corpus was prepared anew.

        wenloom index data/mine
        wenloom explain runs/mine "The lamp was" --data data/mine

    Parameters
    ----------
    corpus
        A folder that `wenloom prepare` made.
    """
    from wenloom.core.quantities import show_bytes
    from wenloom.tokens.index import FOLDER, indexed
    from wenloom.tokens.places import DocumentPlaces
    from wenloom.tokens.shards import Dataset

    dataset = Dataset.open(corpus)
    DocumentPlaces.open(corpus, "train", dataset.splits["train"].tokens)
    found, was_there = indexed(dataset)
    n_bytes = sum(order.nbytes for order in found.orders)
    if json:
        print_json({"corpus": str(corpus), "tokens": len(found.stream), "bytes": n_bytes, "reused": was_there})
        return
    state = "nothing changed since it was indexed" if was_there else "indexed"
    say(f"{corpus / FOLDER}: {state}; {len(found.stream):,} tokens, {show_bytes(n_bytes)}.")
