"""Text that a program has damaged: wrong decoding, control characters, odd forms of letters."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.steps.step import Kept

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufffe\uffff]")
_FULL_WIDTH = str.maketrans(
    {0xFF00 + n: 0x20 + n for n in (*range(0x10, 0x1A), *range(0x21, 0x3B), *range(0x41, 0x5B))}
)
_LINE_ENDS = re.compile("\r\n|[\r\u2028\x0c]")


@dataclass(frozen=True)
class Repair:
    """Repairs text and keeps it. Punctuation of Chinese and Japanese keeps its width, and quotation marks their form."""

    mojibake: bool = True
    """Undo wrong decoding, such as â€™ for ’, where ftfy is sure of it."""
    widths: bool = True
    """Letters and digits of full width become ordinary ones."""
    controls: bool = True
    """Take out control characters and blanks without width."""

    @cached_property
    def _ftfy(self) -> tuple[Any, Any]:
        try:
            from ftfy import TextFixerConfig, fix_text
        except ImportError:
            raise InputError(
                "The step repair needs one more package: pip install 'wenloom[data]' (or repair.mojibake=false)."
            ) from None
        return fix_text, TextFixerConfig(unescape_html=False, uncurl_quotes=False, fix_character_width=False, fix_latin_ligatures=False,
                                         normalization=None, remove_control_chars=False, fix_line_breaks=False, explain=False)  # fmt: skip

    def __call__(self, document: Document) -> Kept:
        text = document.text
        if self.mojibake and not text.isascii():
            fix, config = self._ftfy
            text = fix(text, config)
        text = _LINE_ENDS.sub("\n", text)
        if self.controls:
            text = _CONTROLS.sub("", text)
        if self.widths and not text.isascii():
            text = text.translate(_FULL_WIDTH)
        return Kept(document if text == document.text else replace(document, text=text))
