"""Strategies against transformers token by token, or against their papers' definitions where it has none."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wenloom.api import LanguageModel
from wenloom.auto import CausalLM
from wenloom.checkpoint.folder import write_model_files
from wenloom.core.errors import InputError
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.generation.speculative import looked_up
from wenloom.generation.watermark import detect
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config

FAMILIES = ["llama", "gpt2", "gpt_neox"]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CausalLM, object]:
    decoder = random_decoder(tiny_config(architecture=request.param, context_length=64))
    folder = tmp_path_factory.mktemp(request.param)
    write_model_files(decoder, folder)
    return CausalLM(decoder), transformers.AutoModelForCausalLM.from_pretrained(folder)


OPTIONS = {
    "repetition_penalty": st.floats(0.7, 2), "no_repeat_ngram_size": st.integers(1, 4), "min_new_tokens": st.integers(1, 9),
    "min_length": st.integers(1, 14), "bad_words_ids": st.just([[5], [7, 8], [381]]),
    "suppress_tokens": st.just([9, 10, 381]), "begin_suppress_tokens": st.just([300, 12]), "forced_eos_token_id": st.just(0),
}  # fmt: skip
BEAMS = {
    "num_beams": st.integers(2, 5), "early_stopping": st.sampled_from([True, False, "never"]),
    "length_penalty": st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.0]),
}  # fmt: skip


@settings(max_examples=12)
@given(
    options=st.fixed_dictionaries({}, optional=OPTIONS),
    beams=st.one_of(st.just({}), st.fixed_dictionaries(BEAMS)),
    ends=st.sampled_from([[0], [0, 381, 77], list(range(0, 400, 9))]),
    length=st.integers(2, 24),
)
def test_searches_and_penalties_equal_transformers(
    pair: tuple[CausalLM, transformers.PreTrainedModel], options: dict, beams: dict, ends: list[int], length: int
):
    """With few end tokens, and with so many that beams end all the time."""
    ours, theirs = pair
    options = {name: value for name, value in options.items() if name != "min_new_tokens" or value <= length}
    if "min_new_tokens" in options:  # which transformers lets overrule min_length; here both hold
        options.pop("min_length", None)
    ids = torch.tensor([[5, 6, 7, 9, 11], [3, 3, 2, 8, 9]])
    same = {**options, **beams, "max_new_tokens": length, "eos_token_id": ends, "pad_token_id": 1}
    same["num_return_sequences"] = beams.get("num_beams", 1)
    same["do_sample"] = False
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **same)  # pyright: ignore[reportCallIssue]
    found = ours.generate(ids, **same)
    assert found.equal(expected)


def continuation(
    decoder: Decoder, prompt: list[int], draft_model: Decoder | None = None, **options: object
) -> list[int]:
    engine = Engine(decoder, draft_model=draft_model)
    job = engine.submit(prompt, request_from({"do_sample": False, "eos_token_id": (), **options}))
    engine.run([job])
    assert engine.slots_in_use == 0
    return job.result()[0].tokens


DECODER = random_decoder(tiny_config(context_length=64))
OTHER = random_decoder(tiny_config(context_length=64), seed=4)


@torch.inference_mode()
def test_contrastive_search_by_its_definition():
    alpha, k, tokens = 0.6, 4, [5, 6, 7]
    for _ in range(12):
        probabilities = DECODER(torch.tensor([tokens]))[0, -1].softmax(-1)
        past = F.normalize(DECODER.hidden(torch.tensor([tokens]))[0], dim=-1)
        scores = {}
        for token in probabilities.topk(k).indices.tolist():
            new = F.normalize(DECODER.hidden(torch.tensor([[*tokens, token]]))[0, -1], dim=-1)
            scores[token] = (1 - alpha) * probabilities[token] - alpha * (past @ new).max()
        tokens.append(max(scores, key=lambda token: float(scores[token])))
    assert continuation(DECODER, [5, 6, 7], penalty_alpha=alpha, top_k=k, max_new_tokens=12) == tokens[3:]


def greedy_by(scores: object, n: int) -> list[int]:
    tokens = [5, 6, 7]
    with torch.inference_mode():
        for _ in range(n):
            tokens.append(int(scores(tokens).argmax()))  # pyright: ignore
    return tokens[3:]


def logprobs(decoder: Decoder, tokens: list[int]) -> torch.Tensor:
    return decoder(torch.tensor([tokens]))[0, -1].log_softmax(-1)


def test_classifier_free_guidance_by_its_definition():
    def scores(tokens: list[int]) -> torch.Tensor:
        without = logprobs(DECODER, tokens[2:])  # the last token of the prompt alone
        return without + 2.5 * (logprobs(DECODER, tokens) - without)

    assert continuation(DECODER, [5, 6, 7], guidance_scale=2.5, max_new_tokens=10) == greedy_by(scores, 10)


def test_self_debias_by_its_definition(tokenizer: TextTokenizer):
    """Every factor is exp(decay * min(0, p - p_unwanted)), 0.01 at least, of the text that raises the token most."""
    decoder, unwanted = random_decoder(tiny_config(tokenizer.vocab_size, context_length=64)), ("The old lamp:", "dusk")
    prompt, opening = tokenizer.encode("It was"), len(tokenizer.encode(""))

    def scores(tokens: list[int]) -> torch.Tensor:
        p = logprobs(decoder, tokens).double().exp()
        before = [[*tokenizer.prompt_ids(f"{each}\n"), *tokens[opening:]] for each in unwanted]
        most = torch.stack([logprobs(decoder, each).double().exp() for each in before]).amax(0)
        return p.log() + (5000 * (p - most)).clamp(max=0).clamp(min=float(np.log(0.01)))

    wanted = list(prompt)
    with torch.inference_mode():
        for _ in range(10):
            wanted.append(int(scores(wanted).argmax()))
    engine = Engine(decoder, tokenizer)
    job = engine.submit(
        "It was",
        request_from({"do_sample": False, "self_debias": unwanted, "self_debias_decay": 5000.0, "max_new_tokens": 10}),
    )
    engine.run([job])
    assert job.result()[0].tokens == wanted[len(prompt) :]
    plain = engine.submit("It was", request_from({"do_sample": False, "max_new_tokens": 10}))
    engine.run([plain])
    assert plain.result()[0].tokens != job.result()[0].tokens
    for wrong in (
        {"self_debias": ["x"] * 9},
        {"self_debias": ["x"], "num_beams": 2, "do_sample": False},
        {"self_debias": [""]},
    ):
        with pytest.raises(InputError, match="self_debias"):
            request_from(wrong)


def test_contrastive_decoding_by_its_definition():
    def scores(tokens: list[int]) -> torch.Tensor:
        expert, amateur = logprobs(DECODER, tokens), logprobs(OTHER, tokens)
        plausible = expert.exp() >= 0.1 * expert.exp().max()
        return torch.where(plausible, 1.5 * expert - 0.5 * amateur, -torch.inf)

    found = continuation(DECODER, [5, 6, 7], OTHER, contrastive_beta=0.5, max_new_tokens=10)
    assert found == greedy_by(scores, 10)


@pytest.mark.parametrize("options", [{"contrastive_beta": 0.0}, {"contrastive_beta": 0.5}, {"num_assistant_tokens": 2}])
def test_what_needs_a_draft_model_says_so_where_there_is_none(options: dict[str, float]):
    with pytest.raises(InputError, match=f"{next(iter(options))} needs a second, smaller model"):
        continuation(DECODER, [5, 6, 7], **options)


def test_dola_by_its_definition():
    config = tiny_config(context_length=64)
    config = replace(config, n_layers=4)
    decoder = random_decoder(config)

    def scores(tokens: list[int]) -> torch.Tensor:
        streams: list[torch.Tensor] = []
        places = {f"blocks.{layer}.resid_post": streams.append for layer in range(config.n_layers)}
        decoder(torch.tensor([tokens]), taps=Taps(places, decoder.places))
        *early, last = [decoder.unembed(decoder.final_norm(x))[0, -1].log_softmax(-1) for x in streams]

        def divergence(other: torch.Tensor) -> float:
            middle = (last.exp() + other.exp()).log() - torch.log(torch.tensor(2.0))
            return float(F.kl_div(middle, last, log_target=True, reduction="sum") + F.kl_div(middle, other, log_target=True, reduction="sum"))  # fmt: skip

        premature = max((early[0], early[2]), key=divergence)
        return torch.where(last.exp() >= 0.1 * last.exp().max(), last - premature, -torch.inf)

    assert continuation(decoder, [5, 6, 7], dola_layers=(0, 2), max_new_tokens=10) == greedy_by(scores, 10)


def test_diverse_groups_avoid_each_other():
    def firsts(**options: object) -> Counter[int]:
        engine = Engine(DECODER)
        job = engine.submit([5, 6, 7], request_from({"do_sample": False, "max_new_tokens": 8, "num_beams": 6, "num_return_sequences": 6, "eos_token_id": (), **options}))  # fmt: skip
        engine.run([job])
        assert engine.slots_in_use == 0
        return Counter(token for each in job.result() for token in set(each.tokens))

    together, apart = firsts(), firsts(num_beam_groups=3, diversity_penalty=50.0)
    assert len(apart) > len(together)


def test_forced_words_are_written():
    words = [[20, 21, 22], [50], [61, 60]]
    tokens = continuation(DECODER, [5, 6, 7], num_beams=6, force_words_ids=words, max_new_tokens=14)
    for word in words:
        assert any(tokens[i : i + len(word)] == word for i in range(len(tokens)))
    with pytest.raises(InputError, match="take more than"):
        continuation(DECODER, [5], num_beams=2, force_words_ids=words, max_new_tokens=3)


def test_penalties_by_openais_formula():
    options = dict(presence_penalty=0.7, frequency_penalty=0.4)

    def scores(tokens: list[int]) -> torch.Tensor:
        row = logprobs(DECODER, tokens).clone()
        for token, count in Counter(tokens[3:]).items():
            row[token] -= 0.7 + 0.4 * count
        return row

    assert continuation(DECODER, [5, 6, 7], **options, max_new_tokens=20) == greedy_by(scores, 20)


def test_dry_by_its_definition():
    def scores(tokens: list[int]) -> torch.Tensor:
        row, worst = logprobs(DECODER, tokens).clone(), {}
        for i in range(1, len(tokens)):
            n = 0
            while n < i and tokens[i - 1 - n] == tokens[-1 - n]:
                n += 1
            if n >= 2:
                worst[tokens[i]] = max(worst.get(tokens[i], 0.0), 2.0 * 1.5 ** (n - 2))
        for token, penalty in worst.items():
            row[token] -= penalty
        return row

    found = continuation(DECODER, [5, 6, 7], dry_multiplier=2.0, dry_base=1.5, max_new_tokens=30)
    assert found == greedy_by(scores, 30) != continuation(DECODER, [5, 6, 7], max_new_tokens=30)


def test_looking_up_what_followed():
    assert looked_up([1, 2, 3, 9, 2, 3, 8, 7, 2, 3], 2) == [8, 7]
    assert looked_up([1, 2, 3], 4) == [] and looked_up([4], 4) == []
    assert looked_up([5, 5, 5], 3) == [5]


def test_a_watermark_is_found_by_its_key_alone():
    marked = continuation(DECODER, [5], do_sample=True, seed=1, temperature=1.0, top_p=1.0, max_new_tokens=200,
                          watermark_key=42, watermark_bias=4.0)  # fmt: skip
    plain = continuation(DECODER, [5], do_sample=True, seed=1, temperature=1.0, top_p=1.0, max_new_tokens=200)
    assert detect(marked, 42).z > 6 and detect(marked, 42).p_value < 1e-6
    assert abs(detect(marked, 43).z) < 4 and abs(detect(plain, 42).z) < 4
    with pytest.raises(InputError, match="too few"):
        detect(marked[:9], 42)


# --- forms ---


@pytest.fixture(scope="module")
def model(decoder: Decoder, tokenizer: TextTokenizer) -> LanguageModel:
    return LanguageModel(random_decoder(tiny_config(context_length=256), seed=2), tokenizer, OTHER)


SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["name", "age", "tags"],
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
                   "tags": {"type": "array", "items": {"enum": ["a", "春"]}, "maxItems": 3}},
}  # fmt: skip
MODES = [
    {}, {"do_sample": False}, {"do_sample": False, "num_beams": 3}, {"do_sample": False, "penalty_alpha": 0.6, "top_k": 4},
    {"prompt_lookup_num_tokens": 4}, {"num_assistant_tokens": 4}, {"guidance_scale": 1.5}, {"num_return_sequences": 3},
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "+".join(mode) or "sampling")
def test_every_mode_keeps_to_the_form(model: LanguageModel, mode: dict[str, object]):
    for seed in range(3):
        seeded = {"seed": seed} if mode.get("do_sample", True) else {}
        (found,) = model.complete("Once", json_schema=json.dumps(SCHEMA), max_new_tokens=120, **mode, **seeded)
        for each in found:
            if each.finish_reason == "length":
                continue  # cut off
            value = json.loads(each.text)
            assert value.keys() == {"name", "age", "tags"} and 0 <= value["age"] <= 150 and len(value["name"]) <= 8
        (found,) = model.complete("Once", regex=r"[a-c]{3}-\d{2}", **mode, **seeded)
        assert all(re.fullmatch(r"[a-c]{3}-\d{2}", each.text) for each in found)
        (found,) = model.complete("Once", choices=["yes", "no", "春眠\n不觉"], **mode, **seeded)
        assert all(each.text in ("yes", "no", "春眠\n不觉") for each in found)
    (found,) = model.complete("Once", grammar='start: "<" INNER ">"\nINNER: /[xy]+/', max_new_tokens=40, **mode)
    assert all(re.fullmatch(r"<[xy]*>?", each.text) for each in found)


@pytest.mark.parametrize(
    "form, said",
    [
        ({"json_schema": "{"}, "not valid JSON"),
        ({"json_schema": "[]"}, "must be an object"),
        ({"json_schema": '{"a":' * 100 + "1" + "}" * 100}, "nested deeper"),
        ({"json_schema": '{"type": "sorcery"}'}, "json_schema"),
        ({"regex": "(a"}, "regex"),
        ({"regex": "(?=a)b"}, "regex"),
        ({"grammar": "begin: x"}, "grammar"),
    ],
)
def test_forms_that_cannot_be_are_refused(model: LanguageModel, form: dict[str, str], said: str):
    with pytest.raises(InputError, match=said):
        model.complete("x", max_new_tokens=10, **form)
    assert model.engine.slots_in_use == 0


def test_a_catastrophic_pattern_takes_no_exponential_time(model: LanguageModel):
    for pattern in ("(a+)+b", "((a{1,1000}){1,1000}){1,1000}b"):
        (found,) = model.complete("x", regex=pattern, max_new_tokens=30, seed=1)
        assert re.fullmatch(r"a*b?", found[0].text)


def test_words_by_their_text(model: LanguageModel):
    options = dict(seed=1, max_new_tokens=60, eos_token_id=())
    plain = model.complete("The", **options)[0][0].tokens
    words = [word for token in plain if (word := model.tokenizer.decode([token]).strip()).isalpha()]
    assert len(words) > 5
    spelt = [ids for word in words for ids in model.tokenizer.spellings(word)]
    without = model.complete("The", **options, bad_words=words)[0][0].tokens
    assert not any(without[i : i + len(ids)] == ids for ids in spelt for i in range(len(without)))
    (found,) = model.complete("The", do_sample=False, num_beams=4, max_new_tokens=30, force_words=["keeper"])
    assert "keeper" in found[0].text
    assert GenerationRequest(stop_strings=["x"]).stop_strings == ("x",)


def test_seeds_follow_a_prompts_place_and_not_its_neighbours(model: LanguageModel):
    two = model.complete(["a", "a"], seed=3, max_new_tokens=12)
    assert two[0][0].tokens != two[1][0].tokens
    assert model.complete(["a", "something else", "b"], seed=3, max_new_tokens=12)[0][0].tokens == two[0][0].tokens


def test_text_ends_before_a_stop_in_the_middle_of_a_token(model: LanguageModel, tmp_path: Path):
    whole = model.generate("The", seed=1, max_new_tokens=60)
    for stop in (whole[10], whole[20:24]):
        assert model.generate("The", seed=1, max_new_tokens=60, stop_strings=stop) == whole[: whole.index(stop)]
