"""Models whose figures say unlike things stand side by side, with a sentence and without a test."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.cli.calling import succeed
from tests.conftest import random_decoder, tiny_config
from tests.fairness.test_audits import AUDITS, TRIPLES, data, figures, in_memory  # noqa: F401
from wenloom.checkpoint.folder import write_model_files
from wenloom.evaluation.signature import Signature
from wenloom.fairness.comparison import compared, told, unlike
from wenloom.fairness.report import is_sure, sentence_of_difference
from wenloom.tasks.fill_mask import masked_tokenizer
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer


@pytest.fixture
def models(tokenizer: TextTokenizer, texts: list[str], tmp_path: Path) -> Path:
    """A decoder, the same again, one with another vocabulary, and an encoder."""
    for name, own in (("one", tokenizer), ("same", tokenizer), ("other", train_tokenizer(texts, "bpe", 320))):
        (folder := tmp_path / name).mkdir()
        write_model_files(random_decoder(tiny_config(own.vocab_size, context_length=128)), folder)
        own.save_pretrained(folder)
    own, folder = masked_tokenizer(tokenizer), tmp_path / "masked"
    torch.manual_seed(0)
    transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=own.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=128, initializer_range=0.3)).save_pretrained(folder)  # fmt: skip
    own.save_pretrained(folder)
    (tmp_path / "text.txt").write_text("The old lamp was lit at dusk by the river.\n", "utf-8")
    return tmp_path


def test_what_is_not_alike_is_said_and_not_tested(models: Path, data: Path):  # noqa: F811
    asked = (
        "audit",
        "one",
        "same",
        "other",
        "masked",
        "--on",
        "crows_pairs,stereoset",
        "--text",
        "text.txt",
        "--data",
        data,
    )
    found: dict[str, Any] = json.loads(succeed(*asked, "--out", "page.html", "--json", cwd=models))
    tested = {(each["second"], each["suite"], each["measure"]) for each in found["comparisons"]}
    assert {second for second, _, _ in tested} == {"same", "other"}, (
        "pseudo-log-likelihoods are not tested against others"
    )
    assert ("same", "text text.txt", "perplexity") in tested and ("other", "text text.txt", "bits per byte") in tested
    assert ("other", "text text.txt", "perplexity") not in tested, "another vocabulary has other tokens"
    said = {(each["second"], each["suite"]): {gap["field"] for gap in each["differences"]} for each in found["unlike"]}
    assert said == {("other", "text text.txt"): {"tokens"}, ("masked", "crows_pairs"): {"scores"}, ("masked", "stereoset"): {"scores"},
                    ("masked", "text text.txt"): {"scores"}}  # fmt: skip
    assert not any(each["tested"] for each in found["unlike"])
    sentence = "scores is (not said) of one and masked of masked"
    table = " ".join(succeed(*asked, cwd=models).split())
    assert sentence in table and sentence in (models / "page.html").read_text("utf-8")
    assert "No paired test: crows_pairs, stereoset, text text.txt." in table
    assert "No paired test: text text.txt (nats per token)." in table


def test_another_precision_is_said_and_tested(tokenizer: TextTokenizer, data: Path):  # noqa: F811
    """As where one of the models is served: nobody knows in which numbers."""
    one = AUDITS["crows_pairs"].run(in_memory(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer), data)
    served = [
        replace(each, signature=Signature.parse(str(each.signature).replace("float32", "served")))
        for each in one.figures
    ]
    other = replace(one, figures=served)
    assert [row["difference"] for row in compared(one, other)] == [0, 0, 0, 0]
    (said,) = unlike(one, other)
    assert said.is_tested and told([said], "a", "b") == [
        "Not measured alike: dtype is float32 of a and served of b (the precision of the computation). "
        "Paired tests hold all the same: crows_pairs."
    ]


def test_a_difference_is_that_of_the_figures(tokenizer: TextTokenizer, data: Path):  # noqa: F811
    """StereoSet's means are taken by target first, and so is the difference of two models."""
    asked = [in_memory(random_decoder(tiny_config(tokenizer.vocab_size), seed), tokenizer) for seed in (0, 1)]
    one, other = (AUDITS["stereoset"].run(each, data) for each in asked)
    rows = compared(one, other)
    for row in rows:
        before, after = (figures(each)["ss", "mean", str(row["group"])].value for each in (one, other))
        assert row["difference"] == pytest.approx(after - before)
    targets = [each["target"] for each in TRIPLES]
    assert len(set(np.unique(targets, return_counts=True)[1])) > 1, "of targets with unlike many sentences"


def test_of_few_samples_no_difference_is_said():
    """Six of six may give p below 5 %, as six of six heads do."""
    few = {"n": 6, "p_holm": 0.031, "unit": "bits", "measure": "gap"}
    assert not is_sure(few) and sentence_of_difference(few) == "too few to say"
    assert sentence_of_difference({**few, "n": 10}) == "a difference"
    assert sentence_of_difference({**few, "n": 10, "p_holm": 0.05}) == "no significant difference"
