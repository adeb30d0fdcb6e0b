"""Models from GGUF files that another writer made, against transformers' own."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from wenloom.checkpoint.folder import load_decoder, load_tokenizer, read_config, write_model_files
from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.checkpoint.gguf.kinds import TENSORS
from wenloom.checkpoint.gguf.numbers import read_numbers
from wenloom.checkpoint.gguf.reader import StoredTensor, open_gguf
from wenloom.core.errors import CheckpointError

from .folders import VOCAB, tiny_config
from .gguf_files import ARCHITECTURES, OF_EXPERTS, random_model, write_model

IDS = torch.tensor([[3, 9, 4, 4, 17, 30, 5, 2, 11, 8, 3, 3]])
ROPES = {
    "llama3": {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 512},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 512},
}  # fmt: skip


def _own(family: str) -> dict[str, Any]:
    """What a family needs to be as llama.cpp has it."""
    if family in ("gemma2", "gemma3_text"):
        return {"query_pre_attn_scalar": 8}
    if family in OF_EXPERTS:
        return OF_EXPERTS[family]
    if family == "falcon":
        return {"num_ln_in_parallel_attn": 2}
    return {"n_inner": 64} if family == "gpt2" else {}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_logits_are_those_of_the_model_that_was_converted(family: str, tmp_path: Path):
    model = random_model(tiny_config(family, **_own(family)))
    more = {"attention__sliding_window": model.config.sliding_window} if family == "mistral" else {}
    write_model(model, tmp_path / "model.gguf", **more)
    found = read_gguf(tmp_path / "model.gguf")
    assert found.model.config.family == family
    with torch.inference_mode():
        torch.testing.assert_close(found.model(IDS), model(IDS).logits, atol=2e-5, rtol=1e-4)
    assert (found.model.config.bos_token_id, found.model.config.eos_token_ids) == (0, (2,))
    write_model_files(found.model, tmp_path)
    found.tokenizer.save_pretrained(tmp_path)
    again = load_decoder(tmp_path)
    assert again.config == found.model.config == read_config(tmp_path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in found.model.state_dict().items())
    assert load_tokenizer(tmp_path).fingerprint() == found.tokenizer.fingerprint()


@pytest.mark.parametrize("kind", ROPES)
def test_stretched_positions(kind: str, tmp_path: Path):
    rope = ROPES[kind]
    config = tiny_config("llama", head_dim=32, max_position_embeddings=2048, rope_parameters=rope)
    model = random_model(config)
    fields: dict[str, Any] = {"context_length": 2048}
    extra: dict[str, np.ndarray] = {}
    if kind != "llama3":
        fields |= {"rope.scaling.type": kind, "rope.scaling.factor": rope["factor"],
                   "rope.scaling.original_context_length": 512}  # fmt: skip
    else:
        divided = model.model.rotary_emb.inv_freq
        plain = 10_000.0 ** (-torch.arange(0, 32, 2).float() / 32)
        extra["rope_freqs.weight"] = (plain / divided).numpy()
    write_model(model, tmp_path / "model.gguf", extra=extra, **fields)
    found = read_gguf(tmp_path / "model.gguf").model
    assert found.config.positions.rope.kind == kind and found.config.positions.rope.factor == rope["factor"]
    ids = torch.arange(600)[None] % VOCAB
    with torch.inference_mode():
        torch.testing.assert_close(found(ids), model(ids).logits, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_numbers_of_a_kind_are_widened_as_llama_cpp_has_them(kind: str, tmp_path: Path):
    model = random_model(tiny_config("qwen2", hidden_size=64, intermediate_size=96))
    write_model(model, tmp_path / "model.gguf", kind)
    file, found = tmp_path / "model.gguf", read_gguf(tmp_path / "model.gguf", torch.float32)
    matrix = next(each for each in gguf.GGUFReader(file).tensors if each.name == "blk.1.ffn_down.weight")
    assert matrix.tensor_type.name == kind
    expected = gguf.quants.dequantize(matrix.data, matrix.tensor_type)
    assert np.array_equal(found.model.state_dict()["blocks.1.mlp.down.weight"].numpy(), expected)
    assert next(iter(found.kinds)) == kind
    widened = read_gguf(file).model.state_dict()["blocks.1.mlp.down.weight"].dtype
    assert widened == (torch.float16 if kind == "F16" else torch.bfloat16)


def test_kinds_have_the_sizes_that_the_package_gives():
    sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    ours = {number: (kind.name, kind.numbers, kind.bytes) for number, kind in TENSORS.items()}
    assert {number: ours.get(number) for number in sizes} == sizes


def _dequantized(data: np.ndarray, number: int) -> np.ndarray | None:
    """What the `gguf` package makes of blocks; None of a kind that it does not read."""
    try:
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType(number))
    except (NotImplementedError, ValueError):
        return None


@pytest.mark.parametrize("number", TENSORS)
def test_every_kind_is_read_or_refused_by_name(number: int, tmp_path: Path):
    kind = TENSORS[number]
    data = np.random.default_rng(number).integers(0, 60, (3, 2 * kind.bytes), np.uint8)
    stored = StoredTensor(tmp_path / "m.gguf", "x", kind, (3, 2 * kind.numbers), memoryview(data.tobytes()))
    is_whole_number = kind.name.startswith("I") and kind.name[1:].isdigit()
    if kind.name == "F64":
        expected = data.view("<f8").astype(np.float32)
    elif is_whole_number or (expected := _dequantized(data, number)) is None:
        with pytest.raises(CheckpointError, match=f'"x" is of the kind {kind.name}'):
            read_numbers(stored, torch.float32)
        return
    assert np.array_equal(read_numbers(stored, torch.float32).numpy(), expected)


def test_a_model_in_parts(tmp_path: Path):
    model = random_model(tiny_config("qwen3"))
    write_model(model, tmp_path / "m.gguf", split=8)
    parts = sorted(tmp_path.glob("m-0*.gguf"))
    assert len(parts) > 2
    with torch.inference_mode():
        for part in (parts[0], parts[-1]):
            torch.testing.assert_close(read_gguf(part).model(IDS), model(IDS).logits, atol=2e-5, rtol=1e-4)
    parts[1].rename(tmp_path / "away.gguf")
    with pytest.raises(CheckpointError, match=f"are not beside it: {parts[1].name}"):
        read_gguf(parts[0])
    with pytest.raises(CheckpointError, match=r"is a part of \d; parts are named"):
        read_gguf(tmp_path / "away.gguf")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"expert_count": 8}, r'"qwen2.expert_count": 8 is not supported'),
        ({"swin_norm": True}, r'"qwen2.swin_norm": is not understood'),
        ({"block_count": None}, r'"qwen2.block_count": is missing'),
        ({"block_count": 3}, r'"qwen2.block_count": is 3, but there are tensors of 2 blocks'),
        ({"embedding_length": 32}, r'"token_embd.weight" has shape \(61, 16\), but the fields ask for \(61, 32\)'),
        ({"embedding_length": 0}, r'"qwen2.embedding_length": must be a whole number from 1'),
        ({"attention.head_count": [2, 1]}, r'"qwen2.attention.head_count": differs by layer'),
        ({"context_length": "long"}, r'"qwen2.context_length": must be a whole number, got \'long\''),
        ({"rope.scaling.type": "magic"}, "'magic' is not known"),
        ({"rope.dimension_count": 4}, r'"qwen2.rope.dimension_count": 4 is not supported'),
    ],
)
def test_fields_that_are_not_understood_are_named(fields: dict[str, Any], said: str, tmp_path: Path):
    write_model(random_model(tiny_config("qwen2")), tmp_path / "model.gguf", **fields)
    with pytest.raises(CheckpointError, match=said):
        read_gguf(tmp_path / "model.gguf")


def test_transformers_reads_the_same_file_alike(tmp_path: Path):
    write_model(random_model(tiny_config("llama", hidden_size=64)), tmp_path / "model.gguf", "Q8_0")
    ours = read_gguf(tmp_path / "model.gguf", torch.float32).model
    config = transformers.AutoConfig.from_pretrained(tmp_path, gguf_file="model.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", config=config)
    with torch.inference_mode():
        torch.testing.assert_close(ours(IDS), theirs.eval()(IDS).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.real_models
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_real_files_are_the_folders_that_were_made_of_them(name: str, real_models: Path):
    file, folder = real_models / name / "model.gguf", real_models / name
    found, reference = read_gguf(file, torch.bfloat16), load_decoder(folder, dtype=torch.bfloat16)
    for key, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, reference.state_dict()[key]), key
    theirs = load_tokenizer(folder)
    for text in (
        "def f(x):\n\treturn  x**2 # 12345",
        "你好，世界！  ▁ é",
        "<|im_start|>user\n<bos>",
        "👩‍👧   \n\n ",
        "",
    ):
        assert found.tokenizer.encode(text) == theirs.encode(text)
    assert found.tokenizer.special_tokens == theirs.special_tokens
    assert found.tokenizer.chat_template == theirs.chat_template


def test_a_file_lies_open_no_longer_than_it_is_read(tmp_path: Path):
    write_model(random_model(tiny_config("qwen2")), tmp_path / "model.gguf")
    with ExitStack() as stack:
        file = open_gguf(tmp_path / "model.gguf", stack)
        assert file.tensors["output_norm.weight"].shape == (16,)
        del file
