"""A recogniser from nothing: its vocabulary and its shape."""

from dataclasses import replace

from tokenizers import AddedToken

from wenloom.core.errors import InputError
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of
from wenloom.tasks.plain_text import character_tokenizer, fresh_tokenizer
from wenloom.tasks.settings import FreshSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.dial import Derived

BANDS = 80
END = "<|endoftranscript|>"
_FEW_WORDS = 100
"""So many different words are tokens as wholes where they are frequent; of more, words that were never heard are to be written, too."""
_AROUND = 8
"""Places beside those of the longest text, in the decoder."""


def fresh_vocabulary(
    fresh: FreshSettings, texts: list[str], most: int, languages: list[str]
) -> tuple[TextTokenizer, Derived | None]:
    """A vocabulary with Whisper's tokens that steer, and what it was derived from where nobody said.

    CTC finds characters far sooner than pieces of words: each is heard often, and one token is one sound, roughly (docs/experiments.md).

    Args:
        texts: of all recordings.
        most: tokens of a text.
        languages: those that need a token.
    """
    texts = [f" {text.strip()}" for text in texts]
    n_words, longest = len({word for text in texts for word in text.split()}), max(map(len, texts))
    derived = None
    if fresh.tokenizer is None and fresh.vocab_size is None and n_words > _FEW_WORDS and longest < most:
        learned = character_tokenizer(texts)
        why = f"more than {_FEW_WORDS} different words, no text of more than --max-target-tokens"
        derived = Derived("vocabulary", "characters", why)
    else:
        learned = fresh_tokenizer(fresh, texts, most=2048)
    names = ["<|startoftranscript|>", *(f"<|{each}|>" for each in languages), "<|translate|>", "<|transcribe|>",
             "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip
    steering = [AddedToken(each, special=True) for each in (END, *names)]
    return learned.extended(steering, {"bos_token": END, "eos_token": END, "pad_token": END}), derived


def fresh_shape(fresh: FreshSettings, tokenizer: TextTokenizer, places: int, longest: int) -> ModelConfig:
    """Whisper's shape; what is heard takes more layers than what is written.

    Args:
        places: of the encoder, two frames each.
        longest: tokens of the longest text.

    Raises:
        InputError: the width is no multiple of the heads.
    """
    if fresh.width % fresh.heads:
        raise InputError(f"--width {fresh.width}: must be a multiple of --heads {fresh.heads}.")
    end = tokenizer.eos_token_id
    assert end is not None
    encoder = config_of(
        PLAIN_BLOCKS, family="whisper", vocab_size=tokenizer.vocab_size, n_layers=fresh.layers, d_model=fresh.width, n_heads=fresh.heads,
        n_kv_heads=fresh.heads, d_head=fresh.width // fresh.heads, d_mlp=4 * fresh.width, context_length=places,
        norms={"eps": 1e-5}, mlp={"activation": "gelu"}, attention={"key_bias": False}, causal=False, n_mels=BANDS,
        dropout={"embedding": fresh.dropout, "residual": fresh.dropout},
        bos_token_id=end, eos_token_ids=(end,), pad_token_id=end,
    )  # fmt: skip
    return replace(encoder, causal=True, n_mels=None, n_layers=-(-fresh.layers // 2), context_length=max(64, 2 * (longest + _AROUND)),
                   encoder=encoder, decoder_start_token_id=tokenizer.backend.token_to_id("<|startoftranscript|>"))  # fmt: skip
