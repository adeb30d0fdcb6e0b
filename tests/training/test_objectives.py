"""The loss: summed rightly, chunked without a difference, the same packed and unpacked."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from wenloom.core.randomness import generator
from wenloom.model.build import build
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.presets import encoder_decoder_from_scratch, encoder_from_scratch
from wenloom.tokens.shards import TokenStream
from wenloom.training.columns import Column, Example, Targets, Tokens, Vectors, collated, tokens_of
from wenloom.training.cross_entropy import IGNORED, cross_entropy
from wenloom.training.examples import targets_of
from wenloom.training.objectives import (
    CausalObjective,
    ClassificationObjective,
    EncoderDecoderObjective,
    Loss,
    MaskedObjective,
    Objective,
    PreferenceObjective,
    causal_loss,
    evaluate,
)

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


def objectives() -> list[tuple[Objective, list[Example]]]:
    """One of every other kind, with examples of unequal length."""
    drawn = torch.Generator().manual_seed(0)

    def ids(length: int) -> Tokens:
        return Tokens(torch.randint(4, 90, (length,), generator=drawn).tolist())

    sizes = {"vocab_size": 90, "n_layers": 2, "d_model": 32, "n_heads": 4, "context_length": 32, "dropout": 0.0}
    encoder = build(encoder_from_scratch("bert", pad_token_id=1, **sizes))
    pair = build(encoder_decoder_from_scratch("marian", eos_token_id=2, pad_token_id=1, **sizes))
    classes = build(replace(encoder_from_scratch("roberta", pad_token_id=1, **sizes), labels=("a", "b", "c")))
    for model in (encoder, pair, classes):
        model.initialise(generator(0, "test"))
    lengths = (3, 9, 5, 12)
    hidden: list[Example] = [
        {"inputs_BT": ids(n), "mask_BT": Column([1] * n), "targets_BT": Targets([7, *[IGNORED] * (n - 1)])}
        for n in lengths
    ]
    hidden[1]["targets_BT"] = Targets([IGNORED] * lengths[1])
    labelled: list[Example] = [
        {"inputs_BT": ids(n), "mask_BT": Column([1] * n), "targets_B": label}
        for n, label in zip(lengths, (0, 2, 1, 2), strict=True)
    ]
    translated: list[Example] = [
        {
            "source_BS": ids(n),
            "source_mask_BS": Column([1] * n),
            "inputs_BT": ids(15 - n),
            "targets_BT": Targets(ids(15 - n)),
        }
        for n in lengths
    ]
    preferred: list[Example] = [
        {"chosen_BT": ids(n), "chosen_labels_BT": Targets([IGNORED, *ids(n - 1)]), "rejected_BT": ids(15 - n),
         "rejected_labels_BT": Targets([IGNORED, *ids(14 - n)]), "reference_B": 0.5 * n, "targets_B": 1} for n in lengths
    ]  # fmt: skip
    assert isinstance(pair, EncoderDecoder)
    return [(MaskedObjective(encoder), hidden), (EncoderDecoderObjective(pair, 0.1), translated),
            (ClassificationObjective(classes), labelled),
            (PreferenceObjective(random_decoder(tiny_config())), preferred)]  # fmt: skip


def test_columns_bring_their_own_padding_and_numbers():
    """Whatever their names: tokens, targets, masks, and vectors that are read in place of tokens."""
    examples: list[Example] = [
        {"any_BT": Tokens(range(1, n)), "other_BT": Targets(range(1, n)), "mask": Column([1] * n),
         "sound_BTD": Vectors([[0.5, n]] * n), "score_B": n / 2} for n in (1, 3)
    ]  # fmt: skip
    rows = collated(examples)
    assert rows["any_BT"].tolist() == [[0, 0], [1, 2]] and rows["other_BT"].tolist() == [[IGNORED, IGNORED], [1, 2]]
    assert rows["mask"].tolist() == [[1, 0, 0], [1, 1, 1]] and rows["score_B"].tolist() == [0.5, 1.5]
    assert rows["sound_BTD"].tolist() == [[[0.5, 1.0], [0.0, 0.0], [0.0, 0.0]], [[0.5, 3.0]] * 3]
    assert [tokens_of(each) for each in examples] == [0 + 1, 2 + 3]


@pytest.mark.parametrize("number", range(4), ids=["masked", "encoder-decoder", "classes", "preference"])
def test_every_objective_accumulates_to_the_gradient_of_the_whole(number: int):
    """Padding counts nothing, and rows may be taken one by one, two and two, or all at once."""
    objective, examples = objectives()[number]
    gradients, losses = [], []
    for size in (1, 2, 4):
        objective.zero_grad()
        found = [objective(**collated(examples[start : start + size])) for start in range(0, 4, size)]
        parts = [each.total for each in found]
        assert sum(int(each.weight) for each in found) == sum(map(targets_of, examples))
        losses.append(sum(part.item() for part in parts))
        for part in parts:
            part.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[2], abs=1e-3) and losses[1] == pytest.approx(losses[2], abs=1e-3)
    assert gradients[2].abs().max() > 0.01
    for each in gradients[:2]:
        assert each.allclose(gradients[2], atol=1e-4)


@pytest.mark.parametrize("smoothing, cap", [(0.0, None), (0.1, None), (0.1, 1.5)])
@pytest.mark.parametrize("vocab_size, dtype", [(7, torch.float64), (90_000, torch.float64), (300, torch.float32)])
def test_chunked_cross_entropy_is_cross_entropy(
    vocab_size: int, dtype: torch.dtype, smoothing: float, cap: float | None
):
    """Loss and gradients of the plain formula; 90,000 tokens take several products and parts."""
    drawn = torch.Generator().manual_seed(0)
    hidden = torch.randn(141, 6, generator=drawn, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 6, generator=drawn, dtype=dtype, requires_grad=True)
    bias = torch.randn(vocab_size, generator=drawn, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, vocab_size, (141,), generator=drawn)
    targets[[3, 20, 140]] = IGNORED
    logits = hidden @ weight.T + bias
    logits = logits if cap is None else cap * (logits / cap).tanh()
    expected = functional.cross_entropy(
        logits, targets, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    actual = cross_entropy(hidden, weight, targets, bias, smoothing, cap)
    with torch.no_grad():
        assert cross_entropy(hidden, weight, targets, bias, smoothing, cap).item() == pytest.approx(
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
    loss = evaluate(
        CausalObjective(decoder), stream, Loss(0.0, n_tokens - 1, 200, 100), context, batch_tokens=2 * context
    )
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
        assert float(CausalObjective(decoder, 0)(packed, targets).total) == pytest.approx(alone, rel=1e-5)
        assert float(CausalObjective(decoder)(packed, targets).total) != pytest.approx(alone, rel=1e-3)


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
            CausalObjective(model, 0)(tokens[:, :-1], tokens[:, 1:]).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.blocks.parameters() if p.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
