"""Features of a model: a sparse autoencoder or a transcoder trained on what flows at one's own text, measured, and what each feature
stands for."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.activations import batches, flowing, row_length, token_rows
from wenloom.explanation.feature_report import FeatureFigures, measure_features
from wenloom.explanation.feature_training import CoderSettings, train_coder
from wenloom.explanation.sparse_coder import SparseCoder, places_of
from wenloom.explanation.subject import Subject

ROW = 129
"""Tokens that are read at once, where the model reads so many."""
MOST_FEATURES = 2**20
_HELD_OUT = 10
"""Every so many rows are held out."""
_MOST_HELD_OUT = 512
_DEAD_AFTER = 200_000


@dataclass(frozen=True)
class Features:
    """Features that were found."""

    coder: SparseCoder
    figures: FeatureFigures
    found: list[dict[str, Any]]
    """See `feature_report.measure_features`."""


def find_features(
    subject: Subject,
    texts: Sequence[str],
    layer: int | None = None,
    active: int = 32,
    width: float = 8,
    n_tokens: int = 1_000_000,
    passes: float = 2.0,
    transcoder: bool = False,
    seed: int = 0,
    on_tokens: Callable[[int, float], None] = lambda n, unexplained: None,
    on_rows: Callable[[int], None] = lambda n: None,
) -> Features:
    """Train features on a text as it is read, and measure them on the rows of it that were held out.

    Args:
        texts: files and folders.
        layer: the block after which the stream is read, or whose feed-forward layer; None: the one in the middle.
        active: features that stand for a token.
        width: features for each dimension of the stream.
        n_tokens: tokens to learn from, over all passes.
        passes: times that a token is learned from; more where the text is too short for so many tokens.
        transcoder: features tell from what the feed-forward layer of the block reads what it adds to the stream.
        on_tokens: told how many tokens were read, and the part of the variance that is not explained.
        on_rows: told how many rows were measured.

    Raises:
        InputError: a model that does not write on, no such block, sizes that do not fit each other, or too little text.
    """
    decoder = subject.writer(
        "features are found in models that continue their prompt: decoders without an encoder or classes."
    )
    config = decoder.config
    layer = config.n_layers // 2 if layer is None else layer
    n_features = round(min(width, 1e9) * config.d_model)
    if not 0 <= layer < config.n_layers:
        raise InputError(f"layer {layer}: this model has blocks 0 to {config.n_layers - 1}.")
    if n_features < 1 or n_features > MOST_FEATURES:
        raise InputError(f"width {width:g}: makes {n_features:,} features; there may be 1 to {MOST_FEATURES:,}.")
    if not 1 <= active <= n_features:
        raise InputError(f"active {active}: must be from 1 to the number of features, {n_features:,}.")
    length, held_out = row_length(subject, ROW), list[list[int]]()
    settings = CoderSettings(
        n_features, active, max(1, math.ceil(n_tokens / passes)), passes, is_transcoder=transcoder, seed=seed
    )

    def learned() -> Iterator[list[int]]:
        for number, row in enumerate(token_rows(subject, texts, length)):
            if number % _HELD_OUT == 0 and len(held_out) < _MOST_HELD_OUT:
                held_out.append(row)
            else:
                yield row

    def activations() -> Iterator[Tensor]:
        for tokens_BT in batches(subject, learned()):
            yield flowing(decoder, places_of(layer, transcoder), tokens_BT)

    coder, silent_M = train_coder(activations(), layer, settings, on_tokens)
    coder = replace(coder, about={"model_name": subject.stack.config.family, "active_features": active})
    dead_after = min(_DEAD_AFTER, n_tokens // 2)
    if not all(each.isfinite().all() for each in vars(coder).values() if isinstance(each, Tensor)):
        raise InputError(
            "the stream holds numbers that are none (NaN or infinite): the model's weights are damaged or overflow."
        )
    figures, found = measure_features(subject, coder, held_out, silent_M, dead_after, on_rows=on_rows)
    return Features(coder, figures, found)
