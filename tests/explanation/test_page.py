"""The page of an explanation: its numbers are those of the objects, any text is shown as it is, and it stays small."""

import base64
import html
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import random_decoder, tiny_config
from tests.model.test_taps import both
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.explanation.explanation import Explanation, explain
from wenloom.explanation.page import MOST_BYTES, attention_data, units_of
from wenloom.explanation.subject import Reading, Subject
from wenloom.explanation.trace import Trace
from wenloom.model.build import with_classes
from wenloom.tokens.tokenizer import TextTokenizer

from ..browser import dom, needs_chromium

HOSTILE = "</script><img src=x>\x00\x1b[31m 月光 مرحبا <b>"


@pytest.fixture(scope="module")
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size, context_length=256)), tokenizer)


@pytest.fixture(scope="module")
def found(subject: Subject) -> Explanation:
    return explain(subject, "The lamp was lit at dusk", " and", " or", corrupted="The lamp was lit at dust", steps=8)


def data_of(page: str) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])


def test_the_page_and_the_json_have_the_numbers_of_the_objects(found: Explanation, subject: Subject):
    data, page = found.data(), data_of(found.page("m"))
    assert data["value"] == pytest.approx(found.attributions[0].value)
    for each, shown in zip(found.attributions, page["methods"], strict=True):
        assert shown["scores"] == pytest.approx(each.scores.tolist(), rel=1e-4, abs=1e-9)
        assert shown["error"] == each.error
    assert data["patching"]["effects"] == found.patching.effects.tolist()  # pyright: ignore[reportOptionalMemberAccess]
    assert sum(data["contributions"].values()) == pytest.approx(found.contributions.logit, abs=1e-4)  # pyright: ignore
    lens, pieces = page["lens"], page["lens"]["pieces"]
    best = found.trace.logits[0].argmax(-1).tolist()
    assert [pieces[row[0]] for row in lens["top"][-1]] == [subject.piece(token) for token in best]
    assert json.dumps(data, allow_nan=False)


def test_patterns_can_be_read_back(found: Explanation):
    packed = attention_data(found.trace)
    values = np.frombuffer(zlib.decompress(base64.b64decode(packed["packed"])), np.uint8) / packed["levels"]
    T = packed["tokens"]
    lower = np.tril(np.ones((T, T), dtype=bool))
    for layer in range(2):
        expected = found.trace[f"blocks.{layer}.attention.pattern"][0].numpy()[:, lower]
        shown = values.reshape(2, 4, -1)[layer]
        assert np.abs(shown - expected).max() <= 0.5 / packed["levels"] + 1e-6


def test_patterns_of_the_largest_page_keep_to_their_bytes():
    """200 tokens, 12 blocks and 12 heads of patterns that no compression helps with."""
    subject = Subject(random_decoder(tiny_config()), None)  # pyright: ignore[reportArgumentType]
    config = subject.model.config.__class__(
        **{**subject.model.config.__dict__, "n_layers": 12, "n_heads": 12, "n_kv_heads": 12}
    )
    subject.model.config = config
    trace = Trace(subject, Reading(torch.zeros(1, 200, dtype=torch.long), 200))
    noise = torch.rand(1, 12, 200, 200, generator=torch.Generator().manual_seed(0)).tril()
    trace.__dict__["_tensors"] = {f"blocks.{layer}.attention.pattern": noise for layer in range(12)}
    packed = attention_data(trace)
    assert 0 < len(packed["packed"]) <= MOST_BYTES and packed["layers"] == packed["heads"] == 12


def test_any_text_is_shown_as_it_is_and_runs_nothing(subject: Subject):
    page = explain(subject, HOSTILE * 2, steps=2).page("<b>m")
    assert "<img" not in page and "<b>m" not in page and "\x00" not in page and "\x1b" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"fetch\(|import\(|@import|url\(.?http", page)
    shown = html.unescape(
        re.sub("<[^>]*>", "", page.split('<div class="text" dir="auto">')[1].split('<span class="soft"> → ')[0])
    )
    assert shown == (HOSTILE * 2).replace("\x00", "␀").replace("\x1b", "␛")
    assert data_of(page)["explanation"]["text"] == HOSTILE * 2


def test_tokens_of_one_character_are_shown_together(subject: Subject):
    ids = subject.tokenizer.encode("é 龘 x")
    units = units_of(subject, ids)
    assert "".join(each.text for each in units) == "é 龘 x"
    assert [each.first for each in units] == [0, *(each.last + 1 for each in units[:-1])] and units[-1].last == len(
        ids
    ) - 1


def test_integrated_gradients_lead_only_where_they_are_complete(found: Explanation, tokenizer: TextTokenizer):
    gpt = Subject(random_decoder(tiny_config(tokenizer.vocab_size, "gpt2")), tokenizer)
    assert explain(gpt, "The lamp", 40).leading == 0
    first = found.attributions[0]
    assert (found.leading == 0) == (first.error is not None and first.error <= 0.05)


def test_more_than_can_be_shown_is_refused_before_anything_is_read(subject: Subject):
    with pytest.raises(InputError, match=r"has 5,\d+ tokens; all of this is measured of at most 512"):
        explain(Subject(random_decoder(tiny_config(400, context_length=8192)), subject.tokenizer), "2 " * 5000)


def test_progress_counts_what_is_read(subject: Subject):
    told: list[int] = []
    explain(subject, "2 + 2 =", "4", corrupted="2 + 3 =", steps=5, on_pass=told.append)
    n_tokens, n_layers = len(subject.tokenizer.encode("2 + 2 =")), subject.stack.config.n_layers
    assert sum(told) == 5 + 1 + n_tokens + n_layers * n_tokens, "the path, a gradient, occlusion, patching"


def test_a_word_is_meant_as_it_is_more_probable(subject: Subject):
    one = explain(subject, "The lamp", "was", steps=1)
    spelled = {each: explain(subject, "The lamp", each, steps=1).log_probability for each in (" was",)}
    assert one.inquiry.target in ("was", " was") and one.log_probability >= spelled[" was"] - 1e-9


def test_labels_translations_and_fillings_have_what_applies_to_them(tokenizer: TextTokenizer, tmp_path: Path):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, "gpt2"))
    classifier = Subject(with_classes(decoder, ("dull", "fine"), generator(0, "test")).eval(), tokenizer)
    label = explain(classifier, "The lamp was lit", "fine", "dull", steps=4)
    assert label.lens is None and label.contributions is None and len(label.attributions) == 4
    _, bart = both("bart", tmp_path)
    few = TextTokenizer.from_pretrained(_letters(tmp_path / "letters"))
    pairs = explain(Subject(bart, few), "abc", "de", steps=4)
    assert pairs.attributions[0].n_source == 3 and pairs.contributions is not None and pairs.lens is not None
    assert len(pairs.attributions) == 4
    for each in (label, pairs):
        assert data_of(each.page())["explanation"]["target"] == each.inquiry.target
        assert "srcdoc" in each._repr_html_()
    carried = explain(Subject(bart, few), "abc", "de", corrupted="abd", steps=4)
    assert carried.patching is not None and carried.patching.effects.shape == (2, 3)
    assert "Where the difference is carried" in carried.page()


def _letters(folder: Path) -> Path:
    from wenloom.tokens.train import train_tokenizer

    train_tokenizer(["abcdefgh"], "char", 11).save_pretrained(folder)
    return folder


@needs_chromium
def test_it_can_be_read_by_keys_and_pointer(found: Explanation, tmp_path: Path):
    script = """setTimeout(() => {
      const text = document.querySelector(".text"), id = name => document.getElementById(name).textContent;
      const press = (place, key) => place.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true, bubbles: true }));
      press(text, "Home"); press(text, "ArrowRight");
      const said = id("said"), where = id("where"), rows = document.querySelectorAll("#blocks tr").length;
      press(document.getElementById("maps"), "ArrowRight");
      const which = id("which"), large = document.getElementById("large");
      press(large, "ArrowDown"); press(large, "ArrowRight");
      const cell = id("cell"), maps = document.querySelectorAll("#maps canvas").length, method = document.getElementById("method");
      method.value = "3"; method.dispatchEvent(new Event("change"));
      document.body.replaceChildren(JSON.stringify({ said, where, rows, which, cell, maps, note: id("note") }));
    }, 700);"""
    shown = json.loads(
        html.unescape(re.findall(r"<body>(.*)</body>", dom(found.page("m"), tmp_path, script), re.DOTALL)[0])
    )
    first = found.attributions[0]
    assert f"integrated gradients {float(f'{float(first.scores[1]):.3g}'):g}" in shown["said"] and shown["rows"] == 2
    assert shown["maps"] == 8 and shown["which"] == "Block 1, head 1" and "token 2" in shown["where"]
    assert shown["note"].startswith("attention rollout: ")
    weight = float(found.trace["blocks.1.attention.pattern"][0, 1, 2, 1])
    assert abs(float(shown["cell"].rsplit(": ", 1)[1]) - weight) < 0.01
