"""Steering: a request's texts are those of a model whose residual stream has the vector added, and no other's change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import wenloom
from wenloom.api import LanguageModel, load
from wenloom.checkpoint.folder import save_model
from wenloom.checkpoint.steering import SteeringVector, load_steering, save_steering
from wenloom.core.errors import CheckpointError, InputError
from wenloom.generation.engine import Engine
from wenloom.generation.jobs import Continuation
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps
from wenloom.runtime.native import compiler
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.window import window_start
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config
from ..model.test_taps import both
from .test_engine import ARCHITECTURES, DECODERS, DRAFT

VECTORS = {
    name: SteeringVector(layer, torch.randn(32, generator=torch.Generator().manual_seed(layer)), strength)
    for name, layer, strength in (("calm", 0, 1.5), ("wild", 1, -2.0))
}
PROMPT = [5, 6, 7, 8, 300, 12]


@pytest.fixture(params=["compiled", "PyTorch"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which steps write."""
    if request.param == "PyTorch":
        monkeypatch.setattr(ModelRunner, "_compiled", lambda *_: None)
    elif compiler.library(None) is None:
        pytest.skip("no C compiler")
    return request.param


def engine_of(decoder: Decoder, **more: Any) -> Engine:
    return Engine(decoder, steering=VECTORS, **more)


def written(engine: Engine, *asked: tuple[list[int], GenerationRequest]) -> list[list[Continuation]]:
    jobs = [engine.submit(prompt, request) for prompt, request in asked]
    engine.run(jobs)
    assert engine.slots_in_use == 0
    return [job.result() for job in jobs]


def by_hand(
    decoder: Decoder, prompt: list[int], n: int, added: dict[int, torch.Tensor]
) -> tuple[list[int], list[float]]:
    """Greedy tokens and their log-probabilities: a whole pass for each, with the vectors added after their blocks."""
    taps = Taps({f"blocks.{layer}.resid_post": lambda x, v=v: x + v for layer, v in added.items()}, decoder.places)
    tokens, scores = list(prompt), list[float]()
    with torch.inference_mode():
        while len(tokens) < len(prompt) + n:
            visible = tokens[window_start(len(tokens), decoder.config.context_length) :]
            log_p = decoder(torch.tensor([visible]), taps=taps)[0, -1].log_softmax(-1)
            tokens.append(int(log_p.argmax()))
            scores.append(float(log_p.max()))
    return tokens[len(prompt) :], scores


GREEDY = GenerationRequest(max_new_tokens=40, do_sample=False, eos_token_id=(), logprobs=0)
BOTH = {0: 3.0 * VECTORS["calm"].direction, 1: -2.0 * VECTORS["wild"].direction}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "way", [{}, {"use_cache": False}, {"prompt_lookup_num_tokens": 3}, {"num_assistant_tokens": 4}]
)
def test_a_request_writes_as_the_model_with_the_vector_added_everywhere(
    architecture: str, way: dict[str, Any], steps: str
):
    """40 tokens run over the context of 32; drafts come from a model that is not steered."""
    decoder = DECODERS[architecture]
    request = replace(GREEDY, steer=("calm:3", "wild"), **way)
    engine = engine_of(decoder, draft_model=DRAFT)
    assert (engine.models[0]._compiled() is not None) == (steps == "compiled")
    found = written(engine, (PROMPT, request))[0][0]
    tokens, scores = by_hand(decoder, PROMPT, 40, BOTH)
    assert found.tokens == tokens
    assert [each.logprob for each in found.scores] == pytest.approx(scores, abs=1e-3)
    assert tokens != by_hand(decoder, PROMPT, 40, {})[0]


@pytest.mark.parametrize("options", [
    {"num_beams": 3, "do_sample": False}, {"penalty_alpha": 0.6, "top_k": 4, "do_sample": False},
    {"guidance_scale": 2.0, "do_sample": False}, {"dola_layers": (0,), "do_sample": False}, {"num_return_sequences": 3, "seed": 4},
])  # fmt: skip
def test_every_strategy_is_that_of_a_model_with_the_vector_in_its_weights(options: dict[str, Any], steps: str):
    """GPT-2's last matrix of a block has a bias: a vector added to it is a vector added to the stream."""
    steered = DECODERS["gpt2"]
    weights = Decoder(steered.config)
    weights.load_state_dict(steered.state_dict())
    with torch.no_grad():
        weights.blocks[0].mlp.down.bias += 3.0 * VECTORS["calm"].direction  # pyright: ignore
    request = GenerationRequest(max_new_tokens=20, eos_token_id=(), logprobs=0, **options)
    found = written(engine_of(steered), (PROMPT, replace(request, steer=("calm:3",))))[0]
    expected = written(Engine(weights.eval()), (PROMPT, request))[0]
    assert [each.tokens for each in found] == [each.tokens for each in expected]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_neighbours_of_a_steered_request_keep_every_bit(architecture: str, steps: str):
    plain = (PROMPT[:4], replace(GREEDY, do_sample=True, seed=3))
    runs = [
        written(engine_of(DECODERS[architecture]), plain, (PROMPT, replace(GREEDY, steer=steer)), plain)
        for steer in ((), ("calm:5", "wild:0"), ("wild:9",))
    ]
    for each in runs[1:]:
        assert each[1][0].tokens != runs[0][1][0].tokens
        for place in (0, 2):
            assert each[place][0].tokens == runs[0][place][0].tokens
            assert [s.logprob for s in each[place][0].scores] == [s.logprob for s in runs[0][place][0].scores]


def test_what_is_known_of_a_prompt_is_not_shared_between_strengths():
    prompt = [(7 * n) % 390 + 2 for n in range(40)]  # longer than a page
    decoder = random_decoder(tiny_config(context_length=128))
    engine = engine_of(decoder)
    asked = [
        replace(GREEDY, max_new_tokens=5, steer=steer) for steer in ((), ("calm:4",), ("calm:5",), ("wild:0.5",), ())
    ]
    together = [written(engine, (prompt, request))[0][0].tokens for request in asked * 2]
    alone = [written(engine_of(decoder, prefix_bytes=0), (prompt, request))[0][0].tokens for request in asked * 2]
    assert together == alone and len({*map(tuple, alone)}) >= 3
    job = engine.submit(prompt, asked[1])
    engine.run([job])
    assert job.n_reused == 32, "the same strength knows it again"


def test_no_strength_changes_no_bit():
    one, other = (
        written(engine_of(DECODERS["llama"]), (PROMPT, replace(GREEDY, steer=s)))[0][0] for s in ((), ("calm:0",))
    )
    assert one.scores == other.scores


@pytest.mark.parametrize("given, meant", [
    ("calm", ("calm",)), (["calm:2", "wild"], ("calm:2", "wild")), ({"calm": 2, "wild": -0.5}, ("calm:2", "wild:-0.5")), (None, ()),
])  # fmt: skip
def test_names_and_strengths_are_taken_as_users_write_them(given: Any, meant: tuple[str, ...]):
    assert request_from({"steer": given}).steer == meant


def test_what_cannot_steer_is_refused_with_the_reason(tokenizer: TextTokenizer):
    engine = engine_of(DECODERS["llama"])
    for steer, words in (
        ("clam:2", "this engine has calm, wild"),
        ("calm:nan", "strength must be"),
        ("calm:1e9", "strength must be"),
    ):
        with pytest.raises(InputError, match=words):
            engine.submit(PROMPT, GenerationRequest(steer=(steer,)))
    for bad in ({"calm": "strong"}, {"calm": 1e9}, {"calm": float("nan")}, 3):
        with pytest.raises(InputError, match="steer"):
            request_from({"steer": bad})
    with pytest.raises(InputError, match="a vector of 7 numbers after block 0; this model has 2 blocks with 32"):
        Engine(DECODERS["llama"], steering={"other": SteeringVector(0, torch.ones(7))})
    with pytest.raises(InputError, match="after block 2"):
        Engine(DECODERS["llama"], steering={"other": SteeringVector(2, torch.ones(32))})


def test_models_with_an_encoder_decline(tmp_path: Path):
    _, model = both("bart", tmp_path)
    with pytest.raises(InputError, match="this one has an encoder"):
        Engine(model, steering=VECTORS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="steer is for models that continue their prompt"):
        Engine(model).submit([5, 6], GenerationRequest(steer=("calm",)))  # pyright: ignore[reportArgumentType]


def test_within_a_block_all_that_a_model_computes_is_steered(tokenizer: TextTokenizer):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size))
    model = LanguageModel(decoder, tokenizer, steering=VECTORS)
    options = {"max_new_tokens": 12, "do_sample": False}
    before, score = model.generate("The lamp", **options), model.score("The lamp was lit").log_probability
    with wenloom.steering(model, VECTORS["calm"], 3.0):
        inside, inside_score = model.generate("The lamp", **options), model.score("The lamp was lit").log_probability
    assert inside == model.generate("The lamp", steer="calm:3", **options) != before
    assert inside_score != score
    assert (model.generate("The lamp", **options), model.score("The lamp was lit").log_probability) == (before, score)
    with (
        pytest.raises(InputError, match="works in the model"),
        wenloom.steering(model, SteeringVector(9, torch.ones(32))),
    ):
        pass


def test_a_file_gives_the_vector_back_and_others_are_refused(tmp_path: Path, tokenizer: TextTokenizer):
    vector = SteeringVector(1, torch.randn(32), 2.5, {"toward": "calm.txt", "文": "字"})
    save_steering(vector, tmp_path / "calm.safetensors")
    found = load_steering(tmp_path / "calm.safetensors")
    assert torch.equal(found.direction, vector.direction)
    assert (found.layer, found.strength, found.about) == (1, 2.5, vector.about)
    save_model(random_decoder(tiny_config(tokenizer.vocab_size)), tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = load(tmp_path / "model", steering=[tmp_path / "calm.safetensors"])
    named = load(tmp_path / "model", steering={"quiet": tmp_path / "calm.safetensors"})
    options = {"max_new_tokens": 8, "do_sample": False}
    assert model.generate("The", steer="calm", **options) == named.generate("The", steer={"quiet": 2.5}, **options)
    with pytest.raises(InputError, match="different names"):
        load(tmp_path / "model", steering=[tmp_path / "calm.safetensors"] * 2)
    with pytest.raises(InputError, match="no such file"):
        load_steering(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="holds no steering vector"):
        load_steering(tmp_path / "model/model.safetensors")
    save_steering(SteeringVector(1, torch.full((32,), float("nan"))), tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match="wenloom steer"):
        load_steering(tmp_path / "nan.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(CheckpointError, match="damaged"):
        load_steering(tmp_path / "text.safetensors")
