"""Words of groups, and texts that speak of the other group: grammar by hand, properties by generated texts, hostile files."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.text.group_axis import _longest_of  # pyright: ignore[reportPrivateUsage]
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
        # verbs of two objects, or of an object and what is said of it, in all their forms
        ("en", "They were giving her books.", None),
        ("en", "The court awarded her damages.", None),
        ("en", "He denied her entry.", None),
        ("en", "They considered her mother of the nation.", None),
        ("en", "It took her hours.", None),
        ("en", "It took her hand.", "It took his hand."),
        ("en", "I saw her crying.", None),
        ("en", "I saw her own son.", "I saw his own daughter."),
        ("en", "They told her he left.", "They told him she left."),
        ("en", "Of her first book, her many readers know.", "Of his first book, his many readers know."),
        ("en", "a friend of his from school", "a friend of hers from school"),
        ("en", "a friend of his who left", "a friend of hers who left"),
        ("en", "his in-laws and his own", "her in-laws and her own"),
        ("en", "It is his to keep; a ring of hers", "It is hers to keep; a ring of his"),
        ("en", "An uncle and a niece of an actress", "An aunt and a nephew of an actor"),
        ("en", "Sir Walter came.", None),
        ("en", "Yes, sir.", "Yes, madam."),
        ("en", "King George came.", None),
        ("en", "The king came.", "The queen came."),
        ("en", "The groom came.", "The bride came."),
        ("de", "Die Krankenschwester ist müde.", "Der Krankenpfleger ist müde."),
        ("de", "Der Krankenpfleger ist müde.", "Die Krankenpflegerin ist müde."),
        ("de", "Das Mädchen ist bei dem Jungen.", "Der Junge ist bei dem Mädchen."),
        ("de", "Das Mädchen schläft.", "Der Junge schläft."),
        ("de", "Für den Jungen ist es gut.", "Für das Mädchen ist es gut."),
        ("de", "Mit dem Mädchen ging er.", "Mit dem Jungen ging sie."),
        ("de", "Für die Studentin ist es gut.", "Für den Studenten ist es gut."),
        ("de", "Gestern sah ich den Studenten.", None),  # einen, oder viele
        ("de", "Die Arbeit der Lehrer", None),  # vieler
        ("de", "Die Frau, die dort steht, lacht.", None),  # die: auch das Fürwort
        ("de", "Der Mann, mit dem ich sprach, lacht.", None),
        ("de", "Frauen sprechen mit Frauen.", "Männer sprechen mit Männern."),
        ("de", "Die jungen Männer lachen.", "Die jungen Frauen lachen."),
        ("de", "Lehrerinnen und Lehrer lachen.", None),
        ("de", "Mit den Ärztinnen sprach Anna.", "Mit den Ärzten sprach Peter."),
        ("de", "Eine Bäuerin kommt.", "Ein Bauer kommt."),
    ],
)
def test_people_are_exchanged_as_grammar_asks_or_not_at_all(language: str, text: str, swapped: str | None):
    if text.startswith("Mrs."):
        swapped = "Mr. Smith and Mrs. Jones"
    assert LEXICONS[language].axes["gender"].swapped(text) == swapped


@pytest.mark.parametrize(
    "language, axis, text, found, swapped",
    [
        ("en", "origin", "A black dog ran to the White House.", [], None),
        ("en", "origin", "A Black woman met two white men.", ["Black woman", "white men"], "A White woman met two black men."),
        ("en", "origin", "an African American", ["an African American"], "a European American"),
        ("en", "origin", "of ebony; Todd", ["Todd"], "of ebony; Darnell"),
        ("en", "age", "the young company, the elderly dog", [], None),
        ("en", "age", "The young and the elderly.", ["The young", "the elderly"], "The elderly and the young."),
        ("en", "age", "an old man", ["an old man"], "a young man"),
        ("en", "age", "the young woman", ["young woman"], "the old woman"),
        ("en", "age", "an old article", [], None),
        ("en", "religion", "He lent me a pen.", [], None),
        ("en", "religion", "In Lent, Christian Bale met a Christian.", ["Lent", "Christian"], "In Ramadan, Christian Bale met a Muslim."),
        ("en", "religion", "an imam", ["an imam"], "a priest"),
        ("en", "gender", "to groom a dog; a john; man-made; Stephen King", [], None),
        ("en", "gender", "Mary met AN UNCLE.", ["Mary", "UNCLE"], "John met AN AUNT."),
        ("de", "gender", "Ich koche gern, und den jungen Bäumen geht es gut.", [], None),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_word_of_a_group_is_none(
    language: str, axis: str, text: str, found: list[str], swapped: str | None
):
    made = LEXICONS[language].axes[axis]
    assert [text[each.begin : each.end] for each in made.found(text)] == found
    if swapped is not None or not found:
        assert made.swapped(text) == swapped


def test_an_exchanged_text_says_where_its_words_stand():
    text = "Für den Jungen und seine Mutter war Anna eine Freundin."
    made = LEXICONS["de"].axes["gender"].exchanged("Für den Jungen ist es gut; er lacht.")
    assert made is not None and [made.text[begin:end] for begin, end in made.there] == ["das Mädchen", "sie"]
    assert LEXICONS["de"].axes["gender"].exchanged(text) is None


@given(st.lists(st.text("abñ", max_size=6), min_size=1, max_size=12, unique=True), st.text("abñ", max_size=12))
def test_the_pattern_of_many_words_finds_the_longest(words: list[str], text: str):
    words = sorted(filter(None, words)) or ["a"]
    found = re.match(f"(?s){_longest_of(words)}", text)
    longest = max((each for each in words if text.startswith(each)), key=len, default=None)
    assert (found.group() if found else None) == longest


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
        ("[axes.a]\nsides = ['x', 'y']\nrules = [{form = 'a', side = 0, to = 'b', elsewhere = 'no'}]\n", 'elsewhere is "unsure" or "other"'),
        ("[articles]\nvowel = '('\n[axes.a]\nsides = ['x', 'y']\npairs = [['a', 'b']]\n", "articles must have"),
        ("[axes.a]\nsides = ['x', 'y']\nplurals = [['a', 'b']]\n", "plurals must be lists of"),
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
