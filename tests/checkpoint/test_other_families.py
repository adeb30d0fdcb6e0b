"""Encoders and encoder-decoders, both ways, against transformers, over configurations drawn from what they allow."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.folder import load_decoder, load_model, write_model_files
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.lora import AdapterConfig, adapt

from .folders import DECODERS, ENCODERS, PAIRS, saved, tiny_config

TOLERANCE = 1e-4
VOCAB, PAD = 61, 1
thorough = settings(max_examples=10, suppress_health_check=list(HealthCheck))


@st.composite
def encoder_config(draw: st.DrawFn, family: str, **more: Any) -> transformers.PreTrainedConfig:
    n_heads, n_layers = draw(st.sampled_from([2, 4])), draw(st.integers(1, 3))
    activation = draw(st.sampled_from(["gelu", "relu", "gelu_new", "silu"]))
    common = (
        dict(vocab_size=VOCAB, initializer_range=0.3, pad_token_id=PAD, tie_word_embeddings=draw(st.booleans())) | more
    )
    if family == "distilbert":
        return transformers.DistilBertConfig(
            dim=n_heads * 8, n_layers=n_layers, n_heads=n_heads, hidden_dim=20, max_position_embeddings=24,
            activation=activation, sinusoidal_pos_embds=draw(st.booleans()), **common,
        )  # fmt: skip
    if family == "modernbert":
        return transformers.ModernBertConfig(
            hidden_size=n_heads * 8, num_hidden_layers=n_layers, num_attention_heads=n_heads, intermediate_size=20,
            max_position_embeddings=24, hidden_activation=activation, local_attention=draw(st.sampled_from([1, 4, 7, 128])),
            norm_bias=draw(st.booleans()), attention_bias=draw(st.booleans()), mlp_bias=draw(st.booleans()),
            classifier_bias=draw(st.booleans()), norm_eps=draw(st.sampled_from([1e-5, 1e-3])), **common,
        )  # fmt: skip
    own: dict[str, Any] = {} if family == "mpnet" else dict(type_vocab_size=draw(st.integers(1, 2)))
    if family in ("electra", "albert"):
        own |= dict(embedding_size=draw(st.sampled_from([6, n_heads * 8])))
    if family == "nomic_bert":
        own |= dict(
            head_dim=draw(st.sampled_from([None, 4, 8])), rope_parameters={"rope_type": "default", "rope_theta": 1e3}
        )
    if family == "albert":
        own |= dict(num_hidden_groups=draw(st.integers(1, n_layers)))
    if family == "deberta-v2":
        terms = st.sampled_from([[], ["c2p"], ["p2c"], ["p2c", "c2p"], "c2p|p2c"])
        own |= dict(
            relative_attention=draw(st.booleans()), position_buckets=draw(st.sampled_from([-1, 2, 4, 8])), pos_att_type=draw(terms),
            max_relative_positions=draw(st.sampled_from([-1, 7, 12])), share_att_key=draw(st.booleans()),
            norm_rel_ebd=draw(st.sampled_from(["none", "layer_norm"])), position_biased_input=draw(st.booleans()),
            pooler_hidden_act=draw(st.sampled_from(["gelu", "tanh"])), legacy=draw(st.booleans()),
            type_vocab_size=draw(st.integers(0, 2)),
        )  # fmt: skip
    return transformers.AutoConfig.for_model(
        family, hidden_size=n_heads * 8, num_hidden_layers=n_layers, num_attention_heads=n_heads, intermediate_size=20,
        max_position_embeddings=24, hidden_act=activation, layer_norm_eps=draw(st.sampled_from([1e-12, 1e-3])), **own, **common,
    )  # fmt: skip


@st.composite
def encoder_decoder_config(draw: st.DrawFn, family: str) -> transformers.PreTrainedConfig:
    heads, layers, other_layers = draw(st.sampled_from([2, 4])), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    common = dict(
        vocab_size=VOCAB, pad_token_id=PAD, eos_token_id=2, decoder_start_token_id=draw(st.sampled_from([0, 1]))
    )
    if family in ("t5", "mt5", "umt5"):
        return transformers.AutoConfig.for_model(
            family, d_model=16, d_kv=draw(st.sampled_from([4, 8])), d_ff=20, num_layers=layers, num_decoder_layers=other_layers,
            num_heads=heads, relative_attention_num_buckets=draw(st.sampled_from([8, 32])),
            relative_attention_max_distance=draw(st.sampled_from([20, 128])),
            feed_forward_proj=draw(st.sampled_from(["relu", "gated-gelu", "gated-silu"])),
            tie_word_embeddings=draw(st.booleans()), initializer_factor=1.0, **common,
        )  # fmt: skip
    return transformers.AutoConfig.for_model(
        family, d_model=heads * 8, encoder_layers=layers, decoder_layers=other_layers, encoder_attention_heads=heads,
        decoder_attention_heads=draw(st.sampled_from([2, heads])), encoder_ffn_dim=20, decoder_ffn_dim=24,
        max_position_embeddings=24, activation_function=draw(st.sampled_from(["gelu", "relu", "swish"])),
        scale_embedding=draw(st.booleans()), init_std=0.3, forced_eos_token_id=None, **common,
    )  # fmt: skip


def moved(model: Any) -> Any:
    """Biases and norms start at 0 and 1: move them, so that they are tested."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias += torch.randn(model.final_logits_bias.shape, generator=generator)
    model.tie_weights()
    return model.eval()


def rows(width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows: full, short, and one token alone."""
    tokens = torch.randint(3, VOCAB, (3, width), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(tokens)
    mask[1, -5:] = 0
    mask[2, 1:] = 0
    return tokens.where(mask.bool(), PAD), mask


@torch.no_grad()
def difference(ours: Any, theirs: Any) -> float:
    tokens, mask = rows(16)
    if isinstance(ours, EncoderDecoder):
        target, present = rows(9, seed=1)
        expected = theirs(tokens, attention_mask=mask, decoder_input_ids=target).logits
        return float((ours(tokens, target, mask) - expected)[present.bool()].abs().max())
    expected, actual = theirs(tokens, attention_mask=mask).logits, ours(tokens, mask)
    if not (isinstance(ours, Encoder) and ours.classifier is None):
        return float((actual - expected).abs().max())
    plain = (ours(tokens[:1]) - theirs(tokens[:1]).logits).abs().max()
    return max(float(plain), float((actual - expected)[mask.bool()].abs().max()))


def check_both_ways(theirs: Any, auto: Any) -> None:
    with TemporaryDirectory() as name:
        theirs.save_pretrained(name)
        ours = load_model(Path(name))
        assert difference(ours, theirs) <= TOLERANCE
    with TemporaryDirectory() as name:
        write_model_files(ours, Path(name))
        assert difference(ours, auto.from_pretrained(name).eval()) <= TOLERANCE
        assert load_model(Path(name)).config == ours.config


@pytest.mark.parametrize("family", ENCODERS)
@thorough
@given(data=st.data())
def test_masked_models_both_ways(family: str, data: st.DataObject):
    auto = transformers.AutoModelForMaskedLM
    check_both_ways(moved(auto.from_config(data.draw(encoder_config(family)))), auto)


@pytest.mark.parametrize("family", PAIRS)
@thorough
@given(data=st.data())
def test_encoder_decoders_both_ways(family: str, data: st.DataObject):
    auto = transformers.AutoModelForSeq2SeqLM
    check_both_ways(moved(auto.from_config(data.draw(encoder_decoder_config(family)))), auto)


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_classifying_encoders_both_ways(family: str, n_classes: int):
    auto = transformers.AutoModelForSequenceClassification
    config = encoder_config(family, num_labels=n_classes).example()
    check_both_ways(moved(auto.from_config(config)), auto)


@pytest.mark.parametrize("family", [name for name in DECODERS if FAMILIES[name].classifier])
def test_classifying_decoders_both_ways(family: str, tmp_path: Path):
    auto = transformers.AutoModelForSequenceClassification
    theirs = moved(auto.from_config(tiny_config(family, id2label={0: "bad", 1: "fair", 2: "gut 好"})))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_decoder(tmp_path / "theirs")
    assert ours.config.labels == ("bad", "fair", "gut 好")
    tokens, mask = rows(12)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask).logits
        assert (ours.classify(tokens, mask) - expected).abs().max() <= TOLERANCE
        (tmp_path / "ours").mkdir()
        write_model_files(ours, tmp_path / "ours")
        again = auto.from_pretrained(tmp_path / "ours").eval()
        assert (again(tokens, attention_mask=mask).logits - expected).abs().max() <= TOLERANCE


def test_token_types_and_left_padding():
    config = transformers.BertConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=20, max_position_embeddings=24, initializer_range=0.3)  # fmt: skip
    theirs = moved(transformers.BertForMaskedLM(config))
    tokens, mask = rows(16)
    tokens, mask, types = tokens.flip(1), mask.flip(1), (torch.arange(16) > 7).long().expand(3, 16)
    with TemporaryDirectory() as name, torch.no_grad():
        theirs.save_pretrained(name)
        ours = load_model(Path(name))
        assert isinstance(ours, Encoder)
        expected = theirs(tokens, attention_mask=mask, token_type_ids=types).logits
        assert (ours(tokens, mask, types) - expected)[mask.bool()].abs().max() <= TOLERANCE


def test_old_names_and_other_tasks_heads_are_understood(tmp_path: Path):
    config = transformers.BertConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=20, max_position_embeddings=24, initializer_range=0.3)  # fmt: skip
    theirs = moved(transformers.BertForPreTraining(config))
    theirs.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    names = {name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
             for name in state}  # fmt: skip
    save_file({names[name]: tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    tokens, mask = rows(16)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask).prediction_logits
        ours = load_model(tmp_path)
        assert isinstance(ours, Encoder)
        assert (ours(tokens, mask) - expected)[mask.bool()].abs().max() <= TOLERANCE


def test_what_is_no_decoder_is_refused_where_one_is_needed(tmp_path: Path):
    config = transformers.T5Config(vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="encoder-decoder"):
        load_decoder(tmp_path)


def test_an_unsupported_field_is_named(tmp_path: Path):
    config = transformers.BartConfig(vocab_size=VOCAB, d_model=16, encoder_layers=1, decoder_layers=1,
                                     encoder_attention_heads=2, decoder_attention_heads=2)  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {"is_decoder": True}))
    with pytest.raises(CheckpointError, match="is_decoder"):
        load_model(tmp_path)


@pytest.mark.parametrize("family, found_in_the_wild", [
    ("bert", {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform",
              "position_embedding_type": "absolute", "gradient_checkpointing": False}),
    ("marian", {"_num_labels": 3, "add_bias_logits": False, "add_final_layer_norm": False, "bad_words_ids": [[60]],
                "classif_dropout": 0.0, "extra_pos_embeddings": 60, "force_bos_token_to_be_generated": False,
                "max_length": 512, "normalize_before": False, "normalize_embedding": False, "num_beams": 6,
                "static_position_embeddings": True}),
    ("t5", {"n_positions": 512, "output_past": True, "task_specific_params": {"translation": {"prefix": "x"}}}),
])  # fmt: skip
def test_what_older_configurations_say_beside_the_shape_is_no_obstacle(
    family: str, found_in_the_wild: dict[str, Any], tmp_path: Path
):
    kind = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForSeq2SeqLM
    drawn = encoder_config(family) if family == "bert" else encoder_decoder_config(family)
    kind.from_config(drawn.example()).save_pretrained(tmp_path)
    before = load_model(tmp_path).config
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | found_in_the_wild))
    assert load_model(tmp_path).config == before


@pytest.mark.parametrize("family", [*ENCODERS, *PAIRS])
def test_an_adapter_begins_at_the_model_and_each_row_is_as_alone(family: str, tmp_path: Path):
    theirs = saved(family, tmp_path)
    ours, adapted = load_model(tmp_path), adapt(load_model(tmp_path), AdapterConfig(), torch.Generator())
    tokens, mask = rows(16)
    target = rows(9, seed=1)[0]
    with torch.no_grad():
        more = (target, mask) if isinstance(ours, EncoderDecoder) else (mask,)
        expected = ours(tokens, *more)
        places = slice(None) if isinstance(ours, EncoderDecoder) else mask.bool()
        assert (adapted(tokens, *more) - expected)[places].abs().max() <= TOLERANCE
        for row, length in enumerate(mask.sum(-1).tolist()):
            alone = ours(tokens[row : row + 1, :length], *([target[row : row + 1]] if len(more) > 1 else []))
            assert (alone - expected[row : row + 1, : alone.shape[1]]).abs().max() <= TOLERANCE
    assert difference(ours, theirs) <= TOLERANCE


PICTURES: dict[str, Any] = {
    "model_type": "siglip_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "image_size": 28, "patch_size": 14,
}  # fmt: skip


@pytest.mark.parametrize("is_old", [False, True])
def test_gemma_3_with_a_part_for_pictures_is_read_as_text(
    is_old: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = {"vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 7, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 8, "intermediate_size": 20, "sliding_window": 5, "query_pre_attn_scalar": 5,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}}  # fmt: skip
    config = transformers.AutoConfig.for_model(
        "gemma3", text_config=dict(text), vision_config=PICTURES, mm_tokens_per_image=4, eos_token_id=[1, 6],
        image_token_index=60,
    )  # fmt: skip
    theirs = moved(transformers.Gemma3ForConditionalGeneration(config))
    theirs.save_pretrained(tmp_path)
    if is_old:  # as published: nested names the other way round, and a text part that says little
        state, raw = load_file(tmp_path / "model.safetensors"), json.loads((tmp_path / "config.json").read_text())
        names = {name: name.replace("model.language_model.", "language_model.model.") if "language_model" in name
                 else name.removeprefix("model.") for name in state}  # fmt: skip
        save_file({names[name]: tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(raw | {"text_config": text | {"model_type": "gemma3_text"}}))
    ours, (tokens, _) = load_decoder(tmp_path), rows(16)
    assert ours.config.family == "gemma3_text" and ours.config.eos_token_ids == (1, 6)
    assert "the part that sees pictures is left out" in capsys.readouterr().err
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert (ours(tokens) - expected).abs().max() <= TOLERANCE
        (tmp_path / "ours").mkdir()
        write_model_files(ours, tmp_path / "ours")
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
        assert (again(tokens).logits - expected).abs().max() <= TOLERANCE
