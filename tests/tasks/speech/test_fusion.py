"""A language model beside a recogniser: token by token it says what the scorer says of whole texts; it changes what is chosen,
and how much it is to count is found on half of the recordings."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wenloom.checkpoint.folder import write_model_files
from wenloom.core.errors import InputError
from wenloom.evaluation.scorer import TextInContext
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tasks.speech.ctc import prefix_beams, text_logprobs
from wenloom.tasks.speech.joint import CtcHeard, by_ctc, chosen
from wenloom.tasks.speech.language_model import FusedLanguageModel
from wenloom.tasks.speech.n_best import n_best

from ...cli.calling import call, succeed
from ...hearing import hearing_tokenizer, write_hearing, write_spoken

END, VOCABULARY = 256, 256 + 11 + 1501


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts with the recogniser's vocabulary."""
    folder = tmp_path_factory.mktemp("books")
    tokenizer = hearing_tokenizer()
    model = Decoder(from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2, n_kv_heads=2,
                                 context_length=64, bos_token_id=END, eos_token_id=END))  # fmt: skip
    model.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)
    write_model_files(model.eval(), folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(books: Path, weight: float = 1.0, bonus: float = 0.0) -> FusedLanguageModel:
    return FusedLanguageModel.load(books, hearing_tokenizer(), VOCABULARY, END, weight, bonus)


def test_token_by_token_it_says_what_the_scorer_says_of_whole_texts(books: Path):
    model, tokenizer = loaded(books, 0.7, 0.5), hearing_tokenizer()
    assert model.guides
    texts = ["ab cd", "x"]
    for text, whole in zip(texts, model.judged(texts), strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False)
        rows = model.following([ids[:place] for place in range(len(ids) + 1)])
        assert rows.shape[1] == VOCABULARY and not rows[:, END + 12 :].any()
        summed = sum(float(rows[place, token]) for place, token in enumerate([*ids, END]))
        assert whole == pytest.approx(summed + 0.7 * 0.5 * len(text.split()), abs=1e-3)


def test_a_search_that_is_guided_finds_what_trying_every_text_finds(books: Path):
    model = loaded(books, 1.0)
    logprobs_SV = torch.full((4, VOCABULARY), -torch.inf)
    few, blank = [64, 65, 66], 265
    drawn = torch.randn(4, len(few) + 1, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    logprobs_SV[:, [*few, blank]] = drawn
    texts = [text for length in range(5) for text in itertools.product(few, repeat=length)]

    def guided(text: tuple[int, ...]) -> float:
        rows = model.following([text[:place] for place in range(len(text) + 1)])
        return sum(float(rows[place, token]) for place, token in enumerate(text))

    sums = dict(zip(texts, text_logprobs(logprobs_SV, texts, blank), strict=True))
    expected = max(texts, key=lambda text: sums[text] + guided(text))
    found = prefix_beams(logprobs_SV, blank, 200, model.following)
    assert found[0].tokens == expected and found[0].tokens != prefix_beams(logprobs_SV, blank, 200)[0].tokens
    assert found[0].logprob == pytest.approx(sums[expected], abs=0.05)
    alone = by_ctc(CtcHeard(logprobs_SV, blank, 1.0), 200)
    judged = by_ctc(CtcHeard(logprobs_SV, blank, 1.0), 200, None, lambda many: [-9.0 * len(ids) for ids in many])
    assert judged.tokens == [] != alone.tokens and judged.others == alone.others


def test_the_judge_chooses_and_the_list_stays_the_recognisers():
    found = [([1], -2.0), ([2], -1.0), ([3], -5.0)]
    heard = chosen(found, 0.5, lambda many: [{1: 0.0, 2: -3.0, 3: -1.0}[ids[0]] for ids in many])
    assert heard.tokens == [1] and heard.logprob == -2.0 and heard.others[0] == ([2], -1.0)


def test_lists_of_windows_join_into_the_best_of_all_combinations():
    draw = np.random.default_rng(0)
    windows = [
        [(f" {place}{number}", float(score)) for number, score in enumerate(-draw.random(4))] for place in range(3)
    ]
    every = sorted((("".join(text for text, _ in row).strip(), sum(score for _, score in row))
                    for row in itertools.product(*windows)), key=lambda each: -each[1])  # fmt: skip
    found = n_best(windows, 5)
    assert [text for text, _ in found] == [text for text, _ in every[:5]]
    assert [score for _, score in found] == pytest.approx([score for _, score in every[:5]])
    assert n_best([], 3) == ()


def test_the_model_is_asked_in_a_transcript_and_in_a_measurement(books: Path, tmp_path: Path):
    write_hearing(tmp_path / "model")
    for number in range(4):
        write_spoken(tmp_path / f"{number}.wav", 1.0, number)
    rows = [f"{number}.wav\tthe lamp {number}" for number in range(4)]
    (tmp_path / "dev.tsv").write_text("\n".join(["path\ttext", *rows]) + "\n")
    line = succeed("transcribe", "model", "0.wav", "--language", "en", "--format", "nbest", "--n-best", 3, "--temperatures", 0,
                   "--max-compression-ratio", 99, "--min-logprob", -99, "--lm", str(books), cwd=tmp_path)  # fmt: skip
    row = json.loads(line)
    scores = [each["score"] for each in row["nbest"]]
    assert row["utt_id"] == "0.wav" and 1 <= len(scores) <= 3 and scores == sorted(scores, reverse=True)
    (tmp_path / "named.tsv").write_text("\n".join(["path\ttext\tlanguage", *(f"{row}\ten" for row in rows)]) + "\n")
    found = json.loads(succeed("evaluate", "model", "--on", "named.tsv", "--lm", str(books), "--json", cwd=tmp_path))
    [change] = found["language_model"]
    lists = [json.loads(each) for each in (tmp_path / "evaluation/model/named.nbest.jsonl").read_text().splitlines()]
    assert [each["ref"] for each in lists] == [f"the lamp {number}" for number in range(4)]
    assert change["oracle"] <= min(change["before"]["value"], found["figures"]["model"][0]["value"]) + 1e-9
    assert change["difference"] == pytest.approx(found["figures"]["model"][0]["value"] - change["before"]["value"])
    succeed("rescore", str(books), "evaluation/model/named.nbest.jsonl", cwd=tmp_path)
    refused = call("evaluate", str(books), "--on", "dev.tsv", "--lm", str(books), cwd=tmp_path)
    assert refused.code == 2 and "--lm: goes with models that hear" in refused.err
    assert "name one by --lm" in call("transcribe", "model", "0.wav", "--lm-weight", 0.5, cwd=tmp_path).err


def test_what_cannot_judge_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="goes on with texts"):
        FusedLanguageModel.load(write_hearing(tmp_path), hearing_tokenizer(), VOCABULARY, END, 1.0, 0.0)


def test_scores_are_those_of_the_scorer_alone(books: Path):
    model = loaded(books)
    assert isinstance(model._scorer, DecoderScorer)
    [[expected]] = model._scorer.continuations([[TextInContext("", "a b", is_whole=True)]])
    assert model.judged([" a  b "]) == pytest.approx([expected.log_probability])
