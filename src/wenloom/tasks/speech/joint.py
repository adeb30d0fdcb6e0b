"""Two judges of one sound: hypotheses of the CTC head and of the decoder, chosen by what both say (Watanabe et al. 2017).

Of a text y, the score is w log P_ctc(y) + (1 - w) log P_attention(y) (the paper's eq. 23, over whole texts). CTC alone may
write what no reader would; attention alone may leave words out or say them twice, as nothing ties it to the sound.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.model.cache import EncoderKV
from wenloom.model.decoder import Decoder
from wenloom.tasks.speech.ctc import Guide, greedy, prefix_beams, text_logprobs
from wenloom.tasks.speech.decoding import Decoded
from wenloom.tasks.speech.rules import TokenRules

Judge = Callable[[Sequence[Sequence[int]]], list[float]]
"""What a language model adds to the log-probabilities of whole texts."""


class CtcHeard(NamedTuple):
    """What the CTC head says of a window."""

    logprobs_SV: Tensor
    blank: int
    weight: float
    """w: how much it counts beside the decoder."""


def by_ctc(heard: CtcHeard, count: int, guide: Guide | None = None, judge: Judge | None = None) -> Decoded:
    """What the CTC head alone hears.

    Args:
        count: prefixes that are followed; 1 takes the most probable path, if nobody guides.
    """
    if count == 1 and guide is None:
        found = [greedy(heard.logprobs_SV, heard.blank)]
    else:
        found = prefix_beams(heard.logprobs_SV, heard.blank, count, guide)
    return chosen([(list(ids), total) for ids, total in found], 0.0, judge)


def by_both(
    decoder: Decoder, rules: TokenRules, end: int, encoder_kv: EncoderKV, prompt: Sequence[int], heard: Decoded, most: int,
    count: int, ctc: CtcHeard | None, guide: Guide | None = None, judge: Judge | None = None,
) -> Decoded:  # fmt: skip
    """The best of all texts that were found, by all that judge.

    Args:
        encoder_kv: of one window.
        prompt: what stands before the transcript, its opening at the end.
        heard: what the decoder found.
        most: tokens of a transcript at most.
        count: prefixes that CTC follows.
        ctc: None: there is no such head.
    """
    own = [] if ctc is None else prefix_beams(ctc.logprobs_SV, ctc.blank, count, guide)
    texts = list(dict.fromkeys([*(tuple(ids) for ids, _ in heard.others),
                                *(each.tokens for each in own if len(each.tokens) <= most)]))  # fmt: skip
    scores = attention_logprobs(decoder, rules, end, encoder_kv, prompt, texts)
    if ctc is not None:
        sums = text_logprobs(ctc.logprobs_SV, texts, ctc.blank)
        scores = [ctc.weight * one + (1 - ctc.weight) * other for one, other in zip(sums, scores, strict=True)]
    return chosen([(list(ids), total) for ids, total in zip(texts, scores, strict=True)], heard.no_speech_prob, judge)


def chosen(found: Sequence[tuple[list[int], float]], no_speech_prob: float, judge: Judge | None) -> Decoded:
    """The best of some texts; all of them stand beside it by what the recogniser alone says."""
    ranked = sorted(found, key=lambda each: -each[1])
    best = 0
    if judge is not None:
        more = judge([ids for ids, _ in ranked])
        best = max(range(len(ranked)), key=lambda number: ranked[number][1] + more[number])
    return Decoded(*ranked[best], no_speech_prob, tuple(ranked))


@torch.inference_mode()
def attention_logprobs(
    decoder: Decoder, rules: TokenRules, end: int, encoder_kv: EncoderKV, prompt: Sequence[int], texts: Sequence[Sequence[int]]
) -> list[float]:  # fmt: skip
    """log P of texts without times behind a prompt, the end counted.

    Args:
        encoder_kv: of one window.
    """
    device = encoder_kv.keys[0].device
    longest = max(map(len, texts)) + 1
    written_RT = torch.tensor([[*text, *[end] * (longest - len(text))] for text in texts], device=device)
    lengths_R = torch.tensor([len(text) + 1 for text in texts], device=device)
    prompt_RT = torch.tensor([list(prompt)] * len(texts), device=device)
    keys, values = (tuple(each.expand(len(texts), *each.shape[1:]) for each in side) for side in encoder_kv[:2])
    many = EncoderKV(keys, values)
    x_RTD = decoder.hidden(torch.cat((prompt_RT, written_RT[:, :-1]), 1), encoder_kv=many)
    logprobs_RTV = rules.text_logprobs(decoder.unembed(x_RTD[:, len(prompt) - 1 :]).float())
    values_RT = logprobs_RTV.gather(2, written_RT[..., None])[..., 0]
    is_text_RT = torch.arange(longest, device=device) < lengths_R[:, None]
    return torch.where(is_text_RT, values_RT, 0.0).sum(1).tolist()
