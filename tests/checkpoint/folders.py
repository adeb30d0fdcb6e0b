"""Tiny folders of every family, and odd values to put into them."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from wenloom.checkpoint.families import FAMILIES
from wenloom.core.errors import WenloomError

OWN_HEADS = (
    "llama",
    "mistral",
    "qwen3",
    "mixtral",
    "qwen3_moe",
    "gpt_oss",
    "smollm3",
    "glm4",
    "gemma",
    "gemma2",
    "gemma3_text",
)
"""Families whose heads may have a width of their own."""
DECODERS = ("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "mixtral",
            "qwen3_moe", "olmoe", "gpt_oss", "phi", "phi3", "smollm3", "granite", "olmo2", "olmo3",
            "starcoder2", "stablelm", "glm4", "cohere2", "gemma", "gemma2", "gemma3_text", "opt", "gptj", "bloom", "falcon")  # fmt: skip
ENCODERS = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "albert",
    "mpnet",
    "deberta-v2",
    "modernbert",
    "nomic_bert",
)
PAIRS = ("marian", "bart", "mbart", "m2m_100", "pegasus", "t5", "mt5", "umt5")
VOCAB = 61

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 3, 0.5, 16.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-300, 1e300,
    10**8, 10**12, 2**63, 10**400, "", "16", "silu", "\x1b[31m", "null", [], [1], [[]], [None], ["x"], {}, {"x": 1},
    {"0": []}, {"rope_type": []}, [float("nan")], "a" * 10_000, {"factor": "4"},
]  # fmt: skip
"""What stands in a field by mistake or by malice."""


def tiny_config(family: str, **more: Any) -> transformers.PreTrainedConfig:
    """A configuration by transformers."""
    heads = 2
    if family in DECODERS:
        sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=heads, intermediate_size=24,
                     max_position_embeddings=16)  # fmt: skip
        if family == "gpt2":
            sizes = dict(n_embd=16, n_layer=2, n_head=heads, n_positions=16)
        elif family == "gpt_neo":
            sizes = dict(hidden_size=16, num_layers=2, num_heads=heads, attention_types=[[["global", "local"], 1]],
                         window_size=5, max_position_embeddings=16)  # fmt: skip
        elif family == "opt":
            sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=heads, ffn_dim=24, word_embed_proj_dim=16,
                         max_position_embeddings=16)  # fmt: skip
        elif family == "gptj":
            sizes = dict(n_embd=16, n_layer=2, n_head=heads, n_positions=16, rotary_dim=4)
        elif family == "bloom":
            sizes = dict(hidden_size=16, n_layer=2, n_head=heads)
        elif family == "falcon":
            sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=heads, ffn_hidden_size=24,
                         max_position_embeddings=16, num_kv_heads=1, new_decoder_architecture=True)  # fmt: skip
        elif family not in ("gpt_neox", "llama"):
            sizes["num_key_value_heads"] = 1
        if family in ("glm4", "gemma", "gemma2", "gemma3_text", "gpt_oss"):
            sizes |= dict(head_dim=8)
        if family in ("mixtral", "qwen3_moe", "olmoe", "gpt_oss"):
            sizes |= {
                "num_local_experts" if family in ("mixtral", "gpt_oss") else "num_experts": 4,
                "num_experts_per_tok": 2,
            }
        if family == "qwen3_moe":
            sizes |= dict(head_dim=8, moe_intermediate_size=12, mlp_only_layers=[1])
        if family in ("gemma2", "gemma3_text"):
            sizes |= dict(query_pre_attn_scalar=5)
        if family in ("gemma2", "gemma3_text", "olmo3", "cohere2", "gpt_oss"):
            sizes |= dict(sliding_window=5, layer_types=["sliding_attention", "full_attention"])
    elif family == "distilbert":
        sizes = dict(dim=16, n_layers=2, n_heads=heads, hidden_dim=20, max_position_embeddings=24)
    elif family in ENCODERS:
        sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=heads, intermediate_size=20,
                     max_position_embeddings=24)  # fmt: skip
        if family in ("electra", "albert"):
            sizes |= dict(embedding_size=12)
        if family == "deberta-v2":
            sizes |= dict(relative_attention=True, position_buckets=4, pos_att_type=["p2c", "c2p"], share_att_key=True,
                          norm_rel_ebd="layer_norm", position_biased_input=False)  # fmt: skip
    elif family in ("t5", "mt5", "umt5"):
        sizes = dict(d_model=16, d_kv=8, d_ff=20, num_layers=2, num_heads=heads)
    else:
        sizes = dict(d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=heads,
                     decoder_attention_heads=heads, encoder_ffn_dim=20, decoder_ffn_dim=20, max_position_embeddings=24,
                     decoder_start_token_id=1)  # fmt: skip
        if family == "marian":
            sizes |= dict(decoder_vocab_size=VOCAB, forced_eos_token_id=2)
    ids = dict(vocab_size=VOCAB, bos_token_id=0, eos_token_id=2, pad_token_id=1)
    return transformers.AutoConfig.for_model(family, **(ids | sizes | more))


def auto_class(family: str) -> Any:
    """The language model of a family."""
    if family in DECODERS:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForMaskedLM if family in ENCODERS else transformers.AutoModelForSeq2SeqLM


def moved(model: Any) -> Any:
    """Weights large enough that a mistake shows, none of them 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # sines are none of the weights
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias += torch.randn(model.final_logits_bias.shape, generator=generator)
    model.tie_weights()
    return model.eval()


def saved(family: str, folder: Path, auto: Any = None, **more: Any) -> Any:
    """A model that transformers wrote into a folder."""
    kind = auto or auto_class(family)
    config = tiny_config(family, **more)
    model = moved(kind.from_config(config) if hasattr(kind, "from_config") else kind(config))
    model.save_pretrained(folder)
    return model


def read_raw(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def write_raw(folder: Path, raw: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(raw))


def outcome(act: Any) -> str:
    """What came of it: an answer or one sentence; anything else goes through."""
    try:
        act()
    except WenloomError as error:
        assert str(error).isprintable() and len(str(error)) < 3000, error
        return str(error)
    return ""


def fields_of(family: str) -> list[str]:
    """Every field that this family's reader, or transformers, looks at."""
    content = json.loads((Path(__file__).parents[2] / "src/wenloom/checkpoint/families/reference.json").read_text())
    own = tiny_config(family).to_dict()
    extra = ["rope_scaling", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings", "num_labels",
             "rotary_pct", "rotary_emb_base", "generation_config"]  # fmt: skip
    assert family in FAMILIES
    return sorted({*own, *content["families"][family], *content["every"], *extra})


@torch.no_grad()
def difference(ours: Any, theirs: Any, length: int = 12) -> float:
    """The largest of the logits (or hidden states) of some tokens."""
    tokens = torch.randint(3, VOCAB, (2, length), generator=torch.Generator().manual_seed(1))
    if theirs.config.is_encoder_decoder:
        target = tokens.flip(1)[:, :7]
        return float((ours(tokens, target) - theirs(tokens, decoder_input_ids=target).logits).abs().max())
    made = theirs(tokens)
    expected = made.logits if hasattr(made, "logits") else made.last_hidden_state
    return float((ours(tokens) - expected).abs().max())
