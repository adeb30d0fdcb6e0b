"""How well a tokenizer fits a text: bytes, characters and tokens per word, by language."""

from collections.abc import Iterable
from dataclasses import dataclass

from wenloom.text.documents import Document
from wenloom.tokens.tokenizer import TextTokenizer

PASSAGE = {
    "English": "The old lighthouse keeper wrote a letter every evening. In 1987 he stopped, and nobody knew why.",
    "Deutsch": "Der alte Leuchtturmwärter schrieb jeden Abend einen Brief. 1987 hörte er auf, und niemand wusste warum.",
    "Français": "Le vieux gardien du phare écrivait une lettre chaque soir. En 1987 il s'arrêta, et personne ne sut pourquoi.",
    "Español": "El viejo farero escribía una carta cada noche. En 1987 dejó de hacerlo, y nadie supo por qué.",
    "Türkçe": "Yaşlı fener bekçisi her akşam bir mektup yazardı. 1987'de bıraktı ve kimse nedenini bilmedi.",
    "Русский": "Старый смотритель маяка писал письмо каждый вечер. В 1987 году он перестал, и никто не знал почему.",
    "Ελληνικά": "Ο γέρος φαροφύλακας έγραφε ένα γράμμα κάθε βράδυ. Το 1987 σταμάτησε, και κανείς δεν ήξερε γιατί.",
    "العربية": "كان حارس المنارة العجوز يكتب رسالة كل مساء. في عام 1987 توقف، ولم يعرف أحد السبب.",
    "हिन्दी": "बूढ़ा प्रकाशस्तंभ रक्षक हर शाम एक पत्र लिखता था। 1987 में वह रुक गया, और किसी को पता नहीं चला क्यों।",
    "中文": "老灯塔看守人每天晚上写一封信。1987年他停笔了，没有人知道为什么。",
    "日本語": "年老いた灯台守は毎晩手紙を一通書いた。1987年に彼は書くのをやめ、誰もその理由を知らなかった。",
    "한국어": "늙은 등대지기는 매일 저녁 편지를 한 통 썼다. 1987년에 그는 멈추었고, 아무도 그 이유를 몰랐다.",
}
"""The same two sentences in twelve languages, written for this report."""


@dataclass(frozen=True)
class Fit:
    """Measures of one language."""

    language: str
    bytes: int
    characters: int
    words: int
    """Runs between white space; says little for languages that write none."""
    tokens: int
    unknown: int
    """Tokens that stand for something the vocabulary cannot express."""
    lossless: bool
    """Whether decoding gives the text back."""

    @property
    def bytes_per_token(self) -> float:
        """Higher is shorter text for the model."""
        return self.bytes / max(1, self.tokens)

    @property
    def characters_per_token(self) -> float:
        return self.characters / max(1, self.tokens)

    @property
    def tokens_per_word(self) -> float:
        """Fertility."""
        return self.tokens / max(1, self.words)


def measure(tokenizer: TextTokenizer, documents: Iterable[Document], language_field: str | None = None) -> list[Fit]:
    """Measure a tokenizer on documents.

    Args:
        documents: grouped by the row field `language_field` where given, else by file.
    """
    texts: dict[str, list[str]] = {}
    for document in documents:
        language = document.fields.get(language_field) if language_field else document.source.split(", ")[0]
        texts.setdefault(str(language), []).append(document.text)
    return [_fit(tokenizer, language, group) for language, group in texts.items()]


def measure_passage(tokenizer: TextTokenizer) -> list[Fit]:
    """Measure a tokenizer on the built-in passage."""
    return [_fit(tokenizer, language, [text]) for language, text in PASSAGE.items()]


def _fit(tokenizer: TextTokenizer, language: str, texts: list[str]) -> Fit:
    rows = tokenizer.encode_documents(texts)
    unknown = tokenizer.unk_token_id
    return Fit(
        language,
        bytes=sum(len(text.encode()) for text in texts),
        characters=sum(map(len, texts)),
        words=sum(len(text.split()) for text in texts),
        tokens=sum(map(len, rows)),
        unknown=sum(row.count(unknown) for row in rows) if unknown is not None else 0,
        lossless=all(tokenizer.decode(row) == text for row, text in zip(rows, texts, strict=True)),
    )
