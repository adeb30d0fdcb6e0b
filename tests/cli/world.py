"""What the examples of help texts and documents speak of, made small: texts, corpora, examples and models."""

import gzip
import json
import os
import random
import shutil
import signal
import struct
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from filelock import FileLock

from tests.foreign_files import epub, warc
from wenloom.checkpoint.sentence import SentenceConfig, write_sentence_config

from ..conftest import VERSES, story
from ..hearing import write_hearing, write_spoken
from ..small_gguf import write_small
from .calling import call, succeed

SHAPE = ("--layers", 1, "--width", 32, "--heads", 2)
LINES = [verse.replace("\n", " ") for verse in VERSES]
POEMS = [
    ["春眠不觉晓，", "处处闻啼鸟。", "夜来风雨声，", f"花落知{digit}少。"]
    for digit in "一二三四五六七八九十百千万亿上下左右前后"
]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


ROWS: dict[str, list[dict[str, Any]]] = {
    "pairs": [{"source": f"{LINES[n % 8]} {n}", "target": f"{LINES[(n + 1) % 8]} {n}"} for n in range(30)],
    "summaries": [{"dialogue": f"{VERSES[n % 8]} {n}", "summary": f"{n} days"} for n in range(30)],
    "labels": [{"text": f"{VERSES[n % 8]} {n}", "label": ("dull", "fine")[n % 2]} for n in range(30)],
    "messages": [
        {"messages": [{"role": "user", "content": f"Day {n}?"}, {"role": "assistant", "content": f"It was day {n}."}]}
        for n in range(30)
    ],
    "alpaca": [{"instruction": f"Name day {n}.", "input": "", "output": f"Day {n}."} for n in range(30)],
    "preferences": [{"prompt": f"Day {n}?", "chosen": f"It was day {n}.", "rejected": "No."} for n in range(30)],
    "poems": [{"title": f"春晓{n}", "paragraphs": poem} for n, poem in enumerate(POEMS)],
    "诗集": [{"标题": f"春晓{n}", "正文": "\n".join(poem)} for n, poem in enumerate(POEMS)],
    "verses": [{"prompt": f"春晓{n}", "text": "\n".join(poem)} for n, poem in enumerate(POEMS)],
    "programs": [{"instruction": f"a function that gives {n}", "output": f"def f():\n    return {n}"} for n in range(30)],
    "prompts": [{"prompt": "The lamp", "seed": 3}, {"prompt": "春眠", "max_new_tokens": 5}],
    "adapters": [{"prompt": "The", "adapter": "poems"}, {"prompt": "The", "adapter": "letters"}],
    "choices": [{"query": f"第{n}天的天气", "choices": ["很好", "很坏"], "gold": n % 2} for n in range(6)],
    "references": [{"prompt": each[:10], "reference": each} for each in VERSES],
    "scored": [{"sentence1": LINES[n % 8], "sentence2": f"{LINES[n % 5]} {n}", "score": n % 6} for n in range(30)],
    "nbest": [
        {
            "utt_id": f"u{n}",
            "ref": f"and so ended day {n}",
            "nbest": [{"text": f"and so ended day {n}", "score": -1.0}, {"text": f"and sew and a day {n}", "score": -0.9}],
        }
        for n in range(8)
    ],
    "lambada": [{"text": each} for each in VERSES[:3] * 2],
    "hellaswag": [
        {"ctx": f"Day {n}", "endings": ["went", "came", "ran", "sat"], "label": 1} for n in range(4)
    ],
    "blimp": [
        {"sentence_good": f"Cats {n} sleep.", "sentence_bad": f"Cats {n} sleeps.", "UID": f"kind_{n % 2}"}
        for n in range(6)
    ],
}  # fmt: skip
"""Rows of every kind of file that a command reads."""
ROWS |= {
    "close nbest": [
        {"utt_id": f"u{n}", "ref": one, "nbest": [{"text": one, "score": -1.0}, {"text": two.upper(), "score": -1.0}]}
        for n, (one, two) in enumerate(
            [("the lamp", "a boat"), ("a boat", "the lamp"), ("the nets", "dusk"), ("dusk", "the nets")]
        )
    ],
    "more messages": [
        {"messages": [{"role": "user", "content": f"Night {n}?"}, {"role": "assistant", "content": f"Night {n}!"}]}
        for n in range(9)
    ],
    "few pairs": ROWS["pairs"][:3],
    "languages": [{"title": f"Day {n}", "text": VERSES[n % 8], "language": ("en", "zh")[n % 2]} for n in range(30)],
    "fields": [{"old": row["source"], "new": row["target"]} for row in ROWS["pairs"]],
    "adapter prompts": [{"prompt": "The", "adapter": "adapter"}],
    "programs to write": [
        {"task_id": "H/0", "prompt": "def f():\n", "test": "def check(g): assert g() == 1", "entry_point": "f"}
    ],
}
ROWS |= {"validation summaries": ROWS["summaries"][:3]}

RESULTS = [
    {
        "task": "Language Modelling",
        "datasets": [
            {
                "dataset": "Chapter",
                "sota": {"metrics": ["Bits per byte"], "rows": [{"model_name": "theirs", "metrics": {"Bits per byte": "1.5"}}]},
            }
        ],
    }
]  # fmt: skip
"""Results as Papers with Code wrote them."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file, compressed where its name says so."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _llama2c(path: Path) -> None:
    """A model and its tokenizer in the legacy format of llama2.c, of random weights."""
    d, hidden, layers, heads, context = 16, 32, 1, 2, 32

    def body(vocab: int) -> bytes:
        sizes = (
            vocab * d,
            d,
            d * d,
            d * d,
            d * d,
            d * d,
            d,
            hidden * d,
            hidden * d,
            hidden * d,
            d,
            context * d // heads,
        )
        return np.random.default_rng(0).normal(0, 0.1, sum(sizes)).astype("<f4").tobytes()

    words = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    words += [bytes([letter]) for letter in b" abcdefghijklmnopqrstuvwxyz"]
    entries = b"".join(struct.pack("<fi", -float(n), len(word)) + word for n, word in enumerate(words))
    write(
        path / "model.bin", struct.pack("<7i", d, hidden, layers, heads, heads, len(words), context) + body(len(words))
    )
    write(path / "tokenizer.bin", struct.pack("<i", 6) + entries)


class World:
    """Things that cost time to make, each made once, when it is first asked for, by one of the processes that test."""

    def __init__(self, store: Path):
        self.store = store

    def path(self, kind: str) -> Path:
        """The thing of this kind, made if need be."""
        whole = self.store / f".{kind}.made"
        with FileLock(self.store / f".{kind}.lock"):
            if not whole.exists():
                getattr(self, "_" + kind.replace("-", "_"))()
                whole.touch()
        return self.store / kind

    def _texts(self) -> None:
        for number in range(12):
            write(self.store / "texts" / f"{number:02}.txt", story(number))

    def _books(self) -> None:
        """Sentences that differ in more than their numbers."""
        draw = random.Random(0)
        words = " ".join(VERSES[:2]).lower().replace(",", "").split()
        for number in range(8):
            sentences = [" ".join(draw.choices(words, k=9)).capitalize() + "." for _ in range(40)]
            write(self.store / "books" / f"{number}.txt", " ".join(sentences))

    def _prepare(self, name: str, *arguments: object) -> None:
        succeed("prepare", self.path("texts"), "--out", name, "--vocab-size", 400, *arguments, cwd=self.store)

    def _tune(self, name: str, base: str | None, task: str, rows: str, *arguments: object) -> None:
        write(self.store / f"{name}.jsonl", jsonl(ROWS[rows]))
        given = () if base is None else (self.path(base),)
        shape = SHAPE if base is None else ()
        succeed("finetune", *given, "--task", task, "--train", f"{name}.jsonl", "--out", name, *shape,
                *("--steps", 2) * ("--steps" not in arguments), *arguments, cwd=self.store)  # fmt: skip

    def _corpus(self) -> None:
        self._prepare("corpus")

    def _decoder(self) -> None:
        self._pretrain("decoder", "--steps", 60)

    def _pretrain(self, name: str, *arguments: object) -> None:
        succeed("pretrain", self.path("corpus"), "--out", name, *SHAPE, "--context", 128, "--batch", 2, *arguments,
                cwd=self.store)  # fmt: skip

    def _small_decoder(self) -> None:
        self._pretrain("small-decoder", "--steps", 20, "--seed", 1)

    def _interrupted(self) -> None:
        self._cut_short("pretrain", self.path("corpus"), "--out", "interrupted", *SHAPE, "--context", 128, "--batch", 2)

    def _interrupted_pairs(self) -> None:
        write(self.store / "cut.jsonl", jsonl(ROWS["pairs"]))
        self._cut_short(
            "finetune", "--task", "translation", "--train", "cut.jsonl", "--out", "interrupted-pairs", *SHAPE
        )

    def _cut_short(self, *arguments: object) -> None:
        """A run that gets Ctrl-C in its first step."""
        from wenloom.training.train_step import TrainStep

        step = TrainStep.step

        def step_and_stop(learner: TrainStep, *more: Any, **named: Any) -> Any:
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # the run has begun
                os.kill(os.getpid(), signal.SIGINT)
            return step(learner, *more, **named)

        with mock.patch.object(TrainStep, "step", step_and_stop):
            done = call(*arguments, "--steps", 3, cwd=self.store)
        assert done.code == 130, done

    def _encoder(self) -> None:
        succeed("finetune", "--task", "fill-mask", "--train", self.path("texts"), "--tokenizer", self.path("corpus"), "--out", "encoder",
                *SHAPE, "--steps", 2, cwd=self.store)  # fmt: skip

    def _sentences(self) -> None:
        """An encoder with the files by which sentence-transformers embeds, prompts among them."""
        folder = self.store / "sentences"
        shutil.copytree(self.path("encoder"), folder)
        config = SentenceConfig(max_tokens=64, prompts={"query": "find: ", "document": ""})
        write_sentence_config(config, int(SHAPE[3]), folder)

    def _classes(self) -> None:
        self._tune("classes", "encoder", "classification", "labels")

    def _translator(self) -> None:
        self._tune(
            "translator", None, "translation", "pairs", "--max-target-tokens", 96, "--tokenizer", self.path("corpus")
        )

    def _summarizer(self) -> None:
        self._ending("summarizer", "summarization")

    def _brief_translator(self) -> None:
        self._ending("brief-translator", "translation", "--source", "dialogue", "--target", "summary")

    def _ending(self, name: str, task: str, *fields: str) -> None:
        """A model that has learned to end its answers."""
        self._tune(name, None, task, "summaries", *fields, "--max-target-tokens", 24, "--steps", 20, "--tokenizer",
                   self.path("corpus"))  # fmt: skip

    def _denoiser(self) -> None:
        succeed("finetune", "--task", "denoising", "--train", self.path("texts"), "--arch", "t5", "--tokenizer", self.path("corpus"),
                "--out", "denoiser", *SHAPE, "--steps", 2, cwd=self.store)  # fmt: skip

    def _chat(self) -> None:
        self._tune("chat", "decoder", "chat", "messages")

    def _adapter(self) -> None:
        self._tune("adapter", "decoder", "chat", "messages", "--method", "lora")

    def _vector(self) -> None:
        succeed("steer", self.path("decoder"), "--toward", VERSES[0], "--away-from", VERSES[3], "--out", "vector", "--layer", 0,
                cwd=self.store)  # fmt: skip

    def _deep_decoder(self) -> None:
        """With a block before the last."""
        succeed("pretrain", self.path("corpus"), "--out", "deep-decoder", *SHAPE[2:], "--layers", 2, "--context", 128, "--batch", 2,
                "--steps", 10, cwd=self.store)  # fmt: skip

    def _lens(self) -> None:
        succeed(
            "train-lens", self.path("deep-decoder"), self.path("texts"), "--out", "lens", "--steps", 3, cwd=self.store
        )

    def _features(self) -> None:
        succeed("features", self.path("decoder"), self.path("texts"), "--out", "features", "--active", 4, "--width", 1, "--tokens", 4096,
                cwd=self.store)  # fmt: skip

    def _hearing(self) -> None:
        write_hearing(self.store / "hearing")

    def _two_ways(self) -> None:
        """Hears by a CTC head, too."""
        write_hearing(self.store / "two-ways", ctc_blank_token_id=265)

    def _recording(self) -> None:
        write_spoken(self.store / "recording", 1.0)

    def _long_recording(self) -> None:
        write_spoken(self.store / "long-recording", 33.0, 1)

    def _poet(self) -> None:
        self._tune("poet", "decoder", "poetry", "verses")

    def _programmer(self) -> None:
        self._tune("programmer", "decoder", "code", "programs")

    def _tokenizer(self) -> None:
        succeed("tokenizer", "train", self.path("texts"), "--out", "tokenizer", "--vocab-size", 300, cwd=self.store)

    def _results(self) -> None:
        write(self.store / "results/chapter.txt", story(3))
        succeed("evaluate", self.path("decoder"), "--on", "chapter.txt", "--store", "results.sqlite", "--out", "evaluation",
                cwd=self.store / "results")  # fmt: skip

    def _llama2c(self) -> None:
        _llama2c(self.store / "llama2c")

    def _gguf(self) -> None:
        write_small(self.store / "gguf" / "model.gguf")

    def _llama2c_folder(self) -> None:
        source = self.path("llama2c")
        succeed("import", "llama2c", source / "model.bin", "--tokenizer", source / "tokenizer.bin", "--out", "llama2c-folder",
                cwd=self.store)  # fmt: skip

    def lay_out(self, names: dict[str, str], folder: Path | None = None) -> Path:
        """A new folder in which these names stand for these things: a kind above, or `rows:KIND`, `text:CONTENT`."""
        folder = folder or Path(tempfile.mkdtemp(dir=self.store))
        for name, kind in names.items():
            path = folder / name
            how, _, what = kind.partition(":")
            if how == "rows":
                write(path, jsonl(ROWS[what]))
            elif how == "list":
                write(path, json.dumps(ROWS[what], ensure_ascii=False))
            elif how == "text":
                write(path, what)
            elif how in ("side", "few"):  # one side of pairs, a text per line
                rows = ROWS["pairs"] if how == "side" else ROWS["pairs"][:3]
                write(path, "".join(row[what] + "\n" for row in rows))
            elif how == "gb18030":
                write(path, (what or story(3)).encode("gb18030"))
            elif how == "latin":
                write(path, "café au lait, crème brûlée, garçon, déjà vu\n".encode("latin-1") * 20)
            elif how == "long":
                write(path, VERSES[0] * 20_000)
            elif how == "epub":
                epub(path, [story(1), story(2)])
            elif how == "warc":
                write(
                    path,
                    warc(("text/html", f"<p>{story(1)}</p>".encode()), ("text/plain", story(2).encode()), packed=False),
                )
            elif how == "torn":
                write(path, jsonl(ROWS[what]) + "{\n")
            elif how == "results-json":
                write(path, json.dumps(RESULTS))
            elif how == "file":  # a file inside a thing
                write(path, (self.path(what.partition("/")[0]).parent / what).read_bytes())
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                if self.path(kind).is_file():
                    shutil.copyfile(self.path(kind), path)
                    continue
                shutil.copytree(self.path(kind), path, dirs_exist_ok=True)
        return folder
