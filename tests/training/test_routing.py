"""Training of experts: loads are evened out, whatever a batch is split into, and the run is one like any other."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from wenloom.checkpoint.folder import load_decoder
from wenloom.core.errors import InputError
from wenloom.model.config import reshaped
from wenloom.model.parts import Experts
from wenloom.tokens.shards import Dataset
from wenloom.training.history import read_metrics
from wenloom.training.interrupt import Interrupted
from wenloom.training.objectives import CausalObjective, LossSum
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.routing import RouterLosses, busiest, routed
from wenloom.training.run_file import read_run
from wenloom.training.settings import ModelSettings

from ..conftest import random_decoder, tiny_config
from .runs import MODEL, TRAINING, same_weights
from .test_resume import stop_at

CONFIG = reshaped(tiny_config(), mlp={"experts": Experts(4, 2, 24)})
MIXTURE = replace(MODEL, experts=4, active=2)


def test_balance_and_z_are_those_of_their_definitions():
    scores = torch.randn(1, 1, 9, 5, generator=torch.Generator().manual_seed(0))
    found = routed([*scores], 2, torch.tensor([9]))
    theirs = load_balancing_loss_func((scores[0, 0],), 5, 2)  # which does not divide by the active experts
    assert float(found.balance) == pytest.approx(9 * float(theirs) / 2, rel=1e-5)
    assert float(found.z) == pytest.approx(float(scores.logsumexp(-1).square().sum()), rel=1e-5)
    assert found.load_LE.sum(-1).tolist() == pytest.approx([9.0])
    even = routed([torch.eye(4)[None] * 1e-3], 1, torch.tensor([4]))
    assert float(even.balance) == pytest.approx(4.0, rel=1e-3) and busiest((even.load_LE / 4).tolist()) == 1


def gradient(objective: CausalObjective, parts: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[LossSum]]:
    objective.zero_grad()
    found = [objective(part[:, :-1], part[:, 1:]) for part in parts]
    for each in found:
        each.total.backward()
    return {name: each.grad.clone() for name, each in objective.named_parameters() if each.grad is not None}, found


def test_what_counts_beside_the_loss_is_in_the_gradient_only_and_the_same_however_a_batch_is_split():
    decoder = random_decoder(CONFIG).train()
    tokens = torch.randint(2, 390, (4, 17), generator=torch.Generator().manual_seed(0))
    plain, (alone,) = gradient(CausalObjective(decoder), [tokens])
    objective = CausalObjective(decoder, routers=RouterLosses(1.0, 0.1))
    whole, (found,) = gradient(objective, [tokens])
    parts, sums = gradient(objective, [*tokens.split(1)])
    router = "model.blocks.1.mlp.router.weight"
    assert found.total.allclose(alone.total) and not whole[router].allclose(plain[router], atol=1e-3)
    for name, each in whole.items():
        torch.testing.assert_close(each, parts[name], rtol=1e-3, atol=1e-4)
    for name, value in found.figures.items():
        torch.testing.assert_close(value, sum(each.figures[name] for each in sums), rtol=1e-4, atol=1e-3)
    assert objective.eval() and not gradient(objective, [tokens])[1][0].figures


def test_the_balance_evens_out_a_router_that_prefers_some_experts():
    decoder = random_decoder(reshaped(CONFIG, mlp={"experts": Experts(4, 1, 24, router_bias=True)})).train()
    objective = CausalObjective(decoder, routers=RouterLosses(10.0, 0.0))
    tokens = torch.randint(2, 390, (8, 17), generator=torch.Generator().manual_seed(0))
    routers = [each for name, each in decoder.named_parameters() if "router" in name]
    for each in routers:
        if each.dim() == 1:
            each.data[0] += 2
    optimizer = torch.optim.Adam(routers, 0.05)
    loads = []
    for _ in range(60):
        optimizer.zero_grad()
        found = objective(tokens[:, :-1], tokens[:, 1:])
        (found.total / found.weight).backward()
        optimizer.step()
        loads.append(busiest((found.figures["expert_load"] / found.weight).tolist()))
    assert loads[0] > 2.5 and loads[-1] < 1.5


def test_a_run_with_experts_resumes_bitwise_and_says_how_they_are_used(dataset: Dataset, tmp_path: Path):
    whole = pretrain(dataset.folder, tmp_path / "whole", MIXTURE, TRAINING)
    with pytest.raises(Interrupted):
        pretrain(dataset.folder, tmp_path / "parts", MIXTURE, TRAINING, stop_at(1))  # pyright: ignore
    resumed = resume(tmp_path / "parts")
    assert same_weights(whole.folder, resumed.folder) and resumed.loss == whole.loss
    steps = [line for line in read_metrics(whole.folder) if "loss" in line]
    for line in steps:
        assert [round(sum(layer), 2) for layer in line["expert_load"]] == [1.0, 1.0]
        assert line["busiest_expert"] >= 1 and line["expert_balance"] > 0.9
    tables = read_run(whole.folder)
    assert tables["settings"]["experts"] == 4 and tables["settings"]["balance_loss"] == 0.01
    assert tables["settings"]["router_z_loss"] == 0.001
    assert tables["model"]["active_parameters"] < tables["model"]["parameters"]
    assert 'id="experts"' in (whole.folder / "report.html").read_text()


@pytest.mark.parametrize("arch, family", [("qwen3", "qwen3_moe"), ("llama", "mixtral")])
def test_what_is_trained_is_a_folder_that_transformers_computes_alike(
    arch: str, family: str, dataset: Dataset, tmp_path: Path
):
    run = pretrain(dataset.folder, tmp_path / "run", replace(MIXTURE, arch=arch), replace(TRAINING, steps=2)).folder  # pyright: ignore
    assert json.loads((run / "config.json").read_text())["model_type"] == family
    theirs, ours = transformers.AutoModelForCausalLM.from_pretrained(run).eval(), load_decoder(run)
    tokens = torch.randint(2, ours.config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (theirs(tokens).logits - ours(tokens)).abs().max() < 1e-4


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"active": 2}, "--active goes with --experts"),
        ({"balance_loss": 0.1}, "--balance-loss goes with --experts"),
        ({"experts": 1}, "--experts must be at least 2"),
        ({"experts": 4, "active": 5}, "--active must be from 1 to --experts 4"),
        ({"experts": 4, "arch": "gpt2"}, "--arch qwen3 or llama"),
    ],
)
def test_settings_of_experts_that_do_not_fit_together_are_refused(fields: dict[str, object], named: str):
    with pytest.raises(InputError, match=named):
        ModelSettings(**fields)  # pyright: ignore[reportArgumentType]


def test_negative_coefficients_are_refused():
    with pytest.raises(InputError, match="--balance-loss must not be negative"):
        RouterLosses(balance=-1.0)
