"""Normalisation, de-duplication and the split."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from wenloom.text.clean import normalize
from wenloom.text.digest import content_hash
from wenloom.text.split import is_validation


@given(st.text())
def test_normalize_is_idempotent_and_keeps_compatibility_ideographs(text: str):
    once = normalize(text)
    assert normalize(once) == once
    assert "\r" not in once and "\ufeff" not in once
    kept = [char for char in text if "\uf900" <= char <= "\ufaff"]
    assert [char for char in once if "\uf900" <= char <= "\ufaff"] == kept


@given(st.text(st.characters(max_codepoint=0x2FFF)))
def test_normalize_is_nfc(text: str):
    assert unicodedata.is_normalized("NFC", normalize(text))


def test_composed_and_decomposed_letters_become_one():
    assert normalize("Ko\u0308ln\r\nZu\u0308rich\r") == "Köln\nZürich\n"


@given(st.lists(st.text(min_size=1), min_size=1), st.floats(0.01, 0.5))
def test_a_document_keeps_its_side_when_the_corpus_grows(texts: list[str], fraction: float):
    side = {text: is_validation(content_hash(text), fraction) for text in texts}
    assert all(is_validation(content_hash(text), fraction) == side[text] for text in reversed(texts))
    assert all(is_validation(content_hash(text), 0.5) for text, validates in side.items() if validates)


def test_the_fraction_is_kept_on_average():
    hits = sum(is_validation(content_hash(str(number)), 0.1) for number in range(20_000))
    assert abs(hits / 20_000 - 0.1) < 0.01
