"""Worked examples before questions: which are drawn, how they are written, and that reading them once changes nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.evaluation.choice import Question, answer_all
from wenloom.evaluation.likelihood import ScoredRow, likelihoods
from wenloom.evaluation.programs import Problem
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.evaluation.shots import Pool, with_examples
from wenloom.evaluation.writing_suites import Reference
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config


def questions(n: int, group: str = "") -> list[Question]:
    return [Question((f"Question: {group}{k}\nAnswer:",), (" yes", " no"), k % 2, group) for k in range(n)]


def test_examples_are_written_as_lm_evaluation_harness_writes_them():
    asked, drawn = with_examples(questions(1), Pool(questions(3)[1:], "train", is_asked=False, in_order=True), 2, 0)
    assert asked[0].pairs()[0] == (
        "Question: 1\nAnswer: no\n\nQuestion: 2\nAnswer: yes\n\nQuestion: 0\nAnswer:",
        " yes",
    )
    assert drawn.signed() == {"shots": 2, "seed": None, "examples": f"train 1,2 {drawn.signed()['examples'][-8:]}"}  # pyright: ignore[reportIndexIssue]
    assert Problem("1", "Q:", solution="6 * 7 = 42\n#### 42").solved() == "Q: 6 * 7 = 42\n#### 42"
    assert Reference("法国的首都是", ["巴黎", "巴黎市"]).solved() == "法国的首都是巴黎"
    assert Reference("The capital of France is", ["Paris"]).solved() == "The capital of France is Paris"


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 5), st.booleans())
def test_no_question_is_its_own_example_and_all_others_share_theirs(n: int, shots: int, seed: int, grouped: bool):
    pool = [*questions(n, "a"), *questions(n, "b")] if grouped else questions(n)
    if shots > n - 1:
        with pytest.raises(InputError, match=f"--shots {shots}: .* only {n - 1} examples besides"):
            with_examples(pool, Pool(pool, "file", is_asked=True), shots, seed)
        return
    asked, drawn = with_examples(pool, Pool(pool, "file", is_asked=True), shots, seed)
    again, _ = with_examples(pool[:1], Pool(pool, "file", is_asked=True), shots, seed)
    assert again[0] == asked[0]  # a limit changes no draw
    for number, each in enumerate(asked, 1):
        assert number not in each.examples and len(set(each.examples)) == shots
        assert each.lead.count("\n\n") == shots and pool[number - 1].solved() not in each.lead
        assert all(pool[other - 1].group == each.group for other in each.examples)
    leads = {each.lead for each in asked if each.group == asked[0].group}
    assert len(leads) <= shots + 1 and set(drawn.texts) >= {number for each in asked for number in each.examples}


def test_a_question_that_stands_in_the_training_split_too_is_not_given_away():
    pool = questions(4)
    asked, _ = with_examples(pool[:1], Pool([pool[0], pool[0], *pool[1:]], "train", is_asked=True, in_order=True), 2, 0)
    assert pool[0].solved() not in asked[0].lead and asked[0].lead.count("Answer:") == 2


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_common_beginning_is_read_once_and_changes_no_score(architecture: str, monkeypatch: pytest.MonkeyPatch):
    decoder = random_decoder(tiny_config(architecture=architecture, context_length=64))
    draw = random.Random(1)

    def tokens(n: int) -> list[int]:
        return [draw.randrange(2, 400) for _ in range(n)]

    lead = tokens(40)
    rows = []
    for _ in range(9):
        context = [*lead, *tokens(draw.randrange(0, 6))]
        rows.append([ScoredRow([*context, *tokens(draw.randrange(1, 5))], len(context)) for _ in range(3)])
    rows.append([ScoredRow([*lead, *tokens(40)], 70)])  # beyond the context
    rows.append([ScoredRow([*lead[:39], 7, 8], 39), ScoredRow([*lead[:39], 9], 39)])
    alone = [likelihoods(decoder, [each])[0] for each in rows]
    read: list[int] = []
    hidden = Decoder.hidden

    def counting(self: Decoder, ids, *more, **named):
        read.append(ids.numel())
        return hidden(self, ids, *more, **named)

    monkeypatch.setattr(Decoder, "hidden", counting)
    together = likelihoods(decoder, rows)
    assert sum(read) < 9 * 40
    for mine, others in zip(together, alone, strict=True):
        for one, other in zip(mine, others, strict=True):
            assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-4)
            assert (one.is_greedy, one.cut_off) == (other.is_greedy, other.cut_off)


def test_answers_with_examples_are_those_of_the_whole_text(tokenizer: TextTokenizer):
    scorer = DecoderScorer(random_decoder(tiny_config(context_length=256)), tokenizer)
    asked, _ = with_examples(questions(12), Pool(questions(12), "file", is_asked=True), 3, 0)
    found = answer_all(scorer, asked, unconditional=False)
    whole = [Question((each.pairs()[0][0],), each.choices, each.gold) for each in asked]
    for number, each in enumerate(whole):
        alone = answer_all(scorer, [each], unconditional=False).answers[0]
        assert found.answers[number].log_likelihoods == pytest.approx(alone.log_likelihoods, abs=1e-4)
