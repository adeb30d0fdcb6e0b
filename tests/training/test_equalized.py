"""The penalty on pairs of words by its definition in float64; what it leaves alone."""

import pytest
import torch

from wenloom.core.errors import InputError
from wenloom.tokens.train import train_tokenizer
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.equalized import EqualizedObjective, WordPairs, word_pairs
from wenloom.training.objectives import CausalObjective

from ..conftest import random_decoder, tiny_config

PAIRS = WordPairs((5, 7, 7), (6, 8, 9))


@pytest.mark.parametrize("family", ["llama", "gpt2", "granite"])
def test_the_gradient_is_that_of_loss_and_penalty_and_the_value_that_of_the_loss(family: str):
    decoder = random_decoder(tiny_config(architecture=family)).double().train()
    tokens = torch.randint(2, 12, (3, 14), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[0, :4] = IGNORED
    found = EqualizedObjective(decoder, PAIRS, 0.7)(inputs, targets)
    plain = CausalObjective(decoder)(inputs, targets)
    assert found.total.item() == pytest.approx(plain.total.item()) and int(found.weight) == int(plain.weight)
    log_p = decoder(inputs).log_softmax(-1)
    gap = torch.zeros((), dtype=torch.float64)
    for row in range(3):
        for place in range(13):
            token = int(targets[row, place])
            other = {5: 6, 6: 5, 7: 8, 8: 7, 9: 7}.get(token)
            if other is not None:
                gap = gap + (log_p[row, place, token] - log_p[row, place, other]).abs()
    assert float(found.figures["pair_gap"]) == pytest.approx(gap.item(), rel=1e-4)
    weight = decoder.blocks[0].mlp.down.weight
    (ours,) = torch.autograd.grad(found.total, weight)  # pyright: ignore[reportCallIssue]
    (wanted,) = torch.autograd.grad(plain.total + 0.7 * gap, weight)  # pyright: ignore[reportCallIssue]
    assert ours.numpy() == pytest.approx(wanted.numpy(), rel=1e-4, abs=1e-6)


def test_without_such_words_and_while_validating_there_is_no_penalty():
    decoder = random_decoder(tiny_config())
    tokens = torch.full((1, 6), 20)
    assert float(EqualizedObjective(decoder.train(), PAIRS, 1.0)(tokens, tokens).figures["pair_gap"]) == 0
    assert "pair_gap" not in EqualizedObjective(decoder.eval(), PAIRS, 1.0)(tokens, tokens).figures


def test_pairs_are_words_of_one_token_each():
    own = train_tokenizer(
        ["She saw her, he saw him; the woman and the man, her mother and his father."] * 9, vocab_size=300, exact=False
    )
    pairs = word_pairs("en:gender", own)
    found = {(own.decode([one]), own.decode([other])) for one, other in zip(*pairs, strict=True)}
    assert {(" woman", " man"), (" her", " him"), (" her", " his")} <= found
    assert all(len(own.encode(word, False)) == 1 for pair in found for word in pair)
    with pytest.raises(InputError, match="must be LEXICON:AXIS"):
        word_pairs("gender", own)
    with pytest.raises(InputError, match="axis colour"):
        word_pairs("en:colour", own)
    with pytest.raises(InputError, match="no word and counterpart are one token each"):
        word_pairs("zh:gender", own)
