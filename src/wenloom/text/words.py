"""Words of a text for rules that count them: parted as tokenizers of the field part them, in any script."""

import re
import unicodedata
from dataclasses import dataclass

from wenloom.text.languages import UNPARTED, Language

_PUNCTUATION = r"[©®™,:;!?¿؟¡()\[\]{}<>_#*&。？！，、；：～·।،۔؛٪]|\.\.+|…"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_CURRENCY = "$£€¥฿₽₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
_PREFIX = re.compile(rf"[§%=—–]|\+(?!\d)|{_PUNCTUATION}|[{re.escape(_QUOTES)}{_CURRENCY}]|''")
_SUFFIX = re.compile(
    rf"(?:{_PUNCTUATION}|[{re.escape(_QUOTES)}]|['’][sS]|[—–]|(?<=\d)(?:[+{_CURRENCY}]|%|km²?|km³|m²|m³|dm|cm|mm|kg|mg|GB|MB|KB|TB|kb|mb|gb|ha|K|M|g|m|t|T|G)"
    rf"|(?<=[\da-zß-öø-ÿа-яα-ω%²+\-'\"”“`‘´’»()\[\]{{}}<>_#*&,:;!?）])\.|(?<=[A-Z][A-Z])\.)$"
)
_INFIX = re.compile(
    r"\.\.+|…|(?<=\d)[+\-*^](?=[\d-])|(?<=[a-z'\"”’»])\.(?=[A-Z'\"“‘«])|(?<=[^\W\d_]),(?=[^\W\d_])"
    r"|(?<=[^\W_])(?:---?|——?|[-–—~])(?=[^\W\d_])|(?<=[^\W_])[:<>=/](?=[^\W\d_])"
)
_URL = re.compile(r"(?:https?://|www\.)\S*[\w/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_CONTRACTED = re.compile(
    r"((?:ai|are|ca|could|did|does|do|had|has|have|is|may|might|must|need|ought|sha|should|was|were|wo|would)n['’]t"
    r"|(?:i|you|he|she|it|we|they|who|what|that|this|there|how|when|where|why)['’](?:re|ve|ll|d|m)|cannot)",
    re.IGNORECASE,
)
_WHOLE = frozenset(
    "'s ’s :* a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. o'clock o’clock and/or w/o c/o a.m. p.m. e.g. i.e. U.S. U.K. D.C. vs. v.s. Mr. Mrs. Ms. Dr. St. Prof. Gen. Sen. Jr. Inc. Ltd. "
    "Co. Corp. Rep. Rev. Gov. Messrs. Mt. Bros. Adm. Ph.D. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. No.".split()
)
_UNPARTED = re.compile(f"[{UNPARTED}]")
_RUNS = re.compile(f"[{UNPARTED}]+|[^{UNPARTED}]+")
_MOST_KNOWN = 200_000
_known: dict[str, tuple[str, ...]] = {}
"""Stretches without blanks that were parted before: a text has few that are different."""


def tokens_of(text: str) -> list[str]:
    """Words, numbers and marks, as spaCy's rules for English part them: marks at the ends of a stretch without blanks, and some
    within it. In other languages that blanks part they serve as well; where they do not, a run of letters is one token.

    >>> tokens_of("I don't know 3.5 well-known U.S. cities...")
    ['I', 'do', "n't", 'know', '3.5', 'well', '-', 'known', 'U.S.', 'cities', '...']
    """
    if not text.isascii() and _UNPARTED.search(text):
        text = " ".join(_RUNS.findall(text))
    found = list[str]()
    for stretch in text.split():
        if stretch.isalpha() and stretch not in ("cannot", "Cannot"):
            found.append(stretch)
            continue
        parts = _known.get(stretch)
        if parts is None:
            parts = tuple(_parted(stretch)) if len(stretch) < 1000 else (stretch,)
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[stretch] = parts
        found += parts
    return found


def _parted(stretch: str) -> list[str]:
    before, after = list[str](), list[str]()
    while stretch and stretch not in _WHOLE:
        if _CONTRACTED.fullmatch(stretch):
            return [*before, *_uncontracted(stretch), *reversed(after)]
        if _URL.fullmatch(stretch):
            break
        if prefix := _PREFIX.match(stretch):
            before.append(prefix[0])
            stretch = stretch[prefix.end() :]
        elif suffix := _SUFFIX.search(stretch):
            after.append(suffix[0])
            stretch = stretch[: suffix.start()]
        else:
            break
    if stretch in _WHOLE or _URL.fullmatch(stretch):
        return [*before, stretch, *reversed(after)]
    at = 0
    for mark in _INFIX.finditer(stretch):
        before += [part for part in (stretch[at : mark.start()], mark[0]) if part]
        at = mark.end()
    return [*before, *([stretch[at:]] if stretch[at:] else []), *reversed(after)]


def _uncontracted(word: str) -> tuple[str, str]:
    if word.lower() == "cannot":
        return word[:3], word[3:]
    cut = len(word) - 3 if word[-1] in "tT" else max(word.rfind("'"), word.rfind("’"))
    return word[:cut], word[cut:]


@dataclass(frozen=True)
class Words:
    """The words of a text and what rules count of them.

    Where blanks do not part words a run of letters counts as so many words as it has characters, over the characters of a word.
    """

    tokens: list[str]
    """Words, numbers and marks, in order."""
    n_tokens: float
    """With marks; where blanks do not part words, without punctuation."""
    n_words: float
    """Without marks."""
    n_alphabetic: float
    """With a letter."""
    mean_length: float
    """Letters of a word, over those that blanks part; 0 where there are none."""


def words_of(text: str, rules: Language) -> Words:
    """Part a text.

    >>> from wenloom.text.languages import language
    >>> words_of("人人生而自由，在尊严上平等。", language("zh")).n_words
    7.5
    """
    tokens = tokens_of(text)
    if rules.per_word or (not text.isascii() and _UNPARTED.search(text)):
        return _weighed(tokens, rules.per_word or 1.6)
    words = [token for token in tokens if token[0].isalnum() or (len(token) > 1 and any(map(str.isalnum, token)))]
    n_letters = sum(map(len, words))
    n_alphabetic = sum(1 for word in words if word.isalpha() or (not word.isdecimal() and any(map(str.isalpha, word))))
    return Words(tokens, len(tokens), len(words), n_alphabetic, n_letters / len(words) if words else 0.0)


def _weighed(tokens: list[str], per_word: float) -> Words:
    n_tokens = n_words = n_alphabetic = 0.0
    n_letters = n_parted = 0
    for token in tokens:
        if _UNPARTED.match(token):
            weight = len(token) / per_word
            n_tokens, n_words, n_alphabetic = n_tokens + weight, n_words + weight, n_alphabetic + weight
            continue
        if all(unicodedata.category(each)[0] == "P" for each in token):
            continue  # marks are as many as words of two characters would be
        n_tokens += 1
        if any(map(str.isalnum, token)):
            n_words += 1
            n_parted += 1
            n_letters += len(token)
            n_alphabetic += any(map(str.isalpha, token))
    return Words(tokens, n_tokens, n_words, n_alphabetic, n_letters / n_parted if n_parted else 0.0)
