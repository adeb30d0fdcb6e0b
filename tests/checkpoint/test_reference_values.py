"""Values of fields that the reference obeys, and those that mean nothing to it."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from wenloom.checkpoint.folder import load_model, read_config, save_model
from wenloom.core.errors import CheckpointError

from .folders import auto_class, difference, read_raw, saved, write_raw


@pytest.mark.parametrize("fields", [
    {"dense_act_fn": "silu"}, {"scale_decoder_outputs": None}, {"scale_decoder_outputs": False},
    {"tie_word_embeddings": False},
])  # fmt: skip
def test_fields_of_t5_that_transformers_obeys_give_its_logits(fields: dict[str, Any], tmp_path: Path):
    saved("t5", tmp_path)
    write_raw(tmp_path, read_raw(tmp_path) | fields)
    model, theirs = load_model(tmp_path), auto_class("t5").from_pretrained(tmp_path).eval()
    assert difference(model, theirs) <= 1e-4
    save_model(model, tmp_path / "again")
    assert difference(load_model(tmp_path / "again"), theirs) <= 1e-4


def test_a_distance_within_the_exact_buckets_is_refused(tmp_path: Path):
    saved("t5", tmp_path)
    write_raw(tmp_path, read_raw(tmp_path) | {"relative_attention_max_distance": 16})
    with pytest.raises(CheckpointError, match="relative_attention_max_distance"):
        read_config(tmp_path)


@pytest.mark.parametrize("family, fields", [
    ("llama", {"partial_rotary_factor": 1.0}), ("llama", {"layer_types": ["full_attention"] * 2}),
    ("llama", {"attn_implementation": "sdpa"}), ("gpt2", {"head_dim": 3, "attention_dropout": 0.5}),
    ("bert", {"rope_theta": 5.0, "rms_norm_eps": 1.0}),
    ("llama", {"rope_scaling": {"rope_type": "default", "factor": 4.0, "finetuned": True}}),
])  # fmt: skip
def test_values_that_mean_nothing_to_the_reference_change_nothing(family: str, fields: dict[str, Any], tmp_path: Path):
    saved(family, tmp_path)
    before = read_config(tmp_path)
    write_raw(tmp_path, read_raw(tmp_path) | fields)
    assert read_config(tmp_path) == before


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
def test_prefixes_of_wrappers_are_named(prefix: str, tmp_path: Path):
    saved("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({prefix + name: each for name, each in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=prefix):
        load_model(tmp_path)


def test_saving_over_a_folder_leaves_no_file_that_changes_what_it_is(tmp_path: Path):
    saved("llama", tmp_path)
    model = load_model(tmp_path)
    old = ("adapter_config.json", "adapter_model.safetensors", "pytorch_model.bin", "tf_model.h5")
    for name in (*old, "notes.txt"):
        (tmp_path / name).write_text("{}")
    save_model(model, tmp_path)
    assert (tmp_path / "notes.txt").exists() and not [name for name in old if (tmp_path / name).exists()]
