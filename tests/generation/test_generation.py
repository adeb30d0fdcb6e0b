"""Generation: cached = uncached, batched = single, samplers by their definition, transformers' calls."""

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import wordloom
from wordloom.api import CausalLM, LanguageModel
from wordloom.checkpoint.folder import write_model_files
from wordloom.core.errors import InputError
from wordloom.generation.decode import decode, window_start
from wordloom.generation.request import GenerationRequest
from wordloom.generation.sampling import choose, processed
from wordloom.generation.stream import text_pieces
from wordloom.model.config import Rope
from wordloom.model.decoder import Decoder
from wordloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config

ARCHITECTURES = ["llama", "qwen3", "gpt2", "gpt_neox"]


def rows(decoder: Decoder, prompts: list[list[int]], **options: object) -> list[list[int]]:
    request = GenerationRequest(**options)  # pyright: ignore[reportArgumentType]
    columns = list(decode(decoder, prompts, request))
    return [[token for token in row if token is not None] for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("length", [12, 80])
def test_cached_generation_equals_uncached(architecture: str, length: int):
    """80 tokens run over the context of 32, so the view moves on several times."""
    decoder = random_decoder(tiny_config(architecture=architecture))
    for sample in (False, True):
        same = dict(max_new_tokens=length, do_sample=sample, seed=3, eos_token_ids=())
        assert rows(decoder, [[5, 6, 7]], **same) == rows(decoder, [[5, 6, 7]], **same, use_cache=False)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_cached_generation_equals_uncached_where_frequencies_change(kind: str):
    from dataclasses import replace

    config = tiny_config(context_length=16)
    stretched = {
        "dynamic": Rope(8, kind="dynamic", factor=2.0),
        "longrope": Rope(
            8,
            kind="longrope",
            factor=2.0,
            original_context_length=10,
            short_factor=(1.0,) * 4,
            long_factor=(3.0, 4.0, 5.0, 6.0),
        ),
    }
    decoder = random_decoder(replace(config, rope=stretched[kind]))
    same = dict(max_new_tokens=40, do_sample=False, eos_token_ids=())
    alone = [rows(decoder, [prompt], **same)[0] for prompt in ([5, 6], [7, 8, 9, 10, 11])]
    assert alone == rows(decoder, [[5, 6], [7, 8, 9, 10, 11]], **same)
    assert alone[0] == rows(decoder, [[5, 6]], **same, use_cache=False)[0]


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 40), min_size=2, max_size=4), architecture=st.sampled_from(ARCHITECTURES))
def test_a_row_does_not_depend_on_its_batch(lengths: list[int], architecture: str):
    decoder = random_decoder(tiny_config(architecture=architecture))
    prompts = [[2 + (7 * row + column) % 300 for column in range(length)] for row, length in enumerate(lengths)]
    same = dict(max_new_tokens=30, do_sample=False)
    assert rows(decoder, prompts, **same) == [rows(decoder, [prompt], **same)[0] for prompt in prompts]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_equals_transformers(architecture: str, tmp_path: Path):
    decoder = random_decoder(tiny_config(architecture=architecture))
    write_model_files(decoder, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ours = wordloom.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.tensor([[1, 1, 5, 6], [9, 8, 7, 6]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    expected = theirs.generate(input_ids=tokens, attention_mask=mask, max_length=24, do_sample=False)
    assert ours.generate(input_ids=tokens, attention_mask=mask, max_length=24).equal(expected)
    assert ours.generate(tokens).equal(theirs.generate(tokens, do_sample=False))  # padding found by the pad token


@given(st.integers(1, 2000), st.integers(1, 64))
def test_view_fits_and_moves_by_halves(length: int, context: int):
    start = window_start(length, context)
    assert 0 < length - start <= context and start % max(1, context // 2) == 0
    assert start == 0 or length - start > context - max(1, context // 2)


def numpy_distribution(logits: np.ndarray, temperature: float, k: int | None, p: float | None) -> np.ndarray:
    """The sampler by its definition, one token at a time."""
    scaled = logits / temperature
    order = np.argsort(-scaled, kind="stable")
    kept = set(order.tolist() if k is None else order[:k].tolist())
    weights = np.array([np.exp(scaled[token] - scaled.max()) if token in kept else 0.0 for token in range(len(logits))])
    weights /= weights.sum()
    if p is not None:
        nucleus, total = [], 0.0
        for token in order:
            if total >= p:
                break
            nucleus.append(token)
            total += weights[token]
        weights = np.array([weights[token] if token in nucleus else 0.0 for token in range(len(logits))])
    return weights / weights.sum()


@settings(max_examples=80)
@given(
    logits=st.lists(st.integers(-60, 60), min_size=2, max_size=20, unique=True),
    temperature=st.floats(0.2, 3),
    k=st.one_of(st.none(), st.integers(1, 25)),
    p=st.one_of(st.none(), st.floats(0.05, 1.0)),
)
def test_sampling_distribution_by_definition(logits: list[int], temperature: float, k: int | None, p: float | None):
    values = np.array(logits) / 10
    request = GenerationRequest(temperature=temperature, top_k=k, top_p=p)
    ours = processed(torch.tensor(values)[None], request).softmax(-1)[0].numpy()
    expected = numpy_distribution(values, temperature, k, p)
    assert np.allclose(ours, expected, atol=1e-5) or (p is not None and _near_the_edge(values, temperature, k, p))


def _near_the_edge(logits: np.ndarray, temperature: float, k: int | None, p: float) -> bool:
    """Whether p falls so close to a cumulated probability that float32 may decide otherwise than float64."""
    full = np.sort(numpy_distribution(logits, temperature, k, None))[::-1].cumsum()
    return bool(np.abs(full - p).min() < 1e-5)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    request, each = GenerationRequest(temperature=1.0, top_p=None), torch.Generator().manual_seed(0)
    drawn = [int(choose(logits, request, [each])) for _ in range(5000)]
    counts = np.bincount(drawn, minlength=4)
    assert scipy.stats.chisquare(counts, 5000 * logits.double().softmax(-1)[0].numpy()).pvalue > 1e-3


def test_a_seed_repeats_whatever_else_is_in_the_batch(decoder: Decoder):
    same = dict(max_new_tokens=15, do_sample=True, seed=11, temperature=1.5, top_p=None, eos_token_ids=())
    first = rows(decoder, [[5, 6]], **same)[0]
    assert rows(decoder, [[5, 6], [9, 9, 9]], **same)[0] == first
    assert rows(decoder, [[5, 6]], **{**same, "seed": 12})[0] != first
    three = rows(decoder, [[5, 6]], **same, num_return_sequences=3)
    assert three[0] == first and len({tuple(row) for row in three}) == 3


def test_ended_rows_leave_and_the_others_go_on(decoder: Decoder):
    alone = rows(decoder, [[5, 6, 7]], max_new_tokens=20, do_sample=False, eos_token_ids=())[0]
    ending = alone[4]
    ended = rows(decoder, [[5, 6, 7], [8, 9]], max_new_tokens=20, do_sample=False, eos_token_ids=(ending,))
    assert ended[0] == alone[: alone.index(ending) + 1]
    assert ended[1] == rows(decoder, [[8, 9]], max_new_tokens=20, do_sample=False, eos_token_ids=(ending,))[0]


@settings(max_examples=60)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    stop=st.text("ab，\n ", min_size=1, max_size=3),
)
def test_streamed_pieces_are_the_text_up_to_the_stop(tokenizer: TextTokenizer, text: str, stop: str):
    prompt = tokenizer.encode("x")
    expected = text.split(stop)[0]
    pieces = list(text_pieces(tokenizer, prompt, tokenizer.encode(text), (stop,)))
    assert "".join(pieces).rstrip("\ufffd") == expected.rstrip("\ufffd")
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_arrives_whole(tokenizer: TextTokenizer):
    pieces = list(text_pieces(tokenizer, [], tokenizer.encode("鑫淼 ok"), ()))
    assert "".join(pieces) == "鑫淼 ok" and not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop": ("",)}, "stop"),
        ({"num_return_sequences": 2, "do_sample": False}, "greedy"),
    ],
)
def test_options_that_cannot_apply_are_refused(options: dict[str, object], named: str):
    with pytest.raises(InputError, match=named):
        GenerationRequest(**options)  # pyright: ignore[reportArgumentType]


def test_prompts_that_cannot_be_read(decoder: Decoder):
    for prompt, message in (([], "at least one token"), ([400], "token 400"), ([-1], "token -1")):
        with pytest.raises(InputError, match=message):
            next(decode(decoder, [prompt], GenerationRequest()))


@pytest.fixture
def folder(decoder: Decoder, tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    write_model_files(decoder, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_language_model_from_python(folder: Path):
    model = wordloom.load(folder)
    assert isinstance(model, LanguageModel)
    text = model.generate("The lamp", max_new_tokens=12, seed=1)
    assert (
        text
        == "".join(model.stream("The lamp", max_new_tokens=12, seed=1))
        == model.generate("The lamp", max_new_tokens=12, seed=1)
    )
    assert model.generate(max_new_tokens=3, seed=1) is not None  # from nothing
    expected = model.next("The lamp", 400)
    assert sum(p for _, p in expected) == pytest.approx(1) and expected == sorted(expected, key=lambda pair: -pair[1])
    with pytest.raises(InputError, match="no option tempreature"):
        model.generate("x", tempreature=1.0)


def test_transformers_snippet(folder: Path):
    """What a transformers user would type."""
    tokenizer = wordloom.AutoTokenizer.from_pretrained(folder)
    model = wordloom.AutoModelForCausalLM.from_pretrained(str(folder), torch_dtype="auto")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(model, CausalLM) and model.num_parameters() == theirs.num_parameters()
    ids = tokenizer.encode("The lamp was lit", return_tensors="pt")
    out = model.generate(input_ids=ids, max_length=30)
    assert out.equal(theirs.generate(input_ids=ids, max_length=30, do_sample=False))
    assert tokenizer.decode(out[0], skip_special_tokens=True).startswith("The lamp was lit")
    assert model.generate(ids).shape[1] <= ids.shape[1] + 20
    torch.manual_seed(0)
    one = model.generate(ids, do_sample=True, max_new_tokens=8, num_return_sequences=2, temperature=2.0)
    torch.manual_seed(0)
    assert one.equal(model.generate(ids, do_sample=True, max_new_tokens=8, num_return_sequences=2, temperature=2.0))
    assert one.shape[0] == 2 and not one[0].equal(one[1])
    output, expected = model(ids, labels=ids), theirs(ids, labels=ids)
    assert output.logits.allclose(expected.logits, atol=1e-4)
    assert float(output.loss) == pytest.approx(float(expected.loss), abs=1e-4)
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    inputs = tokenizer(["The lamp", "A storm came from the west"], return_tensors="pt", padding=True).to(model.device)
    both = model.generate(**inputs, max_new_tokens=6, pad_token_id=tokenizer.pad_token_id)
    alone = model.generate(**tokenizer("The lamp", return_tensors="pt"), max_new_tokens=6)
    assert tokenizer.batch_decode(both, skip_special_tokens=True)[0] == tokenizer.decode(
        alone[0], skip_special_tokens=True
    )
    with pytest.raises(InputError, match="larger max_length"):
        model.generate(ids, max_length=2)
    with pytest.raises(TypeError, match="wizardry"):
        model.generate(ids, wizardry=True)
    stop = tokenizer.decode(out[0, -3:-1])
    stopped = model.generate(ids, max_length=30, stop_strings=[stop], tokenizer=tokenizer)
    assert stopped.shape[1] < 30 and stop in tokenizer.decode(stopped[0])


def test_generation_config_gives_defaults(folder: Path):
    (folder / "generation_config.json").write_text('{"max_new_tokens": 5, "eos_token_id": [0, 399]}')
    model = wordloom.AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.eos_token_ids == (0, 399)
    assert model.generate(torch.tensor([[5, 6, 7]])).shape[1] <= 8


def test_saved_again_and_read_by_transformers(folder: Path, tmp_path: Path):
    model = wordloom.AutoModelForCausalLM.from_pretrained(folder)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path / "again")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    ids = torch.tensor([[5, 6, 7]])
    assert theirs(ids).logits.allclose(model(ids).logits, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "notes.txt",
    ]
