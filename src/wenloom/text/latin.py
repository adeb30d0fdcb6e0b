"""Which encoding of one byte a text in Latin letters has: told by the letters and frequent words of languages."""

import re
from collections.abc import Iterator
from functools import cache

from wenloom.text.languages import language

_ENCODINGS = (
    (("cp1252", "iso8859_15"), ("mac_roman", "cp850"), {
        "fr": "àâæçéèêëîïôœùûüÿ", "de": "äöüßé", "es": "áéíñóúü", "pt": "áâãàçéêíóôõúü", "it": "àèéìíîòóùú", "nl": "áèéëêïíóöüú",
        "sv": "åäöéàü", "da": "æøåéôü", "no": "æøåéòóôà", "fi": "äöåšž", "is": "áéíóúýðþæö", "ca": "àçèéíïòóúü", "et": "äöõüšž",
        "en": "éèêëïöçñà",
    }),
    (("cp1250", "iso8859_2"), ("cp852",), {
        "pl": "ąćęłńóśźż", "cs": "áčďéěíňóřšťúůýž", "sk": "áäčďéíĺľňóôŕšťúýž", "hu": "áéíóöőúüű", "hr": "čćđšž", "sl": "čšž",
        "ro": "ăâîşţ", "sq": "ëç",
    }),
    (("cp1257",), (), {"lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž", "et": "äöõüšž"}),
    (("cp1254",), (), {"tr": "çğıöşüâîûi̇"}),
)  # fmt: skip
"""Encodings, those of DOS and of old Macs, which are looked at where no other will do, and the languages written in them with their
letters beyond ASCII. Those of the West stand first: they are the ones where nothing else decides."""
_FREQUENT = {
    "fi": "ja on ei se että hän oli ovat mutta kun myös", "is": "og að í er sem á til var ekki við um", "ca": "de la el que i els les per en amb una és no",
    "et": "ja on ei et see ta oli kui ka mis", "sk": "a v sa na je že s z do o i k za pre ako nie", "hu": "a az és hogy nem is egy van de meg volt csak",
    "hr": "i u je se na da za od su s o a ne što koji", "sl": "in je v na da se za so ki ne pa z", "ro": "de şi în la cu pe nu că o un din este a care",
    "sq": "të e në dhe i një për me është që nuk", "lt": "ir kad su į iš yra tai ne bet o jis", "lv": "un ir ar no uz par ka tas bet",
}  # fmt: skip
"""Words of languages that `languages` does not list."""
_HIGH, _WORD = re.compile(r"[^\x00-\x7f]"), re.compile(r"[^\W\d_]+")
_SIGNS = frozenset("«»‹›„“”‚‘’–—…•·°§€£©®™ªº¿¡½¼¾²³×÷±´¨\xa0\xad")
_WITHIN = frozenset("’·ªº²³\xad\xa0")
"""Signs that stand between letters."""


def latin_encoding(data: bytes) -> str | None:
    """The encoding in which bytes read as a language that is written with it, every letter one of its own; of several the one whose
    frequent words are there most often. None: there is none, as in other scripts.

    >>> [latin_encoding(text.encode(code)) for text, code in (
    ...     ("Où est passé le garçon ?", "latin-1"), ("Gdzie jest żółty dom?", "cp1250"), ("Gdzie jest żółty dom, miś?", "iso8859-2"))]
    ['cp1252', 'cp1250', 'iso8859_2']
    """
    n_high = sum(byte > 127 for byte in data)
    if not n_high or n_high > 0.4 * sum(byte > 64 for byte in data):
        return None
    for is_old in (False, True):
        if found := [(-score, place, encoding) for place, (encoding, score) in enumerate(_readings(data, is_old))]:
            return min(found)[2]
    return None


def _readings(data: bytes, is_old: bool) -> Iterator[tuple[str, float]]:
    """Encodings that may be the one, and the part of the words that are frequent in the language."""
    for *encodings, alphabets in _ENCODINGS:
        for encoding in encodings[is_old]:
            text = data.decode(encoding, "replace")
            used = _used(text)
            if used is None:
                continue
            words = [word.lower() for word in _WORD.findall(text)]
            for code, letters in alphabets.items():
                if used <= set(letters):
                    yield encoding, sum(word in _frequent(code) for word in words) / max(1, len(words))


def _used(text: str) -> set[str] | None:
    """The letters beyond ASCII of a text; None: it has signs that no text has, or where none has them."""
    used = set[str]()
    for match in _HIGH.finditer(text):
        at, each = match.start(), match[0]
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if each.isalpha() and each not in _SIGNS:
            if each.isupper() and before.islower():
                return None
            used.add(each.lower())
        elif each not in _SIGNS or (each not in _WITHIN and before.isalpha() and after.isalpha()):
            return None
    return used


@cache
def _frequent(code: str) -> frozenset[str]:
    return language(code).stop_words or frozenset(_FREQUENT.get(code, "").split())
