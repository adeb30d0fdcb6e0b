"""What differs between languages for rules about text: words, their length, frequent ones, and how sentences end."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

_PER_WORD = (
    ("zh", "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff", 1.6),
    ("ja", "\u3040-\u30ff\u31f0-\u31ff", 2.0),
    ("th", "\u0e00-\u0e7f", 4.5),
    ("lo", "\u0e80-\u0eff", 4.5),
    ("bo", "\u0f00-\u0fff", 4.0),
    ("my", "\u1000-\u109f\uaa60-\uaa7f", 5.0),
    ("km", "\u1780-\u17ff", 5.0),
)
"""Scripts that do not part words by blanks, and about how many characters a word has: 1.6 in modern Chinese (jieba on web text),
4.5 letters and marks in Thai."""
UNPARTED = "".join(letters for _, letters, _ in _PER_WORD)
_SCRIPTS = [(code, re.compile(f"[{letters}]")) for code, letters, _ in _PER_WORD]
_SCRIPTS += [(code, re.compile(f"[{letters}]")) for code, letters in
             (("ko", "\u1100-\u11ff\uac00-\ud7af"), ("el", "\u0370-\u03ff\u1f00-\u1fff"), ("he", "\u0590-\u05ff"), ("hy", "\u0530-\u058f"),
              ("ka", "\u10a0-\u10ff"), ("ta", "\u0b80-\u0bff"), ("te", "\u0c00-\u0c7f"), ("kn", "\u0c80-\u0cff"), ("ml", "\u0d00-\u0d7f"),
              ("gu", "\u0a80-\u0aff"), ("pa", "\u0a00-\u0a7f"), ("bn", "\u0980-\u09ff"), ("am", "\u1200-\u137f"))]  # fmt: skip
SCRIPT_CODES = frozenset(code for code, _ in _SCRIPTS)
"""Of languages that their script tells."""
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Language:
    """What rules need to know of a language."""

    code: str
    """ISO 639-1; `und` where it is not known."""
    mean_word: tuple[float, float] = (2.0, 15.0)
    """Letters that words have on average, least and most. Gopher's 3 to 10 are English: compounds are longer."""
    stop_words: frozenset[str] = frozenset()
    """Frequent words, of which some stand in any text of some length; none: that rule does not apply."""
    per_word: float = 0.0
    """Characters of a word, where blanks do not part words; else 0."""
    has_sentence_ends: bool = True
    """Whether sentences end in a mark: Thai and Lao ones do not."""
    short_line: int = 30
    """Characters up to which a line is short, by FineWeb's rule; what 30 characters of English say takes fewer elsewhere."""


_STOP_WORDS = {
    "en": "the be to of and that have with",
    "de": "der die das und in zu den von mit ist nicht des auf für im dem ein eine",
    "fr": "le la les de et des en un une du que est pour dans il à",
    "es": "el la de que y en un los se del las por una con no es",
    "it": "di e il la che in un a per del una le i si è non",
    "pt": "de a o que e do da em um para com não uma os no se",
    "nl": "de van het een en in is dat op te zijn met voor niet die",
    "sv": "och i att det som en på är av för med den till inte ett",
    "da": "og i at det er en til af den for på med de som ikke et",
    "no": "og i det er en til av på for å som med den ikke et har",
    "pl": "i w na z do się nie że o jest to jak za po od przez",
    "cs": "a v se na je že s z do o i to k za pro jako",
    "ru": "и в не на что с по это как к из у за от о но для",
    "uk": "і в не на що з до та це як у за від про але для",
    "tr": "ve bir bu da de için ile o ne çok gibi daha en olarak her",
    "ar": "في من على إلى أن لا ما هذا أو عن مع كل التي الذي بين و",
    "fa": "و در به از که این را با است برای آن یک تا بر هر",
    "hi": "के में की है और से को का एक यह पर नहीं भी हैं कि",
    "vi": "và của là có không được các cho một trong với người những này để",
    "id": "yang dan di untuk dengan dari ini itu pada tidak dalam adalah ke atau",
    "zh": "的 是 不 了 在 有 人 这 這 我 一 和 之 以 而 其 为 為 也 者 与 與 于 於",
    "ja": "の に は を た が で て と し れ さ る い も な",
    "th": "การ และ ที่ ใน ของ เป็น มี ได้ จะ ไม่ ให้ ว่า",
}
_OTHERWISE = {
    "en": {"mean_word": (3.0, 10.0)},
    "vi": {"mean_word": (2.0, 10.0)},
    "ko": {"mean_word": (1.0, 10.0), "short_line": 20},
    "zh": {"short_line": 10},
    "ja": {"short_line": 12},
    **{code: {"has_sentence_ends": False, "short_line": 25} for code in ("th", "lo", "bo")},
}
NAMES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch", "sv": "Swedish",
    "da": "Danish", "no": "Norwegian", "pl": "Polish", "cs": "Czech", "ru": "Russian", "uk": "Ukrainian", "tr": "Turkish", "ar": "Arabic",
    "fa": "Persian", "hi": "Hindi", "vi": "Vietnamese", "id": "Indonesian", "zh": "Chinese", "ja": "Japanese", "th": "Thai", "ko": "Korean",
    "af": "Afrikaans", "am": "Amharic", "an": "Aragonese", "as": "Assamese", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian",
    "bn": "Bengali", "bo": "Tibetan", "br": "Breton", "bs": "Bosnian", "ca": "Catalan", "cy": "Welsh", "dz": "Dzongkha", "el": "Greek",
    "eo": "Esperanto", "et": "Estonian", "eu": "Basque", "fi": "Finnish", "fo": "Faroese", "ga": "Irish", "gl": "Galician",
    "gu": "Gujarati", "he": "Hebrew", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian", "hy": "Armenian", "is": "Icelandic",
    "jv": "Javanese", "ka": "Georgian", "kk": "Kazakh", "km": "Khmer", "kn": "Kannada", "ku": "Kurdish", "ky": "Kyrgyz", "la": "Latin",
    "lb": "Luxembourgish", "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mg": "Malagasy", "mk": "Macedonian", "ml": "Malayalam",
    "mn": "Mongolian", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Burmese", "nb": "Norwegian Bokmål", "ne": "Nepali",
    "nn": "Norwegian Nynorsk", "oc": "Occitan", "or": "Odia", "pa": "Punjabi", "ps": "Pashto", "qu": "Quechua", "ro": "Romanian",
    "rw": "Kinyarwanda", "se": "Northern Sami", "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian", "sr": "Serbian",
    "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "tl": "Tagalog", "ug": "Uyghur", "ur": "Urdu", "vo": "Volapük", "wa": "Walloon",
    "xh": "Xhosa", "zu": "Zulu",
    "fy": "West Frisian", "gd": "Scottish Gaelic", "ha": "Hausa", "ig": "Igbo", "lg": "Ganda", "ln": "Lingala", "om": "Oromo",
    "sa": "Sanskrit", "so": "Somali", "uz": "Uzbek", "yo": "Yoruba", "zxx": "no language", "ace": "Acehnese", "bcl": "Central Bikol",
    "ext": "Extremaduran", "gcf": "Guadeloupean Creole", "gom": "Goan Konkani", "grc": "Ancient Greek", "gug": "Paraguayan Guarani",
    "hbo": "Ancient Hebrew", "kik": "Kikuyu", "nso": "Northern Sotho", "pcm": "Nigerian Pidgin", "sn": "Shona", "st": "Southern Sotho",
    "ary": "Moroccan Arabic", "crh": "Crimean Tatar", "fuv": "Nigerian Fulfulde", "gcr": "Guianese Creole", "guw": "Gun", "kab": "Kabyle",
    "lij": "Ligurian", "ltg": "Latgalian", "uzs": "Southern Uzbek", "sdh": "Southern Kurdish", "arz": "Egyptian Arabic", "ba": "Bashkir",
    "tg": "Tajik", "tk": "Turkmen", "tt": "Tatar", "vec": "Venetian", "wuu": "Wu Chinese", "yue": "Cantonese",
    "und": "unknown language",
}  # fmt: skip


@cache
def language(code: str) -> Language:
    """The rules of a language; of one that is not listed, those that hold in most.

    >>> language("en").mean_word, language("zh").per_word, language("fi").stop_words
    ((3.0, 10.0), 1.6, frozenset())
    """
    code = {"nb": "no", "nn": "no"}.get(code, code)
    per_word = next((size for each, _, size in _PER_WORD if each == code), 0.0)
    return Language(code, stop_words=frozenset(_STOP_WORDS.get(code, "").split()), per_word=per_word,
                    **_OTHERWISE.get(code, {}))  # fmt: skip


def named(code: str) -> str:
    """A language in words, as far as it is listed."""
    return NAMES.get(code, code)


def by_script(text: str, looked_at: int = 2000) -> str | None:
    """The language that the script tells, where more than half of the first letters are of one that tells it.

    Chinese characters beside kana are Japanese: one kana in ten letters is enough.

    >>> by_script("人人生而自由"), by_script("すべての人間は、生まれながらにして自由"), by_script("The lamp"), by_script("한국어")
    ('zh', 'ja', None, 'ko')
    """
    if text.isascii():
        return None
    letters = _LETTER.findall(text[: 4 * looked_at])[:looked_at]
    if not letters:
        return None
    joined = "".join(letters)
    counts = Counter({code: len(pattern.findall(joined)) for code, pattern in _SCRIPTS})
    if counts["ja"] > 0.1 * len(letters):
        counts["ja"] += counts.pop("zh", 0)
    code, count = counts.most_common(1)[0]
    return code if count > 0.5 * len(letters) else None
