"""What other tools leave out of a folder, repeat or add: transformers' answer to it is ours, or a sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.folder import load_decoder, load_model, read_config, write_model_files
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.encoder import Encoder

from .folders import DECODERS, ENCODERS, PAIRS, VOCAB, auto_class, difference, read_raw, saved, write_raw

EVERY = (*DECODERS, *ENCODERS, *PAIRS)
TOLERANCE = 1e-4


def rewritten(folder: Path, state: dict[str, torch.Tensor]) -> None:
    save_file({name: each.clone() for name, each in state.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("family", EVERY)
def test_a_tied_matrix_is_found_under_any_of_its_names_and_a_different_head_is_used(family: str, tmp_path: Path):
    saved(family, tmp_path, tie_word_embeddings=True)
    maps, state = FAMILIES[family], load_file(tmp_path / "model.safetensors")
    usual = next(name for name, copies in maps.copies.items() if maps.head in copies)
    names, matrix = (usual, *maps.copies[usual]), state[usual]
    rest = {name: each for name, each in state.items() if name not in names}
    variants = [{name: matrix} for name in names]
    variants += [dict.fromkeys(names, matrix), {usual: matrix, maps.head: matrix * 1.5}]
    for number, variant in enumerate(variants):
        written = rest | variant
        if number % 2 and maps.base_prefix:  # as saved from the bare model
            written = {name.removeprefix(maps.base_prefix): each for name, each in written.items()}
        rewritten(tmp_path, written)
        theirs = auto_class(family).from_pretrained(tmp_path).eval()
        ours = load_model(tmp_path)
        assert difference(ours, theirs) <= TOLERANCE, list(variant)
        assert ours.config.logits.tied == (number < len(variants) - 1)


@pytest.mark.parametrize("family", PAIRS)
def test_copies_of_the_embedding_that_differ_are_refused_by_name(family: str, tmp_path: Path):
    saved(family, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    shared = next(name for name in state if name.endswith("shared.weight"))
    other = shared.replace("shared", "encoder.embed_tokens")
    rewritten(tmp_path, state | {other: state[shared] * 2})
    with pytest.raises(CheckpointError, match=r"encoder\.embed_tokens.*"):
        load_model(tmp_path)


@pytest.mark.parametrize("family", ["bart", "marian"])
def test_a_bias_of_zeros_may_be_left_out(family: str, tmp_path: Path):
    saved(family, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["final_logits_bias"]
    rewritten(tmp_path, state)
    assert difference(load_model(tmp_path), auto_class(family).from_pretrained(tmp_path).eval()) <= TOLERANCE


BODIES = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert", "distilbert": "DistilBert",
          "electra": "Electra", "albert": "Albert", "mpnet": "MPNet", "deberta-v2": "DebertaV2", "modernbert": "ModernBert", "nomic_bert": "NomicBert"}  # fmt: skip


HEADS = ("Model", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")


@pytest.mark.parametrize(
    "family, head", [(name, head) for name in ENCODERS for head in HEADS if hasattr(transformers, BODIES[name] + head)]
)
def test_an_encoder_without_a_head_for_tokens_gives_the_hidden_states_of_transformers(
    family: str, head: str, tmp_path: Path
):
    theirs = saved(family, tmp_path / "theirs", getattr(transformers, BODIES[family] + head))
    ours = load_model(tmp_path / "theirs")
    assert isinstance(ours, Encoder) and not ours.predicts_tokens
    assert difference(ours, theirs if head == "Model" else getattr(theirs, theirs.base_model_prefix)) <= TOLERANCE
    with pytest.raises(InputError, match=r"no head that predicts tokens.*can be tuned to classify"):
        ours.unembed(torch.zeros(1, 16))
    (tmp_path / "ours").mkdir()
    write_model_files(ours, tmp_path / "ours")
    again = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    assert difference(ours, again) <= TOLERANCE
    assert load_model(tmp_path / "ours").config == ours.config


def test_a_model_without_its_output_matrix_says_what_is_missing(tmp_path: Path):
    saved("llama", tmp_path / "bare", transformers.LlamaModel, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"no output matrix.*lm_head.*without a head"):
        load_decoder(tmp_path / "bare")
    saved("t5", tmp_path / "half", transformers.T5EncoderModel)
    with pytest.raises(CheckpointError, match=r"encoder only .T5EncoderModel"):
        load_model(tmp_path / "half")
    theirs = saved("llama", tmp_path / "tied", transformers.LlamaModel, tie_word_embeddings=True)
    full = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tied").eval()
    assert difference(load_decoder(tmp_path / "tied"), full) <= TOLERANCE
    assert theirs.config.vocab_size == VOCAB


STRETCHED: list[tuple[dict[str, Any], int]] = [
    ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
    ({"type": "yarn", "factor": 4.0}, 64),
    ({"rope_type": "linear", "factor": 2.5}, 40),
    ({"type": "dynamic", "factor": 3.0}, 48),
    ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 16}, 128),
    ({"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 16,
      "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 2.3, 2.6, 2.9]}, 32),
]  # fmt: skip


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("scaling, window", STRETCHED)
def test_a_stretched_context_is_seen_whole_whether_or_not_its_length_was_raised(
    scaling: dict[str, Any], window: int, raised: bool, tmp_path: Path
):
    saved("llama", tmp_path / "theirs")
    raw = read_raw(tmp_path / "theirs")
    del raw["rope_parameters"]
    if raised:
        scaling, window = scaling | {"original_max_position_embeddings": 16}, window - 8
    write_raw(tmp_path / "theirs", raw | {"rope_theta": 1e4, "rope_scaling": scaling,
                                          "max_position_embeddings": window if raised else 16})  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    ours = load_decoder(tmp_path / "theirs")
    assert ours.config.context_length == window
    for length in (8, 16, 17, window):
        assert difference(ours, theirs, length) <= TOLERANCE
    (tmp_path / "ours").mkdir()
    write_model_files(ours, tmp_path / "ours")
    assert read_config(tmp_path / "ours") == ours.config
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert difference(ours, again, window) <= TOLERANCE


@pytest.mark.real_models
def test_a_published_encoder_of_sentences_gives_the_hidden_states_of_transformers(real_models: Path):
    theirs = transformers.AutoModel.from_pretrained(real_models / "minilm").eval()
    ours = load_model(real_models / "minilm")
    tokens = torch.tensor([[101, 7592, 2088, 1012, 102]])
    with torch.no_grad():
        expected = theirs(tokens).last_hidden_state
        assert (ours(tokens) - expected).abs().max() <= TOLERANCE
