"""GGUF files that Wenloom writes, read by the package gguf, by transformers and, where it is installed, by llama.cpp."""

import json
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from wenloom.checkpoint.folder import load_decoder
from wenloom.checkpoint.gguf.export import export_gguf
from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.checkpoint.gguf.ollama import write_modelfile
from wenloom.checkpoint.gguf.quantizing import WRITTEN, blocks_of
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

from ..conftest import VERSES
from ..mixed_lines import mixed_lines
from ..small_gguf import write_small
from .folders import tiny_config
from .gguf_files import ARCHITECTURES, OF_EXPERTS, numbers, random_model, write_model

TEXTS = [
    *VERSES,
    "The lamp, 12345 nets!\n\n  don't\t x",
    "春眠不觉晓，处处闻啼鸟。",
    "👩‍👧 é e\u0301 <|endoftext|>",
    "   ",
    "a",
]
IDS = torch.tensor([[3, 9, 4, 4, 17, 30, 5, 2, 11, 8, 3, 3]])
SHAPE: dict[str, Any] = dict(n_layers=1, d_model=64, n_heads=4, n_kv_heads=2, context_length=64)


def _own(family: str) -> dict[str, Any]:
    """A model of the family that llama.cpp computes as transformers does."""
    more: dict[str, Any] = {"vocab_size": 258}
    if family in ("gemma2", "gemma3_text"):
        more |= {"query_pre_attn_scalar": 8}
    more |= OF_EXPERTS.get(family, {})
    if family == "smollm3":
        more |= {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}
    if family in ("phi3", "starcoder2", "mistral"):
        more |= {"sliding_window": None}
    if family == "falcon":
        more |= {"num_ln_in_parallel_attn": 2}
    return more | ({"n_inner": 64} if family == "gpt2" else {})


@pytest.fixture(scope="module")
def byte_tokenizer() -> TextTokenizer:
    return train_tokenizer([VERSES], "byte")


@pytest.fixture(scope="module")
def bpe_tokenizer() -> TextTokenizer:
    return train_tokenizer([VERSES * 3], "bpe", 400, exact=False)


def _decoder(text: TextTokenizer, **more: Any) -> Decoder:
    ids = {f"{name}_id": getattr(text, f"{name}_id") for name in ("bos_token", "eos_token", "pad_token")}
    decoder = Decoder(from_scratch("llama", **({"vocab_size": text.vocab_size} | SHAPE | ids | more)))
    decoder.initialise(generator(0, "gguf"))
    return decoder.eval()


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_fields_and_tensors_are_those_of_the_converter(family: str, byte_tokenizer: TextTokenizer, tmp_path: Path):
    model = random_model(tiny_config(family, **_own(family)))
    model.save_pretrained(tmp_path)
    export_gguf(load_decoder(tmp_path), byte_tokenizer, tmp_path / "ours.gguf", "F32")
    write_model(model, tmp_path / "theirs.gguf")
    ours, theirs = numbers(tmp_path / "ours.gguf"), numbers(tmp_path / "theirs.gguf")
    assert ours.keys() - theirs.keys() <= {
        "output.weight"
    }  # which llama.cpp does not take from the embedding everywhere
    assert {name for name, data in theirs.items() if not np.allclose(ours[name], data, atol=1e-6)} == set()
    read, reference = (gguf.GGUFReader(tmp_path / f"{name}.gguf").fields for name in ("ours", "theirs"))
    for name, field in reference.items():
        if not name.startswith(("GGUF.", "tokenizer.", "general.")):
            assert read[name].contents() == pytest.approx(field.contents(), rel=1e-6), name
    again = read_gguf(tmp_path / "ours.gguf").model
    with torch.inference_mode():
        torch.testing.assert_close(again(IDS), model(IDS).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", WRITTEN)
def test_blocks_are_those_of_the_package_gguf(kind: str):
    data = torch.randn(16, 512, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 16)[:, None]
    data[3] = 0
    data[4, :256] = data[4, :256].abs()
    raw = np.frombuffer(blocks_of(data, kind), np.uint8).reshape(16, -1)
    number = gguf.GGMLQuantizationType[kind]
    if kind != "Q4_K":
        assert np.array_equal(raw, gguf.quants.quantize(data.numpy(), number).view(np.uint8).reshape(16, -1))
        return
    back = gguf.quants.dequantize(raw, number).reshape(16, 512)
    coarse = gguf.GGMLQuantizationType.Q4_0
    plain = gguf.quants.dequantize(gguf.quants.quantize(data.numpy(), coarse), coarse)
    error, other = (((each - data.numpy()) ** 2).mean(1) / data.numpy().var(1).clip(1e-30) for each in (back, plain))
    assert (error[3], error.max() < 0.008) == (0, True) and error.mean() < 0.75 * other.mean()


@pytest.mark.parametrize("kind", WRITTEN)
def test_transformers_reads_what_is_written(kind: str, bpe_tokenizer: TextTokenizer, tmp_path: Path):
    decoder = _decoder(bpe_tokenizer, d_model=256)
    kinds = export_gguf(decoder, bpe_tokenizer, tmp_path / "model.gguf", kind, "mine")
    assert set(kinds) <= {kind, "F32", "Q8_0"} and sum(kinds.values()) == decoder.n_parameters()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    ours = read_gguf(tmp_path / "model.gguf", torch.float32).model
    with torch.inference_mode():
        got, exact = theirs(IDS).logits, decoder(IDS)
        torch.testing.assert_close(ours(IDS), got, atol=2e-4, rtol=1e-3)
        if kind == "F32":
            torch.testing.assert_close(got, exact, atol=2e-5, rtol=1e-4)
        assert (got - exact).abs().max() < {"F32": 1e-4, "F16": 1e-2, "BF16": 5e-2, "Q8_0": 5e-2}.get(kind, 0.5)


# --- tokenizers ---


def _sentence_piece(begins: bool, tmp_path: Path) -> TextTokenizer:
    write_small(tmp_path / "spm.gguf", "llama")
    text = read_gguf(tmp_path / "spm.gguf").tokenizer
    if not begins:
        text.backend.normalizer = normalizers.Replace(" ", "▁")
        text.backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        text.backend.post_processor = None
    return text


def _with(text: TextTokenizer, **parts: Any) -> TextTokenizer:
    """A byte-level tokenizer with other parts."""
    spec = json.loads(text.backend.to_str())
    made = Tokenizer.from_str(json.dumps(spec))
    for name, part in parts.items():
        setattr(made, name, part)
    return TextTokenizer(made, text.special_tokens)


def _tokenizers(text: TextTokenizer, tmp_path: Path) -> dict[str, TextTokenizer]:
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    begins = TemplateProcessing(
        single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", 0)]
    )
    more = text.extended([AddedToken("<|im_start|>", special=True)], text.special_tokens)
    more.backend.add_tokens([AddedToken("lamp", special=False, normalized=False)])
    more.chat_template = "{% for message in messages %}<|im_start|>{{ message.content }}{% endfor %}"
    write_small(tmp_path / "t5.gguf", "t5")
    return {
        "bytes": train_tokenizer([VERSES], "byte"), "bpe": text, "digits": _with(text, pre_tokenizer=digits),
        "begins": _with(text, post_processor=begins), "added": more, "pieces": _sentence_piece(True, tmp_path),
        "pieces without blank": _sentence_piece(False, tmp_path), "unigram": read_gguf(tmp_path / "t5.gguf").tokenizer,
    }  # fmt: skip


KINDS = ("bytes", "bpe", "digits", "begins", "added", "pieces", "pieces without blank", "unigram")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_comes_back_as_it_was(kind: str, bpe_tokenizer: TextTokenizer, tmp_path: Path):
    text = _tokenizers(bpe_tokenizer, tmp_path)[kind]
    export_gguf(_decoder(text), text, tmp_path / "model.gguf")
    back = read_gguf(tmp_path / "model.gguf").tokenizer
    assert [back.encode(each) for each in TEXTS] == [text.encode(each) for each in TEXTS]
    assert back.encode_documents(TEXTS) == text.encode_documents(TEXTS)
    assert [back.decode(text.encode(each)) for each in TEXTS] == [text.decode(text.encode(each)) for each in TEXTS]
    assert back.special_tokens == text.special_tokens and back.chat_template == text.chat_template
    assert back.model_max_length == 64


def test_rows_without_a_token_are_filled_up_and_left_out_again(bpe_tokenizer: TextTokenizer, tmp_path: Path):
    decoder = _decoder(bpe_tokenizer, vocab_size=bpe_tokenizer.vocab_size + 6)
    export_gguf(decoder, bpe_tokenizer, tmp_path / "model.gguf")
    found = read_gguf(tmp_path / "model.gguf")
    assert found.model.config.vocab_size == found.tokenizer.vocab_size + 6 == bpe_tokenizer.vocab_size + 6
    with pytest.raises(InputError, match="the tokenizer has tokens up to number"):
        export_gguf(_decoder(train_tokenizer([VERSES], "byte")), bpe_tokenizer, tmp_path / "other.gguf")
    assert not (tmp_path / "other.gguf").exists()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"normalizer": normalizers.Lowercase()}, "it changes them first \\(Lowercase\\)"),
        ({"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])}, "there is no name"),
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)}, "there is no name"),
        ({"pre_tokenizer": pre_tokenizers.Whitespace()}, "neither over bytes nor marks blanks"),
        ({"post_processor": TemplateProcessing(single="<|pad|> $A", pair="$A $B", special_tokens=[("<|pad|>", 1)])},
         "puts other tokens around them"),
        ({"model": models.WordLevel({"a": 0, "<|endoftext|>": 1, "<|pad|>": 2}, "a")}, "no tokenizer of this kind"),
    ],
)  # fmt: skip
def test_what_llama_cpp_would_cut_otherwise_is_refused(
    parts: dict[str, Any], said: str, bpe_tokenizer: TextTokenizer, tmp_path: Path
):
    text = _with(bpe_tokenizer, **parts)
    with pytest.raises(InputError, match=said):
        export_gguf(_decoder(bpe_tokenizer), text, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "said"), [("unigram", "a unigram model over bytes"), ("char", "no tokenizer of this kind")]
)
def test_trained_tokenizers_that_llama_cpp_lacks_are_refused(kind: Any, said: str, tmp_path: Path):
    text = train_tokenizer([VERSES * 3], kind, 300 if kind == "unigram" else None, exact=False)
    with pytest.raises(InputError, match=said):
        export_gguf(_decoder(text), text, tmp_path / "model.gguf")


def test_merges_that_have_no_order_of_scores_are_refused(tmp_path: Path):
    vocab = {token: number for number, token in enumerate(["<unk>", "a", "b", "ab", "ba", "aba", "</s>"])}
    backend = Tokenizer(models.BPE(vocab, [("a", "b"), ("ab", "a"), ("b", "a")], unk_token="<unk>", byte_fallback=True))
    backend.normalizer, backend.decoder = normalizers.Replace(" ", "▁"), decoders.Fuse()
    text = TextTokenizer(backend, {"unk_token": "<unk>", "eos_token": "</s>"})
    with pytest.raises(InputError, match='"aba" is not merged from all pairs of its parts'):
        export_gguf(_decoder(text), text, tmp_path / "model.gguf")


# --- models ---


@pytest.mark.parametrize(
    ("family", "more", "said"),
    [
        ("mistral", {"sliding_window": 5}, r"sliding_window is 5, llama.cpp would take None"),
        ("llama", {"hidden_act": "gelu"}, "activation is gelu, llama.cpp would take silu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rope is .*dynamic"),
        ("gemma2", {"query_pre_attn_scalar": 5}, "score_multiplier is 0.44"),
        ("smollm3", {"no_rope_layers": [0, 1]}, r"unrotated_layers is \(0,\), llama.cpp would take \(\)"),
        ("olmoe", {"num_key_value_heads": 1}, "as many heads of keys as of queries, this model 1 and 2"),
        ("qwen3_moe", {"norm_topk_prob": False, "mlp_only_layers": []}, "experts is .*normalised=False"),
        ("gpt_neo", {}, "models of the family gpt_neo have no place in GGUF"),
    ],
)
def test_models_that_llama_cpp_would_compute_otherwise_are_refused(
    family: str, more: dict[str, Any], said: str, byte_tokenizer: TextTokenizer, tmp_path: Path
):
    random_model(tiny_config(family, vocab_size=258, **more)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=said):
        export_gguf(load_decoder(tmp_path), byte_tokenizer, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_stretched_positions_come_back(byte_tokenizer: TextTokenizer, tmp_path: Path):
    ropes = [
        {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192},
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 512},
        {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.5] * 8, "long_factor": [2.0, 4.0] * 8,
         "original_max_position_embeddings": 512},
    ]  # fmt: skip
    for rope in ropes:
        config = tiny_config("llama", vocab_size=258, head_dim=32, max_position_embeddings=32_768, rope_parameters=rope)
        random_model(config).save_pretrained(tmp_path)
        decoder = load_decoder(tmp_path)
        export_gguf(decoder, byte_tokenizer, tmp_path / "model.gguf", "F32")
        found = read_gguf(tmp_path / "model.gguf").model
        assert (found.config.positions.rope.kind, found.config.context_length) == (rope["rope_type"], 32_768)
        ids = torch.arange(600)[None] % 250
        with torch.inference_mode():
            torch.testing.assert_close(found(ids), decoder(ids), atol=1e-4, rtol=1e-3)


# --- beside the file ---


def test_the_modelfile_writes_conversations_as_the_template_does(bpe_tokenizer: TextTokenizer, tmp_path: Path):
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[U]{{ m.content }}[/U]{% elif m.role == 'system' %}[S]{{ m.content }}"
        "[/S]{% else %}[A]{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}[A]{% endif %}"
    )
    text = TextTokenizer(bpe_tokenizer.backend, bpe_tokenizer.special_tokens, chat_template=template)
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.7, "stop_strings": ["X"]})
    )
    written = write_modelfile(text, _decoder(text).config, tmp_path, tmp_path / "m.gguf").read_text()
    assert written == (
        "FROM ./m.gguf\nPARAMETER temperature 0.7\nPARAMETER num_ctx 64\nPARAMETER stop \"X\"\n"
        'TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}[S]{{ .Content }}[/S]{{ else if eq .Role "user" }}'
        '[U]{{ .Content }}[/U]{{ else if eq .Role "assistant" }}[A]{{ .Content }}<|endoftext|>{{ end }}{{ end }}[A]"""\n'
    )  # fmt: skip
    with pytest.raises(InputError, match="is there already"):
        write_modelfile(text, _decoder(text).config, tmp_path, tmp_path / "m.gguf")
    (tmp_path / "Modelfile").unlink()
    text.chat_template = "{{ messages[0].content | upper }}"
    assert "TEMPLATE" not in write_modelfile(text, _decoder(text).config, tmp_path, tmp_path / "m.gguf").read_text()


# --- llama.cpp ---


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_llama_cpp_gives_the_same_logits(family: str, byte_tokenizer: TextTokenizer, tmp_path: Path):
    llama_cpp = pytest.importorskip("llama_cpp")
    model = random_model(tiny_config(family, **_own(family)))
    model.save_pretrained(tmp_path)
    export_gguf(load_decoder(tmp_path), byte_tokenizer, tmp_path / "model.gguf", "F32")
    theirs = llama_cpp.Llama(
        str(tmp_path / "model.gguf"), n_ctx=16, n_threads=1, verbose=False, logits_all=True, swa_full=True
    )
    theirs.eval(IDS[0].tolist())
    with torch.inference_mode():
        expected = model(IDS).logits[0].numpy()
    np.testing.assert_allclose(np.array(theirs.scores[: IDS.shape[1]]), expected, atol=5e-3)  # its cache has 16 bits


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_makes_the_same_tokens(kind: str, bpe_tokenizer: TextTokenizer, tmp_path: Path):
    llama_cpp = pytest.importorskip("llama_cpp")
    text = _tokenizers(bpe_tokenizer, tmp_path)[kind]
    export_gguf(_decoder(text), text, tmp_path / "model.gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    assert [theirs.tokenize(each.encode(), True, True) for each in TEXTS] == [text.encode(each) for each in TEXTS]
    assert [theirs.tokenize(each.encode(), False, False) for each in TEXTS] == text.encode_documents(TEXTS)


@pytest.mark.shared_data
@pytest.mark.parametrize("kind, size", [("byte", None), ("bpe", 2_000), ("bpe", 12_000)])
def test_llama_cpp_cuts_a_thousand_lines_as_the_tokenizer_trained_here(
    kind: Literal["byte", "bpe"], size: int | None, shared_data: Path, tmp_path: Path
):
    llama_cpp = pytest.importorskip("llama_cpp")
    lines = mixed_lines(shared_data, 3_000, ["<|endoftext|>", "<|pad|>"])
    text = train_tokenizer(lines[1_000:], kind, size)
    export_gguf(_decoder(text), text, tmp_path / "model.gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    differ = [line for line in lines[:1_000] if theirs.tokenize(line.encode(), True, True) != text.encode(line)]
    assert differ == []
    plain = text.encode_documents(lines[:1_000])
    assert [theirs.tokenize(line.encode(), False, False) for line in lines[:1_000]] == plain
