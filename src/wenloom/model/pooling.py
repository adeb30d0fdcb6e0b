"""From the vectors of a text's tokens to one vector of the text."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.core.errors import InputError

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""Names as sentence-transformers has them, in the order in which it joins several."""
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    each.__name__: each for each in (nn.Tanh, nn.Identity, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}
"""Non-linearities of a `Dense`, by the names of PyTorch's classes."""


def pooled(x_BTD: Tensor, lengths_B: Tensor, modes: Sequence[PoolingMode], skipped: int = 0) -> Tensor:
    """One vector for each text, the modes' vectors side by side, in float32.

    cls: the first token's; lasttoken: the last one's (Neelakantan et al. 2022); max, mean: over tokens (Reimers & Gurevych
    2019, section 3); mean_sqrt_len_tokens: the sum over the root of the number; weightedmean: Σ i x_i / Σ i with places i
    from 1 on (SGPT, Muennighoff 2022, eq. 2).

    Args:
        x_BTD: vectors of tokens; padding stands behind them.
        lengths_B: tokens of each text, the padding not counted.
        modes: at least one.
        skipped: so many tokens at the beginning, a prompt, do not count; places are counted from the text's first all the
            same.

    Returns:
        Shape (B, modes * D); zeros where no token counts.
    """
    places_T = torch.arange(x_BTD.shape[1], device=x_BTD.device)
    counts_BT = (places_T < lengths_B[:, None]) & (places_T >= skipped)
    x_BTD, one_BT1 = x_BTD.float(), counts_BT[:, :, None].float()
    rows_B, n_B1 = torch.arange(len(x_BTD), device=x_BTD.device), one_BT1.sum(1)
    least_B1 = n_B1.clamp(min=1)  # 0 / 0 would have no gradient
    found: list[Tensor] = []
    for mode in modes:
        if mode == "cls":
            found.append(x_BTD[:, min(skipped, x_BTD.shape[1] - 1)])
        elif mode == "lasttoken":
            found.append(x_BTD[rows_B, (lengths_B - 1).clamp(min=0)])
        elif mode == "max":
            found.append(x_BTD.masked_fill(~counts_BT[:, :, None], -torch.inf).amax(1))
        elif mode == "weightedmean":
            weights_BT1 = one_BT1 * (places_T + 1.0)[:, None]
            found.append((x_BTD * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1))
        else:
            found.append((x_BTD * one_BT1).sum(1) / (least_B1 if mode == "mean" else least_B1.sqrt()))
    return torch.cat([each.masked_fill(n_B1 == 0, 0.0) for each in found], -1)


class Dense(nn.Module):
    """act(W v + b), and where it has a residual connection, v (or W' v, where the widths differ) added."""

    def __init__(self, width: int, out: int, bias: bool = True, activation: str = "Tanh", residual: bool = False):
        """
        Args:
            activation: a name in `ACTIVATIONS`.
        """
        super().__init__()
        self.linear = nn.Linear(width, out, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        self.has_residual = residual
        self.residual = nn.Linear(width, out, bias=False) if residual and width != out else nn.Identity()

    def forward(self, x_BD: Tensor) -> Tensor:
        out_BD = self.activation(self.linear(x_BD))
        return out_BD + self.residual(x_BD) if self.has_residual else out_BD


class UnitLength(nn.Module):
    """v / |v|; a vector of zeros stays one."""

    def forward(self, x_BD: Tensor) -> Tensor:
        return F.normalize(x_BD, dim=-1)


def shortened(vectors_BD: Tensor, dimensions: int, normalize: bool = True) -> Tensor:
    """The first numbers of vectors, of a model that was trained for it (Matryoshka, Kusupati et al. 2022, section 3).

    Args:
        normalize: bring what is left to length 1.

    Raises:
        InputError: there are fewer.
    """
    if not 1 <= dimensions <= vectors_BD.shape[-1]:
        raise InputError(f"dimensions {dimensions:,}: from 1 to {vectors_BD.shape[-1]:,}, the width of these vectors.")
    cut_BD = vectors_BD[..., :dimensions]
    return F.normalize(cut_BD, dim=-1) if normalize else cut_BD
