"""How fast the training text of a corpus is indexed and searched, and how much memory that takes.

A hundred quotes of drawn words are planted, each in a drawn book between two paragraphs. The corpus is prepared and indexed
(`wenloom index`, in a process of its own); then, in another, the place of each quote is asked for: its last word is the answer, what
stands before it the text. Prints seconds, peak memory and how many were found whole in the right book.

    python bench/training_text.py [--quotes 100] [--out bench.json]
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
BOOKS = DATA / "classic_books" / "books.jsonl.gz"
WORDS = 16
"""Of a quote."""


def plant(count: int, folder: Path) -> None:
    """The books with a quote in `count` places, and where each is: file of the corpus' text, and list of quotes."""
    with gzip.open(BOOKS, "rt", encoding="utf-8") as lines:
        books = [json.loads(line) for line in lines]
    draw = random.Random(0)
    words = sorted({word for book in books[:20] for word in book["text"].split() if word.isalpha() and len(word) > 3})
    quotes = []
    for _ in range(count):
        line, quote = draw.randrange(len(books)), " ".join(draw.choices(words, k=WORDS))
        paragraphs = books[line]["text"].replace("\r\n", "\n").split("\n\n")
        paragraphs.insert(draw.randrange(1, len(paragraphs)), f"{quote}.")
        books[line]["text"] = "\n\n".join(paragraphs)
        quotes.append({"line": line + 1, "quote": quote})
    with gzip.open(folder / "books.jsonl.gz", "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines(json.dumps({"text": book["text"]}) + "\n" for book in books)
    (folder / "quotes.json").write_text(json.dumps(quotes))


def search(folder: Path) -> dict[str, Any]:
    """Seconds of every search, and how many quotes were found."""
    from wenloom.core.randomness import generator
    from wenloom.explanation.inquiry import ask
    from wenloom.explanation.subject import Subject
    from wenloom.explanation.training_text import training_text
    from wenloom.model.decoder import Decoder
    from wenloom.model.presets import from_scratch
    from wenloom.tokens.index import TokenIndex
    from wenloom.tokens.shards import Dataset

    dataset = Dataset.open(folder / "corpus")
    tokenizer, index = dataset.tokenizer(), TokenIndex.open(dataset)
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2, n_kv_heads=2,
                          context_length=512)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "bench"))
    subject, seconds, found = Subject(decoder.eval(), tokenizer), list[float](), 0
    quotes = json.loads((folder / "quotes.json").read_text())
    for each in quotes:
        source = f"{folder / 'books.jsonl.gz'}, line {each['line']}"
        text, _, answer = each["quote"].rpartition(" ")
        inquiry = ask(subject, text, f" {answer}")
        started = time.perf_counter()
        passages = training_text(inquiry, index, points=()).passages
        seconds.append(time.perf_counter() - started)
        found += bool(passages) and passages[0].is_whole and passages[0].source == source
    return {
        "asked": len(quotes),
        "found": found,
        "seconds": max(seconds),
        "median_seconds": sorted(seconds)[len(seconds) // 2],
    }


def timed(*command: str) -> tuple[float, float, str]:
    """Seconds of a process, its peak memory in MB, and what it prints."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{command[:4]} failed")
        out.seek(0)
        return time.perf_counter() - started, usage.ru_maxrss / 1024, out.read().decode()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quotes", type=int, default=100)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        print(json.dumps(search(arguments.search)))
        return
    if not BOOKS.is_file():
        sys.exit(f"no books at {BOOKS}; set WENLOOM_SHARED_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plant(arguments.quotes, folder)
        wenloom = (sys.executable, "-m", "wenloom")
        # validation is a file of its own, so that every quote is in training
        (folder / "held-out.txt").write_text("Nothing of this is asked for.\n" * 20)
        timed(*wenloom, "prepare", str(folder / "books.jsonl.gz"), "--validation-files", str(folder / "held-out.txt"),
              "--out", str(folder / "corpus"))  # fmt: skip
        index_seconds, index_mb, told = timed(*wenloom, "index", str(folder / "corpus"), "--json")
        _, search_mb, found = timed(sys.executable, __file__, "--search", str(folder))
    result = {"index": json.loads(told) | {"seconds": index_seconds, "peak_mb": index_mb},
              "search": json.loads(found) | {"peak_mb": search_mb}}  # fmt: skip
    index, searched = result["index"], result["search"]
    print(
        f"index: {index['tokens']:,} tokens in {index['seconds']:.1f} s, {index['bytes'] / 1e6:.0f} MB, peak {index['peak_mb']:.0f} MB"
    )
    print(
        f"search: {searched['found']} of {searched['asked']} quotes found, {1000 * searched['median_seconds']:.0f} ms in the "
        f"median, {1000 * searched['seconds']:.0f} ms at most; peak {searched['peak_mb']:.0f} MB"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
