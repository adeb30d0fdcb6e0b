"""Shapes for models trained from scratch, by architecture."""

from dataclasses import replace
from typing import Literal

from wenloom.core.errors import InputError
from wenloom.model.config import PLAIN_BLOCKS, POST_NORM, ModelConfig, config_of, reshaped
from wenloom.model.parts import DropoutRates, Experts, PositionShape, Rope

Architecture = Literal["llama", "qwen3", "gpt2", "gpt_neox"]
PairArchitecture = Literal["marian", "bart", "t5"]
EncoderArchitecture = Literal["bert", "roberta", "distilbert"]


def _multiple_of(size: float, multiple: int = 32) -> int:
    return max(multiple, round(size / multiple) * multiple)


def from_scratch(
    architecture: Architecture,
    *,
    vocab_size: int,
    n_layers: int,
    d_model: int,
    n_heads: int,
    n_kv_heads: int,
    context_length: int,
    dropout: float = 0.0,
    n_experts: int | None = None,
    n_active: int = 2,
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
    pad_token_id: int | None = None,
) -> ModelConfig:
    """The configuration of a fresh model.

    `llama`: RMSNorm, rotary positions, SwiGLU of width 8/3 d_model (as many weights as a plain layer of
    width 4 d_model), no biases, tied embeddings. `qwen3`: the same with normalised queries and keys.
    `gpt2`: LayerNorm, learned positions, GELU, biases. `gpt_neox`: LayerNorm, rotary positions on a
    quarter of each head, attention and feed-forward in parallel.

    Args:
        n_experts: experts of a layer (`llama` becomes `mixtral`, `qwen3` `qwen3_moe`); None: one feed-forward layer. The
            active ones together are as wide as that.

    Raises:
        InputError: the sizes do not fit together.
    """
    if d_model % n_heads or (d_model // n_heads) % 2:
        raise InputError(f"--width {d_model}: must be an even multiple of --heads {n_heads}.")
    d_head = d_model // n_heads
    if architecture not in ("llama", "qwen3") and n_kv_heads != n_heads:
        raise InputError(f"--kv-heads {n_kv_heads}: {architecture} has no grouped queries; leave it out.")
    llama = ModelConfig(
        family=architecture,
        vocab_size=vocab_size,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        d_mlp=_multiple_of(d_model * 8 / 3),
        context_length=context_length,
        positions=PositionShape(rope=Rope(d_rotary=d_head)),
        dropout=DropoutRates(embedding=dropout, residual=dropout),
        bos_token_id=bos_token_id,
        eos_token_ids=() if eos_token_id is None else (eos_token_id,),
        pad_token_id=pad_token_id,
    )
    if architecture in ("llama", "qwen3"):
        made = reshaped(llama, attention={"qk_norm": architecture == "qwen3"})
        if n_experts is None:
            return made
        experts = Experts(n_experts, n_active, _multiple_of(d_model * 8 / 3 / n_active, 8))
        if architecture == "qwen3":
            return reshaped(made, family="qwen3_moe", mlp={"experts": experts})
        return reshaped(made, family="mixtral", mlp={"experts": experts}, d_mlp=experts.d_mlp)
    if n_experts is not None:
        raise InputError(f"--experts {n_experts}: {architecture} has none; choose qwen3 or llama.")
    gpt2 = reshaped(
        llama,
        PLAIN_BLOCKS,
        d_mlp=4 * d_model,
        positions={"rope": None},
        norms={"eps": 1e-5},
        mlp={"activation": "gelu_tanh"},
    )
    if architecture == "gpt2":
        return gpt2
    quarter = max(2, d_head // 4 // 2 * 2)
    return reshaped(
        gpt2, mlp={"activation": "gelu"}, positions={"rope": Rope(d_rotary=quarter)}, residual={"parallel": True}
    )


def encoder_decoder_from_scratch(
    architecture: PairArchitecture,
    *,
    vocab_size: int,
    n_layers: int,
    d_model: int,
    n_heads: int,
    context_length: int,
    dropout: float,
    eos_token_id: int,
    pad_token_id: int,
) -> ModelConfig:
    """The configuration of a fresh model that reads one text and writes another, with one vocabulary for both.

    `marian`: the original Transformer (post-norm, sines, scaled embeddings) with SiLU, as the OPUS-MT models are.
    `bart`: learned positions, normalised embeddings, GELU. `t5`: pre-norm RMSNorm, biases by distance, gated GELU.
    The decoder begins with the padding token, as Marian's and T5's do.

    Raises:
        InputError: the sizes do not fit together.
    """
    marian = reshaped(
        _original(architecture, vocab_size, n_layers, d_model, n_heads, context_length, dropout, pad_token_id),
        positions={"kind": "sinusoidal"},
        norms={"eps": 1e-5},
        embedding={"scaled": True},
        eos_token_ids=(eos_token_id,),
    )
    shared = marian
    if architecture == "bart":
        shared = reshaped(
            marian,
            positions={"kind": "learned", "offset": 2},
            norms={"embedding": True},
            embedding={"scaled": False},
            mlp={"activation": "gelu"},
        )
    elif architecture == "t5":
        shared = reshaped(
            marian, d_mlp=_multiple_of(d_model * 8 / 3), context_length=512, positions={"kind": "relative"},
            norms={"kind": "rmsnorm", "eps": 1e-6, "place": "pre", "final": True},
            embedding={"scaled": False}, mlp={"activation": "gelu_tanh", "gated": True, "bias": False},
            attention={"qkv_bias": False, "output_bias": False, "scale_by_head": False},
        )  # fmt: skip
    return reshaped(
        shared,
        encoder=replace(shared, causal=False),
        decoder_start_token_id=pad_token_id,
        logits={"bias": architecture != "t5", "scaled": architecture == "t5"},
    )


def encoder_from_scratch(
    architecture: EncoderArchitecture,
    *,
    vocab_size: int,
    n_layers: int,
    d_model: int,
    n_heads: int,
    context_length: int,
    dropout: float,
    pad_token_id: int,
) -> ModelConfig:
    """The configuration of a fresh model that fills in hidden tokens (Devlin et al. 2019, in its small sizes).

    Raises:
        InputError: the sizes do not fit together.
    """
    bert = reshaped(
        _original(architecture, vocab_size, n_layers, d_model, n_heads, context_length, dropout, pad_token_id),
        norms={"eps": 1e-12, "embedding": True},
        embedding={"token_types": {"bert": 2, "roberta": 1, "distilbert": 0}[architecture]},
        causal=False,
        mlp={"activation": "gelu"},
        head={"activation": "gelu"},
        logits={"bias": True},
    )
    if architecture == "roberta":
        return reshaped(bert, positions={"offset": pad_token_id + 1, "skip_padding": True})
    return bert


def _original(
    family: str,
    vocab_size: int,
    n_layers: int,
    d_model: int,
    n_heads: int,
    context_length: int,
    dropout: float,
    pad_token_id: int,
) -> ModelConfig:
    """What Marian, BART and BERT share: post-norm LayerNorm, biases, a feed-forward layer of width 4 d_model."""
    if d_model % n_heads:
        raise InputError(f"--width {d_model}: must be a multiple of --heads {n_heads}.")
    return config_of(
        POST_NORM,
        family=family,
        vocab_size=vocab_size,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=d_model // n_heads,
        d_mlp=4 * d_model,
        context_length=context_length,
        dropout={"embedding": dropout, "residual": dropout},
        pad_token_id=pad_token_id,
    )
