"""Scores against a float64 re-computation with transformers on the same weights."""

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import wenloom
from wenloom.checkpoint.folder import write_model_files
from wenloom.core.errors import InputError
from wenloom.evaluation.options import Convention
from wenloom.evaluation.perplexity import detokenized, measure, score, windows
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import VERSES


@pytest.fixture
def folder(decoder: Decoder, tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    write_model_files(decoder, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def oracle(folder: Path, tokens: list[int], context: int, stride: int) -> list[float]:
    """log P of every token but the first, windows by their definition, in float64 throughout."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).double().eval()
    found: list[float] = []
    while len(found) < len(tokens) - 1:
        end = min(len(tokens) - 1, len(found) + (context if not found else stride))
        begin = max(0, end - context)
        with torch.no_grad():
            logs = model(torch.tensor([tokens[begin:end]])).logits[0].log_softmax(-1)
        found += [float(logs[place - 1 - begin, tokens[place]]) for place in range(len(found) + 1, end + 1)]
    return found


@pytest.mark.parametrize("stride", [None, 1, 5, 32])
@pytest.mark.parametrize("text", [VERSES[0], VERSES[3], " ".join(VERSES) * 2])
def test_score_is_the_sum_of_log_softmax(text: str, stride: int | None, folder: Path):
    model = wenloom.load(folder)
    score = model.score(text, stride)
    tokens = [0, *model.tokenizer.encode(text)]
    expected = oracle(folder, tokens, 32, 16 if stride is None else stride)
    assert score.log_probability == pytest.approx(math.fsum(expected), abs=1e-4)
    assert score.log_probabilities == pytest.approx(expected, abs=1e-4)
    assert score.token_ids == tokens[1:]
    assert score.bits_per_byte == pytest.approx(-math.fsum(expected) / math.log(2) / len(text.encode()))
    assert score.perplexity == pytest.approx(math.exp(-math.fsum(expected) / len(expected)))


def test_without_bos_the_first_token_is_only_context(folder: Path):
    model = wenloom.load(folder)
    score = model.score("春眠不觉晓", bos=False)
    ids = model.tokenizer.encode("春眠不觉晓")
    assert score.log_probabilities == pytest.approx(oracle(folder, ids, 32, 16), abs=1e-4)
    first = len(model.tokenizer.decode([ids[0]]).encode()) if "\ufffd" not in model.tokenizer.decode([ids[0]]) else 3
    assert score.scored_bytes == 15 - first and not score.bos


def test_what_cannot_be_scored(folder: Path):
    model = wenloom.load(folder)
    with pytest.raises(InputError, match="empty"):
        model.score("")
    with pytest.raises(InputError, match="--stride 33"):
        model.score("x", stride=33)


# --- conventions ---

ARTICLES = (
    "\n = The Lamp = \n\n The lamp was lit at dusk , and the keeper ( a man of 70 ) read aloud @-@ to nobody . \n"
    " = = Storm = = \n\n A storm came ; the \" boats \" stayed in @,@ 1 @.@ 5 miles off : the keeper 's lamp . \n"
    "\n = Die Größe = \n\n Zwölf Boxkämpfer jagen Viktor quer über den Deich . 春眠不觉晓 ， 处处闻啼鸟 。 \n"
)  # fmt: skip


def float64_logs(folder: Path, tokens: list[int], first: int) -> list[float]:
    """log P of tokens[first:] by all tokens before them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).double().eval()
    with torch.no_grad():
        logs = model(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
    return [float(logs[place - 1, tokens[place]]) for place in range(first, len(tokens))]


def by_blocks(folder: Path, tokens: list[int], limit: int, stride: int) -> list[float]:
    """The loop of transformers' guide to perplexity: windows of `limit` tokens every `stride` tokens."""
    found, done = [], 0
    for begin in range(0, len(tokens), stride):
        end = min(begin + limit, len(tokens))
        target = max(done - begin, 1)
        if end - begin > target:
            found += float64_logs(folder, tokens[begin:end], target)
        done = end
        if end == len(tokens):
            break
    return found


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("windows_kind", ["rolling", "blocks"])
@pytest.mark.parametrize(("context", "stride"), [(32, 32), (32, 16), (20, 7), (None, None)])
@pytest.mark.parametrize("join", ["raw", "lines", "articles"])
def test_every_convention_equals_float64(
    join: str, context: int | None, stride: int | None, windows_kind: str, bos: bool, folder: Path
):
    model = wenloom.load(folder)
    convention = Convention(join, "none", context, stride, bos, windows_kind, "scored")  # pyright: ignore
    found = measure(DecoderScorer(model.decoder, model.tokenizer), ARTICLES, convention)
    texts = {
        "raw": [ARTICLES],
        "lines": [line for line in ARTICLES.split("\n") if line.strip()],
        "articles": [" = The" + ARTICLES.split("\n = The")[1].split(" = Die")[0], " = Die" + ARTICLES.split(" = Die")[1]],
    }[join]  # fmt: skip
    limit = context or 32
    expected = []
    for text in texts:
        ids = model.tokenizer.encode(text, add_special_tokens=False)
        tokens = [0, *ids] if bos else ids
        expected += (oracle if windows_kind == "rolling" else by_blocks)(folder, tokens, limit, stride or 16)
    assert [x for each in found.scores for x in each.log_probabilities] == pytest.approx(expected, abs=1e-4)
    figures, nats = found.figures(), -math.fsum(expected)
    assert figures["perplexity"] == pytest.approx(math.exp(nats / len(expected)), rel=1e-4)
    assert figures["word_perplexity"] == pytest.approx(math.exp(nats / len(ARTICLES.split())), rel=1e-3)
    signature = found.signature
    assert (signature.get("join"), signature.get("ctx"), signature.get("window")) == (join, str(limit), windows_kind)
    if bos and windows_kind == "rolling":
        assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / sum(len(text.encode()) for text in texts))


@pytest.mark.parametrize("denominator", ["scored", "original", "harness"])
def test_denominators(denominator: str, folder: Path):
    model = wenloom.load(folder)
    convention = Convention("articles", "wikitext", denominator=denominator)  # pyright: ignore[reportArgumentType]
    found = measure(DecoderScorer(model.decoder, model.tokenizer), ARTICLES, convention)
    pages = [each for each in re.split(r"(?m)^(?= = [^=\n].* = $)", ARTICLES) if each.strip()]
    clean = [detokenized(each) for each in pages]
    words = {
        "scored": sum(len(each.split()) for each in clean),
        "original": sum(len(each.split()) for each in pages),
        "harness": sum(len(re.split(r"\s+", each)) for each in pages),
    }[denominator]
    assert found.words == words and len(found.scores) == 2
    expected = clean if denominator == "scored" else pages
    assert found.bytes == sum(len(each.encode()) for each in expected)
    assert found.signature.get("denominator") == denominator


def test_detokenized_is_what_the_harness_scores():
    harness = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext", reason="pip install 'wenloom[harness]'")
    for page in (ARTICLES, ARTICLES * 2, "x ' y ' z = = = = N ° C ( a ( b ) c ) [ d ] { e } ! ? \n \n"):
        assert detokenized(page) == harness.wikitext_detokenizer({"page": page})


def test_bits_per_byte_does_not_depend_on_names_of_tokens(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Another numbering of the vocabulary, with the embedding's rows moved along, is the same model."""
    model = wenloom.load(folder)
    size = model.tokenizer.vocab_size
    order = torch.randperm(size, generator=torch.Generator().manual_seed(3))
    spec = json.loads(model.tokenizer.backend.to_str())
    spec["model"]["vocab"] = {token: int(order[number]) for token, number in spec["model"]["vocab"].items()}
    for added in spec["added_tokens"]:
        added["id"] = int(order[added["id"]])
    renamed = TextTokenizer(Tokenizer.from_str(json.dumps(spec)), model.tokenizer.special_tokens)
    other = copy.deepcopy(model.decoder)
    with torch.no_grad():
        for layer in filter(None, (other.embed, other.head)):
            layer.weight[order] = layer.weight.clone()[:size]
    for text in VERSES:
        before = score(model.decoder, model.tokenizer, text)
        after = score(other, renamed, text)
        assert after.bits_per_byte == pytest.approx(before.bits_per_byte, abs=1e-6)


@pytest.mark.parametrize("join", ["raw", "lines"])
@pytest.mark.parametrize("bos", [True, False])
def test_stretches_are_the_same_for_all_tokens_and_add_up(folder: Path, join: Any, bos: bool):
    """A model of letters and one of larger tokens: each stretch has the characters that it has for the other."""
    model = wenloom.load(folder)
    letters = Tokenizer.from_str(model.tokenizer.backend.to_str())
    spec = json.loads(letters.to_str())
    spec["model"]["merges"] = []
    by_letter = TextTokenizer(Tokenizer.from_str(json.dumps(spec)), model.tokenizer.special_tokens)
    text, found = "\n".join([*VERSES, "天气很好 🙂 " * 9]), []
    for tokenizer in (model.tokenizer, by_letter):
        scorer = DecoderScorer(model.decoder, tokenizer)
        measured = measure(scorer, text, Convention(join=join, bos=bos))
        stretches = measured.bits_by_stretch()
        assert stretches.mean() == pytest.approx(measured.figures()["bits_per_byte"])
        logs = [
            (begin, value)
            for each in measured.scores
            for begin, value in zip(each.begins, each.log_probabilities, strict=True)
        ]
        if join == "raw":  # by hand
            edges, n = [place * len(text) / len(stretches) for place in range(len(stretches) + 1)], len(stretches)
            for place in (0, 1, n - 1):
                inside = sum(value for begin, value in logs if edges[place] <= begin < edges[place + 1])
                assert stretches[place] == pytest.approx(-inside / math.log(2) * n / measured.bytes)
        found.append((len(stretches), len(logs)))
    assert found[0][0] == found[1][0] > 20 and found[0][1] < found[1][1]


@given(st.integers(2, 32), st.integers(1, 32), st.integers(3, 120), st.sampled_from(["rolling", "blocks"]))
def test_windows_score_each_token_once_and_within_the_context(limit: int, stride: int, n: int, kind: str):
    stride = min(stride, limit)
    targets = []
    for begin, end, first, last in windows(n, limit, stride, kind):
        assert 0 <= begin < first <= last <= end <= n - 1 and end - begin <= limit
        targets += range(first, last + 1)
    assert targets == sorted(set(targets))
    if kind == "rolling" or stride < limit:
        assert targets == list(range(1, n))


def test_bits_per_byte_does_not_depend_on_chunks_where_all_is_in_sight(folder: Path):
    """A text that fits into the context: every stride, and either way of cutting windows, sees the same."""
    model = wenloom.load(folder)
    text = VERSES[4][:20]
    assert len(model.tokenizer.encode(text)) < 31
    whole = measure(DecoderScorer(model.decoder, model.tokenizer), text, Convention()).figures()["bits_per_byte"]
    for stride in (1, 7, 32):
        for kind in ("rolling", "blocks"):
            found = measure(
                DecoderScorer(model.decoder, model.tokenizer), text, Convention(stride=stride, windows=kind)
            )  # pyright: ignore
            assert found.figures()["bits_per_byte"] == pytest.approx(whole, abs=1e-5)
