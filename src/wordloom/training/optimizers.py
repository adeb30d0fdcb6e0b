"""AdamW with weight decay on matrices only."""

import torch

from wordloom.model.decoder import Decoder


def adamw(decoder: Decoder, learning_rate: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases and norm weights are not decayed towards zero."""
    matrices = [parameter for parameter in decoder.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in decoder.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=betas, fused=True)
