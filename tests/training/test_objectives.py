"""The loss: summed rightly, chunked without a difference, the same packed and unpacked."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from wordloom.model.decoder import Decoder
from wordloom.tokens.shards import Split, TokenStream
from wordloom.training.cross_entropy import IGNORED, cross_entropy
from wordloom.training.objectives import CausalObjective, causal_loss, evaluate

from ..conftest import random_decoder, tiny_config


def test_gradient_of_parts_with_unequal_numbers_of_valid_tokens(decoder: Decoder):
    """Sum over valid tokens, divided once: the gradient of the whole batch, however it is split."""
    model = random_decoder(tiny_config())
    tokens = torch.randint(2, 400, (4, 17), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[1, 3:], targets[2] = IGNORED, IGNORED
    valid = (targets != IGNORED).sum()

    def gradient(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        model.zero_grad()
        for x, y in parts:
            (causal_loss(model, x, y) / valid).backward()
        assert model.embed.weight.grad is not None
        return model.embed.weight.grad.clone()

    whole = gradient([(inputs, targets)])
    assert gradient(list(zip(inputs.split(1), targets.split(1), strict=True))).allclose(whole, atol=1e-5)
    assert gradient([(inputs[2:3], targets[2:3])]).abs().max() == 0  # nothing valid: nothing learned, no 0/0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("vocab_size, dtype", [(7, torch.float64), (90_000, torch.float64), (300, torch.float32)])
def test_chunked_cross_entropy_is_cross_entropy(vocab_size: int, dtype: torch.dtype, smoothing: float):
    """Loss and gradients of the plain formula; 90,000 tokens take several products and parts."""
    drawn = torch.Generator().manual_seed(0)
    hidden = torch.randn(141, 6, generator=drawn, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 6, generator=drawn, dtype=dtype, requires_grad=True)
    bias = torch.randn(vocab_size, generator=drawn, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, vocab_size, (141,), generator=drawn)
    targets[[3, 20, 140]] = IGNORED
    logits = hidden @ weight.T + bias
    expected = functional.cross_entropy(
        logits, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    actual = cross_entropy(hidden, weight, targets, bias, smoothing)
    with torch.no_grad():
        assert cross_entropy(hidden, weight, targets, bias, smoothing).item() == pytest.approx(
            expected.item(), rel=1e-6
        )
    assert actual.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(3 * actual, [hidden, weight, bias]),
        torch.autograd.grad(3 * expected, [hidden, weight, bias]),
        strict=True,
    ):
        assert ours.allclose(theirs, atol=1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_bf16_training_gradients_point_the_same_way(architecture: str):
    tokens = torch.randint(2, 400, (4, 33), generator=torch.Generator().manual_seed(0))
    gradients = []
    for enabled in (False, True):
        model = Decoder(tiny_config(architecture=architecture))
        model.initialise(torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            causal_loss(model, tokens[:, :-1], tokens[:, 1:]).backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        )
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


@given(context=st.integers(3, 60))
def test_evaluation_counts_every_token_once(context: int):
    """Against a loop that predicts token after token, each from its own window."""
    decoder, n_tokens = random_decoder(tiny_config(context_length=64)), 50
    tokens = torch.randint(0, 400, (n_tokens,), generator=torch.Generator().manual_seed(context))
    stream = TokenStream([tokens.numpy().astype("uint16")])
    loss = evaluate(CausalObjective(decoder), stream, Split(1, 200, 100, n_tokens), context, batch_tokens=2 * context)
    expected = 0.0
    for place in range(1, n_tokens):
        begin = (place - 1) // context * context
        with torch.no_grad():
            expected -= float(decoder(tokens[None, begin:place])[0, -1].log_softmax(-1)[tokens[place]])
    assert loss.nats == pytest.approx(expected, rel=1e-4) and loss.tokens == n_tokens - 1
    assert loss.bits_per_byte == pytest.approx(expected / math.log(2) / 200, rel=1e-4)
    assert loss.nats_per_character == pytest.approx(expected / 100, rel=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_packed_documents_lose_what_they_lose_alone(architecture: str):
    """Several documents in one row, each seeing only itself, against one document a row."""
    decoder = random_decoder(tiny_config(architecture=architecture))
    drawn = torch.Generator().manual_seed(0)
    documents = [torch.cat([torch.tensor([0]), torch.randint(2, 400, (n,), generator=drawn)]) for n in (9, 1, 13, 5)]
    packed = torch.cat(documents)[None]
    targets = torch.randint(2, 400, packed.shape, generator=drawn)
    alone, start = 0.0, 0
    with torch.no_grad():
        for document in documents:
            alone += float(causal_loss(decoder, document[None], targets[:, start : start + len(document)]))
            start += len(document)
        assert float(CausalObjective(decoder, 0)(packed, targets)) == pytest.approx(alone, rel=1e-5)
        assert float(CausalObjective(decoder)(packed, targets)) != pytest.approx(alone, rel=1e-3)


def test_a_batch_in_which_nothing_counts_teaches_nothing():
    model = random_decoder(tiny_config())
    tokens = torch.randint(2, 400, (2, 8), generator=torch.Generator().manual_seed(0))
    loss = causal_loss(model, tokens, torch.full_like(tokens, IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_attention_written_out_for_bf16_is_attention():
    """Against float32 through the fused kernel: outputs and gradients agree as far as bfloat16 goes, masks included."""
    model = Decoder(tiny_config(architecture="qwen3"))
    model.initialise(torch.Generator().manual_seed(1))
    tokens = torch.randint(2, 400, (3, 24), generator=torch.Generator().manual_seed(0))
    tokens[:, ::7] = 0
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            CausalObjective(model, 0)(tokens[:, :-1], tokens[:, 1:]).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.blocks.parameters() if p.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
