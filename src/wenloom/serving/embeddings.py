"""/v1/embeddings: texts as vectors."""

import asyncio
import base64
from typing import Annotated, Literal

import torch
from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from torch import Tensor

from wenloom.model.pooling import shortened
from wenloom.runtime.embedder import TextRows
from wenloom.serving.answer import JSON
from wenloom.serving.chat_schema import Logged, Name
from wenloom.serving.completion_schema import Ids
from wenloom.serving.errors import refused
from wenloom.serving.fields import Body, Honoured
from wenloom.serving.models import ServedEmbedder
from wenloom.serving.service import Service, entry_of, noted
from wenloom.serving.settings import RequestLimits

MOST_TEXTS = 2048
_LONGEST_TOKEN = 256
"""Characters that a token may stand for: a longer text cannot fit, whatever its tokens are."""


class EmbeddingRequest(Body):
    """The body of /v1/embeddings."""

    model: Name
    input: Annotated[
        str | Ids | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_TEXTS)],
        Honoured("a text, token ids, or a list of either"),
    ]  # fmt: skip
    encoding_format: Annotated[Literal["float", "base64"], Honoured("base64: float32, little-endian")] | None = None
    dimensions: (
        Annotated[int, Field(ge=1, le=1_000_000), Honoured("the first so many numbers, brought to length 1 again")]
        | None
    ) = None
    user: Logged | None = None


async def embedded(service: Service, http: Request, body: EmbeddingRequest) -> Response:
    """The vectors of the texts, in their order.

    Raises:
        APIError: a text is empty or too long, or more dimensions are asked for than there are.
    """
    served, entry = service.models.find_embedder(body.model), entry_of(http)
    entry.model, entry.note = served.name, noted(body)
    rows = await asyncio.to_thread(_rows, body, served, service.limits)
    entry.prompt_tokens = sum(map(len, rows.ids))
    entry.ticket = service.admission.queue(entry.prompt_tokens)
    vectors = torch.empty(len(rows.ids), served.embedder.width)
    for places, work in served.embedder.batches(rows, normalize=True):
        vectors[places] = await served.run(work)
    service.metrics.tokens.labels(served.name, "prompt").inc(entry.prompt_tokens)
    return JSONResponse(await asyncio.to_thread(_answer, body, served, vectors, entry.prompt_tokens))


def _rows(body: EmbeddingRequest, served: ServedEmbedder, limits: RequestLimits) -> TextRows:
    width, longest = served.embedder.width, served.embedder.max_tokens
    if body.dimensions is not None and body.dimensions > width:
        raise refused("dimensions", f"dimensions: {served.name} has {width:,}, {body.dimensions:,} are asked for.")
    inputs = body.input if isinstance(body.input, list) and isinstance(body.input[0], str | list) else [body.input]
    prompt = served.embedder.prompt()
    vocab_size, rows, n_read = served.embedder.model.config.vocab_size, [], 0
    for number, each in enumerate(inputs):
        param = "input" if len(inputs) == 1 else f"input[{number}]"
        if longest is not None and isinstance(each, str) and len(each) > longest * _LONGEST_TOKEN:
            raise refused(param, f"{param}: {len(each):,} characters are more than the {longest:,} tokens that {served.name} reads.", "context_length_exceeded")  # fmt: skip
        ids: list[int] = served.embedder.tokenizer.encode(prompt + each) if isinstance(each, str) else each  # pyright: ignore
        if not each or not ids:
            raise refused(param, f"{param}: is empty.")
        if longest is not None and len(ids) > longest:
            raise refused(param, f"{param}: {len(ids):,} tokens are more than the {longest:,} that {served.name} reads.", "context_length_exceeded")  # fmt: skip
        if max(ids) >= vocab_size:
            raise refused(param, f"{param}: {max(ids)} is not in the model's vocabulary of {vocab_size:,}.")
        n_read += len(ids)
        if n_read > limits.max_queued_tokens:
            raise refused("input", f"input: more than {limits.max_queued_tokens:,} tokens over all texts.")
        rows.append(ids)
    return TextRows(rows, served.embedder.skipped(prompt) if isinstance(inputs[0], str) else 0)


def _answer(body: EmbeddingRequest, served: ServedEmbedder, vectors: Tensor, n_read: int) -> JSON:
    if body.dimensions is not None:
        vectors = shortened(vectors, body.dimensions)
    if body.encoding_format == "base64":
        written = [base64.b64encode(row.numpy().astype("<f4").tobytes()).decode() for row in vectors]
    else:
        written = vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(written)]
    return {"object": "list", "data": data, "model": served.name,
            "usage": {"prompt_tokens": n_read, "total_tokens": n_read}}  # fmt: skip
