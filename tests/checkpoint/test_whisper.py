"""Whisper both ways: logits equal transformers' for drawn shapes, for folders that it wrote and for those that we write."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wenloom.audio.log_mel import LogMel
from wenloom.checkpoint.folder import load_model, read_config, write_model_files
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.encoder_decoder import EncoderDecoder

from ..hearing import hearing_model, spoken
from .folders import moved

VOCAB = 61


def whisper_config(**more: Any) -> transformers.WhisperConfig:
    sizes: dict[str, Any] = dict(
        vocab_size=VOCAB, num_mel_bins=80, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=20, decoder_ffn_dim=24, max_source_positions=50, max_target_positions=24,
        init_std=0.3, pad_token_id=1, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    return transformers.WhisperConfig(**sizes | more)


@st.composite
def drawn(draw: st.DrawFn) -> transformers.WhisperConfig:
    heads = draw(st.sampled_from([2, 4]))
    return whisper_config(
        d_model=heads * 8, encoder_attention_heads=heads, decoder_attention_heads=draw(st.sampled_from([2, heads])),
        num_mel_bins=draw(st.sampled_from([80, 128])), encoder_layers=draw(st.integers(1, 3)),
        decoder_layers=draw(st.integers(1, 3)), max_source_positions=draw(st.integers(3, 40)),
        activation_function=draw(st.sampled_from(["gelu", "relu", "swish"])), scale_embedding=draw(st.booleans()),
    )  # fmt: skip


def compare(ours: EncoderDecoder, theirs: Any) -> None:
    encoder = ours.config.encoder
    assert encoder is not None and encoder.n_mels is not None
    features = LogMel(spoken(0.9), encoder.n_mels).window(0, 2 * encoder.context_length)[None].repeat(2, 1, 1)
    features[1] += 0.1 * torch.randn(features[1].shape)
    tokens = torch.randint(0, ours.config.vocab_size, (2, 7))
    with torch.no_grad():
        expected = theirs(input_features=features, decoder_input_ids=tokens).logits
        made = ours(features, tokens)
    torch.testing.assert_close(made, expected, atol=1e-4 * max(1.0, float(expected.abs().max())), rtol=0)


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(drawn())
def test_logits_equal_transformers_both_ways(config: transformers.WhisperConfig):
    theirs = moved(transformers.WhisperForConditionalGeneration(config))
    with TemporaryDirectory() as name:
        folder = Path(name)
        theirs.save_pretrained(folder / "theirs")
        ours = load_model(folder / "theirs")
        assert isinstance(ours, EncoderDecoder)
        compare(ours, theirs)
        (folder / "ours").mkdir()
        write_model_files(ours, folder / "ours")
        compare(ours, transformers.WhisperForConditionalGeneration.from_pretrained(folder / "ours").eval())


@pytest.mark.parametrize(
    "sizes",
    [
        dict(d_model=1280, encoder_layers=32, decoder_layers=4, encoder_attention_heads=20, decoder_attention_heads=20,
             encoder_ffn_dim=5120, decoder_ffn_dim=5120, num_mel_bins=128, vocab_size=51866),
        dict(d_model=1280, encoder_layers=32, decoder_layers=2, encoder_attention_heads=20, decoder_attention_heads=20,
             encoder_ffn_dim=5120, decoder_ffn_dim=5120, num_mel_bins=128, vocab_size=51866),
        dict(d_model=768, encoder_layers=12, decoder_layers=4, encoder_attention_heads=12, decoder_attention_heads=12,
             encoder_ffn_dim=3072, decoder_ffn_dim=3072, num_mel_bins=80, vocab_size=51864),
    ],
    ids=["large-v3-turbo", "distil-large-v3", "distil-small.en"],
)  # fmt: skip
def test_the_shapes_of_turbo_and_distilled_models_have_their_tensors(sizes: dict[str, Any], tmp_path: Path):
    config = whisper_config(max_source_positions=1500, max_target_positions=448, **sizes)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    from wenloom.checkpoint.families.whisper import FAMILY

    with torch.device("meta"):
        theirs = transformers.WhisperForConditionalGeneration(config)
        ours = EncoderDecoder(read_config(tmp_path))
    shapes = {name: tuple(each.shape) for name, each in theirs.state_dict().items() if name != "proj_out.weight"}
    own = {name: tuple(each.shape) for name, each in ours.state_dict().items()}
    assert {each.theirs: own[each.ours[0]] for each in FAMILY.tensors(ours.config)} == shapes


def test_a_fresh_model_has_a_tenth_of_the_positions_of_whisper():
    ours = hearing_model()
    theirs = transformers.WhisperForConditionalGeneration(whisper_config(max_source_positions=1500))
    weight = ours.state_dict()["encoder.positions.weight"]
    torch.testing.assert_close(10 * weight, theirs.model.encoder.embed_positions.weight.data, atol=1e-4, rtol=0)


def test_what_it_does_not_compute_is_refused_by_name(tmp_path: Path):
    raw = whisper_config().to_dict()
    for field, value in {"num_mel_bins": 0, "use_weighted_layer_sum": True, "activation_function": "sine"}.items():
        (tmp_path / "config.json").write_text(json.dumps(raw | {field: value}))
        with pytest.raises(CheckpointError, match=field):
            read_config(tmp_path)


def test_a_spectrogram_of_other_bands_is_refused():
    with pytest.raises(InputError, match="80 bands"):
        hearing_model().encode(torch.zeros(1, 128, 3000))


@pytest.mark.real_models
def test_logits_of_tiny_en_equal_transformers(real_models: Path):
    ours = load_model(real_models / "whisper")
    assert isinstance(ours, EncoderDecoder)
    compare(ours, transformers.WhisperForConditionalGeneration.from_pretrained(real_models / "whisper").eval())
