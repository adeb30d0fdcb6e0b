"""Dropout by keys: the right rate, independent places, and nothing but its inputs."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import tiny_config
from wenloom.core.randomness import derive_seed, generator
from wenloom.model.attention import Attention
from wenloom.model.build import Model, build
from wenloom.model.config import reshaped
from wenloom.model.dropout import Dropout, keep, keys_of_patterns
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.parts import DropoutRates
from wenloom.model.presets import encoder_decoder_from_scratch, encoder_from_scratch


def keys(count: int) -> torch.Tensor:
    return torch.tensor([derive_seed(0, "test", row) & 0x7FFFFFFF for row in range(count)])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_right_and_the_mean_is_kept(rate: float):
    mask = keep(keys(64), 4096, rate)
    assert float((mask == 0).float().mean()) == pytest.approx(rate, abs=0.005)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate))]


def test_rows_places_and_sites_are_independent():
    """Correlations as small as those of coin tosses: |r| < 5 / sqrt(n)."""
    n = 1 << 16
    mask = (keep(keys(8), n, 0.5) > 0).float() - 0.5
    product = mask @ mask.T / n * 4
    assert float((product - torch.eye(8)).abs().max()) < 5 / n**0.5
    for shift in (1, 2, 3, 64, 128, 1000):
        assert abs(float((mask[0] * mask[0].roll(shift)).mean() * 4)) < 5 / n**0.5
    x = torch.ones(8, 4, 8)
    first, second = (Dropout(0.5, site).train()(x, keys(8)) for site in (1, 2))
    assert not torch.equal(first, second)


def test_a_row_drops_out_alike_in_any_company():
    x = torch.randn(8, 16, 4)
    layer = Dropout(0.3, site=1).train()
    together = layer(x, keys(8))
    assert torch.equal(together[3:5], layer(x[3:5], keys(8)[3:5]))
    assert torch.equal(layer.eval()(x, keys(8)), x)


def test_compiled_is_the_same():
    x, layer = torch.randn(4, 8, 8), Dropout(0.3, site=2).train()
    try:
        compiled = torch.compile(layer)(x, keys(4))
    except Exception as error:  # no compiler on this machine
        pytest.skip(f"torch.compile does not work here: {error}"[:200])
    assert torch.equal(compiled, layer(x, keys(4)))


def with_dropout(family: str) -> Model:
    """A model that drops out wherever its family can."""
    rates = DropoutRates(embedding=0.2, attention=0.3, residual=0.2)
    sizes = {"vocab_size": 60, "n_layers": 2, "d_model": 16, "n_heads": 2, "context_length": 32}
    if family in ("bert", "roberta", "distilbert"):
        config = replace(encoder_from_scratch(family, **sizes, dropout=0.2, pad_token_id=1), dropout=rates)  # pyright: ignore
    elif family in ("bart", "t5", "marian"):
        config = encoder_decoder_from_scratch(family, **sizes, dropout=0.2, pad_token_id=1, eos_token_id=2)  # pyright: ignore
        config = replace(config, dropout=rates, encoder=replace(config.encoder, dropout=rates))  # pyright: ignore
    else:
        config = replace(tiny_config(60, family), dropout=rates)
    made = build(config)
    made.initialise(generator(0, "test"))
    return made.train()


@pytest.mark.parametrize(
    "family", ["gpt2", "llama", "qwen3", "gpt_neox", "bert", "roberta", "distilbert", "bart", "t5"]
)
def test_whatever_drops_out_of_a_model_is_decided_by_the_keys_alone(family: str):
    """In any company, behind any padding, whatever torch's own generator does: or no run could be had again."""
    model = with_dropout(family)
    tokens = torch.randint(3, 60, (4, 9), generator=torch.Generator().manual_seed(1))

    def logits(rows: torch.Tensor, which: torch.Tensor, padding: int = 0) -> torch.Tensor:
        wide = torch.nn.functional.pad(rows, (0, padding), value=1)
        mask = (torch.arange(wide.shape[1]) < rows.shape[1]).expand_as(wide)
        if isinstance(model, EncoderDecoder):
            return model.decoder.hidden(rows, dropout_keys_B=which, encoder_kv=model.encode(wide, mask, which))
        hidden = model.hidden(wide, mask, dropout_keys_B=which)
        return hidden[:, : rows.shape[1]]

    with torch.no_grad():
        expected = logits(tokens, keys(4))
        assert not torch.allclose(expected, logits(tokens, keys(8)[4:]))
        torch.manual_seed(99)
        assert torch.equal(logits(tokens, keys(4)), expected)
        assert torch.allclose(logits(tokens[1:3], keys(4)[1:3]), expected[1:3], atol=1e-5)
        assert torch.allclose(logits(tokens, keys(4), padding=5), expected, atol=1e-5)


def test_attention_weights_drop_out_at_their_rate_and_keep_their_mean():
    config = reshaped(tiny_config(60, "gpt2"), dropout={"attention": 0.4})
    attention = Attention(config, 0).train()
    q, k = torch.zeros(2, 4, 64, 8), torch.zeros(2, 4, 64, 8)
    v = torch.ones(2, 4, 64, 8)
    y = attention._attend(q, k, v, torch.ones(64, 64, dtype=torch.bool), None, keys(2))
    assert float(y.mean()) == pytest.approx(1.0, abs=0.02)
    pattern = attention.pattern_dropout(torch.ones(2 * 4 * 64, 64), keys_of_patterns(keys(2), 4, 64))
    assert float((pattern == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    rows = (pattern > 0).float() - 0.6
    near = (rows @ rows.T / 64 / 0.24).fill_diagonal_(0)
    assert float(near.abs().mean()) < 2 / 64**0.5  # no two tokens, heads or texts drop out alike
