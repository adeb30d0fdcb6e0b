"""Personal data: addresses, telephone numbers, bank accounts, cards, identity numbers and keys."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address

from wenloom.core.errors import InputError
from wenloom.text import checksums
from wenloom.text.document import Document
from wenloom.text.steps.step import Dropped, Kept

KINDS = ("email", "phone", "iban", "card", "id", "ip", "key")
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w+%-](?:[\w.+%-]{0,62}[\w+%-])?@(?:[\w-]{1,63}\.){1,6}[^\W\d_]{2,24}(?![\w-])", re.ASCII
)
_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\w+/=\s]{40,20000}-----END [A-Z ]{0,20}PRIVATE KEY-----"
    r"|\b(?:A3T[A-Z0-9]|AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{60,}|\bglpat-[\w-]{20,}"
    r"|\bsk-(?:[a-z]{2,8}-)?[\w-]{32,}|\bxox[abprs]-[\w-]{10,}|\bAIza[\w-]{35}|\b[sr]k_live_\w{20,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
)
_KEY_BEGINNINGS = (
    "-----BEGIN ",
    "AKIA",
    "ASIA",
    "A3T",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "sk-",
    "xox",
    "AIza",
    "k_live_",
    "hf_",
    "eyJ",
)
_IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)", re.ASCII)
_IP6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:])", re.ASCII)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.ASCII)
_LETTERED = re.compile(r"(?<!\w)(?:[XYZ]\d{7}|\d{8})-?[A-HJ-NP-TV-Z](?!\w)|(?<!\w)[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)"
                       r"|(?<!\w)[A-Z][1289]\d{8}(?!\w)", re.ASCII)  # fmt: skip
_DIGITS = re.compile(r"\d{7}|[A-Z]\d\d[A-Z]")
"""Without which there is no identity number with letters."""
_NUMBER = re.compile(
    r"(?<![\w.,:/$€£¥#=-])(?:\+|\(|00(?=[1-9]))?\d(?:[ \-./()]{0,2}\d){6,18}[xX]?(?![\w%]|[.,:/-]\d)", re.ASCII
)
_SAID = re.compile(
    r"(?:\b(?:tel|phone|fax|mobile|cell|call|telefon|handy|tél|teléfono|тел|whatsapp)\b|电话|電話|手机|手機|联系)[^\d\n]{0,12}$",
    re.IGNORECASE,
)
_NORTH_AMERICA = re.compile(r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}")
_CHINA = re.compile(r"(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}")
_IDS: dict[int, tuple[Callable[[str], bool], ...]] = {
    11: (checksums.is_brazilian, checksums.is_polish, checksums.is_turkish, checksums.is_german),
    12: (checksums.is_indian,),
    13: (checksums.is_korean,),
    15: (checksums.is_french,),
    18: (checksums.is_chinese,),
}


@dataclass(frozen=True)
class Personal:
    """Replaces personal data by placeholders such as <EMAIL>, and counts them by kind; or drops the documents that hold some.

    Numbers are taken by their checksums: cards, accounts, and the identity numbers of China, Taiwan, Spain, Italy, France, India,
    Brazil, Poland, Turkey, Germany and Korea. Addresses of private networks are nobody's.
    """

    kinds: tuple[str, ...] = KINDS
    drop_from: int = 0
    """Pieces of personal data from which a document is dropped; 0: none is."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError(f"personal.kinds: there is no kind {kind}; known are {', '.join(KINDS)}.")

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter()

    def take_counts(self) -> Counter[str]:
        """What was found since the last call, by kind."""
        counts = Counter(self._counts)
        self._counts.clear()
        return counts

    def __call__(self, document: Document) -> Kept | Dropped:
        found = Counter[str]()
        text = _without(document.text, frozenset(self.kinds), found)
        self._counts.update(found)
        if self.drop_from and found.total() >= self.drop_from:
            said = ", ".join(f"{count} {kind}" for kind, count in found.most_common())
            return Dropped(
                f"holds {found.total()} pieces of personal data ({said}), from {self.drop_from} on it is dropped"
            )
        return Kept(replace(document, text=text) if found else document)


def _without(text: str, kinds: frozenset[str], found: Counter[str]) -> str:
    def replaced(
        kind: str, when: Callable[[re.Match[str]], bool] = lambda match: True
    ) -> Callable[[re.Match[str]], str]:
        def one(match: re.Match[str]) -> str:
            if kind not in kinds or not when(match):
                return match[0]
            found[kind] += 1
            return f"<{kind.upper()}>"

        return one

    if any(map(text.__contains__, _KEY_BEGINNINGS)):
        text = _KEY.sub(replaced("key"), text)
    if "@" in text:
        text = _EMAIL.sub(replaced("email"), text)
    text = _IP4.sub(replaced("ip", _is_public), text)
    if "::" in text or text.count(":") > 4:
        text = _IP6.sub(replaced("ip", _is_public), text)
    text = _IBAN.sub(replaced("iban", lambda match: checksums.is_iban(match[0].replace(" ", ""))), text)
    if _DIGITS.search(text):
        text = _LETTERED.sub(replaced("id", lambda match: _is_lettered(match[0].replace("-", ""))), text)

    def number(match: re.Match[str]) -> str:
        kind = _kind_of(match)
        if kind is None or kind not in kinds:
            return match[0]
        found[kind] += 1
        return f"<{kind.upper()}>"

    return _NUMBER.sub(number, text)


def _is_public(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 10) : match.start()].lower()
    if re.search(r"(?:version|ver\.?|v|section|§) ?$", before):
        return False
    try:
        return ip_address(match[0]).is_global
    except ValueError:
        return False


def _is_lettered(text: str) -> bool:
    if len(text) == 16:
        return checksums.is_italian(text)
    if text[-1].isalpha():
        return checksums.is_spanish(text)
    return checksums.is_taiwanese(text)


def _kind_of(match: re.Match[str]) -> str | None:
    """What a number is, if it is somebody's."""
    text = match[0]
    digits = re.sub(r"[^\dX]", "", text.upper())
    is_plain = text[0].isdigit()
    if is_plain and any(
        check(digits)
        for check in _IDS.get(len(digits), ())
        if "X" not in digits[:-1] and (digits.isdigit() or len(digits) == 18)
    ):
        return "id"
    if digits[-1] == "X":
        return None
    if is_plain and 13 <= len(digits) <= 19 and checksums.is_card(digits):
        return "card"
    if text.startswith("+") and 8 <= len(digits) <= 15 and digits[0] != "0":
        return "phone"
    if _NORTH_AMERICA.fullmatch(text) or _CHINA.fullmatch(text):
        return "phone"
    before = match.string[max(0, match.start() - 24) : match.start()]
    return "phone" if 7 <= len(digits) <= 15 and _SAID.search(before) else None
