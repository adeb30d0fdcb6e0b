"""Pairs of words that are to be equally probable: a penalty on their log-ratio beside the loss (Qian et al. 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps, keep
from wenloom.text.group_axis import GroupAxis
from wenloom.text.lexicon import lexicon
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.objectives import CausalObjective, LossSum

_HIDDEN = "final_norm"


class WordPairs(NamedTuple):
    """Tokens of words and of their counterparts, place by place."""

    first: tuple[int, ...]
    second: tuple[int, ...]


def word_pairs(name: str, tokenizer: TextTokenizer) -> WordPairs:
    """Words of an axis that are one token and have a counterpart of one token; as in the middle of a text, and as at its beginning.

    Args:
        name: LEXICON:AXIS, such as en:gender.

    Raises:
        InputError: no such axis, or no such words in this vocabulary.
    """
    language, colon, axis = name.rpartition(":")
    if not colon:
        raise InputError(f"--equalize-words {name}: must be LEXICON:AXIS, such as en:gender.")
    found = _pairs_of(lexicon(language).axis(axis), tokenizer)
    if not found:
        raise InputError(f"--equalize-words {name}: no word and counterpart are one token each in this vocabulary.")
    return WordPairs(tuple(first for first, _ in found), tuple(second for _, second in found))


def has_word_pairs(axis: GroupAxis, tokenizer: TextTokenizer) -> bool:
    """Whether a word of an axis and its counterpart are one token each."""
    return bool(_pairs_of(axis, tokenizer))


def _pairs_of(axis: GroupAxis, tokenizer: TextTokenizer) -> dict[tuple[int, int], None]:
    found: dict[tuple[int, int], None] = {}
    for rule in axis.rules:
        if rule.side != 0:
            continue
        for before in ("", " "):
            for change in (str, str.capitalize):
                ids = [tokenizer.encode(before + change(word), False) for word in (rule.form, rule.to)]
                if all(len(each) == 1 for each in ids) and ids[0] != ids[1]:
                    found[ids[0][0], ids[1][0]] = None
    return found


class EqualizedObjective(CausalObjective):
    """Next tokens, and beside them strength * Σ |log P(word) - log P(counterpart)| wherever the next token is one of a pair.

    The penalty is part of the gradient and not of the value, so that losses with it and without are compared. As the two share their
    normaliser, the difference of their logits is all that is computed.

    Args:
        strength: of the penalty; 1 weighs a nat of difference like a nat of loss.
    """

    def __init__(
        self,
        decoder: Decoder,
        pairs: WordPairs,
        strength: float,
        document_start: int | None = None,
    ):
        super().__init__(decoder, document_start)
        self.pairs, self.strength = pairs, strength

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        dropout_keys_B: Tensor | None = None,
        documents_BT: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """See `CausalObjective.forward`; with `pair_gap`, the sum of the differences in nats."""
        decoder = self.model
        assert isinstance(decoder, Decoder)
        if not decoder.training or taps is not None:
            return super().forward(inputs_BT, targets_BT, dropout_keys_B, documents_BT, taps)
        kept: dict[str, Tensor] = {}
        found = super().forward(
            inputs_BT, targets_BT, dropout_keys_B, documents_BT, Taps({_HIDDEN: keep(_HIDDEN, kept)}, decoder.places)
        )
        gap = self._gap(decoder, kept[_HIDDEN], targets_BT)
        beside = self.strength * gap
        return LossSum(
            found.total + (beside - beside.detach()), found.weight, {**found.figures, "pair_gap": gap.detach()}
        )

    def _gap(self, decoder: Decoder, hidden_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        first_P, second_P = (torch.tensor(each, device=targets_BT.device) for each in self.pairs)
        gap = hidden_BTD.new_zeros((), dtype=torch.float32)
        hits_BTP = (targets_BT[..., None] == first_P) | (targets_BT[..., None] == second_P)
        # a word of several pairs (his: hers or her) counts with the first
        pair_BT = torch.where(hits_BTP.any(-1), hits_BTP.int().argmax(-1), -1)
        is_word_BT = pair_BT >= 0
        if bool(is_word_BT.any()):
            hidden_ND = decoder.transformed(hidden_BTD[is_word_BT])
            pair_N, weight = pair_BT[is_word_BT], decoder.output_weight
            direction_ND = weight[first_P[pair_N]] - weight[second_P[pair_N]]
            logits_N = (hidden_ND.float() * direction_ND.float()).sum(-1)
            if decoder.output_bias is not None:
                logits_N = logits_N + decoder.output_bias[first_P[pair_N]] - decoder.output_bias[second_P[pair_N]]
            gap = logits_N.abs().sum()
        return gap
