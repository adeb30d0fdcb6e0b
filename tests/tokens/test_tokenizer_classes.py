"""Folders that transformers' own classes write, with the switches that each obeys or does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.tokens.test_folders import BASES, LEARNED, SAMPLES, config
from wenloom.tokens.tokenizer import TextTokenizer


def model(base: str) -> dict[str, Any]:
    return json.loads(BASES[base].to_str())["model"]


def sentence_piece() -> dict[str, Any]:
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    special = ["<unk>", "<s>", "</s>", "<pad>", "<bos>", "<eos>"]
    backend.train_from_iterator(
        LEARNED, trainers.BpeTrainer(vocab_size=250, special_tokens=special, show_progress=False)
    )
    return json.loads(backend.to_str())["model"]


def of_pairs(spec: dict[str, Any], *more: str) -> Callable[[Any], Any]:
    vocab = spec["vocab"] | {name: len(spec["vocab"]) + number for number, name in enumerate(more)}
    return lambda kind: kind(vocab=vocab, merges=[tuple(pair) for pair in spec["merges"]])


def of_scores(*more: str) -> Callable[[Any], Any]:
    vocab = [tuple(pair) for pair in model("unigram")["vocab"]] + [(name, 0.0) for name in more]
    return lambda kind: kind(vocab=vocab)


BYTES, PIECES = model("byte-level"), sentence_piece()
MAKERS: dict[str, Callable[[Any], Any]] = {
    "GPT2": of_pairs(BYTES, "<|endoftext|>"), "Roberta": of_pairs(BYTES, "<mask>"), "Bart": of_pairs(BYTES, "<mask>"),
    "Qwen2": of_pairs(BYTES, "<|endoftext|>"), "GPTNeoX": of_pairs(BYTES, "<|endoftext|>"),
    "Whisper": of_pairs(BYTES, "<|endoftext|>", "<|startoftranscript|>"), "Llama": of_pairs(PIECES), "Gemma": of_pairs(PIECES),
    "Bert": lambda kind: kind(vocab=model("word-piece")["vocab"]), "T5": of_scores(), "XLMRoberta": of_scores("<mask>"),
    "Albert": of_scores("[CLS]", "[SEP]", "[MASK]"), "Camembert": of_scores(),
}  # fmt: skip
EDITS: list[dict[str, bool]] = [
    {}, {"add_prefix_space": True}, {"add_prefix_space": False}, {"do_lower_case": False}, {"do_lower_case": True},
    {"strip_accents": True}, {"tokenize_chinese_chars": False}, {"clean_up_tokenization_spaces": True}, {"legacy": True},
    {"legacy": False}, {"add_bos_token": True}, {"add_eos_token": True},
]  # fmt: skip


@pytest.mark.parametrize(
    "edit", EDITS, ids=lambda edit: " ".join(f"{name} {on}" for name, on in edit.items()) or "as saved"
)
@pytest.mark.parametrize("name", MAKERS)
def test_switches_of_a_class_count_as_in_transformers(name: str, edit: dict[str, bool], tmp_path: Path):
    MAKERS[name](getattr(transformers, f"{name}Tokenizer")).save_pretrained(tmp_path)
    config(**edit)(tmp_path)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), TextTokenizer.from_pretrained(tmp_path)
    for text in SAMPLES:
        for special in (True, False):
            ids = theirs.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids, text
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True), text
    assert ours.special_tokens == {
        part: token for part, token in theirs.special_tokens_map.items() if isinstance(token, str)
    }


def test_a_prefix_space_stands_once_where_bytes_come_after_another_step(tmp_path: Path):
    backend = Tokenizer.from_str(BASES["byte-level"].to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true}')
    ours, theirs = TextTokenizer.from_pretrained(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("pay 123", "1 2", "a1b"):
        assert ours.encode(text) == theirs.encode(text), text


@pytest.mark.parametrize("stored", ["nothing", "its unknown token"])
@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"Whisper", "Albert"}))
def test_what_a_class_puts_around_texts_counts_as_in_transformers(name: str, stored: str, tmp_path: Path):
    """Whatever tokenizer.json puts there, which some classes take no notice of."""
    MAKERS[name](getattr(transformers, f"{name}Tokenizer")).save_pretrained(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    token = next(iter(spec["added_tokens"]))
    spec["post_processor"] = None if stored == "nothing" else {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token["content"], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token["content"]: {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), TextTokenizer.from_pretrained(tmp_path)
    for text in SAMPLES[:4]:
        assert ours.encode(text) == theirs.encode(text), text
    assert ours.backend.encode(SAMPLES[1], SAMPLES[2]).ids == theirs.encode(SAMPLES[1], SAMPLES[2])
