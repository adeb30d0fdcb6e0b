"""Encoders as llama.cpp has them: without a head, RoBERTa and DistilBERT as the BERT that computes the same."""

import torch

from wenloom.core.console import remark
from wenloom.model.build import without_head
from wenloom.model.config import reshaped
from wenloom.model.encoder import Encoder

_AS_BERT = ("roberta", "xlm-roberta", "camembert", "distilbert")


def plain_encoder(model: Encoder) -> Encoder:
    """The encoder that is written: its hidden states are the same, but for texts with padding inside them.

    RoBERTa's first position is a later row of its table; DistilBERT has no types of tokens, which is one of zeros.
    """
    if model.config.output == "tokens":
        remark("llama.cpp computes hidden states of an encoder; its head is left out.")
        model = without_head(model)
    config = model.config
    if config.family not in _AS_BERT or config.labels:
        return model
    bert = reshaped(
        config,
        family="bert",
        positions={"offset": 0, "skip_padding": False},
        embedding={"token_types": config.embedding.token_types or 1},
        head={"activation": config.mlp.activation},
    )
    with torch.device("meta"):
        made = Encoder(bert)
    state = model.state_dict()
    state["positions.weight"] = state["positions.weight"][config.positions.offset :]
    state.setdefault("token_types.weight", torch.zeros(1, config.d_model, dtype=state["embed.weight"].dtype))
    made.load_state_dict(state, assign=True)
    return made.eval()
