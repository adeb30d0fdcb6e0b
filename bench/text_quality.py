"""What the steps on text decide, against known truth: main content, kept texts, near duplicates, personal data.

    python bench/text_quality.py --data ../shared/data

No step of ours is its own judge: marked passages of pages (trafilatura's gold set), numbers that python-stdnum calls valid, pairs whose similarity
is set, books and declarations of human rights that no filter of quality should drop.
"""

import argparse
import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.text.document import Document
from wenloom.text.html import visible_text
from wenloom.text.pages import main_text
from wenloom.text.recipe import load_recipe
from wenloom.text.steps.near_duplicates import NearDuplicates
from wenloom.text.steps.personal import Personal
from wenloom.text.steps.step import Kept


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Of a packed file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def bench_main_content(pages: Sequence[dict[str, Any]]) -> None:
    """F1 over passages that belong to the main text of a page or do not."""
    from trafilatura import extract

    named: dict[str, Callable[[str], str | None]] = {
        "wenloom": main_text, "trafilatura": extract, "all visible text": visible_text
    }  # fmt: skip
    for name, text_of in named.items():
        right = missed = wrong = 0
        for page in pages:
            text = text_of(page["html"]) or ""
            right += sum(each in text for each in page["with"])
            missed += sum(each not in text for each in page["with"])
            wrong += sum(each in text for each in page["without"])
        print(f"  {name:17} F1 {2 * right / (2 * right + missed + wrong):.4f} of {len(pages)} pages", flush=True)


def is_kept(recipe: str, text: str) -> bool:
    """By the steps that look at one document."""
    document = Document(text, "here")
    for step in load_recipe(recipe).steps().values():
        result = step(document)
        if not isinstance(result, Kept):
            return False
        document = result.document
    return True


def bench_kept(poems: Path, declarations: Path) -> None:
    """Texts that are good in every language."""
    steps = load_recipe("books").steps().values()
    kept = count = 0
    for row in rows(poems):
        document = Document("\n".join(row["paragraphs"]), "here")
        kept += all(isinstance(step(document), Kept) for step in steps)
        count += 1
    print(f"  Chinese poems, books: {kept:,} of {count:,}")
    texts = {Path(row["file"]).stem: row["text"] for row in rows(declarations)}
    for recipe, names in (
        ("web-zh", ("cmn_hans", "cmn_hant")),
        ("web", ("jpn", "tha", "deu_1996", "deu_1901", "deu", "arb")),
    ):
        there = [name for name in names if name in texts]
        print(
            f"  human rights, {recipe}: {', '.join(f'{name} {is_kept(recipe, texts[name])}' for name in there)}",
            flush=True,
        )


def bench_pairs(count: int) -> None:
    """How often pairs of a similarity share a band."""
    step, rng, size = NearDuplicates(), np.random.default_rng(0), 400
    for similarity in (0.5, 0.6, 0.7, 0.8, 0.9):
        shared, found = round(2 * size * similarity / (1 + similarity)), 0
        for _ in range(count):
            grams = rng.integers(0, 2**32, 2 * size - shared, dtype=np.uint32)
            one, other = (step.signature(part).reshape(14, 8) for part in (grams[:size], grams[size - shared :]))
            found += bool((one == other).all(axis=1).any())
        expected = 1 - (1 - (shared / (2 * size - shared)) ** 8) ** 14
        print(f"  s = {similarity}: {found / count:.4f} found, {expected:.4f} expected", flush=True)


def _numbers() -> dict[str, tuple[Callable[[random.Random], str], Callable[[str], bool]]]:
    """By kind what draws numbers of its shape, and what tells which are valid."""
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

    def digits(rng: random.Random, count: int, first: str = "0123456789") -> str:
        return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(count - 1))

    def born(rng: random.Random, first: int, last: int) -> str:
        return f"{rng.randint(first, last)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"

    return {
        "card": (lambda rng: (rng.choice(("4", "51", "55", "222")) + digits(rng, 16))[:16], luhn.is_valid),
        "iban": (lambda rng: "DE" + digits(rng, 20), iban.is_valid),
        "china": (lambda rng: rng.choice(("110105", "310101", "440106")) + born(rng, 1930, 2020) + digits(rng, 3)
                  + rng.choice("0123456789X"), ric.is_valid),
        "spain": (lambda rng: digits(rng, 8) + rng.choice("TRWAGMYFPDXBNJZSQVHLCKE"), dni.is_valid),
        "italy": (lambda rng: f"RSSMRA{digits(rng, 2)}{rng.choice('ABCDEHLMPRST')}{rng.randint(1, 28):02}H501"
                  + rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), codicefiscale.is_valid),
        "france": (lambda rng: f"{rng.choice('12')}{digits(rng, 2)}{rng.randint(1, 12):02}75{digits(rng, 8)}", nir.is_valid),
        "india": (lambda rng: digits(rng, 12, "23456789"), aadhaar.is_valid),
        "brazil": (lambda rng: digits(rng, 11), cpf.is_valid),
        "poland": (lambda rng: born(rng, 30, 99) + digits(rng, 5), pesel.is_valid),
        "turkey": (lambda rng: digits(rng, 11, "123456789"), tckimlik.is_valid),
        "germany": (lambda rng: digits(rng, 11, "123456789"), idnr.is_valid),
        "korea": (lambda rng: f"{born(rng, 30, 99)}-{rng.choice('12')}{digits(rng, 6)}", rrn.is_valid),
    }  # fmt: skip


def bench_personal(books: Path, count: int) -> None:
    """Valid numbers that are replaced, and what is replaced in books of other centuries."""
    step = Personal()
    for kind, (draw, is_valid) in _numbers().items():
        rng, replaced, tried = random.Random(kind), 0, 0
        while tried < count:
            number = draw(rng)
            if is_valid(number):
                result, tried = step(Document(f"It is {number}, he said.", "here")), tried + 1
                replaced += isinstance(result, Kept) and number not in result.document.text
        print(f"  {kind:8} recall {replaced / tried:.4f} of {tried}", flush=True)
    step.take_counts()
    size = 0
    for row in rows(books):
        size += len(row["text"].encode())
        step(Document(row["text"], "here"))
    found = step.take_counts()
    print(f"  in {size / 1e6:.0f} MB of classic books {found.total()} replaced: {dict(found)}")


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--numbers", type=int, default=300)
    given = parser.parse_args()
    print("Main content:")
    bench_main_content(list(rows(given.data / "web_pages/pages.jsonl.gz")))
    print("Kept:")
    bench_kept(given.data / "chinese_poetry/poems.jsonl.gz", given.data / "udhr2/udhr2.jsonl.gz")
    print("Near duplicates:")
    bench_pairs(given.pairs)
    print("Personal data:")
    bench_personal(given.data / "classic_books/books.jsonl.gz", given.numbers)


if __name__ == "__main__":
    main()
