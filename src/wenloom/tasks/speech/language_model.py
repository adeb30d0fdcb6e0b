"""A language model beside a recogniser: what is heard, weighed with what is said at all (shallow fusion).

A text is chosen by the recogniser's log-probability + weight * (log P(text) + bonus * words). Where both models have one
vocabulary, the language model also guides the search, token by token (Gulcehre et al. 2015, section 4.1); with another
vocabulary it judges the texts that the search has found.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.core.errors import InputError
from wenloom.evaluation.likelihood import tokens_before
from wenloom.evaluation.scorer import Scorer, TextInContext
from wenloom.evaluation.scorers import scorer_of
from wenloom.model.decoder import Decoder
from wenloom.model.packed import packed
from wenloom.tokens.tokenizer import TextTokenizer

LM_WEIGHT = 0.3
"""How much a language model counts where nothing is said (what shallow fusion mostly takes)."""


class FusedLanguageModel:
    """What a language model says of texts that may have been heard.

    Args:
        scorer: of the model.
        weight: how much it counts, in nats per nat.
        bonus: nats per word.
        decoder: to guide the search by; of the recogniser's vocabulary.
        vocab_size: of the recogniser.
        end: the token that closes a transcript.
    """

    def __init__(
        self, scorer: Scorer, weight: float, bonus: float, decoder: Decoder | None = None, vocab_size: int = 0, end: int = 0
    ):  # fmt: skip
        self._scorer, self.weight, self.bonus = scorer, weight, bonus
        self._decoder, self._vocab_size, self._end = decoder, vocab_size, end
        self._known: dict[str, float] = {}

    @classmethod
    def load(
        cls, folder: Path, tokenizer: TextTokenizer, vocab_size: int, end: int, weight: float, bonus: float, device: str = "cpu"
    ) -> "FusedLanguageModel":  # fmt: skip
        """From a folder.

        Args:
            tokenizer: the recogniser's.
            vocab_size, end: see the class.

        Raises:
            InputError: it is no model of texts, or its tokenizer has nothing that opens a text.
        """
        model, own = load_model(folder, device), load_tokenizer(folder)
        scorer = scorer_of(packed(model) if isinstance(model, Decoder) else model, own)
        if scorer.kind == "pairs":
            raise InputError(
                f"{folder}: a language model beside a recogniser goes on with texts, or fills in what is hidden."
            )
        if not scorer.opens(is_empty=True):
            raise InputError(
                f"{folder}: its tokenizer has no token that opens a text: the first word has no probability."
            )
        guides = isinstance(model, Decoder) and own.eos_token_id is not None and _are_alike(tokenizer, own)
        return cls(scorer, weight, bonus, model if guides and isinstance(model, Decoder) else None, vocab_size, end)

    @property
    def guides(self) -> bool:
        """Whether it can be asked token by token."""
        return self._decoder is not None

    def judged(self, texts: Sequence[str]) -> list[float]:
        """weight * (log P + bonus * words) of whole texts, nats."""
        bare = [" ".join(text.split()) for text in texts]
        unknown = [text for text in dict.fromkeys(bare) if text not in self._known]
        if unknown:
            [found] = self._scorer.continuations([[TextInContext("", text, is_whole=True) for text in unknown]])
            self._known |= {text: each.log_probability for text, each in zip(unknown, found, strict=True)}
        return [self.weight * (self._known[text] + self.bonus * len(text.split())) for text in bare]

    @torch.inference_mode()
    def following(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """weight * log P of every token behind each prefix of a text, shape (prefixes, recogniser's vocabulary).

        What only the recogniser writes, such as tokens of time, counts nothing.
        """
        assert self._decoder is not None
        decoder, tokenizer = self._decoder, self._scorer.tokenizer
        own_end = tokenizer.eos_token_id
        assert own_end is not None
        opening = tokens_before(tokenizer, is_empty=True)
        lines = [([*opening, *prefix])[-decoder.config.context_length :] for prefix in prefixes]
        longest, device = max(map(len, lines)), decoder.embed.weight.device
        padded = torch.tensor([[*line, *[own_end] * (longest - len(line))] for line in lines], device=device)
        lasts = [len(line) - 1 for line in lines]
        x_RD = decoder.hidden(padded)[range(len(lines)), lasts]
        logprobs_RV = decoder.unembed(x_RD).float().log_softmax(-1)
        made_RV = logprobs_RV.new_zeros(len(lines), self._vocab_size)
        common = min(self._vocab_size, logprobs_RV.shape[1])
        made_RV[:, :common] = self.weight * logprobs_RV[:, :common]
        made_RV[:, sorted(tokenizer.special_ids & {*range(common)})] = 0.0
        made_RV[:, self._end] = self.weight * logprobs_RV[:, own_end]
        return made_RV


def _are_alike(one: TextTokenizer, other: TextTokenizer) -> bool:
    """Whether both write every text with the same tokens: all but those that steer have the same numbers."""

    def of_text(tokenizer: TextTokenizer) -> dict[str, int]:
        special = set(tokenizer.special_ids)
        return {name: number for name, number in tokenizer.backend.get_vocab().items() if number not in special}

    return of_text(one) == of_text(other)
