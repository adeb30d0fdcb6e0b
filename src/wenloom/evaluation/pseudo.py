"""The pseudo-log-likelihood of a text by a masked model (Salazar et al. 2020, eq. 1)."""

from collections.abc import Callable

import torch

from wenloom.core.errors import InputError
from wenloom.evaluation.scorer import Score
from wenloom.model.encoder import Encoder
from wenloom.tokens.tokenizer import TextTokenizer

_BATCH_TOKENS = 2048


def pseudo_score(
    encoder: Encoder, tokenizer: TextTokenizer, text: str, on_tokens: Callable[[int], None] = lambda n: None
) -> Score:
    """log P(token | all others) of every token, each hidden alone; their sum is the PLL, not a probability of the text.

    A longer text is cut into stretches that fit, which do not see each other. Figures compare between masked models of
    one tokenizer, never with those of a model that reads from left to right.

    Raises:
        InputError: the model has no mask, or the text no token.
    """
    encoding = tokenizer.encoding(text, add_special_tokens=False)
    ids = encoding.ids
    found, _ = pseudo_continuation(encoder, tokenizer, ids, 0, on_tokens)
    if not ids:
        raise InputError("the text is empty.")
    return Score(text, ids, found, len(text.encode()), encoder.config.context_length, stretch(encoder, tokenizer), bos=True,
                 begins=[begin for begin, _ in encoding.offsets])  # fmt: skip


def stretch(encoder: Encoder, tokenizer: TextTokenizer) -> int:
    """Tokens of a text that are read at once, between what the tokenizer puts around them."""
    return encoder.config.context_length - len(tokenizer.encode(""))


@torch.inference_mode()
def pseudo_continuation(
    encoder: Encoder,
    tokenizer: TextTokenizer,
    ids: list[int],
    first: int,
    on_tokens: Callable[[int], None] = lambda n: None,
) -> tuple[list[float], bool]:
    """log P(token | all others) of the tokens from `first` on, each hidden alone, and whether each was the most probable
    one.

    Raises:
        InputError: the model has no mask.
    """
    if encoder.classifier is not None or tokenizer.mask_token_id is None:
        raise InputError("this model cannot fill in masks: pseudo-perplexity takes an encoder that predicts tokens.")
    around = tokenizer.encode("")
    before, after = around[: len(around) // 2], around[len(around) // 2 :]
    width = stretch(encoder, tokenizer)
    device = encoder.embed.weight.device
    found: list[float] = []
    is_greedy = True
    for start in range(0, len(ids), width):
        row = torch.tensor([*before, *ids[start : start + width], *after], device=device)
        places = torch.arange(len(before) + max(0, first - start), len(row) - len(after), device=device)
        for part in places.split(max(1, _BATCH_TOKENS // len(row))):
            hidden_rows = row.repeat(len(part), 1)
            lines = torch.arange(len(part), device=device)
            hidden_rows[lines, part] = tokenizer.mask_token_id
            stream = encoder.hidden(hidden_rows)[lines, part]
            log_p = encoder.unembed(stream).float().log_softmax(-1)
            picked = log_p[lines, row[part]]
            found += picked.tolist()
            is_greedy = is_greedy and bool((picked >= log_p.amax(-1)).all())
            on_tokens(len(part))
    return found, is_greedy
