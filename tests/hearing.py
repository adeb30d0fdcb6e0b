"""A small model that hears, of random weights, with the tokens of Whisper's; and sound to hear."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from wenloom.audio.reading import RATE
from wenloom.checkpoint.folder import write_model_files
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tokens.tokenizer import TextTokenizer

CONTROL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|zh|>", "<|translate|>", "<|transcribe|>",
           "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")  # fmt: skip


def hearing_tokenizer() -> TextTokenizer:
    """Bytes, and the tokens that steer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({char: number for number, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(CONTROL))
    return TextTokenizer(backend, {"bos_token": CONTROL[0], "eos_token": CONTROL[0], "pad_token": CONTROL[0]})


def hearing_config(**more: Any) -> ModelConfig:
    """The shape; 1,501 tokens of time follow those of the tokenizer."""
    first = 256
    encoder = config_of(
        PLAIN_BLOCKS, family="whisper", vocab_size=first + len(CONTROL) + 1501, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, d_head=8, d_mlp=24,
        context_length=1500, norms={"eps": 1e-5}, mlp={"activation": "gelu"}, attention={"key_bias": False}, causal=False, n_mels=80,
        initializer_range=0.3, bos_token_id=first, eos_token_ids=(first,), pad_token_id=first,
    )  # fmt: skip
    return replace(encoder, causal=True, n_mels=None, context_length=64, n_layers=2, encoder=encoder,
                   decoder_start_token_id=first + 1, **more)  # fmt: skip


def hearing_model(seed: int = 0) -> EncoderDecoder:
    """Of random weights, also where training begins with zeros."""
    model, draws = EncoderDecoder(hearing_config()), torch.Generator().manual_seed(seed)
    model.initialise(draws)
    for block in model.encoder.blocks:
        for linear in (block.attention.output, block.mlp.down):
            torch.nn.init.normal_(linear.weight, 0.0, 0.02, generator=draws)
    return model.eval()


def write_hearing(folder: Path, **said: Any) -> Path:
    """A folder of the family whisper that knows three languages.

    Args:
        said: more that its generation_config.json says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_model_files(hearing_model(), folder)
    hearing_tokenizer().save_pretrained(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"is_multilingual": True} | said))
    return folder


def spoken(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Sound that comes and goes as speech does."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    loudness = np.maximum(0, np.sin(2 * np.pi * 2 * time)) ** 2
    tone = np.sin(2 * np.pi * draw.uniform(150, 400) * time) + 0.3 * np.sin(2 * np.pi * draw.uniform(900, 2500) * time)
    return (0.2 * loudness * tone + 0.001 * draw.normal(size=len(time))).astype(np.float32)


def write_spoken(path: Path, seconds: float = 1.0, seed: int = 0) -> Path:
    """The same as a file of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, spoken(seconds, seed), RATE, format="WAV")
    return path
