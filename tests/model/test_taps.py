"""Taps read what transformers shows of its models, change what they replace, and leave everything else bitwise as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tests.conftest import random_decoder, tiny_config
from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import InputError
from wenloom.model.cache import KVCache, Segment, SlotBatch
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.taps import Tap, Taps
from wenloom.runtime.slots import Slots

SMALL = dict(vocab_size=61, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA = SMALL | dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20,
                     max_position_embeddings=32)  # fmt: skip
BERT = SMALL | dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=20,
                    max_position_embeddings=32)  # fmt: skip
BART = dict(vocab_size=61, d_model=32, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=20, decoder_ffn_dim=24, max_position_embeddings=32, init_std=0.3, pad_token_id=1, eos_token_id=2,
            decoder_start_token_id=2, forced_eos_token_id=None)  # fmt: skip
MODELS = {
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=32, **SMALL)),
    "gpt_neox": (transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(
        **{name: value for name, value in LLAMA.items() if name != "num_key_value_heads"})),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA)),
    "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig(**LLAMA, sliding_window=4)),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**LLAMA)),
    "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**LLAMA, head_dim=8)),
    "olmo2": (transformers.Olmo2ForCausalLM, transformers.Olmo2Config(**LLAMA)),
    "granite": (transformers.GraniteForCausalLM, transformers.GraniteConfig(
        **LLAMA, embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.5, logits_scaling=4.0)),
    "cohere2": (transformers.Cohere2ForCausalLM, transformers.Cohere2Config(**LLAMA, sliding_window=4)),
    "gemma3_text": (transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig(**LLAMA, head_dim=8, sliding_window=4)),
    "qwen3_moe": (transformers.Qwen3MoeForCausalLM, transformers.Qwen3MoeConfig(
        **LLAMA, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, mlp_only_layers=[0])),  # pyright: ignore[reportCallIssue]
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig(**BERT)),
    "roberta": (transformers.RobertaForMaskedLM, transformers.RobertaConfig(**BERT)),
    "distilbert": (transformers.DistilBertForMaskedLM, transformers.DistilBertConfig(
        vocab_size=61, dim=32, n_layers=3, n_heads=4, hidden_dim=20, max_position_embeddings=32, initializer_range=0.3)),
    "bart": (transformers.BartForConditionalGeneration, transformers.BartConfig(**BART)),
    "marian": (transformers.MarianMTModel, transformers.MarianConfig(**BART)),
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config(
        vocab_size=61, d_model=32, d_kv=8, d_ff=20, num_layers=2, num_decoder_layers=3, num_heads=4, pad_token_id=0,
        eos_token_id=2, decoder_start_token_id=0)),  # pyright: ignore[reportCallIssue]
}  # fmt: skip
DECODERS = (
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "olmo2",
    "granite",
    "cohere2",
    "gemma3_text",
    "qwen3_moe",
)
TOKENS = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(3, 61, (2, 6), generator=torch.Generator().manual_seed(1))


def both(family: str, folder: Path) -> tuple[Any, Any]:
    """transformers' model and ours, with the same weights."""
    kind, config = MODELS[family]
    torch.manual_seed(0)
    theirs = kind(config).eval()
    theirs.set_attn_implementation("eager")
    theirs.save_pretrained(folder)
    return theirs, load_model(folder).eval()


def run(model: Any, taps: Taps | None = None) -> Tensor:
    return model(TOKENS, TARGETS, taps=taps) if isinstance(model, EncoderDecoder) else model(TOKENS, taps=taps)


def recorded(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of a run with every tap, and what each saw."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Tap:
        def tap(x: Tensor) -> None:
            assert name not in seen
            seen[name] = x

        return tap

    with torch.no_grad():
        logits = run(model, Taps({name: keep(name) for name in model.places}, model.places))
    return logits, seen


@pytest.mark.parametrize("family", MODELS)
def test_reading_everywhere_leaves_logits_bitwise_and_sees_what_transformers_sees(family: str, tmp_path: Path):
    theirs, ours = both(family, tmp_path)
    with torch.no_grad():
        plain = run(ours)
        wanted = dict(output_hidden_states=True, output_attentions=True)
        expected = theirs(
            input_ids=TOKENS, **wanted, **({"decoder_input_ids": TARGETS} if "encoder." in ours.places[0] else {})
        )
    logits, seen = recorded(ours)
    assert torch.equal(logits, plain) and list(seen) == ours.places
    torch.testing.assert_close(seen[ours.places[-1]], expected.logits, rtol=1e-4, atol=1e-4)
    parts = {"": ("hidden_states", "attentions")}
    if isinstance(ours, EncoderDecoder):
        parts = {f"{part}.": (f"{part}_hidden_states", f"{part}_attentions") for part in ("encoder", "decoder")}
        for layer, pattern in enumerate(expected.cross_attentions):
            torch.testing.assert_close(seen[f"decoder.blocks.{layer}.cross.pattern"], pattern, rtol=1e-4, atol=1e-5)
    for part, (hidden, patterns) in parts.items():
        for layer, pattern in enumerate(getattr(expected, patterns)):
            place = f"{part}blocks.{layer}"
            torch.testing.assert_close(seen[f"{place}.attention.pattern"], pattern, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(
                seen[f"{place}.resid_pre"], getattr(expected, hidden)[layer], rtol=1e-4, atol=1e-4
            )
            if layer:
                assert torch.equal(seen[f"{place}.resid_pre"], seen[f"{part}blocks.{layer - 1}.resid_post"])
        torch.testing.assert_close(seen[f"{part}final_norm"], getattr(expected, hidden)[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_every_place_can_be_replaced(family: str, tmp_path: Path):
    _, ours = both(family, tmp_path)
    with torch.no_grad():
        plain = run(ours)
        for place in ours.places:
            same = run(ours, Taps({place: torch.Tensor.clone}, ours.places))
            torch.testing.assert_close(same, plain, rtol=1e-4, atol=1e-4)
            changed = run(ours, Taps({place: lambda x: 5 * torch.randn_like(x)}, ours.places))
            assert not torch.allclose(changed, plain), place


@pytest.mark.parametrize("family", DECODERS)
def test_the_sum_of_what_is_added_is_the_last_stream(family: str, tmp_path: Path):
    _, ours = both(family, tmp_path)
    _, seen = recorded(ours)
    added = seen["embed"] + sum(x for name, x in seen.items() if name.endswith((".attention.out", ".mlp.out")))
    torch.testing.assert_close(ours.final_norm(added), seen["final_norm"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", DECODERS)
def test_taps_see_the_same_with_a_cache_and_among_other_texts(family: str, tmp_path: Path):
    _, ours = both(family, tmp_path)
    places = [f"blocks.{layer}.{each}" for layer in range(3) for each in ("resid_post", "mlp.out", "attention.heads")]
    whole: dict[str, list[Tensor]] = {name: [] for name in places}
    pieces: dict[str, list[Tensor]] = {name: [] for name in places}
    rows: dict[str, list[Tensor]] = {name: [] for name in places}

    def taps(into: dict[str, list[Tensor]]) -> Taps:
        return Taps({name: into[name].append for name in places}, ours.places)

    with torch.no_grad():
        ours(TOKENS[:1], taps=taps(whole))
        cache = KVCache(3)
        for part in TOKENS[:1].split([4, 1, 4], 1):
            ours(part, cache=cache, taps=taps(pieces))
        slots = Slots(ours.config, torch.device("cpu"), torch.float32)
        segments = [Segment(0, 0, 9, 9), Segment(1, 0, 6, 6)]
        ours.read(torch.cat((TOKENS[0], TARGETS[0])), SlotBatch(slots, segments), taps(rows))
    for name in places:
        time = 2 if name.endswith("heads") else 1
        (expected,) = whole[name]
        torch.testing.assert_close(torch.cat(pieces[name], time), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(rows[name][0].narrow(time, 0, 9), expected, rtol=1e-4, atol=1e-4)


def test_unknown_names_and_other_shapes_are_refused():
    decoder = random_decoder(tiny_config())
    with pytest.raises(InputError, match=r"no place 'blocks.7.resid_post' \(near: blocks"):
        Taps({"blocks.7.resid_post": print}, decoder.places)
    with pytest.raises(InputError, match=r"the tap of out returns shape"):
        decoder(TOKENS, taps=Taps({"blocks.1.mlp.out": lambda x: x[:1]}, decoder.places))


def test_gradients_pass_through_taps():
    decoder = random_decoder(tiny_config())
    kept: dict[str, Tensor] = {}

    def keep(x: Tensor) -> None:
        x.retain_grad()
        kept["x"] = x

    decoder(TOKENS, taps=Taps({"blocks.1.resid_pre": keep}, decoder.places)).square().mean().backward()
    assert kept["x"].grad is not None and bool(kept["x"].grad.abs().sum() > 0)


@pytest.mark.parametrize("family", MODELS)
def test_vectors_enter_in_place_of_tokens_as_in_transformers(family: str, tmp_path: Path):
    """Those of the tokens give what the tokens give, bit for bit; any others what transformers makes of them."""
    theirs, ours = both(family, tmp_path)
    other = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(2))
    is_pair = isinstance(ours, EncoderDecoder)
    stack = ours.encoder if is_pair else ours
    with torch.no_grad():
        assert torch.equal(stack.run(stack.token_vectors(TOKENS)), stack.hidden(TOKENS))
        more = {"decoder_input_ids": TARGETS} if is_pair else {}
        expected = theirs(inputs_embeds=other, **more).logits
        found = stack.run(other * stack.config.embedding.multiplier)  # which Granite applies to any vectors
        if is_pair:
            kv = ours.decoder.project_source(found)
            found = ours.decoder.hidden(TARGETS, encoder_kv=kv)
            found = ours.decoder.unembed(found)
        else:
            found = ours.unembed(found)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
