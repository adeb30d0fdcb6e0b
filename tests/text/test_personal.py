"""Personal data: numbers that python-stdnum finds valid are replaced, others are not, and prose is left alone."""

import gzip
import json
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.pl import pesel
from stdnum.tr import tckimlik

from wenloom.text.document import Document
from wenloom.text.steps.personal import Personal
from wenloom.text.steps.step import Dropped, Kept


def without(text: str) -> str:
    result = Personal()(Document(text, "here"))
    assert isinstance(result, Kept)
    return result.document.text


def digits(rng: random.Random, count: int, first: str = string.digits) -> str:
    return rng.choice(first) + "".join(rng.choice(string.digits) for _ in range(count - 1))


def born(rng: random.Random, year: str) -> str:
    return f"{year}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"


LETTERS = string.ascii_uppercase
KINDS: dict[str, tuple[str, Callable[[random.Random], str], Callable[[str], bool]]] = {
    "card": ("CARD", lambda rng: rng.choice(["4", "51", "55", "222"]) + digits(rng, 16)[:16], lambda x: luhn.is_valid(x)),
    "iban": ("IBAN", lambda rng: "DE" + digits(rng, 20), iban.is_valid),
    "china": ("ID", lambda rng: rng.choice(["110105", "310101", "440106"]) + born(rng, str(rng.randint(1930, 2020)))
              + digits(rng, 3) + rng.choice("0123456789X"), ric.is_valid),
    "spain": ("ID", lambda rng: digits(rng, 8) + rng.choice("TRWAGMYFPDXBNJZSQVHLCKE"), dni.is_valid),
    "italy": ("ID", lambda rng: "RSSMRA" + digits(rng, 2) + rng.choice("ABCDEHLMPRST") + f"{rng.randint(1, 28):02}" + "H501"
              + rng.choice(LETTERS), codicefiscale.is_valid),
    "france": ("ID", lambda rng: rng.choice("12") + digits(rng, 2) + f"{rng.randint(1, 12):02}75" + digits(rng, 6) + digits(rng, 2),
               nir.is_valid),
    "india": ("ID", lambda rng: digits(rng, 12, "23456789"), aadhaar.is_valid),
    "brazil": ("ID", lambda rng: digits(rng, 11), cpf.is_valid),
    "poland": ("ID", lambda rng: born(rng, f"{rng.randint(30, 99)}") + digits(rng, 5), pesel.is_valid),
    "turkey": ("ID", lambda rng: digits(rng, 11, "123456789"), tckimlik.is_valid),
    "germany": ("ID", lambda rng: digits(rng, 11, "123456789"), idnr.is_valid),
    "korea": ("ID", lambda rng: born(rng, f"{rng.randint(30, 99)}") + "-" + rng.choice("12") + digits(rng, 6), rrn.is_valid),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_valid_numbers_are_replaced(kind: str):
    placeholder, draw, is_valid = KINDS[kind]
    rng, found, missed = random.Random(kind), 0, 0
    for _ in range(60_000):
        number = draw(rng)
        if kind == "card":
            number = number[:16]
        if not is_valid(number):
            continue
        found += 1
        missed += f"<{placeholder}>" not in without(f"It is {number}, he said.")
        if found == 100:
            break
    assert found >= 20 and missed <= 0.02 * found, (found, missed)


@pytest.mark.parametrize("text, left", [
    ("Write to a.b+c@mail.example.co.uk, please.", "Write to <EMAIL>, please."),
    ("Call +49 30 901820 or (415) 555-2671 or 138 1234 5678.", "Call <PHONE> or <PHONE> or <PHONE>."),
    ("电话：010-62795678。", "电话：<PHONE>。"),
    ("from 8.8.8.8 and 2001:4860:4860::8888", "from <IP> and <IP>"),
    ("192.168.0.1 and version 1.2.3.4", "192.168.0.1 and version 1.2.3.4"),
    ("key AKIAIOSFODNN7EXAMPLE and ghp_" + "a1B2" * 9, "key <KEY> and <KEY>"),
    ("GB82 WEST 1234 5698 7654 32 is his account", "<IBAN> is his account"),
    ("身份证11010519491231002X。", "身份证<ID>。"),
    ("In 1914-1918 about 9 000 000 fell; pp. 100-120; 3.14159265358979; $1,000,000,000; 1.234.567,89", None),
    ("ISBN 978-3-16-148410-0, 2024-01-02 10:20:30, 12345678901234567890123", None),
    ("4111 1111 1111 1112 and 110105194912310021", None),
])  # fmt: skip
def test_what_is_somebodys_is_replaced_and_other_numbers_are_not(text: str, left: str | None):
    assert without(text) == (text if left is None else left)


def test_documents_with_much_of_it_are_dropped_where_that_is_asked_for():
    step = Personal(drop_from=2)
    assert isinstance(step(Document("a@b.example", "here")), Kept)
    result = step(Document("a@b.example c@d.example", "here"))
    assert isinstance(result, Dropped) and "2 pieces of personal data (2 email)" in result.reason
    assert step.take_counts() == {"email": 3} and not step.take_counts()
    assert without("<EMAIL>") == "<EMAIL>"


@pytest.mark.parametrize("part", ["a@", "1 ", "-----BEGIN PRIVATE KEY-----\n", "1:", "A1B2 ", "+1", "a.b", "1.", "eyJ"])
def test_it_is_looked_for_in_time_that_grows_like_the_text(part: str):
    import time

    def seconds(count: int) -> float:
        begun = time.process_time()
        without(part * count)
        return time.process_time() - begun

    assert seconds(40_000) < 40 * max(seconds(4000), 0.005)


@pytest.mark.shared_data
def test_books_have_hardly_a_false_alarm(shared_data: Path):
    lines = gzip.decompress((shared_data / "classic_books/books.jsonl.gz").read_bytes()).splitlines()[::6]
    step, size = Personal(), 0
    for line in lines:
        text = json.loads(line)["text"]
        size += len(text)
        step(Document(text, "here"))
    assert step.take_counts().total() <= max(1, size / 1e7)
