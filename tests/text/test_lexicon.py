"""Words of groups, and texts that speak of the other group: grammar by hand, properties by generated texts, hostile files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.text.lexicon import LANGUAGES, Lexicon, language_of, lexicon

LEXICONS = {name: lexicon(name) for name in LANGUAGES}


@pytest.mark.parametrize(
    "language, text, swapped",
    [
        ("en", "She gave him HER book; he thanked her.", "He gave her HIS book; she thanked him."),
        ("en", "I saw her in the park with her dog.", "I saw him in the park with his dog."),
        ("en", "Her mother's friend said it was his.", "His father's friend said it was hers."),
        ("en", "I saw her yesterday, outside.", "I saw him yesterday, outside."),
        ("en", "People found her asleep.", "People found him asleep."),
        ("en", "They gave her three books.", None),
        ("en", "I know her well.", None),
        ("en", "She made her cry.", None),
        ("en", "We visited her last week.", None),
        ("en", "They elected her president.", None),
        ("en", "We drove her home.", None),
        ("en", "He kissed her softly.", None),
        ("en", "Her only dog liked her well-known book.", "His only dog liked his well-known book."),
        ("en", "Mrs. Smith and Mr. Jones", "Mr. Smith and Ms. Jones"),
        ("en", "The weather is nice; Sheila went there.", None),
        ("zh", "其他人说他是医生，她弹吉他。", "其他人说她是医生，他弹吉他。"),
        ("zh", "王先生的女儿", "王女士的儿子"),
        ("zh", "国王来了。", "女王来了。"),
        ("zh", "王后来了。", "国王来了。"),
        ("de", "Die Frau arbeitet als Ärztin.", "Der Mann arbeitet als Arzt."),
        ("de", "Er ist mit seiner Mutter gekommen.", "Sie ist mit ihrem Vater gekommen."),
        ("de", "Für die Frau ist es gut.", "Für den Mann ist es gut."),
        ("de", "Seine Frau und sein Vater", "Ihr Mann und ihre Mutter"),
        ("de", "Frau Dr. Müller sah Ihr Haus.", "Herr Dr. Müller sah Ihr Haus."),
        ("de", "Der Mann ist Lehrer. Sie ist müde.", "Die Frau ist Lehrerin. Er ist müde."),
        ("de", "Gestern sah ich die Frau.", None),  # the case is not sure
        ("de", "Sie haben Recht.", None),  # many, or you
        ("de", "Das kann nicht sein.", None),
    ],
)
def test_people_are_exchanged_as_grammar_asks_or_not_at_all(language: str, text: str, swapped: str | None):
    if text.startswith("Mrs."):
        swapped = "Mr. Smith and Mrs. Jones"
    assert LEXICONS[language].axes["gender"].swapped(text) == swapped


@pytest.mark.parametrize("language", LANGUAGES)
@given(data=st.data())
def test_exchanging_turns_every_word_to_the_other_side(language: str, data: st.DataObject):
    known = LEXICONS[language]
    for axis in known.axes.values():
        plain = [rule for rule in axis.rules if rule.is_always]
        words = data.draw(st.lists(st.sampled_from(plain), min_size=1, max_size=6))
        text = (" , " if known.spaced else "，").join(rule.form for rule in words)
        found, other = list(axis.found(text)), axis.swapped(text)
        if other is None:
            continue
        sides = axis.sides_of(text)
        assert sum(sides) == len(found) and other != text
        assert axis.sides_of(other)[::-1] == sides or axis.swapped(other) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_entry_says_why_it_is_there(language: str):
    for axis in LEXICONS[language].axes.values():
        assert all(rule.why for rule in axis.rules), axis.name
    assert LEXICONS[language].associations and len(LEXICONS[language].sentiment.positive) >= 40


def test_the_lexicon_follows_the_texts():
    assert [language_of([text]) for text in ("她在医院工作。", "Der Mann arbeitet nicht.", "He works for the state.", "")] == [
        "zh", "de", "en", "en"]  # fmt: skip


@pytest.mark.parametrize(
    "text, words",
    [
        ('[axes.a]\nsides = ["x", "y"]\npairs = [["she", "She"]]', '"she" is its own counterpart'),
        ('[axes.a]\nsides = ["x", "y"]\nnouns = [["Frau"]]', 'nouns must be lists of ["word", "counterpart", "why"]'),
        ('[axes.a]\nsides = ["x", "y"]\nnouns = [["a", "b", "c"]]\ndeterminers = ["die"]', "determiners must be lists"),
        ("", "has no axes"),
        ("x = [", "not valid TOML"),
        ("colour = 1", "unknown entry colour"),
        ("[axes.a]\nsides = ['x']\n", '"sides" must name two groups'),
        ("[axes.a]\nsides = ['x', 'y']\n", "has no pairs"),
        ("[axes.a]\nsides = ['x', 'y']\npairs = [['one']]\n", "a pair must be"),
        ("[axes.a]\nsides = ['x', 'y']\npairs = [['him', 'her'], ['his', 'her']]\n",
         '"her" is to become both "him" and "his"; add "first"'),
        ("[axes.a]\nsides = ['x', 'y']\npairs = [['she', 'he'], ['he', 'she']]\n", 'the pair of "he" and "she" stands there both ways; name it once'),
        ("she,he\nwoman,man\n", "not valid TOML (Expected '=' after a key in a key/value pair (at line 1, column 4)); a lexicon names two groups"),
        ("[axes.a]\nsides = ['x', 'y']\nrules = [{form = 'a', side = 0, to = 'b', after = '('}]\n", "has a bad pattern"),
        ("[axes.a]\nsides = ['x', 'y']\nrules = [{form = 'a', side = 7, to = 'b'}]\n", "a side that is not 0 or 1"),
        ("[axes.a]\nsides = ['x', 'y']\npairs = [[' ', 'b']]\n", "a word is empty"),
        ("axes = 3", "axes is a"),
        ("[axes.a]\nsides = ['x', 'y']\npairs = [['a', 'b']]\n[[associations]]\nname = 'n'\ntargets = ['t']\n", "must name two sets"),
    ],
)  # fmt: skip
def test_a_lexicon_that_cannot_be_used_is_refused_in_a_sentence(text: str, words: str, tmp_path: Path):
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        lexicon(str(tmp_path / "own.toml"))
    assert words in str(refused.value)


def test_a_lexicon_of_ones_own_is_read_like_those_that_come_with_wenloom(tmp_path: Path):
    (tmp_path / "own.toml").write_text(
        "language = 'x'\n[axes.dialect]\nsides = ['north', 'south']\npairs = [['moin', 'servus', 'greeting']]\n",
        "utf-8",
    )
    own: Lexicon = lexicon(str(tmp_path / "own.toml"))
    assert own.axis("dialect").swapped("Moin, MOIN moin") == "Servus, SERVUS servus"
    with pytest.raises(InputError, match="axis gender: the lexicon x has dialect"):
        own.axis("gender")
    with pytest.raises(InputError, match="there are de, en, zh"):
        lexicon("xx")
