"""log P of a text in its context, by every kind of model, against one forward pass of transformers a text (or a token)."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import InputError
from wenloom.evaluation.choice import Question, answer_all
from wenloom.evaluation.choice_suite import choice_figures
from wenloom.evaluation.options import Convention
from wenloom.evaluation.perplexity import measure
from wenloom.evaluation.scorer import Scorer, TextInContext, Windows
from wenloom.evaluation.scorers import PairScorer, scorer_of
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

from ..checkpoint.folders import saved

TEXTS = ["a lamp", " was é", "", "x"]
CONTEXTS = ["", "the old ", "the"]


def model_and_scorer(family: str, folder: Path) -> tuple[Any, Scorer, TextTokenizer]:
    tokenizer = train_tokenizer(["the old lamp was lit é x " * 9], "char")
    theirs = saved(family, folder, vocab_size=tokenizer.vocab_size, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    return theirs.double(), scorer_of(load_model(folder), tokenizer), tokenizer


@pytest.mark.parametrize("family", ["gpt_neo", "bart", "t5"])
def test_every_text_is_scored_as_by_one_forward_pass(family: str, tmp_path: Path):
    theirs, scorer, tokenizer = model_and_scorer(family, tmp_path)
    contexts = CONTEXTS[1:] if scorer.kind == "pairs" else CONTEXTS
    groups = [[TextInContext(each, text, bool(ends)) for text in TEXTS] for each in contexts for ends in (0, 1)]
    rows: list[int] = []
    found = scorer.continuations(groups, rows.append)
    for group, scores in zip(groups, found, strict=True):
        for asked, score in zip(group, scores, strict=True):
            assert (score.n_bytes, score.n_characters) == (len(asked.text.encode()), len(asked.text))
            expected = by_transformers(theirs, scorer, tokenizer, asked)
            assert score.log_probabilities == pytest.approx(expected, abs=1e-4)
            assert score.log_probability == pytest.approx(math.fsum(expected), abs=1e-4)
            assert len(score.token_ids) == len(expected)
    assert sum(rows) >= sum(bool(score.token_ids) for scores in found for score in scores)


@pytest.mark.parametrize("family", ["gpt_neo", "bert"])
def test_the_progress_of_a_text_comes_to_its_end(family: str, tmp_path: Path):
    made = masked_and_scorer(tmp_path) if family == "bert" else model_and_scorer(family, tmp_path)
    scorer = made[1]
    text, told = "the old lamp was lit " * 4, list[int]()
    scorer.text(text, None, told.append)
    n_tokens = scorer.n_tokens(text)
    assert (
        n_tokens is not None and n_tokens - 2 <= sum(told) <= n_tokens
    )  # a special token, or the first of all, is not scored


@torch.no_grad()
def by_transformers(theirs: Any, scorer: Scorer, tokenizer: TextTokenizer, asked: TextInContext) -> list[float]:
    ends = [0] if asked.is_whole else []
    if isinstance(scorer, PairScorer):
        source = torch.tensor([tokenizer.encode(asked.context)])
        target = [*tokenizer.encode(asked.text, add_special_tokens=False), *ends]
        if not target:
            return []
        start = getattr(theirs.config, "decoder_start_token_id", 0)  # T5: what pads
        logits = theirs(source, decoder_input_ids=torch.tensor([[start, *target[:-1]]])).logits[0]
        return logits.log_softmax(-1)[range(len(target)), target].tolist()
    blank = len(asked.context) - len(asked.context.rstrip())  # blanks before the text count to it
    before = tokenizer.encode(asked.context.rstrip(), add_special_tokens=False)
    target = [*tokenizer.encode(" " * blank + asked.text, add_special_tokens=False), *ends]
    opening = [] if asked.context else [0]
    ids = [*opening, *before, *target]
    if not target:
        return []
    logs = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(logs[place - 1, ids[place]]) for place in range(len(ids) - len(target), len(ids))]


def test_a_masked_model_hides_each_token_of_the_text_and_sees_the_context(tmp_path: Path):
    theirs, scorer, tokenizer = masked_and_scorer(tmp_path)
    asked = TextInContext("the old", " lamp")
    (found,), (alone,) = scorer.continuations([[asked], [TextInContext("", " lamp")]])
    ids, around = tokenizer.encode("the old lamp", add_special_tokens=False), tokenizer.encode("")
    before, after = around[: len(around) // 2], around[len(around) // 2 :]
    expected = []
    for place in range(7, 12):
        row = [*before, *ids[:place], tokenizer.mask_token_id, *ids[place + 1 :], *after]
        with torch.no_grad():
            logs = theirs(torch.tensor([row])).logits[0, len(before) + place].log_softmax(-1)
        expected.append(float(logs[ids[place]]))
    assert found.log_probabilities == pytest.approx(expected, abs=1e-4)
    answers = answer_all(scorer, [Question(("the old",), (" lamp", " was"), 0)])
    assert answers.answers[0].log_likelihoods[0] == pytest.approx(found.log_probability)
    (figure, *_) = choice_figures("t", "d", "raw", answers, "0", scorer)
    assert figure.signature.get("scores") == measure(scorer, " lamp", Convention()).signature.get("scores") == "masked"
    assert alone.log_probability == pytest.approx(scorer.text(" lamp").log_probability)
    with pytest.raises(InputError, match="encoder"):
        scorer.text(" lamp", Windows(stride=3))


def masked_and_scorer(folder: Path) -> tuple[Any, Scorer, TextTokenizer]:
    tokenizer = with_mask(train_tokenizer(["the old lamp was lit"], "char"), folder / "tokenizer")
    theirs = saved("bert", folder / "model", vocab_size=tokenizer.vocab_size).double()
    return theirs, scorer_of(load_model(folder / "model"), tokenizer), tokenizer


def with_mask(tokenizer: TextTokenizer, folder: Path) -> TextTokenizer:
    """The same with one token more."""
    import json

    tokenizer.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        raw = json.loads((folder / name).read_text())
        if name == "tokenizer.json":
            raw["added_tokens"].append({"id": tokenizer.vocab_size, "content": "[MASK]", "special": True, "lstrip": False,
                                        "rstrip": False, "single_word": False, "normalized": False})  # fmt: skip
        else:
            raw["mask_token"] = "[MASK]"
        (folder / name).write_text(json.dumps(raw))
    return TextTokenizer.from_pretrained(folder)


def test_a_scorer_of_pairs_has_no_text_alone(tmp_path: Path):
    _, scorer, _ = model_and_scorer("t5", tmp_path)
    with pytest.raises(InputError, match="given its source"):
        scorer.text("x")
    with pytest.raises(InputError, match="source is empty"):
        scorer.continuations([[TextInContext("", "x")]])


def test_a_source_that_does_not_fit_loses_its_end_and_a_target_is_refused(tmp_path: Path):
    _, scorer, _ = model_and_scorer("bart", tmp_path)
    ((found, short),) = scorer.continuations(
        [[TextInContext("lamp " * 9, "x"), TextInContext(("lamp " * 9)[:24], "x")]]
    )
    assert found.cut_off == 45 + 0 - 24 and found.log_probabilities == short.log_probabilities
    with pytest.raises(InputError, match="at most 24"):
        scorer.continuations([[TextInContext("x", "lamp " * 9)]])
