"""Scores against a float64 re-computation with transformers on the same weights."""

import math
from pathlib import Path

import pytest
import torch
import transformers

import wordloom
from wordloom.checkpoint.folder import write_model_files
from wordloom.core.errors import InputError
from wordloom.model.decoder import Decoder
from wordloom.tokens.tokenizer import TextTokenizer

from ..conftest import VERSES


@pytest.fixture
def folder(decoder: Decoder, tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    write_model_files(decoder, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def oracle(folder: Path, tokens: list[int], context: int, stride: int) -> list[float]:
    """log P of every token but the first, windows by their definition, in float64 throughout."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).double().eval()
    found: list[float] = []
    while len(found) < len(tokens) - 1:
        end = min(len(tokens) - 1, len(found) + (context if not found else stride))
        begin = max(0, end - context)
        with torch.no_grad():
            logs = model(torch.tensor([tokens[begin:end]])).logits[0].log_softmax(-1)
        found += [float(logs[place - 1 - begin, tokens[place]]) for place in range(len(found) + 1, end + 1)]
    return found


@pytest.mark.parametrize("stride", [None, 1, 5, 32])
@pytest.mark.parametrize("text", [VERSES[0], VERSES[3], " ".join(VERSES) * 2])
def test_score_is_the_sum_of_log_softmax(text: str, stride: int | None, folder: Path):
    model = wordloom.load(folder)
    score = model.score(text, stride)
    tokens = [0, *model.tokenizer.encode(text)]
    expected = oracle(folder, tokens, 32, 16 if stride is None else stride)
    assert score.log_probability == pytest.approx(math.fsum(expected), abs=1e-4)
    assert score.log_probabilities == pytest.approx(expected, abs=1e-4)
    assert score.token_ids == tokens[1:]
    assert score.bits_per_byte == pytest.approx(-math.fsum(expected) / math.log(2) / len(text.encode()))
    assert score.perplexity == pytest.approx(math.exp(-math.fsum(expected) / len(expected)))


def test_without_bos_the_first_token_is_only_context(folder: Path):
    model = wordloom.load(folder)
    score = model.score("春眠不觉晓", bos=False)
    ids = model.tokenizer.encode("春眠不觉晓")
    assert score.log_probabilities == pytest.approx(oracle(folder, ids, 32, 16), abs=1e-4)
    first = len(model.tokenizer.decode([ids[0]]).encode()) if "\ufffd" not in model.tokenizer.decode([ids[0]]) else 3
    assert score.scored_bytes == 15 - first and not score.bos


def test_what_cannot_be_scored(folder: Path):
    model = wordloom.load(folder)
    with pytest.raises(InputError, match="empty"):
        model.score("")
    with pytest.raises(InputError, match="--stride 33"):
        model.score("x", stride=33)
