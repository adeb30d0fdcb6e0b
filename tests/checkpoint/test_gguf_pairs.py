"""T5 and UMT5 in GGUF: what the package gguf writes is read, and what is written comes back."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from wenloom.checkpoint.folder import load_model
from wenloom.checkpoint.gguf.export import export_gguf
from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.core.errors import CheckpointError, InputError

from ..small_gguf import add_tokenizer
from .folders import difference, saved
from .gguf_files import finish, numbers


def tiny(family: str, folder: Path, **more: Any) -> Any:
    made = saved(family, folder, vocab_size=61, num_decoder_layers=3, eos_token_id=2, decoder_start_token_id=0, **more)
    if more.get("tie_word_embeddings") is False:  # transformers ties all models of this family that have one matrix
        made.lm_head.weight = torch.nn.Parameter(1.5 * made.lm_head.weight.flip(0))
        made.save_pretrained(folder)
    return made


def write_t5(model: Any, path: Path, **fields: int) -> None:
    """As llama.cpp's converter does."""
    config, writer = model.config, gguf.GGUFWriter(path, "t5")
    writer.add_context_length(512)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_block_count(config.num_layers)
    writer.add_decoder_block_count(fields.get("decoder_block_count", config.num_decoder_layers))
    writer.add_head_count(config.num_heads)
    writer.add_key_length(config.d_kv)
    writer.add_value_length(config.d_kv)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_decoder_start_token_id(config.decoder_start_token_id)
    add_tokenizer(writer, "t5")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, max(config.num_layers, config.num_decoder_layers))
    for key, tensor in model.state_dict().items():
        if key.endswith("embed_tokens.weight") or (key == "lm_head.weight" and tensor.equal(model.shared.weight)):
            continue
        theirs = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, key
        writer.add_tensor(theirs, tensor.numpy())
    finish(writer)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("t5", {"feed_forward_proj": "relu"}),
        ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
        ("umt5", {}),
    ],
)
@torch.no_grad()
def test_a_file_of_the_converter_gives_the_logits_and_comes_back(family: str, more: dict[str, Any], tmp_path: Path):
    theirs = tiny(family, tmp_path, **more)
    write_t5(theirs, tmp_path / "theirs.gguf")
    found = read_gguf(tmp_path / "theirs.gguf")
    assert found.model.config.family == family and difference(found.model, theirs) <= 1e-4
    export_gguf(load_model(tmp_path), found.tokenizer, tmp_path / "ours.gguf", "F32")
    ours, reference = numbers(tmp_path / "ours.gguf"), numbers(tmp_path / "theirs.gguf")
    assert ours.keys() == reference.keys() and all(np.array_equal(ours[name], data) for name, data in reference.items())
    read, wanted = (gguf.GGUFReader(tmp_path / f"{name}.gguf").fields for name in ("ours", "theirs"))
    for name, field in wanted.items():
        if name.startswith("t5.") and name != "t5.attention.layer_norm_epsilon":
            assert read[name].contents() == pytest.approx(field.contents(), rel=1e-6), name
    again = read_gguf(tmp_path / "ours.gguf")
    assert difference(again.model, theirs) <= 1e-4 and again.model.config.family == family


def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path):
    write_t5(tiny("t5", tmp_path), tmp_path / "theirs.gguf")
    text = read_gguf(tmp_path / "theirs.gguf").tokenizer
    for more, said in (
        ({"relative_attention_max_distance": 64}, "relative_distance is 64, llama.cpp would take 128"),
        ({"feed_forward_proj": "gated-silu"}, "activation is silu"),
    ):
        tiny("t5", tmp_path, **more)
        with pytest.raises(InputError, match=said):
            export_gguf(load_model(tmp_path), text, tmp_path / "m.gguf")
    write_t5(tiny("t5", tmp_path), tmp_path / "theirs.gguf", decoder_block_count=4)
    with pytest.raises(CheckpointError, match=r"has no tensor .dec\.blk\.3"):
        read_gguf(tmp_path / "theirs.gguf")
