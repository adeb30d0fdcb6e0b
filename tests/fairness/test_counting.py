"""What counts: ties, words in pieces, texts longer than a model reads, first tokens that nothing stands before. Models that prefer
nothing, or little, made here; sums by hand."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.calling import call
from tests.conftest import random_decoder, tiny_config
from tests.fairness.test_audits import AUDITS, PAIRS, TRIPLES, bbq_rows, csv_file, figures, in_memory, oracle
from tests.fairness.test_more_audits import bold_files, winogender_files
from wenloom.checkpoint.folder import write_model_files
from wenloom.evaluation.scorer import ContinuationScore, TextInContext
from wenloom.fairness.audit import Outcomes
from wenloom.fairness.audited_model import AuditedModel
from wenloom.fairness.audits import AuditOptions, all_audits
from wenloom.fairness.bold import Bold
from wenloom.fairness.cost import BenchmarkCost, TextCost
from wenloom.fairness.exchanged import apart, differing_words
from wenloom.fairness.scored_audit import scores_of_pairs
from wenloom.fairness.stereoset import preferred
from wenloom.model.decoder import Decoder
from wenloom.tasks.fill_mask import masked_tokenizer
from wenloom.tokens.tokenizer import TextTokenizer


def even(tokenizer: TextTokenizer) -> Decoder:
    """A model to which every token is as probable as every other."""
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, context_length=128))
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    return decoder


def pieces(text: str, *tokens: str, begin: int = 0) -> ContinuationScore:
    """A score of tokens of which the n-th has log P = -2^n."""
    assert "".join(tokens) == text[begin:]
    ends = [begin + sum(map(len, tokens[: n + 1])) for n in range(len(tokens))]
    spans = [(end - len(token), end) for end, token in zip(ends, tokens, strict=True)]
    logs = [-(2.0**n) for n in range(len(tokens))]
    return ContinuationScore([*range(len(tokens))], logs, sum(logs), False, 0, len(text), len(text), spans, begin)


@pytest.mark.parametrize(
    "first, second, outside",
    [
        (("So", " s", "he", " is"), ("So", " he", " is"), (-9, -5)),  # "he" of "she" is no "he"
        (("So", " ", "she", " is"), ("So", " he", " is"), (-9, -5)),  # the blank belongs to the word in one of them
        (("So", " ", "she", " is"), ("So", " ", "he", " is"), (-9, -9)),  # and to the word in both
        (("So she", " is"), ("So", " he", " is"), (-2, -4)),  # what is joined to the word counts of neither
        (("So s", "he i", "s"), ("So", " he", " is"), (0, 0)),
        (("S", "o ", "she", " ", "is"), ("So", " he", " is"), (-24, -4)),
    ],
)
def test_pieces_of_exchanged_words_are_no_part_of_the_rest(
    first: tuple[str, ...], second: tuple[str, ...], outside: tuple[float, float]
):
    texts = ["So she is", "So he is"]
    scores = [pieces(text, *tokens) for text, tokens in zip(texts, (first, second), strict=True)]
    found = apart(scores, differing_words(*texts))
    assert tuple(sum(rest) for rest, _ in found) == outside
    assert all(
        sum(rest) + sum(words) == each.log_probability for (rest, words), each in zip(found, scores, strict=True)
    )


def test_a_word_too_much_in_one_text_takes_none_of_its_neighbours():
    """As in a pair of WinoBias's own file."""
    texts = ["because he there is him", "because there is her"]
    scores = [
        pieces(texts[0], "because", " he", " there", " is", " him"),
        pieces(texts[1], "because", " there", " is", " her"),
    ]
    found = apart(scores, differing_words(*texts))
    assert [words for _, words in found] == [[-2.0, -16.0], [-8.0]]


def test_blanks_before_words_of_a_lexicon_count_in_both_or_in_neither():
    texts, words = ["So she is", "So he is"], [[(3, 6)], [(3, 5)]]
    for first, second, outside in ((("So", " ", "she", " is"), ("So", " ", "he", " is"), (-11, -11)),
                                   (("So", " ", "she", " is"), ("So", " he", " is"), (-9, -5))):  # fmt: skip
        scores = [pieces(text, *tokens) for text, tokens in zip(texts, (first, second), strict=True)]
        assert tuple(sum(rest) for rest, _ in apart(scores, words)) == outside


def test_a_first_token_that_is_not_scored_counts_of_neither():
    texts = ["She is", "He is"]
    scores = [pieces(texts[0], "he", " is", begin=1), pieces(texts[1], " is", begin=2)]
    assert [rest for rest, _ in apart(scores, differing_words(*texts))] == [[-2.0], [-1.0]]


@pytest.mark.parametrize("name", ["crows_pairs", "stereoset", "winobias", "winogender", "bbq", "prompts"])
def test_a_model_that_prefers_nothing_is_said_to_prefer_nothing(name: str, tokenizer: TextTokenizer, tmp_path: Path):
    """Sentences of one length, all of them as probable: whatever side a value counts a tie for, no verdict follows from it."""
    length = {
        role: len(tokenizer.encode(f"The {role} was", False))
        for role in ("lamp", "boat", "dusk", "nets", "river", "keep")
    }
    (one, other), *_ = ((a, b) for a in length for b in length if a != b and length[a] == length[b])
    csv_file(
        tmp_path / "crows_pairs.csv",
        [each | {"sent_more": f"The {one} {n}", "sent_less": f"The {other} {n}"} for n, each in enumerate(PAIRS)],
    )
    csv_file(tmp_path / "stereoset.csv", [each | {"target": str(n), "stereotype": one, "anti_stereotype": other}
                                          for n, each in enumerate(TRIPLES * 2)])  # fmt: skip
    (tmp_path / "Age.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bbq_rows() * 2))
    for kind, pronouns in (("pro", ("him", "her")), ("anti", ("her", "him"))):
        lines = [f"{n} We saw [{pronouns[n % 2]}] at dusk." for n in range(40)]
        (tmp_path / f"{kind}_stereotyped_type1.txt.dev").write_text("\n".join(lines) + "\n", "utf-8")
    winogender_files(tmp_path)
    (tmp_path / "own.txt").write_text("She lit the lamp.\nHe saw the lamp.\n" * 9, "utf-8")
    audits = all_audits(AuditOptions(tmp_path / "own.txt", "en", ("gender",)))
    found = audits[name].run(in_memory(even(tokenizer), tokenizer), tmp_path)
    judged = [each for each in found.figures if each.unbiased is not None and each.convention != "sum"]
    assert judged and {each.verdict for each in judged} <= {"neither shown", "too few"}, [
        (each.measure, each.convention, each.group, each.value, each.verdict) for each in judged]  # fmt: skip
    if name in ("winobias", "winogender"):
        shares = [each for each in judged if each.unbiased == 50]
        assert all(each.value == 50 and each.count == each.n // 2 and each.low < 50 < each.high for each in shares)
    if name in ("crows_pairs", "stereoset"):
        whole = figures(found)[{"crows_pairs": "stereotype", "stereoset": "ss"}[name], "mean", "all"]
        assert (whole.value, whole.count, whole.ties) == (0, 0, whole.n), "as the authors count"
        assert "as probable either way" in found.caveat and whole.as_json()["verdict"] == "neither shown"
    if name == "bbq":
        assert figures(found)["accuracy_ambig", "mean", "all"].value == pytest.approx(100 / 3)


def test_a_tie_counts_half_in_what_is_said_of_a_share():
    """40 of 100 for the stereotype, 30 ties, 30 against: 55 % with halves, of which no preference is sure, and 40 % as counted."""
    scores = np.array([[1, 0, 0]] * 40 + [[1, 1, 0]] * 30 + [[0, 1, 0]] * 30, float)
    ss = preferred(scores, ["gender"] * 100, [str(n) for n in range(100)], "mean")[1]
    figure = ss.figure("stereoset", "all", None)  # pyright: ignore[reportArgumentType]
    assert (figure.value, figure.ties) == (40, 30) and figure.judged is not None
    assert figure.judged[0] < 55 < figure.judged[1] and figure.verdict == "neither shown" and figure.high < 50
    plain = Outcomes("x", "y", np.array([0.0] * 80 + [100.0] * 20), ["a"] * 100, ties=np.array([False] * 100))
    assert plain.figure("x", "all", None).verdict == "opposite"  # pyright: ignore[reportArgumentType]


def masked(tokenizer: TextTokenizer, folder: Path) -> AuditedModel:
    import transformers

    own = masked_tokenizer(tokenizer)
    transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=own.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=64, initializer_range=0.3)).save_pretrained(folder)  # fmt: skip
    own.save_pretrained(folder)
    return AuditedModel("m", folder)


def test_what_is_longer_than_an_encoder_reads_is_left_out_and_counted(
    tokenizer: TextTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = masked(tokenizer, tmp_path)
    long = " and so ended day 1 of the journey by the river" * 4
    rows = [{**PAIRS[n], "sent_more": PAIRS[n]["sent_more"] + long * (n < 3)} for n in range(12)]
    csv_file(tmp_path / "crows_pairs.csv", rows)
    found = AUDITS["crows_pairs"].run(model, tmp_path)
    told = "3 of 12 samples are longer than the model's context, and left out"
    assert (
        figures(found)["stereotype", "sum", "all"].n == 9 and told in capsys.readouterr().err and told in found.caveat
    )
    scored = oracle(tmp_path)
    wanted = sum(sum(scored("", each["sent_more"])[1]) > sum(scored("", each["sent_less"])[1]) for each in rows[3:])
    assert figures(found)["stereotype", "sum", "all"].count == wanted
    cut = model.scorer.continuations([[TextInContext("", long)]])[0][0].cut_off
    assert cut == len(model.tokenizer.encode(long, False)) - 62, "what two tokens stand around"
    (tmp_path / "text.txt").write_text(long, "utf-8")
    cost = figures(TextCost(tmp_path / "text.txt").run(model, tmp_path))["bits per byte", "passages", "all"]
    assert cost.value == pytest.approx(model.scorer.text(long).bits_per_byte), "a text may be read in stretches"


def test_questions_and_texts_that_outgrow_the_context_are_told(
    tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, context_length=32))
    write_model_files(decoder, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, long = AuditedModel("m", tmp_path), "At dusk the old lamp was lit by the keeper of the river " * 3
    questions = [{"query": query, "choices": [" day", " dusk"], "gold": 0} for query in ("The lamp", long, "A boat")]
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(each) + "\n" for each in questions), "utf-8")
    monkeypatch.setenv("WENLOOM_DATA", str(tmp_path))
    told = "1 of 3 questions are longer than the model's context"
    found = BenchmarkCost("copa").run(model, tmp_path)
    assert told in found.caveat and told in capsys.readouterr().err
    bold_files(tmp_path)
    found = Bold().run(model, tmp_path, 8)
    grown = [len(tokenizer.encode(each.texts[0], False)) for each in found.examples]
    assert "8 of 8 texts outgrew the model's context" in found.caveat and min(grown) > 32
    assert "outgrew" not in Bold().run(in_memory(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), tokenizer),
                                       tmp_path, 8).caveat  # fmt: skip


def without_bos(tokenizer: TextTokenizer, but: str = "") -> TextTokenizer:
    made = copy.copy(tokenizer)
    made.special_tokens = {name: each for name, each in tokenizer.special_tokens.items() if name == but}
    return made


@pytest.mark.parametrize("but", ["", "eos_token"])
def test_the_bytes_of_a_token_that_is_not_scored_do_not_count(but: str, tokenizer: TextTokenizer, tmp_path: Path):
    """What `audit --text` says is what `score` says, also of models without a token that opens a text."""
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, context_length=128))
    own, text = without_bos(tokenizer, but), "The old lamp was lit at dusk."
    (tmp_path / "text.txt").write_text(text + "\n", "utf-8")
    model = in_memory(decoder, own)
    figure = figures(TextCost(tmp_path / "text.txt").run(model, tmp_path))["bits per byte", "passages", "all"]
    ids, offsets = own.encode(text, False), own.encoding(text, False).offsets
    with torch.no_grad():
        logs = decoder(torch.tensor([ids]))[0].double().log_softmax(-1)
    nats = -sum(float(logs[place, ids[place + 1]]) for place in range(len(ids) - 1))
    assert figure.value == pytest.approx(nats / np.log(2) / (len(text) - offsets[0][1]), rel=1e-5)
    assert figure.value == pytest.approx(model.scorer.text(text).bits_per_byte, rel=1e-9)
    assert "bos:no" in str(figure.signature)
    score = model.scorer.continuations([[TextInContext("", text)]])[0][0]
    assert score.n_bytes == len(text) - (0 if but else offsets[0][1]) and len(score.token_ids) == len(ids) - (not but)


def test_a_text_of_one_token_that_nothing_stands_before_is_left_out(
    tokenizer: TextTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "own.txt").write_text("She lit the lamp.\nHe was lit.\n", "utf-8")
    rows = [{"sent_more": "T", "sent_less": "The lamp", "bias_type": "age"}, *PAIRS[:2]]
    csv_file(
        tmp_path / "crows_pairs.csv",
        [{name: row[name] for name in ("sent_more", "sent_less", "bias_type")} for row in rows],
    )
    model = in_memory(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), without_bos(tokenizer))
    found = AUDITS["crows_pairs"].run(model, tmp_path)
    assert figures(found)["stereotype", "sum", "all"].n == 2
    assert "1 of 3 samples have a text without a token that could be scored" in capsys.readouterr().err


def test_a_signature_says_what_opens_texts_and_continuations(tokenizer: TextTokenizer, tmp_path: Path):
    """A text of its own follows BOS, what has a context follows that alone, and of both together neither can be said."""
    model = in_memory(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), tokenizer)
    rows: list[dict[str, Any]] = [{"text": "She was"}, {"text": "He was", "continuation": " lit."}]
    for some, wanted in ((rows[:1], "yes"), (rows[1:], "no"), (rows, "mixed")):
        (tmp_path / "own.jsonl").write_text("".join(json.dumps(each) + "\n" for each in some), "utf-8")
        found = all_audits(AuditOptions(tmp_path / "own.jsonl", "en", ("gender",)))["prompts"].run(model, tmp_path)
        assert {each.signature.get("bos") for each in found.figures} == {wanted}


def test_the_command_scores_a_continuation_as_score_does(tokenizer: TextTokenizer, tmp_path: Path):
    write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "own.jsonl").write_text('{"text": "She was", "continuation": " lit at dusk."}\n', "utf-8")
    found = json.loads(
        call("audit", ".", "--prompts", "own.jsonl", "--axis", "gender", "--json", "--no-keep", cwd=tmp_path).out
    )
    bits = next(each["value"] for each in found["figures"] if each["measure"] == "difference")
    she, he = (json.loads(call("score", ".", " lit at dusk.", "--given", each, "--json", cwd=tmp_path).out)["log_probability"]
               for each in ("She was", "He was"))  # fmt: skip
    assert bits == pytest.approx((she - he) / np.log(2), abs=1e-4)


def test_characters_of_a_target_are_counted_in_the_text_that_it_ends():
    class Shifted:
        def continuations(self, groups: list[list[TextInContext]]) -> list[list[ContinuationScore]]:
            return [[pieces(each.text, each.text) for each in group] for group in groups]

    asked = [[TextInContext("", " They say she is. "), TextInContext("", " They say he is. ")]]
    (row,) = scores_of_pairs(Shifted(), asked)  # pyright: ignore[reportArgumentType]
    assert [each.spans for each in row] == [[(10, 17)], [(10, 16)]]
