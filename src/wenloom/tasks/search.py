"""Search by meaning: the passages whose vectors are most like that of a question, found exactly, by one matrix product.

The vectors of a corpus are kept in a file beside it, each with the SHA-256 of its passage: of a corpus that changed, only the
passages that are new are embedded, and no vector can be that of another text.
"""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wenloom.checkpoint.sentence import Similarity
from wenloom.checkpoint.weights import stored_tensors, write_tensors
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, WenloomError
from wenloom.core.files import file_aside, sha256_of_file
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.runtime.embedder import BATCH_TOKENS, Embedder, Unfit
from wenloom.tasks.passages import TextPassage

ENDING = ".vectors.safetensors"
_MADE_BY = "wenloom.embedder"
_DIGEST = 16
"""Bytes of a SHA-256 that are kept: two of 10^12 passages share them with a probability of 10^-15."""


class Hit(NamedTuple):
    """A passage that was found."""

    score: float
    passage: TextPassage


class PassageIndex(NamedTuple):
    """Passages and their vectors."""

    passages: Sequence[TextPassage]
    vectors: Tensor
    """float32, shape (passages, D)."""
    n_made: int
    """Passages that were embedded for it; the others' vectors were known."""


def index_file(corpus: Path) -> Path:
    """Where the vectors of a corpus are kept: beside it."""
    return corpus.with_name(corpus.resolve().name + ENDING)


def fingerprint(folder: Path, *options: object) -> str:
    """What vectors depend on besides the texts: a model's files, and options.

    Args:
        folder: of the model.
    """
    files = sorted(
        path
        for pattern in ("*.json", "*.safetensors")
        for path in (*folder.glob(pattern), *folder.glob(f"*_*/{pattern}"))
    )
    parts = [f"{path.relative_to(folder)} {sha256_of_file(path)}" for path in files]
    return hashlib.sha256("\n".join([*parts, *map(str, options)]).encode()).hexdigest()


def indexed(
    embedder: Embedder, made_by: str, passages: Sequence[TextPassage], file: Path, batch_tokens: int = BATCH_TOKENS
) -> PassageIndex:
    """The vectors of passages: those that a file has, and the others made and put there.

    On Ctrl-C what was made is kept. A file that cannot be written costs only the time of the next call; a remark says so.

    Args:
        made_by: see `fingerprint`; vectors that another model made are replaced.

    Raises:
        InputError: see `Embedder.embed`.
    """
    digests = [hashlib.sha256(each.text.encode()).digest()[:_DIGEST] for each in passages]
    known = _known(file, made_by, embedder.width)
    texts = {digest: each.text for digest, each in zip(digests, passages, strict=True) if digest not in known}
    new, unfit = list(texts), Unfit()
    prompt = embedder.prompt_of("document", "passage", "corpus")
    try:
        with progress("Embedding", len(new), "passages") as bar:
            for places, made in embedder.made(list(texts.values()), prompt, None, batch_tokens, unfit):
                known |= {new[place]: vector for place, vector in zip(places, made, strict=True)}
                bar.advance(len(places))
    finally:
        if new and known:
            _keep(file, made_by, known)
    unfit.say(len(new), embedder.max_tokens)
    return PassageIndex(passages, torch.stack([known[digest] for digest in digests]), len(new))


def _known(file: Path, made_by: str, width: int) -> dict[bytes, Tensor]:
    """Vectors by the digests of their passages; none where the file is not there, damaged, or another model's."""
    if not file.exists():
        return {}
    try:
        with ExitStack() as stack:
            stored = stored_tensors([file], stack)
            if {*stored} != {"digests", "vectors"} or stored["vectors"].metadata.get(_MADE_BY) != made_by:
                remark(f"{file}: was made by another model or in another way: made anew.")
                return {}
            digests, vectors = stored["digests"].read(), stored["vectors"].read()
    except CheckpointError as error:
        remark(f"{error} It is made anew.")
        return {}
    if digests.shape != (len(vectors), _DIGEST) or vectors.shape[1:] != (width,):
        remark(f"{file}: holds no vectors of {width:,} numbers: made anew.")
        return {}
    return dict(zip(map(bytes, digests.numpy()), vectors, strict=True))


def _keep(file: Path, made_by: str, known: dict[bytes, Tensor]) -> None:
    digests = torch.frombuffer(bytearray(b"".join(known)), dtype=torch.uint8).view(-1, _DIGEST)
    tensors = {"digests": digests, "vectors": torch.stack([*known.values()])}
    try:
        with file_aside(file) as aside:
            write_tensors(tensors, aside, {_MADE_BY: made_by})  # pyright: ignore[reportArgumentType]
    except WenloomError as error:
        remark(f"The index is not kept ({error})")


def similarity(queries_QD: Tensor, passages_ND: Tensor, kind: Similarity = "cosine") -> Tensor:
    """How like vectors are, shape (Q, N); distances are negative, so that more is always nearer."""
    if kind == "cosine":
        return F.normalize(queries_QD, dim=-1) @ F.normalize(passages_ND, dim=-1).T
    if kind == "dot":
        return queries_QD @ passages_ND.T
    return -torch.cdist(queries_QD, passages_ND, p=2.0 if kind == "euclidean" else 1.0)


def search(
    embedder: Embedder, index: PassageIndex, queries: Sequence[str], count: int = 5, dimensions: int | None = None
) -> list[list[Hit]]:
    """The passages that are most like each query, best first; by the earlier place where two are equally so.

    Args:
        count: how many for each query.
        dimensions: compare by so many of the first numbers only.

    Raises:
        InputError: see `Embedder.embed`.
    """
    vectors = torch.from_numpy(embedder.embed(queries, prompt=embedder.prompt_of("query"), dimensions=dimensions))
    scores_QN = similarity(vectors, index.vectors[:, : vectors.shape[1]], embedder.config.similarity)
    found = []
    for scores_N in scores_QN:
        best = scores_N.argsort(descending=True, stable=True)[:count].tolist()
        found.append([Hit(float(scores_N[place]), index.passages[place]) for place in best])
    return found


def described(index: PassageIndex, file: Path) -> str:
    """What there is to search, for people."""
    state = f"{counted(index.n_made, 'passage')} embedded" if index.n_made else "all vectors known"
    return f"{counted(len(index.passages), 'passage')}, {state} ({file})."
