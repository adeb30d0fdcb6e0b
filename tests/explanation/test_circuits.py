"""Known kinds of heads: scores against attention that is made by hand, and a model in which induction forms while it is trained."""

import random
from pathlib import Path

import pytest
import torch

import wenloom
from tests.cli.calling import refused, succeed
from tests.conftest import random_decoder, tiny_config
from tests.training.runs import MODEL, TRAINING
from wenloom.core.errors import InputError
from wenloom.explanation.circuits import HEAD_KINDS, HeadScores, head_scores
from wenloom.explanation.explanation import explain
from wenloom.explanation.formation import HeadHistory, head_findings, head_history, when_formed
from wenloom.explanation.subject import Subject
from wenloom.model.taps import Taps
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.comparison import compare
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import ModelSettings, TrainSettings


@pytest.fixture(scope="module")
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size, context_length=64)), tokenizer)


def test_a_score_is_the_attention_to_where_the_token_stood_before(subject: Subject):
    """Token by token, from the trace of one drawn text: the place of its first occurrence is looked up by its number."""
    seen: list[torch.Tensor] = []
    forward = Subject.forward

    def watched(self: Subject, vectors: torch.Tensor, *more: object, **named: object) -> torch.Tensor:
        seen.append(vectors)
        return forward(self, vectors, *more, **named)  # pyright: ignore

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subject, "forward", watched)
        found = head_scores(subject, length=20, sequences=1, seed=3)
    embedding = subject.model.embed.weight
    tokens = [int((embedding - vector).abs().sum(1).argmin()) for vector in seen[0][0]]
    assert len(tokens) == 40 and tokens[:20] == tokens[20:] and len(set(tokens)) == 20
    patterns: dict[str, torch.Tensor] = {}
    names = [f"blocks.{layer}.attention.pattern" for layer in range(2)]
    taps = Taps({name: lambda x, name=name: patterns.update({name: x}) for name in names}, subject.model.places)
    forward(subject, seen[0], None, taps)
    for layer, name in enumerate(names):
        for head in range(4):
            weights = patterns[name][0, head].tolist()
            first = {token: place for place, token in reversed(list(enumerate(tokens)))}
            expected = {
                "induction": [weights[at][first[tokens[at]] + 1] for at in range(20, 40)],
                "duplicate_token": [weights[at][first[tokens[at]]] for at in range(20, 40)],
                "previous_token": [weights[at][at - 1] for at in range(1, 40)],
            }
            for kind in HEAD_KINDS:
                mean = sum(expected[kind]) / len(expected[kind])
                assert float(found.of(kind)[layer, head]) == pytest.approx(mean, abs=1e-6)


def test_scores_do_not_depend_on_how_many_are_read_together_but_on_what_is_drawn(subject: Subject):
    one, again, other = (head_scores(subject, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.induction, again.induction) and not torch.equal(one.induction, other.induction)
    assert one.induction.shape == (2, 4) and all(
        0 <= float(one.of(kind).min()) <= float(one.of(kind).max()) <= 1 for kind in HEAD_KINDS
    )
    assert float(one.induction.max()) < 0.2, "a model that has learned nothing has no induction head"


def test_models_without_room_or_without_next_tokens_are_refused(tokenizer: TextTokenizer, tmp_path: Path):
    from tests.model.test_taps import both

    short = Subject(random_decoder(tiny_config(tokenizer.vocab_size, context_length=7)), tokenizer)
    with pytest.raises(InputError, match="do not fit into this model's context"):
        head_scores(short)
    assert explain(short, "2", 40, steps=1).heads is None, "what is not measured stops nothing"
    _, bart = both("bart", tmp_path)
    with pytest.raises(InputError, match="in a decoder that predicts next tokens"):
        head_scores(Subject(bart, tokenizer))


def test_every_head_s_scores_are_on_the_page_and_in_json(subject: Subject):
    found = explain(subject, "The lamp was", 40, steps=1)
    scores = found.data()["heads"]
    assert {*scores} == {*HEAD_KINDS} and [len(row) for row in scores["induction"]] == [4, 4]
    layer, head, value = head_scores(subject).strongest("induction")
    assert scores["induction"][layer][head] == pytest.approx(value, abs=1e-4)
    assert f"<code>{layer}.{head}</code> {value:.2f}" in found.page()


def history(values: list[float]) -> HeadHistory:
    def scores(value: float) -> HeadScores:
        return HeadScores(*(torch.tensor([[0.01, 0.02], [value, 0.03]], dtype=torch.float64) for _ in range(3)))

    return HeadHistory(
        "run", [100 * (number + 1) for number in range(len(values))], [scores(value) for value in values]
    )


@pytest.mark.parametrize(
    "values, said",
    [
        (
            [0.04, 0.05, 0.6, 0.9],
            "formed after step 200, where the strongest head scores 0.05; at step 300 it scores 0.60",
        ),
        ([0.04, 0.7, 0.2, 0.9], "formed after step 300"),
        ([0.8, 0.9], "is there from the first kept checkpoint on"),
        ([0.04, 0.3], "no induction head at step 200; block 1, head 0 comes nearest (0.30)"),
    ],
)
def test_when_it_formed_is_said_in_a_sentence(values: list[float], said: str):
    assert said in when_formed(history(values))
    page = head_findings([history(values)])
    assert [each.name for each in page.chart.series] == ["induction", "previous token", "duplicate token"]
    assert [row[1] for row in page.chart.series[0].rows] == pytest.approx(values)
    assert len(head_findings([history(values)] * 2).chart.series) == 2


def repeating(folder: Path, count: int) -> Path:
    """Stretches of random characters, each gone over sixteen times: only a look back predicts the next."""
    draw, letters = random.Random(0), [chr(0x4E00 + number) for number in range(40)]
    parts = ["".join(draw.sample(letters, draw.randint(8, 16))) * 16 for _ in range(count)]
    (folder / "repeated.txt").write_text("".join(parts), encoding="utf-8")
    return prepare([str(folder / "repeated.txt")], folder / "data", PrepareOptions("char")).dataset.folder


def test_the_report_measures_every_kept_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    data, run = repeating(tmp_path, 40), tmp_path / "run"
    pretrain(data, run, MODEL, replace(TRAINING, keep_every=4))
    out = succeed("report", "run", "--heads", "--out", "page.html", cwd=tmp_path)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "no induction head at step 12" in out and "no induction head at step 12" in page
    found = head_history(run)
    assert {4, 8, 12} <= {*found.steps} and found.steps == sorted(found.steps)
    last = head_scores(wenloom.load(str(run / "checkpoints/step-00000012")))
    assert torch.equal(found.scores[-1].induction, last.induction)
    assert compare([run], [head_findings([found])]).count("no induction head") == 1
    monkeypatch.setattr("wenloom.explanation.formation.kept_models", lambda run: [])
    assert "train with --keep-every STEPS" in refused("report", "run", "--heads", "--out", "page.html", cwd=tmp_path)


@pytest.mark.slow
def test_induction_forms_in_two_layers_and_the_page_says_when(tmp_path: Path):
    data, run = repeating(tmp_path, 2000), tmp_path / "run"
    shape = ModelSettings(arch="llama", layers=2, width=64, heads=2, context=32, dropout=0.0)
    training = TrainSettings(
        steps=700, batch=32, optimizer="adamw", learning_rate=0.003, beta1=0.9, beta2=0.98, weight_decay=0.0, evaluations=1,
        keep_every=50, precision="fp32", device="cpu",
    )  # fmt: skip
    pretrain(data, run, shape, training)
    found = head_history(run)
    values, first = found.strongest("induction"), found.formed("induction")
    assert values[0] < 0.1 and values[-1] > 0.5 and first
    assert f"induction formed after step {found.steps[first - 1]:,}" in compare([run], [head_findings([found])])
