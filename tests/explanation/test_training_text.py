"""What the training text has of an answer, against a search of all its tokens; influence, against a step of training."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import random_decoder, story, tiny_config
from tests.training.runs import MODEL, TRAINING
from wenloom.core.errors import InputError
from wenloom.explanation.explanation import Explanation, explain
from wenloom.explanation.influence import TrainingPoint, folded_gradient, influences, training_points
from wenloom.explanation.inquiry import ask
from wenloom.explanation.page import said
from wenloom.explanation.subject import Subject, subject_of
from wenloom.explanation.training_text import corpus_of, training_text
from wenloom.model.quantize import quantize
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.training.pretrain import pretrain
from wenloom.training.run_file import read_run

PLANTED = "Seven grey herons stood beside Tabitha's broken weathervane until the bells of Orrin fell silent"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty texts, in one of which something stands that is nowhere else."""
    folder = tmp_path_factory.mktemp("planted")
    for number in range(60):
        text = story(number)
        if number == 17:
            half = text.index("And so ended day 3")
            text = f"{text[:half]}{PLANTED}. {text[half:]}"
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    held_out = folder / "held-out"
    held_out.mkdir()
    (held_out / "a.txt").write_text(story(99), encoding="utf-8")
    options = PrepareOptions("bpe", 400, validation_files=(str(held_out),))
    return prepare([str(folder / f"{number:02}.txt") for number in range(60)], folder / "data", options).dataset.folder


@pytest.fixture(scope="module")
def subject(corpus: Path) -> Subject:
    tokenizer = Dataset.open(corpus).tokenizer()
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), tokenizer)


def tokens_of(corpus: Path) -> list[int]:
    stream = Dataset.open(corpus).stream("train")
    return stream.window(0, len(stream)).tolist()


def places(row: list[int], wanted: list[int]) -> list[int]:
    return [place for place in range(len(row) - len(wanted) + 1) if row[place : place + len(wanted)] == wanted]


def test_a_quote_is_found_where_it_stands(subject: Subject, corpus: Path):
    words = PLANTED.split(" ")
    for begin, end in ((0, 6), (0, 14), (3, 9), (8, 13)):
        text, answer = " ".join(words[begin:end]), f" {words[end]}"
        found = training_text(ask(subject, text, answer), corpus)
        first = found.quoted
        assert first is not None and first.source == str(corpus.parent / "17.txt"), "whatever token it begins with"
        document = (corpus.parent / "17.txt").read_text(encoding="utf-8")
        assert document[first.character :].startswith(first.found)
        assert document.startswith(first.found + first.after, first.character)
        assert document[: first.character].endswith(first.before)
        assert found.count == 1 and found.context_count == 1 and found.answer_count == 1
        assert "stand word for word in" in said(found)[0] and "17.txt, from character" in said(found)[0]


def test_counts_are_those_of_a_search_of_all_tokens(subject: Subject, corpus: Path):
    row = tokens_of(corpus)
    for text, answer in (
        ("Yesterday, so they say, the lamp was", " lit"),
        ("And so ended", " night"),
        ("They return 3.14159 *", " r"),
    ):
        inquiry = ask(subject, text, answer)
        found = training_text(inquiry, corpus)
        tokens = subject.tokenizer.encode(text, add_special_tokens=False)
        ends = [tokens[-length:] for length in range(len(tokens), 0, -1)]
        context = next(end for end in ends if places(row, end))
        there = places(row, context)
        assert (found.context_length, found.context_count) == (len(context), len(there))
        assert found.context == subject.tokenizer.decode(context)
        behind = [row[place + len(context)] for place in there]
        answers = inquiry.rows[0].answers.tolist()
        assert found.answer_count == behind.count(answers[0])
        best = max(set(behind), key=lambda token: (behind.count(token), -token))
        assert found.following[0] == (subject.piece(best), behind.count(best))
        both = [*tokens, *answers]
        whole = next(end for end in (both[-n:] for n in range(len(both), -1, -1)) if not end or places(row, end))
        assert (found.length, found.count) == (len(whole), len(places(row, whole)) if whole else 0)


def test_a_text_whose_last_token_is_nowhere_has_nothing(subject: Subject, corpus: Path):
    found = training_text(ask(subject, "The lamp was =", " lit"), corpus)
    assert found.context_length == found.context_count == found.answer_count == 0 and not found.following
    assert said(found) == ["Not even the last token of the text stands in the training text."]
    assert all(each.has_answer and not each.is_whole for each in found.passages)


def test_passages_with_another_continuation_are_shown_too(subject: Subject, corpus: Path):
    found = training_text(ask(subject, "And so ended day", " 3"), corpus)
    both = {each.has_answer for each in found.passages}
    assert both == {True, False}
    for each in found.passages:
        assert (
            each.after.startswith(" 3") or each.found.endswith(" 3")
            if each.has_answer
            else not each.after.startswith(" 3")
        )


def test_an_answer_of_several_tokens_is_looked_for_as_a_whole(subject: Subject, corpus: Path):
    found = training_text(ask(subject, "The lamp was", " lit at dusk, and the keeper"), corpus)
    assert found.quoted is not None and found.n_answer > 5 and found.length > found.n_answer
    nowhere = training_text(ask(subject, "The lamp was", " lit at dusk, and the silent bells"), corpus)
    assert nowhere.quoted is None and 0 < nowhere.length < nowhere.n_answer + 4


def test_models_and_corpora_that_do_not_fit_are_refused(
    subject: Subject, corpus: Path, dataset: Dataset, tmp_path: Path
):
    from tests.model.test_taps import both

    other = prepare([str(corpus.parent / "03.txt")], tmp_path / "bytes", PrepareOptions("byte")).dataset.folder
    with pytest.raises(InputError, match="another tokenizer than the model's"):
        training_text(ask(subject, "The lamp", " was"), other)
    with pytest.raises(InputError, match="is not a prepared corpus"):
        training_text(ask(subject, "The lamp", " was"), tmp_path)
    _, bart = both("bart", tmp_path)
    with pytest.raises(InputError, match="what a decoder predicts next"):
        training_text(ask(Subject(bart, subject.tokenizer), "The", 5), corpus)


@pytest.mark.parametrize("asked", ["no corpus", "another tokenizer", "neurons of an encoder"])
def test_what_cannot_be_had_is_refused_before_a_text_is_read(
    asked: str, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Or a minute passes first, on a real model."""
    read: list[int] = []
    named = {"data": tmp_path} if asked == "no corpus" else {}
    if asked == "another tokenizer":
        (tmp_path / "other.txt").write_text("Nothing of all that.\n" * 40)
        named = {"data": prepare([str(tmp_path / "other.txt")], tmp_path / "other").dataset.folder}
    if asked == "neurons of an encoder":
        monkeypatch.setattr(Subject, "predicts", "token")
        named = {"with_neurons": True}
    with pytest.raises(InputError):
        explain(subject, "The lamp was lit", on_pass=read.append, **named)  # pyright: ignore[reportArgumentType]
    assert not read


def test_influence_is_what_a_small_step_on_the_passage_does(subject: Subject, corpus: Path):
    row = ask(subject, "The lamp was", " lit", " read").rows[0]
    windows = [tokens_of(corpus)[at : at + 40] for at in (0, 500, 1500)]
    found = influences(subject, row, windows, [TrainingPoint(None, 0.5)])
    own = row.signs > 0

    @torch.no_grad()
    def moved(model: torch.nn.Module, gradients: tuple[torch.Tensor, ...], step: float) -> float:
        """log P of the answer after a step."""
        there = copy.deepcopy(model)
        for parameter, gradient in zip(there.parameters(), gradients, strict=True):
            parameter -= step * gradient
        log_p = there(row.reading.tokens)[0, row.places[own]].double().log_softmax(-1)
        return float(log_p.gather(1, row.answers[own][:, None]).sum())

    for window, each in zip(windows, found, strict=True):
        model, tokens = copy.deepcopy(subject.model).double(), torch.tensor([window])
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        slope = (moved(model, gradients, 1e-4) - moved(model, gradients, -1e-4)) / 2e-4
        assert each.value == pytest.approx(0.5 * slope, rel=0.02, abs=0.01)
        assert -1 <= each.similarity <= 1 and (each.similarity > 0) == (each.value > 0)


def test_folding_keeps_scalar_products_in_the_mean():
    torch.manual_seed(0)
    layer = torch.nn.Linear(40, 50, bias=False)
    x, y = torch.randn(2, 3, 40)
    losses = [lambda x=x: layer(x).square().sum(), lambda y=y: layer(y).sin().sum()]
    exact = [torch.autograd.grad(loss(), layer.weight)[0].flatten().double() for loss in losses]
    products = []
    for seed in range(200):
        signs = [2 * torch.randint(0, 2, (2000,), generator=torch.Generator().manual_seed(seed)).to(torch.int8) - 1]
        one, other = (folded_gradient(layer, loss(), signs, 64) for loss in losses)  # pyright: ignore[reportArgumentType]
        products.append(float(one @ other))
    spread = float(exact[0].norm() * exact[1].norm()) / 64**0.5
    assert sum(products) / 200 == pytest.approx(float(exact[0] @ exact[1]), abs=4 * spread / 200**0.5)
    assert torch.tensor(products).std() < 2 * spread
    whole = [torch.ones(2000, dtype=torch.int8)]
    torch.testing.assert_close(folded_gradient(layer, losses[0](), whole, 4096)[:2000], exact[0], rtol=1e-5, atol=1e-6)  # pyright: ignore


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dataclasses import replace

    out = tmp_path_factory.mktemp("run") / "run"
    pretrain(corpus, out, MODEL, replace(TRAINING, keep_every=4))
    return out


def test_a_run_names_its_checkpoints_with_their_rates_and_its_corpus(run: Path, corpus: Path, tmp_path: Path):
    points = training_points(run)
    assert len(points) >= 3 and all(each.folder is not None and 0 < each.rate <= 0.01 for each in points)
    assert corpus_of(run, read_run(run)) == corpus
    found = explain(str(run), "The lamp was", " lit", data=corpus, steps=2)
    whole = found.training
    assert whole is not None and all(each.influence is not None for each in whole.passages)
    subject = subject_of(run)
    alone = sum(
        influences(subject, ask(subject, "The lamp was", " lit").rows[0], [tokens_of(corpus)[:50]], [point])[0].value
        for point in points
    )
    together = influences(subject, ask(subject, "The lamp was", " lit").rows[0], [tokens_of(corpus)[:50]], points)
    assert together[0].value == pytest.approx(alone, rel=1e-5)
    assert training_points(tmp_path) == [TrainingPoint(None, 1.0)]


def test_a_corpus_that_went_or_changed_is_not_the_run_s(run: Path, corpus: Path, tmp_path: Path):
    tables = read_run(run)
    shutil.copytree(corpus, tmp_path / "copy")
    at = {**tables, "data": {**tables["data"], "folder": str(tmp_path / "copy")}}
    assert corpus_of(run, at) == tmp_path / "copy"
    assert corpus_of(run, {**at, "data": {**at["data"], "key": "another"}}) is None
    (tmp_path / "copy" / "train-00000.npy").unlink()
    assert corpus_of(run, at) is None, "damage of what nobody asked for stops nothing"
    assert corpus_of(run, {**at, "data": {**at["data"], "folder": str(tmp_path / "gone")}}) is None


def test_quantized_models_search_without_influence(subject: Subject, corpus: Path):
    model = copy.deepcopy(subject.model)
    quantize(model, 8)
    found = training_text(ask(Subject(model, subject.tokenizer), "The lamp was", " lit"), corpus)
    assert found.passages and all(each.influence is None for each in found.passages)


def test_page_and_json_have_what_was_found_and_hostile_text_runs_nothing(
    subject: Subject, corpus: Path, tmp_path: Path
):
    found = explain(subject, "The lamp was", " lit", data=corpus, steps=2)
    assert isinstance(found, Explanation) and found.training is not None
    data, page = found.data()["training_text"], found.page("m")
    assert json.dumps(data, allow_nan=False)
    assert [each["source"] for each in data["passages"]] == [each.source for each in found.training.passages]
    assert "stand word for word in" in page and f"{found.training.passages[0].character:,}" in page
    hostile = tmp_path / "<b>.txt"
    hostile.write_text("The lamp was </script><img src=x>\x07 lit. " * 30, encoding="utf-8")
    other = prepare([str(hostile)], tmp_path / "data", tokenizer=subject.tokenizer).dataset.folder
    page = explain(subject, "The lamp was", " </script><img", data=other, steps=2).page("m")
    assert "<img" not in page and "<b>." not in page and "\x07" not in page
