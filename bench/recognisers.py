"""Recognisers from nothing: manifests of spoken words that are published, and of books that espeak-ng reads, one command each, its errors.

    WENLOOM_SHARED_DATA=datasets python bench/recognisers.py digits FOLDER [--budget 10min] [OPTION ...]

| set | to learn from | tested on |
|---|---|---|
| `yesno` | 30 of the 60 recordings of yes and no | the other 30 |
| `digits` | 2,700 recordings of Free Spoken Digits | its official test, takes 0 to 4 |
| `speakers` | four of its six speakers | the other two |
| `mandarin` | 1,707 syllables of one speaker | the same at another pitch and speed (rubberband, by pedalboard) |
| `books` | 5,000 sentences of classic_books, each by one of six voices of espeak-ng | 300 others; 300 by a voice of its own |

What follows the set goes to `wenloom finetune` (`--budget 10min --layers 2 ...`), which validates on a part of what it learns from.
Manifests that lie in FOLDER already are taken.
"""

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))
DIGITS = "zero one two three four five six seven eight nine".split()
VOICES = ("en-us", "en-us+f2", "en-us+m3", "en-us+f4", "en-us+m7", "en-us+m1")
NEW_VOICE = "en-us+f3"
STRANGERS = ("george", "lucas")
Rows = list[tuple[Path, str]]


def unpacked(name: str, folder: Path) -> list[Path]:
    """The recordings of an archive."""
    with zipfile.ZipFile(DATA / "audio" / name) as archive:
        archive.extractall(folder / "sound")
    return sorted(each for each in (folder / "sound").rglob("*.*") if each.suffix in (".wav", ".mp3"))


def yesno(folder: Path) -> dict[str, Rows]:
    """Half to learn from."""
    rows = [(each, " ".join(("lo", "ken")[int(word)] for word in each.stem.split("_")))
            for each in unpacked("yesno.zip", folder)]  # fmt: skip
    random.Random(0).shuffle(rows)
    return {"train": rows[:30], "test": rows[30:]}


def digits(folder: Path) -> dict[str, Rows]:
    """The official division."""
    rows = [(each, DIGITS[int(each.stem[0])]) for each in unpacked("fsdd.zip", folder)]
    return {"train": [row for row in rows if int(row[0].stem.split("_")[2]) >= 5],
            "test": [row for row in rows if int(row[0].stem.split("_")[2]) < 5]}  # fmt: skip


def speakers(folder: Path) -> dict[str, Rows]:
    """Two of whom nothing is learned."""
    rows = [(each, DIGITS[int(each.stem[0])]) for each in unpacked("fsdd.zip", folder)]
    strange = [row for row in rows if row[0].stem.split("_")[1] in STRANGERS]
    random.Random(0).shuffle(strange)
    return {"train": [row for row in rows if row[0].stem.split("_")[1] not in STRANGERS], "test": strange}


def mandarin(folder: Path) -> dict[str, Rows]:
    """Changed by one or two semitones and by 10 or 15 % of speed."""
    import soundfile
    from pedalboard import time_stretch  # pyright: ignore[reportMissingImports]

    drawn, rows, changed = random.Random(0), list[tuple[Path, str]](), list[tuple[Path, str]]()
    for each in unpacked("mandarin_syllables.zip", folder):
        sound, rate = soundfile.read(each, dtype="float32", always_2d=True)
        semitones, speed = drawn.choice([-2, -1, 1, 2]), drawn.choice([0.85, 0.9, 1.1, 1.15])
        made = folder / f"{each.stem}-changed.wav"
        soundfile.write(made, time_stretch(sound.mean(1)[None], rate, speed, semitones)[0], rate)
        rows.append((each, each.stem.removeprefix("cmn-")))
        changed.append((made, rows[-1][1]))
    drawn.shuffle(changed)
    return {"train": rows, "test": changed}


def books(folder: Path) -> dict[str, Rows]:
    """Sentences of 20 to 80 characters and four words at least, of letters and commas alone."""
    found: dict[str, str] = {}
    with gzip.open(DATA / "classic_books/books.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(json.loads(line)["text"].split())):
                if 20 <= len(sentence) <= 80 and re.fullmatch(r"[A-Z][A-Za-z',; -]+[.!?]", sentence):
                    said = " ".join(re.sub(r"[^a-z' ]+", " ", sentence.lower()).split())
                    if said.count(" ") >= 3:
                        found.setdefault(said, sentence)
    drawn = random.Random(0)
    sentences = list(found.items())
    drawn.shuffle(sentences)
    parts, begin = dict[str, Rows](), 0
    for name, count, voices in (("train", 5000, VOICES), ("test", 300, VOICES), ("new_voice", 300, (NEW_VOICE,))):
        parts[name] = []
        for said, sentence in sentences[begin : begin + count]:
            path = folder / f"{name}-{len(parts[name])}.wav"
            subprocess.run(["espeak-ng", "-v", drawn.choice(voices), "-w", path, sentence], check=True)
            parts[name].append((path, said))
        begin += count
    return parts


SETS: dict[str, Callable[[Path], dict[str, Rows]]] = {
    each.__name__: each for each in (yesno, digits, speakers, mandarin, books)
}


def wenloom(*arguments: object) -> float:
    """Seconds that a command took."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "wenloom", *map(str, arguments)], check=True)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("folder", type=Path)
    given, options = parser.parse_known_args()
    folder: Path = given.folder / given.set
    if not (folder / "train.tsv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in reversed(SETS[given.set](folder).items()):  # train.tsv last
            lines = "".join(f"{path.relative_to(folder)}\t{said}\n" for path, said in rows)
            (folder / f"{name}.tsv").write_text(f"path\ttext\n{lines}", encoding="utf-8")
    seconds = wenloom(
        "finetune", "--task", "transcription", "--train", folder / "train.tsv", "--out", folder / "run", *options
    )
    print(f"{given.set}: {seconds:.0f} s", flush=True)
    for test in sorted(folder.glob("*.tsv")):
        if test.stem != "train":
            wenloom("evaluate", folder / "run", "--on", test, "--out", folder / "evaluation")


if __name__ == "__main__":
    main()
