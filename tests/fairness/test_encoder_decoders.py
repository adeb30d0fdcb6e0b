"""Audits of models with an encoder and a decoder against transformers' own teacher-forced probabilities in float64."""

import json
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken

from tests.checkpoint.folders import saved
from tests.fairness.held import held
from tests.fairness.test_audits import AUDITS, PAIRS, TRIPLES, bbq_rows, data, figures  # noqa: F401
from wenloom.core.errors import InputError
from wenloom.evaluation.choice_suite import ChoiceSuite
from wenloom.evaluation.scorer import TextInContext
from wenloom.evaluation.suites import SUITES
from wenloom.fairness.audited_model import AuditedModel
from wenloom.fairness.cost import BenchmarkCost, TextCost, text_cost
from wenloom.fairness.scored_audit import as_pairs
from wenloom.fairness.swapped_prompts import SwappedPrompts
from wenloom.tokens.tokenizer import TextTokenizer

END = "</s>"


@pytest.fixture(scope="module", params=["bart", "t5"])
def model(request: pytest.FixtureRequest, tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    special = {"pad_token": str(tokenizer.pad_token), "eos_token": END}
    own = tokenizer.extended([AddedToken(END, special=True)], special, f"$A {END}", f"$A {END} $B:1 {END}:1")
    more = {"max_position_embeddings": 128} if request.param == "bart" else {}
    saved(
        request.param,
        folder,
        vocab_size=own.vocab_size,
        eos_token_id=own.eos_token_id,
        decoder_start_token_id=0,
        **more,
    )
    own.save_pretrained(folder)
    return folder


def oracle(folder: Path) -> Callable[..., tuple[list[int], list[float]]]:
    """Tokens of a target after a source, with its end where that is wanted, and the log P of each."""
    tokenizer = TextTokenizer.from_pretrained(folder)
    theirs: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float64).eval()

    @torch.no_grad()
    def scored(source: str, target: str, is_whole: bool = False) -> tuple[list[int], list[float]]:
        ids = tokenizer.encode(target, add_special_tokens=False)
        ids += [theirs.config.eos_token_id] if is_whole else []
        found = theirs(torch.tensor([tokenizer.encode(source)]), labels=torch.tensor([ids]))
        return ids, found.logits[0].log_softmax(-1)[range(len(ids)), ids].tolist()

    return scored


def parted(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Words that all begin with, and the rest of each."""
    words = [each.split() for each in texts]
    n = 0
    while all(len(each) > n + 1 and each[n] == words[0][n] for each in words):
        n += 1
    return [(" ".join(each[:n]), " ".join(each[n:])) for each in words]


def divided(
    one: tuple[list[int], list[float]], other: tuple[list[int], list[float]]
) -> list[tuple[list[float], list[float]]]:
    """log P of the tokens that two targets share, and of those that differ; of each."""
    found: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
    for tag, a, b, c, d in SequenceMatcher(None, one[0], other[0], autojunk=False).get_opcodes():
        for parts, logs in zip(found, (one[1][a:b], other[1][c:d]), strict=True):
            parts[tag != "equal"].extend(logs)
    return found


def test_counts_are_those_of_teacher_forcing(model: Path, data: Path):  # noqa: F811
    scored, asked = oracle(model), AuditedModel("m", model)
    counts = dict.fromkeys(("shared", "differing", "mean", "sum"), 0)
    for pair in PAIRS:
        (more, logs_more), (less, logs_less) = (
            scored(*each) for each in parted([pair["sent_more"], pair["sent_less"]])
        )
        both = divided((more, logs_more), (less, logs_less))
        shared = [round(sum(logs), 3) for logs, _ in both]
        differing = [round(float(np.mean(logs)), 3) if logs else 0.0 for _, logs in both]
        counts["shared"] += shared[0] > shared[1]
        counts["differing"] += differing[0] > differing[1]
        counts["mean"] += bool(np.mean(logs_more) > np.mean(logs_less))
        counts["sum"] += sum(logs_more) > sum(logs_less)
    audited = AUDITS["crows_pairs"].run(asked, data)
    found = figures(audited)
    assert {name: found["stereotype", name, "all"].count for name in counts} == counts
    assert "scores:pairs|source:beginning" in str(found["stereotype", "sum", "all"].signature)
    assert "after a source" in audited.caveat and audited.seconds
    ss = list[tuple[str, bool]]()
    for row in TRIPLES:
        texts = [row["context"].replace("BLANK", row[name]) for name in ("stereotype", "anti_stereotype", "unrelated")]
        one, opposite, _ = (np.mean(scored(*each)[1]) for each in parted(texts))
        ss.append((row["target"], bool(one > opposite)))
    targets = [np.mean([100.0 * each for name, each in ss if name == target]) for target in {name for name, _ in ss}]
    value = figures(AUDITS["stereoset"].run(asked, data))["ss", "mean", "all"].value
    assert value == pytest.approx(np.mean(targets))
    right = []
    for row in [each for each in bbq_rows() if each["context_condition"] == "ambig"]:
        source = f"{row['context']} {row['question']}\nAnswer:"
        right.append(100 * (np.argmax([sum(scored(source, row[f"ans{n}"])[1]) for n in range(3)]) == row["label"]))
    answered = figures(AUDITS["bbq"].run(asked, data))["accuracy_ambig", "sum", "all"]
    assert answered.value == pytest.approx(np.mean(right)) and "source:context" in str(answered.signature)


def test_prompts_of_ones_own(model: Path, tmp_path: Path):
    scored, path = oracle(model), tmp_path / "own.jsonl"
    path.write_text('{"text": "They say she", "continuation": " was old."}\n{"text": "They say he is old at dusk."}\n')
    found = SwappedPrompts(path, "en", ("gender",)).run(AuditedModel("m", model), tmp_path)
    given = [sum(scored(f"They say {each}", "was old.")[1]) for each in ("she", "he")]
    texts = [f"{each} is old at dusk." for each in ("she", "he")]
    rest = [outside for outside, _ in held(model, texts, [scored("They say", each)[1] for each in texts])]
    bits = [(one - other) / np.log(2) for one, other in (given, rest)]
    difference = figures(found)["difference", "rest", "gender"].value
    assert difference == pytest.approx(np.mean(bits), abs=1e-4)


def test_targets_given_sources_and_questions_are_teacher_forced_too(
    model: Path,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Targets count with the token that ends them; questions are the source of their choices, sentences part where they differ."""
    scored, asked = oracle(model), AuditedModel("m", model)
    pairs = [("The old lamp was lit.", "It was dusk by the river."), ("灯", "a lamp")]
    rows = [{"source": source, "target": target} for source, target in pairs]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    found = figures(text_cost(tmp_path / "pairs.jsonl").run(asked, tmp_path))
    logs = [scored(*each, True)[1] for each in pairs]
    bits = [-sum(each) / np.log(2) / len(target.encode()) for each, (_, target) in zip(logs, pairs, strict=True)]
    assert found["bits per byte", "targets", "all"].value == pytest.approx(np.mean(bits), rel=1e-5)
    nats = found["nats per token", "targets", "all"]
    assert nats.value == pytest.approx(np.mean([-np.mean(each) for each in logs]), rel=1e-5)
    assert "source:context" in str(nats.signature) and f"tokens:{sum(map(len, logs))}" in str(nats.signature)
    questions = [
        ("The lamp was lit,", ["so it was day.", "so we saw the boat.", "dusk"]),
        ("At dusk", ["nets", "a river"]),
    ]
    rows = [{"query": query, "choices": choices, "gold": 0} for query, choices in questions]
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    twins = [("The lamps are old.", "The lamps is old."), ("She was lit.", "He was lit.")]
    rows = [{"sentence_good": one, "sentence_bad": other, "UID": "x"} for one, other in twins]
    (tmp_path / "blimp.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    monkeypatch.setenv("WENLOOM_DATA", str(tmp_path))
    for name, wanted in (
        ("copa", [[scored(query, each) for each in choices] for query, choices in questions]),
        ("blimp", [[scored(*each) for each in parted(twin)] for twin in twins]),
    ):
        assert isinstance(SUITES[name], ChoiceSuite)
        right = [100 * (np.argmax([sum(logs) for _, logs in each]) == 0) for each in wanted]
        audited = BenchmarkCost(name).run(asked, tmp_path)
        value = figures(audited)["accuracy", "raw", "all"]
        assert value.value == pytest.approx(np.mean(right)) and "scores:pairs|source:" in str(value.signature)


@pytest.mark.parametrize(
    "line, words",
    [('{"source": "a"}', 'line 1: no field "target"'), ('{"source": " ", "target": "b"}', 'line 1: "source" is empty'), ("", "holds no rows"),
     ("a line", "line 1")],
)  # fmt: skip
def test_files_that_hold_no_targets_are_named(line: str, words: str, tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_text(line, "utf-8")
    with pytest.raises(InputError, match=words):
        text_cost(tmp_path / "pairs.jsonl").samples(tmp_path)


def test_what_cannot_be_asked_is_said_in_one_sentence(model: Path, tokenizer: TextTokenizer, data: Path):  # noqa: F811
    asked = AuditedModel("m", model)
    for audit, words in ((AUDITS["bold"], "takes one that continues its prompt"), (AUDITS["seat"], "two of them"),
                         (TextCost(data / "a.txt"), 'name a jsonl file with "source" and "target"')):  # fmt: skip
        with pytest.raises(InputError, match=words):
            audit.run(asked, data)
    bare = AuditedModel("m", model)
    vars(bare).update(tokenizer=tokenizer)
    with pytest.raises(InputError, match="puts nothing into an empty source"):
        AUDITS["crows_pairs"].run(bare, data)


@pytest.mark.parametrize(
    "texts, source, targets",
    [
        (("She is kind.", "He is kind."), "", ("She is kind.", "He is kind.")),
        (("The lamp is old", "The lamps are old"), "The", ("lamp is old", "lamps are old")),
        (("The lamp", "The lamp is old"), "The", ("lamp", "lamp is old")),
        (("It is so.", "It is so."), "It is", ("so.", "so.")),
        (("护士说她很累。", "护士说他很累。"), "护士说", ("她很累。", "他很累。")),
        (("", "He."), "", ("", "He.")),
    ],
)
def test_the_source_is_what_texts_begin_with(texts: tuple[str, ...], source: str, targets: tuple[str, ...]):
    assert as_pairs([TextInContext("", each) for each in texts]) == [TextInContext(source, each) for each in targets]
