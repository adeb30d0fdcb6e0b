"""Decoding strategies that follow one text: greedy and sampling, guidance, contrastive decoding and search, DoLa.

Beam search, which weighs several texts against each other, is in `beam.py`; guessing ahead in `speculative.py`.
"""

import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wenloom.core.errors import InputError
from wenloom.core.randomness import derive_seed
from wenloom.generation.beam import beam_search
from wenloom.generation.jobs import ForwardRequest, Job, Strategy
from wenloom.generation.request import GenerationRequest
from wenloom.generation.sequence_group import SequenceGroup
from wenloom.generation.speculative import guess_ahead
from wenloom.generation.token_selection import TokenSelector, add, begin
from wenloom.generation.vocabulary import Vocabulary
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.window import view_of


def sequence_groups_for(
    runners: Sequence[ModelRunner], vocabulary: Vocabulary, job: Job, room: int, seed_index: int
) -> list[SequenceGroup]:
    """The strategies that a request takes, ready to run.

    Args:
        runners: the model that the request asks for, and the draft model if there is one.
        room: tokens that may follow the prompt.
        seed_index: tells requests of one seed apart.

    Raises:
        InputError: an option does not fit these models or their vocabulary.
    """
    r = job.request
    seed = secrets.randbits(62) if r.seed is None else r.seed
    keys = [derive_seed(seed, "text", seed_index, n) for n in range(r.num_return_sequences)]
    for name, given in (
        ("num_assistant_tokens", r.num_assistant_tokens),
        ("contrastive_beta", r.contrastive_beta is not None),
    ):
        if given and len(runners) < 2:
            raise InputError(f"{name} needs a second, smaller model beside this one.")
    layers = _dola_layers(r, vocabulary.config.n_layers)
    if r.is_beam_search:
        sequences = SequenceGroup(runners, job, 0, (r.num_beams, 0))
        words = [[list(ids)] for ids in r.force_words_ids]
        words += [vocabulary.tokenizer_for("force_words").spellings(word) for word in r.force_words]
        selector = TokenSelector(r, vocabulary, len(job.prompt), room, keys[0])
        sequences.strategy = beam_search(sequences, selector, selector.endings, words, keys[0])
        return [sequences]
    others = _other_prompts(job, vocabulary)
    predicted = []
    if r.predicted_text:
        predicted = vocabulary.tokenizer_for("predicted_text").encode(r.predicted_text, add_special_tokens=False)
    sequence_groups = []
    for index, key in enumerate(keys):
        selector = TokenSelector(r, vocabulary, len(job.prompt), room, key)
        width = (1, 0)
        if r.penalty_alpha is not None:
            width = (r.top_k or 1, 0)
        elif r.guidance_scale != 1 or r.self_debias:
            width = (1 + max(1, len(r.self_debias)), 0)
        elif r.num_assistant_tokens or r.contrastive_beta is not None:
            width = (1, 1)
        sequences = SequenceGroup(runners, job, index, width)
        if r.penalty_alpha is not None:
            sequences.strategy = _contrastive_search(sequences, selector)
        elif r.guesses:
            sequences.strategy = guess_ahead(sequences, selector, predicted)
        else:
            sequences.strategy = _one_by_one(sequences, selector, layers, others)
        sequence_groups.append(sequences)
    return sequence_groups


def _one_by_one(
    sequences: SequenceGroup, selector: TokenSelector, layers: tuple[int, ...], others: list[list[int]]
) -> Strategy:
    r = sequences.job.request
    text = yield from begin(sequences, sequences.job.prompt)
    texts = [text, *map(sequences.open, others)]
    if r.contrastive_beta is not None:
        texts.append(sequences.open(sequences.job.prompt, model=1))
    while True:
        readings = yield [ForwardRequest(each, layers=layers) for each in texts]
        logits_V = readings[0].logits[-1]
        scores_V = logits_V
        if r.guidance_scale != 1:
            scores_V = guided(logits_V, readings[1].logits[-1], r.guidance_scale)
        elif r.contrastive_beta is not None:
            scores_V = contrasted(logits_V, readings[1].logits[-1], r.contrastive_beta, r.contrastive_alpha)
        elif r.self_debias:
            scores_V = self_debiased(logits_V, [each.logits[-1] for each in readings[1:]], r.self_debias_decay)
        elif layers:
            scores_V = dola(logits_V, [readings[0].early[layer][-1] for layer in layers])
        token = selector.choose(scores_V, text.tokens)
        if add(sequences, selector, token, logits_V) or token is None:
            return
        for each in texts:
            each.tokens.append(token)


def _other_prompts(job: Job, vocabulary: Vocabulary) -> list[list[int]]:
    """What is read beside the prompt: by guidance without it, by Self-Debias after what asks for the unwanted."""
    r = job.request
    if r.self_debias:
        tokenizer = vocabulary.tokenizer_for("self_debias")
        opening = tokenizer.prompt_ids("")
        own = job.prompt[len(opening) :] if job.prompt[: len(opening)] == opening else job.prompt
        return [[*tokenizer.prompt_ids(f"{each.rstrip()}\n"), *own] for each in r.self_debias]
    if r.guidance_scale == 1:
        return []
    if r.negative_prompt is None:
        return [job.prompt[-1:]]
    return [vocabulary.tokenizer_for("negative_prompt").prompt_ids(r.negative_prompt)]


def guided(with_V: Tensor, without_V: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: log p' = log p(x|without) + scale * (log p(x|prompt) - log p(x|without)).

    Sanchez et al. 2023, eq. 7.
    """
    with_V, without_V = with_V.log_softmax(-1), without_V.log_softmax(-1)
    return without_V + scale * (with_V - without_V)


def contrasted(expert_V: Tensor, amateur_V: Tensor, beta: float, alpha: float) -> Tensor:
    """Contrastive decoding: (1 + beta) * expert - beta * amateur where the expert finds a token plausible.

    O'Brien & Lewis 2023, eq. 2; plausible is p >= alpha * max p (Li et al. 2022, eq. 3).
    """
    plausible = expert_V >= expert_V.max() + np.log(alpha)
    return ((1 + beta) * expert_V - beta * amateur_V).masked_fill(~plausible, -torch.inf)


def self_debiased(logits_V: Tensor, unwanted: Sequence[Tensor], decay: float) -> Tensor:
    """Self-Debias: log p' = log p + decay * min(0, p - max p_unwanted), Schick et al. 2021, eq. 3 to 5.

    What the texts that ask for the unwanted make more probable falls, and nothing else; the factor is at least 0.01, as there.
    """
    log_p = logits_V.log_softmax(-1)
    most = torch.stack([each.softmax(-1) for each in unwanted]).amax(0)
    return log_p + (decay * (log_p.exp() - most).clamp(max=0)).clamp(min=np.log(_LEAST_FACTOR))


_LEAST_FACTOR = 0.01
_RELATIVE_TOP = 0.1


def dola(last_V: Tensor, early: Sequence[Tensor]) -> Tensor:
    """Decoding by contrasting layers: log p of the last layer minus log p of the one that differs most from it.

    Chuang et al. 2023, eq. 3 to 6: "most" by Jensen-Shannon divergence; only tokens of at least 0.1 max p count.
    """
    last = last_V.log_softmax(-1)
    others = torch.stack([each.log_softmax(-1) for each in early])
    middle = torch.logaddexp(last, others) - np.log(2)
    divergence = ((last.exp() * (last - middle)).sum(-1) + (others.exp() * (others - middle)).sum(-1)) / 2
    contrast = last - others[int(divergence.argmax())]
    return contrast.masked_fill(last < last.max() + np.log(_RELATIVE_TOP), -torch.inf)


def _dola_layers(request: GenerationRequest, n_layers: int) -> tuple[int, ...]:
    """Even layers of the lower or upper half, as the paper's buckets; or those named."""
    wanted = request.dola_layers
    if wanted is None:
        return ()
    if isinstance(wanted, str):
        half = n_layers // 2
        found = range(0, half, 2) if wanted == "low" else range(half, n_layers - 1, 2)
        wanted = tuple(found) or (0,)
    if n_layers < 2 or any(not 0 <= layer < n_layers - 1 for layer in wanted):
        raise InputError(f"dola_layers {wanted}: this model has early layers 0 to {n_layers - 2}.")
    return tuple(dict.fromkeys(wanted))


def _contrastive_search(sequences: SequenceGroup, selector: TokenSelector) -> Strategy:
    """Of the k most probable tokens, the one with the largest (1 - alpha) p - alpha max cos(h, h_j).

    Su et al. 2022, eq. 5: h is the last hidden state with the token, h_j those of the text before it.
    """
    r = sequences.job.request
    assert r.penalty_alpha is not None and r.top_k is not None
    text = sequences.open(sequences.job.prompt)
    visible = len(text.tokens) - view_of(sequences.config, len(text.tokens)).first
    (reading,) = yield [ForwardRequest(text, visible, hidden=True)]
    assert reading.hidden is not None
    past_ND, logits_V = F.normalize(reading.hidden, dim=-1), reading.logits[-1]
    candidates = [text]
    while True:
        scores_V = selector.process(logits_V, text.tokens)
        best = scores_V.softmax(-1).topk(min(r.top_k, int(scores_V.isfinite().sum())))
        if not len(best.indices):
            add(sequences, selector, None, logits_V)
            return
        tokens = best.indices.tolist()
        while len(candidates) < len(tokens):
            candidates.append(sequences.fork(text))
        for candidate in candidates[: len(tokens)]:
            if candidate is not text:
                sequences.assign(candidate, text)
        for candidate, token in zip(candidates, tokens, strict=False):
            candidate.tokens.append(token)
        readings = yield [ForwardRequest(each, hidden=True) for each in candidates[: len(tokens)]]
        hidden_KD = F.normalize(torch.cat([each.hidden for each in readings if each.hidden is not None]), dim=-1)
        likeness_K = (hidden_KD @ past_ND.T).amax(-1).float().cpu()
        winner = int(((1 - r.penalty_alpha) * best.values - r.penalty_alpha * likeness_K).argmax())
        if add(sequences, selector, tokens[winner], logits_V):
            return
        text = candidates[winner]
        past_ND, logits_V = torch.cat((past_ND, hidden_KD[winner : winner + 1])), readings[winner].logits[-1]
