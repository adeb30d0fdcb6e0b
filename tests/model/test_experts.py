"""Mixtures of experts: each token passes its own experts, whatever stands beside it, and only these are computed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from torch.nn import functional as F

from wenloom.checkpoint.folder import read_config
from wenloom.core.errors import InputError
from wenloom.model.build import active_parameters, build
from wenloom.model.config import reshaped
from wenloom.model.experts import MixtureOfExperts
from wenloom.model.feedforward import ACTIVATIONS
from wenloom.model.lora import AdapterConfig, adapt, adapted_layers
from wenloom.model.parts import Experts
from wenloom.model.quantize import QuantizedLinear, quantize

from ..conftest import random_decoder, tiny_config

KINDS = {
    "shares of the active": Experts(5, 2, 24),
    "shares of all": Experts(5, 3, 24, normalised=False),
    "one expert": Experts(4, 1, 24, router_bias=True),
    "all experts": Experts(3, 3, 24),
    "bounded gates": Experts(4, 2, 24, gate_limit=0.5),
}


def mixture(experts: Experts) -> MixtureOfExperts:
    made = MixtureOfExperts(tiny_config().mlp, experts, tiny_config().d_model)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return made


def by_token(layer: MixtureOfExperts, experts: Experts, x_BTD: torch.Tensor) -> torch.Tensor:
    """The definition, token by token."""
    rows = []
    for x_D in x_BTD.flatten(0, 1):
        scores = layer.router.weight @ x_D + (0 if layer.router.bias is None else layer.router.bias)
        best = sorted(range(experts.count), key=lambda number: -float(scores.detach()[number]))[: experts.active]
        shares = torch.stack([scores[number] for number in best]).exp()
        shares = shares / (shares.sum() if experts.normalised else scores.exp().sum())
        y_D = torch.zeros_like(x_D)
        for share, number in zip(shares, best, strict=True):
            expert = layer.experts[number]
            gate, up = expert.gate.weight @ x_D, expert.up.weight @ x_D
            if (limit := experts.gate_limit) is None:
                hidden = ACTIVATIONS["silu"](gate) * up
            else:
                gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
                hidden = (up + 1) * gate * torch.sigmoid(1.702 * gate)
            y_D = y_D + share * (expert.down.weight @ hidden)
        rows.append(y_D)
    return torch.stack(rows).view(x_BTD.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_and_its_gradients_are_those_of_the_definition(kind: str):
    layer, draw = mixture(KINDS[kind]), torch.Generator().manual_seed(1)
    x_BTD = torch.randn(2, 7, 32, generator=draw, requires_grad=True)
    weights_BTD = torch.randn(2, 7, 32, generator=draw)
    wanted, found = [x_BTD, *layer.parameters()], []
    for y_BTD in (layer(x_BTD), by_token(layer, KINDS[kind], x_BTD)):
        found.append((y_BTD, *torch.autograd.grad((y_BTD * weights_BTD).sum(), wanted, materialize_grads=True)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_an_expert_without_a_token_is_not_computed_and_has_gradients_of_0_in_training():
    layer = mixture(Experts(4, 1, 24))
    heard: list[int] = []
    for number, expert in enumerate(layer.experts):
        expert.register_forward_hook(lambda *_, number=number: heard.append(number))
    x_BTD = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
    layer.eval()(x_BTD)
    assert len(heard) == 1
    layer.train()(x_BTD).sum().backward()
    idle = [each for number, each in enumerate(layer.experts) if number != heard[0]]
    assert all(
        parameter.grad is not None and not parameter.grad.any() for each in idle for parameter in each.parameters()
    )


def test_adapters_and_quantized_weights_reach_every_expert_and_no_router():
    config = reshaped(tiny_config(), mlp={"experts": Experts(4, 2, 24, dense_layers=(0,))})
    adapted = adapt(random_decoder(config), AdapterConfig(targets=("up",)), torch.Generator())
    assert [name for name, _ in adapted_layers(adapted)] == [
        "blocks.0.mlp.up", *(f"blocks.1.mlp.experts.{number}.up" for number in range(4))
    ]  # fmt: skip
    decoder = random_decoder(config)
    router = decoder.get_submodule("blocks.1.mlp.router").weight.clone()  # pyright: ignore[reportCallIssue]
    quantized = quantize(decoder, 8)
    assert isinstance(quantized.get_submodule("blocks.1.mlp.experts.3.down"), QuantizedLinear)
    assert quantized.get_submodule("blocks.1.mlp.router").weight.equal(router)  # pyright: ignore[reportCallIssue]


def test_weights_in_bf16_are_routed_by_scores_of_32_bits():
    layer = mixture(Experts(4, 2, 24)).bfloat16()
    x_BTD = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert layer(x_BTD).dtype == torch.bfloat16
    expected = F.linear(x_BTD.float(), layer.router.weight.float())
    assert layer.router(x_BTD).equal(expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.router(x_BTD.float()).equal(expected)


@pytest.mark.parametrize("active", [0, 5])
def test_more_active_experts_than_there_are_or_none_are_refused(active: int):
    with pytest.raises(InputError, match=f"active experts \\({active}\\)"):
        reshaped(tiny_config(), mlp={"experts": Experts(4, active, 24)})


PUBLISHED = {
    "mixtral": (transformers.MixtralConfig(), 46.7, 12.9),  # Jiang et al. 2024, section 2
    "qwen3_moe": (transformers.Qwen3MoeConfig(num_hidden_layers=48, head_dim=128), 30.5, 3.3),  # Qwen3-30B-A3B  # pyright: ignore[reportCallIssue]
    "olmoe": (transformers.OlmoeConfig(intermediate_size=1024), 6.9, 1.3),  # Muennighoff et al. 2024, table 1
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_models_have_their_published_numbers_of_weights(family: str, tmp_path: Path):
    published, billions, active = PUBLISHED[family]
    published.save_pretrained(tmp_path)
    config = read_config(tmp_path)
    counts = []
    for n_layers in (1, 2):  # each layer adds as many
        with torch.device("meta"):
            model = build(replace(config, n_layers=n_layers))
        counts.append((model.n_parameters(), active_parameters(model)))
    found = [(first + (config.n_layers - 1) * (second - first)) / 1e9 for first, second in zip(*counts, strict=True)]
    assert found == pytest.approx([billions, active], abs=0.06)
