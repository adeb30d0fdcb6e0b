"""Likelihoods of continuations against transformers in float64, and where a continuation begins."""

import random
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from wenloom.checkpoint.folder import write_model_files
from wenloom.evaluation.choice import Question, answer_all
from wenloom.evaluation.likelihood import ScoredRow, continuation_row, likelihoods, tokens_before
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.model.config import reshaped
from wenloom.model.parts import Rope
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import VERSES, random_decoder, tiny_config


def by_transformers(model: transformers.PreTrainedModel, row: ScoredRow, limit: int) -> tuple[list[float], bool]:
    cut = max(0, len(row.tokens) - limit - 1)
    tokens, start = row.tokens[cut:], max(1, row.start - cut)
    with torch.no_grad():
        logs = model(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
    picked = [float(logs[place - 1, tokens[place]]) for place in range(start, len(tokens))]
    return picked, all(int(logs[place - 1].argmax()) == tokens[place] for place in range(start, len(tokens)))


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_every_row_equals_transformers(architecture: str, tmp_path: Path):
    """Questions of all lengths, with choices that share much, little or nothing, and rows beyond the context."""
    decoder = random_decoder(tiny_config(architecture=architecture))
    write_model_files(decoder, tmp_path)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).double().eval()
    draw = random.Random(0)
    questions = []
    for _ in range(60):
        context = [draw.randrange(2, 400) for _ in range(draw.randrange(1, 45))]
        shared = [draw.randrange(2, 400) for _ in range(draw.randrange(0, 4))]
        rows = [ScoredRow([*context, *shared, *(draw.randrange(2, 400) for _ in range(draw.randrange(1, 9)))], len(context))
                for _ in range(draw.randrange(1, 5))]  # fmt: skip
        questions.append(rows)
    questions.append([ScoredRow([0, 5, 6], 1), ScoredRow([0, 5, 6], 1)])  # the same twice
    questions.append([ScoredRow([0, 7], 1), ScoredRow([9, 7], 1)])  # nothing in common
    done = []
    found = likelihoods(decoder, questions, done.append)
    assert sum(done) == sum(map(len, questions))
    for rows, scores in zip(questions, found, strict=True):
        for row, likelihood in zip(rows, scores, strict=True):
            expected, greedy = by_transformers(oracle, row, 32)
            assert likelihood.log_probabilities == pytest.approx(expected, abs=1e-4)
            assert likelihood.is_greedy == greedy
            assert (likelihood.cut_off > 0) == (len(row.tokens) > 33)


def test_rotary_positions_that_depend_on_length_are_not_mixed():

    rope = Rope(8, kind="dynamic", factor=2.0)
    decoder = random_decoder(reshaped(tiny_config(), positions={"rope": rope}))
    rows = [[ScoredRow(list(range(5, 5 + n)), 4), ScoredRow(list(range(5, 5 + n + 3)), 4)] for n in (8, 12, 20)]
    together = likelihoods(decoder, rows)
    for pair, scores in zip(rows, together, strict=True):
        for row, likelihood in zip(pair, scores, strict=True):
            with torch.inference_mode():
                logs = decoder(torch.tensor([row.tokens[:-1]]))[0].log_softmax(-1)
            expected = [float(logs[place - 1, row.tokens[place]]) for place in range(4, len(row.tokens))]
            assert likelihood.log_probabilities == pytest.approx(expected, abs=1e-5)


def merging() -> TextTokenizer:
    """A tokenizer that joins 天气 and 气好 as Chinese BPE does: 今天|气好 is cut differently from 今天气|好."""
    pieces = ["今", "天", "气", "好", "坏", "很", "今天", "天气", "气好", "今天气", "<s>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, [("气", "好"), ("今", "天"), ("天", "气")]))
    backend.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    return TextTokenizer(backend, {"bos_token": "<s>"})


def test_a_token_across_the_cut_belongs_to_the_continuation():
    """Context 今天气, continuation 好: the text is 今天|气好. Taking off as many tokens as the context has by itself (今天,
    气) would leave nothing to score."""
    tokenizer = merging()
    alone, whole = tokenizer.encode("今天气"), tokenizer.encode("今天气好")
    assert len(whole) - len(alone) == 0  # what lm-evaluation-harness would score: no token
    row = continuation_row(tokenizer, "今天气", "好", [10])
    assert row.tokens == [10, *whole] and row.start == 2  # 气好 is scored
    other = continuation_row(tokenizer, "今天气", "坏", [10])
    assert [tokenizer.backend.id_to_token(each) for each in other.tokens[other.start :]] == ["坏"]


def test_blanks_belong_to_the_continuation(tokenizer: TextTokenizer):
    one = continuation_row(tokenizer, "The lamp ", "was lit", [0])
    two = continuation_row(tokenizer, "The lamp", " was lit", [0])
    assert one[:2] == two[:2]
    assert tokenizer.decode(one.tokens[one.start :]) == " was lit"
    for context in (VERSES[3][:4], "Zwölf Box", "emoji 👩"):
        row = continuation_row(tokenizer, context, "kämpfer", [])
        assert tokenizer.decode(row.tokens[row.start :]).endswith("kämpfer")
        assert tokenizer.decode(row.tokens) == context + "kämpfer"


def test_what_stands_before(tokenizer: TextTokenizer):
    assert tokens_before(tokenizer, False) == [] and tokens_before(tokenizer, True) == [tokenizer.bos_token_id]


def test_norms_choose_by_their_definition(tokenizer: TextTokenizer):
    decoder = random_decoder(tiny_config())
    questions = [
        Question(("The lamp was",), (" lit at dusk", " dry", " 花落知多少"), 1),
        Question(("A storm", "The nets"), (" came from the west",), 0),
    ]
    conditional, partial = (answer_all(DecoderScorer(decoder, tokenizer), [each]) for each in questions)
    rows = [continuation_row(tokenizer, "The lamp was", each, []) for each in questions[0].choices]
    totals = [each.total for each in likelihoods(decoder, [rows])[0]]
    answer = conditional.answers[0]
    assert answer.log_likelihoods == pytest.approx(totals, abs=1e-4)
    sizes = [len(each.strip().encode()) for each in questions[0].choices]
    letters = [len(each.strip()) for each in questions[0].choices]
    n_tokens = [len(row.tokens) - row.start for row in rows]
    for norm, divisors in (("raw", [1, 1, 1]), ("byte", sizes), ("character", letters), ("token", n_tokens)):
        values = [total / divisor for total, divisor in zip(totals, divisors, strict=True)]
        assert answer.chosen[norm] == values.index(max(values))
    assert "unconditional" in answer.chosen and "unconditional" not in partial.answers[0].chosen
