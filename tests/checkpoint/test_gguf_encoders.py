"""BERT and its relatives in GGUF: what the package gguf writes is read, and what is written comes back."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.checkpoint.gguf.export import export_gguf
from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.checkpoint.sentence import read_sentence_config
from wenloom.cli.export import gguf as export_command
from wenloom.cli.import_ import gguf as import_command
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.encoder import Encoder

from ..conftest import VERSES
from ..small_gguf import add_tokenizer, write_small
from .folders import moved, saved, tiny_config
from .gguf_files import finish, numbers

IDS = torch.tensor([[2, 5, 7, 8, 6, 9, 3]])


def tiny_bert(family: str = "bert") -> Any:
    kind = {"bert": transformers.BertModel, "nomic_bert": transformers.NomicBertModel}[family]
    return moved(kind(tiny_config(family, vocab_size=10, pad_token_id=0), add_pooling_layer=False))


def write_bert(model: Any, path: Path, **fields: Any) -> None:
    """As llama.cpp's converter does."""
    config, arch = model.config, {"bert": "bert", "nomic_bert": "nomic-bert"}[model.config.model_type]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_token_type_count(config.type_vocab_size)
    for name, value in fields.items():
        writer.add_uint32(f"{arch}.{name}", value)
    if arch == "nomic-bert":
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    add_tokenizer(writer, "bert")
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    with TemporaryDirectory() as folder:  # where tensors have the names that they have on the hub
        model.save_pretrained(folder)
        state = load_file(Path(folder) / "model.safetensors")
    for key, tensor in state.items():
        theirs = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, key
        writer.add_tensor(theirs, tensor.numpy())
    finish(writer)


@pytest.mark.parametrize("family", ["bert", "nomic_bert"])
@torch.no_grad()
def test_a_file_of_the_converter_gives_the_hidden_states_and_comes_back(family: str, tmp_path: Path):
    theirs = tiny_bert(family)
    write_bert(theirs, tmp_path / "theirs.gguf", pooling_type=2)
    found = read_gguf(tmp_path / "theirs.gguf")
    assert isinstance(found.model, Encoder) and found.pooling == "cls"
    expected = theirs(IDS).last_hidden_state
    assert (found.model(IDS) - expected).abs().max() <= 1e-5
    export_gguf(found.model, found.tokenizer, tmp_path / "ours.gguf", "F32", pooling=("cls",))
    ours, reference = numbers(tmp_path / "ours.gguf"), numbers(tmp_path / "theirs.gguf")
    assert ours.keys() == reference.keys() and all(np.array_equal(ours[name], data) for name, data in reference.items())
    read, wanted = (gguf.GGUFReader(tmp_path / f"{name}.gguf").fields for name in ("ours", "theirs"))
    for name, field in wanted.items():
        if name.startswith(("bert.", "nomic-bert.", "tokenizer.")):
            value = field.contents()
            assert read[name].contents() == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), (
                name
            )
    again = read_gguf(tmp_path / "ours.gguf")
    assert (again.model(IDS) - expected).abs().max() <= 1e-5 and again.pooling == "cls"
    assert [again.tokenizer.encode(each) for each in VERSES] == [found.tokenizer.encode(each) for each in VERSES]
    assert again.tokenizer.special_tokens == found.tokenizer.special_tokens


def test_poolings_become_a_folder_of_sentence_transformers_and_a_field_again(tmp_path: Path):
    write_bert(tiny_bert(), tmp_path / "theirs.gguf", pooling_type=1)
    import_command(tmp_path / "theirs.gguf", out=tmp_path / "folder")
    config = read_sentence_config(tmp_path / "folder")
    assert config.is_written and config.pooling == ("mean",) and config.normalizes
    export_command(str(tmp_path / "folder"), out=tmp_path / "ours.gguf", kind="F32")
    assert read_gguf(tmp_path / "ours.gguf").pooling == "mean"
    write_bert(tiny_bert(), tmp_path / "rank.gguf", pooling_type=4)
    with pytest.raises(CheckpointError, match=r'"bert.pooling_type": 4 is not supported'):
        read_gguf(tmp_path / "rank.gguf")


@pytest.mark.parametrize("family, kind", [("xlm-roberta", "t5"), ("roberta", "gpt2"), ("distilbert", "bert")])
@torch.no_grad()
def test_roberta_and_distilbert_are_written_as_the_bert_that_computes_the_same(family: str, kind: str, tmp_path: Path):
    write_small(tmp_path / "small.gguf", kind)
    text = read_gguf(tmp_path / "small.gguf").tokenizer
    theirs = saved(family, tmp_path, vocab_size=len(text.backend.get_vocab()), eos_token_id=2)
    export_gguf(load_model(tmp_path), text, tmp_path / "m.gguf", "F32", pooling=("mean",))
    found = read_gguf(tmp_path / "m.gguf")
    assert found.model.config.family == "bert" and found.pooling == "mean"
    ids = torch.tensor([[0, 5, 7, 8, 6, 9, 2]])
    expected = getattr(theirs, theirs.base_model_prefix)(ids).last_hidden_state
    assert (found.model(ids) - expected).abs().max() <= 1e-5
    assert [found.tokenizer.encode(each) for each in VERSES] == [text.encode(each) for each in VERSES]


def test_what_llama_cpp_has_no_words_for_is_refused(tmp_path: Path):
    write_bert(tiny_bert(), tmp_path / "theirs.gguf")
    found = read_gguf(tmp_path / "theirs.gguf")
    with pytest.raises(InputError, match="no pooling of this kind"):
        export_gguf(found.model, found.tokenizer, tmp_path / "m.gguf", pooling=("mean", "max"))
    saved("bert", tmp_path, transformers.BertForSequenceClassification, vocab_size=10)
    with pytest.raises(InputError, match="models that classify texts"):
        export_gguf(load_model(tmp_path), found.tokenizer, tmp_path / "m.gguf")
    saved("electra", tmp_path, vocab_size=10)
    with pytest.raises(InputError, match="electra have no place in GGUF"):
        export_gguf(load_model(tmp_path), found.tokenizer, tmp_path / "m.gguf")
    found.tokenizer.backend.normalizer = None
    with pytest.raises(InputError, match="as BERT's does"):
        export_gguf(found.model, found.tokenizer, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.real_models
def test_a_published_encoder_of_sentences_comes_back(real_models: Path, tmp_path: Path):
    folder = real_models / "minilm"
    export_command(str(folder), out=tmp_path / "m.gguf", kind="F32")
    found, text = read_gguf(tmp_path / "m.gguf"), load_tokenizer(folder)
    assert found.pooling == "mean"
    said = [*VERSES, "Ｆｕｌｌ ＷＩＤＴＨ", "naïve café Ünïcödé", "[MASK] and [unused3]", "a" * 120, ""]
    assert [found.tokenizer.encode(each) for each in said] == [text.encode(each) for each in said]
    ids = torch.tensor([text.encode(VERSES[0])])
    with torch.no_grad():
        assert (found.model(ids) - load_model(folder)(ids)).abs().max() <= 1e-5
