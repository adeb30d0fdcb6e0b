"""Written text as a speech recogniser writes it: sentences of bare words."""

import re
from collections.abc import Iterator

_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "prof": "professor"}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+(?=[\"'“‘(\[*_]*[^\W\d_a-z])|(?<=[。！？])[”’」』）]*|\n\s*\n")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[’ʼ](?=[^\W\d_])")
_NOT_A_WORD = re.compile(r"[^\w']|_|(?<!\w)'|'(?!\w)")
_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff]"


def spoken_sentences(text: str) -> Iterator[str]:
    """The sentences of a text in lower case, without punctuation, titles in full.

    A sentence with digits is left out: how they are said depends on what they stand for.

    >>> list(spoken_sentences('"No, Mr. Holmes," said she; "it isn\\'t." He left at 9. So did I!'))
    ["no mister holmes said she it isn't", 'so did i']
    >>> list(spoken_sentences("你好，世界。再见！"))
    ['你好世界', '再见']
    """
    text = _TITLE.sub(lambda found: _TITLES[found[1].lower()], text.replace("\r\n", "\n"))
    for sentence in _SENTENCE_END.split(text):
        bare = _NOT_A_WORD.sub(" ", _APOSTROPHE.sub("'", sentence.lower()))
        words = re.sub(rf"(?<={_UNSPACED}) +(?={_UNSPACED})", "", " ".join(bare.split()))
        if words and not any(each.isdigit() for each in words):
            yield words
