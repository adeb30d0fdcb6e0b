"""Fields of config.json and generation_config.json: the rule for those we do not know, and odd values of all."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.auto import AutoModelForCausalLM
from wenloom.checkpoint import folder as folder_module
from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.reference import FILE
from wenloom.checkpoint.folder import load_model, read_config
from wenloom.core.errors import CheckpointError
from wenloom.model.config import limit
from wenloom.model.encoder_decoder import EncoderDecoder

from .folders import DECODERS, ENCODERS, ODD, PAIRS, fields_of, outcome, read_raw, saved, write_raw
from .reference_fields import reference, written

EVERY = (*DECODERS, *ENCODERS, *PAIRS)


def test_what_the_reference_reads_is_current():
    path = Path(folder_module.__file__).parent / "families" / FILE
    assert path.read_text(encoding="utf-8") == written(reference()), "run python -m tests.checkpoint.reference_fields"


@pytest.mark.parametrize("family", EVERY)
def test_a_field_unknown_to_the_reference_is_remarked_once_and_changes_nothing(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved(family, tmp_path)
    before, raw = read_config(tmp_path), read_raw(tmp_path)
    capsys.readouterr()
    write_raw(tmp_path, raw | {"unsloth_fixed": True, "logit_softcap_of_mine": 30.0, "nothing": None})
    assert read_config(tmp_path) == read_config(tmp_path) == before
    remarks = [line for line in capsys.readouterr().err.splitlines() if "ignored" in line]
    assert len(remarks) == 1 and "logit_softcap_of_mine, unsloth_fixed" in remarks[0]


@pytest.mark.parametrize("family", EVERY)
def test_a_field_that_the_reference_reads_is_refused_by_name_where_it_would_change_something(
    family: str, tmp_path: Path
):
    saved(family, tmp_path)
    raw = read_raw(tmp_path)
    fields: dict[str, Any] = {"per_layer_config": {"0": {}}, "_attn_implementation_internal": "evil/kernel",
                              "add_cross_attention": True}  # fmt: skip
    if family not in (*DECODERS, "distilbert", "modernbert"):
        fields["is_decoder"] = True
    for name, value in fields.items():
        write_raw(tmp_path, raw | {name: value})
        with pytest.raises(CheckpointError, match=name):
            read_config(tmp_path)


@pytest.mark.parametrize("family", EVERY)
def test_odd_values_end_in_an_answer_or_one_sentence(family: str, tmp_path: Path):
    """Every field gets one of the odd values; which, changes from field to field."""
    saved(family, tmp_path)
    raw, chosen = read_raw(tmp_path), random.Random(0)
    for field in fields_of(family):
        write_raw(tmp_path, raw | {field: chosen.choice(ODD)})
        outcome(lambda: computes(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY)
def test_every_odd_value_in_every_field_ends_in_an_answer_or_one_sentence(family: str, tmp_path: Path):
    saved(family, tmp_path)
    raw = read_raw(tmp_path)
    for field in fields_of(family):
        for value in ODD:
            write_raw(tmp_path, raw | {field: value})
            outcome(lambda: computes(tmp_path))


def computes(folder: Path) -> None:
    model, tokens = load_model(folder), torch.arange(3, 11)[None]
    model(tokens, tokens) if isinstance(model, EncoderDecoder) else model(tokens)


WRONG: list[tuple[str, str, Any]] = [
    ("llama", "num_hidden_layers", 2.0), ("llama", "num_hidden_layers", True), ("llama", "num_hidden_layers", 10**8),
    ("llama", "hidden_size", 10**12), ("llama", "vocab_size", float("nan")), ("llama", "hidden_act", []),
    ("llama", "eos_token_id", -1), ("llama", "eos_token_id", float("nan")), ("llama", "eos_token_id", "</s>"),
    ("llama", "eos_token_id", [2, 2.5]), ("llama", "bos_token_id", True), ("llama", "rms_norm_eps", float("inf")),
    ("llama", "architectures", "LlamaForCausalLM"), ("llama", "rope_scaling", "yarn"), ("llama", "rope_parameters", {"rope_theta": 0}),
    ("llama", "rope_scaling", {"rope_type": "linear", "factor": float("nan")}),
    ("llama", "rope_scaling", {"rope_type": "dynamic", "factor": -2}), ("gpt2", "n_positions", 0),
    ("mistral", "sliding_window", -5), ("qwen2", "layer_types", [[], []]), ("bert", "is_decoder", True),
    ("gpt_neox", "rope_parameters", {"partial_rotary_factor": 7}), ("t5", "feed_forward_proj", []), ("t5", "num_layers", 10**8),
    ("bart", "decoder_start_token_id", -1), ("bart", "decoder_attention_heads", 3), ("marian", "model_type", ["marian"]),
]  # fmt: skip


@pytest.mark.parametrize("family, field, value", WRONG)
def test_values_of_the_wrong_kind_are_refused_by_the_fields_name(family: str, field: str, value: Any, tmp_path: Path):
    saved(family, tmp_path)
    write_raw(tmp_path, read_raw(tmp_path) | {field: value})
    with pytest.raises(CheckpointError, match=field):
        load_model(tmp_path)


@pytest.mark.parametrize("labels", [[], {}, {"a": "b"}, {"0": "a", "2": "b"}, {"0": []}, "bad", 7])
def test_odd_names_of_classes_are_refused(labels: Any, tmp_path: Path):
    saved("bert", tmp_path, transformers.BertForSequenceClassification)
    write_raw(tmp_path, read_raw(tmp_path) | {"id2label": labels})
    with pytest.raises(CheckpointError, match="id2label"):
        read_config(tmp_path)
    write_raw(tmp_path, read_raw(tmp_path) | {"id2label": None, "num_labels": 10**8})
    with pytest.raises(CheckpointError, match="num_labels"):
        read_config(tmp_path)


def test_no_more_layers_are_built_than_the_weights_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved("llama", tmp_path)
    write_raw(tmp_path, read_raw(tmp_path) | {"num_hidden_layers": limit("n_layers")})
    monkeypatch.setattr(folder_module, "build", lambda config: pytest.fail("built"))
    with pytest.raises(CheckpointError, match="1,024 layers, the weights are of fewer"):
        load_model(tmp_path)


@pytest.mark.parametrize("value, named", [
    ([1], "object"), ({"eos_token_id": -1}, "eos_token_id"), ({"eos_token_id": "x"}, "eos_token_id"),
    ({"bos_token_id": 1.5}, "bos_token_id"),
])  # fmt: skip
def test_odd_generation_configurations_are_refused(value: Any, named: str, tmp_path: Path):
    saved("llama", tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match=rf"generation_config.*{named}"):
        read_config(tmp_path)


def test_tokens_beyond_the_vocabulary_are_left_out_with_a_remark(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved("llama", tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 99], "pad_token_id": 61}))
    config = read_config(tmp_path)
    assert config.eos_token_ids == (2,) and config.pad_token_id is None
    assert "eos_token_id 99 is not in the vocabulary of 61 tokens" in capsys.readouterr().err


def test_generation_asks_for_what_we_have_or_is_refused_and_the_unknown_is_remarked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved("llama", tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(
        json.dumps({"temperature": 0.7, "diversity_penalty": 0.0, "exponential_decay_length_penalty": [3, 1.1]})
    )
    with pytest.raises(CheckpointError, match=r"exponential_decay.*transformers follows"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    path.write_text(json.dumps({"do_sample": True, "temperature": 0.7, "diversity_penalty": 0.0, "my_own": 3}))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "my_own" in capsys.readouterr().err
    assert model.generate(torch.tensor([[3, 4]]), max_new_tokens=2, seed=0).shape[1] <= 4
    path.unlink()  # then config.json counts, as in transformers
    write_raw(tmp_path, read_raw(tmp_path) | {"exponential_decay_length_penalty": [3, 1.1]})
    with pytest.raises(CheckpointError, match=r"config\.json.*exponential_decay"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


anything = st.recursive(
    st.sampled_from([*ODD[:24], "llama", "default"]) | st.text(max_size=6) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(family=st.sampled_from(EVERY), data=st.data())
def test_configurations_of_anything_end_in_an_answer_or_one_sentence(family: str, data: st.DataObject):
    names = st.sampled_from(fields_of(family))
    raw = {"model_type": family} | data.draw(st.dictionaries(names, anything, max_size=8))
    outcome(lambda: FAMILIES[family].read_config(ConfigFields(raw, "config.json")))
