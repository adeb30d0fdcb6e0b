"""What is minimised where vectors of texts are learned: losses over all texts of a batch at once."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.pooling import PoolingMode, pooled
from wenloom.model.taps import Taps
from wenloom.training.objectives import LossSum, Objective


class VectorSettings(NamedTuple):
    """How vectors of texts are made and compared while they are learned."""

    pooling: tuple[PoolingMode, ...]
    head: nn.Sequential
    """What follows the pooling; its weights stay as they are."""
    dimensions: tuple[int, ...]
    """Widths at which vectors are compared (Matryoshka, Kusupati et al. 2022, eq. 1); the loss is the mean over them."""
    temperature: float = 0.05


class EmbeddingObjective(Objective):
    """Vectors of texts; a text's loss depends on the others of its batch, which is therefore never divided.

    Where it does not fit in memory, texts are read a few at a time and read again for the backward pass, which changes nothing.
    """

    needs_whole_batch = True

    def __init__(self, model: Model, settings: VectorSettings):
        super().__init__(model)
        self.settings = settings  # its head is no part of what is learned, replicated or sharded
        settings.head.requires_grad_(False)

    def vectors(
        self, tokens_BT: Tensor, lengths_B: Tensor, dropout_keys_B: Tensor | None, taps: Taps | None = None
    ) -> Tensor:
        """Vectors of texts, float32, shape (B, D)."""
        n_rows, at_once = len(tokens_BT), self.rows_at_once or len(tokens_BT)
        if at_once >= n_rows or not torch.is_grad_enabled():
            return self._read(tokens_BT, lengths_B, dropout_keys_B, taps)
        parts = []
        for start in range(0, n_rows, at_once):
            part = slice(start, start + at_once)
            keys_B = None if dropout_keys_B is None else dropout_keys_B[part]
            parts.append(
                checkpoint(
                    self._read, tokens_BT[part], lengths_B[part], keys_B, use_reentrant=False, preserve_rng_state=False
                )
            )
        return torch.cat(parts)

    def _read(
        self, tokens_BT: Tensor, lengths_B: Tensor, dropout_keys_B: Tensor | None, taps: Taps | None = None
    ) -> Tensor:
        assert isinstance(self.model, Encoder | Decoder)
        mask_BT = (torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]).long()
        x_BTD = self.model.hidden(tokens_BT, mask_BT, dropout_keys_B=dropout_keys_B, taps=taps)
        with torch.autocast(tokens_BT.device.type, enabled=False):
            return self.settings.head.to(tokens_BT.device)(pooled(x_BTD, lengths_B, self.settings.pooling))


class ContrastiveObjective(EmbeddingObjective):
    """Which text belongs to which, among all of a batch: InfoNCE (van den Oord et al. 2018, eq. 4) with the other rows' texts as
    negatives (Henderson et al. 2017, section 4), by cosines."""

    def forward(
        self,
        anchor_BT: Tensor,
        anchor_length_B: Tensor,
        positive_BT: Tensor,
        positive_length_B: Tensor,
        ids_BN: Tensor,
        targets_B: Tensor,
        negative_BT: Tensor | None = None,
        negative_length_B: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """-Σ log softmax_j(cos(anchor_i, text_j) / temperature)_i over the batch's positives and negatives.

        Args:
            ids_BN: numbers of the texts: anchor, positive, and negative where there is one. What is the same text as an anchor or
                its positive, or the positive of the same anchor, does not count as its negative.
        """
        anchors_BD = self.vectors(anchor_BT, anchor_length_B, dropout_keys_B, taps)
        texts_ND, ids_N = self.vectors(positive_BT, positive_length_B, _others(dropout_keys_B, 1), taps), ids_BN[:, 1]
        owners_N = ids_BN[:, 0]
        absent_N = torch.zeros_like(ids_N, dtype=torch.bool)
        if negative_BT is not None and negative_length_B is not None and negative_BT.shape[1]:
            texts_ND = torch.cat(
                (texts_ND, self.vectors(negative_BT, negative_length_B, _others(dropout_keys_B, 2), taps))
            )
            ids_N, absent_N = torch.cat((ids_N, ids_BN[:, 2])), torch.cat((absent_N, negative_length_B == 0))
            owners_N = torch.cat((owners_N, torch.full_like(owners_N, -1)))
        own_BN = torch.eye(len(anchors_BD), len(texts_ND), dtype=torch.bool, device=texts_ND.device)
        alike_BN = (ids_BN[:, :1] == ids_N) | (ids_BN[:, 1:2] == ids_N) | (ids_BN[:, :1] == owners_N)
        hidden_BN = (alike_BN | absent_N) & ~own_BN
        right_B, total = torch.arange(len(anchors_BD), device=texts_ND.device), texts_ND.new_zeros(())
        for width in self.settings.dimensions:
            scores_BN = (
                F.normalize(anchors_BD[:, :width], dim=-1)
                @ F.normalize(texts_ND[:, :width], dim=-1).T
                / self.settings.temperature
            )
            scores_BN = scores_BN.masked_fill(hidden_BN, -torch.inf)
            total = total + F.cross_entropy(scores_BN, right_B, reduction="sum") / len(self.settings.dimensions)
        return LossSum(total, torch.tensor(len(targets_B), device=total.device), {})


class ScoredPairsObjective(EmbeddingObjective):
    """How like two texts are, by scores.

    Args:
        loss: cosent compares pairs with each other (Su 2022), cosine each cosine with its score (Reimers & Gurevych 2019, section 3).
    """

    def __init__(self, model: Model, settings: VectorSettings, loss: Literal["cosent", "cosine"] = "cosent"):
        super().__init__(model, settings)
        self.loss = loss

    def forward(
        self,
        anchor_BT: Tensor,
        anchor_length_B: Tensor,
        positive_BT: Tensor,
        positive_length_B: Tensor,
        scores_B: Tensor,
        targets_B: Tensor,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """B log(1 + Σ_{s_i > s_j} exp((cos_j - cos_i) / temperature)), or Σ (cos_i - s_i)²."""
        one_BD = self.vectors(anchor_BT, anchor_length_B, dropout_keys_B, taps)
        two_BD = self.vectors(positive_BT, positive_length_B, _others(dropout_keys_B, 1), taps)
        total, n = one_BD.new_zeros(()), len(targets_B)
        for width in self.settings.dimensions:
            cos_B = F.cosine_similarity(one_BD[:, :width], two_BD[:, :width], dim=-1)
            if self.loss == "cosine":
                found = (cos_B - scores_B.to(cos_B)).square().sum()
            else:
                gaps_BB = (cos_B[None, :] - cos_B[:, None]) / self.settings.temperature
                wrong = gaps_BB[scores_B[:, None] > scores_B[None, :]]
                found = n * torch.cat((wrong, wrong.new_zeros(1))).logsumexp(0)
            total = total + found / len(self.settings.dimensions)
        return LossSum(total, torch.tensor(n, device=total.device), {})


def _others(dropout_keys_B: Tensor | None, number: int) -> Tensor | None:
    """Keys of another text of the same row: it drops out otherwise."""
    return None if dropout_keys_B is None else dropout_keys_B + number * 0x5BD1E995
