"""GPT and BERT side by side: both trained on the same books for the same time, with one vocabulary.

Three questions, on books that neither has seen: how probable the text is to each (perplexity of the one,
pseudo-perplexity of the other: two measures that do not compare, each told with what it means); which token stands where
one is hidden (the GPT knows what comes before it only); and, after fine-tuning both on the same labelled stretches, who
wrote a stretch of text.

    WENLOOM_SHARED_DATA=... python bench/gpt_and_bert.py [--minutes 5] [--out gpt_and_bert.json]
"""

import argparse
import gzip
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wenloom.checkpoint.folder import load_model
from wenloom.evaluation.pseudo import pseudo_score
from wenloom.evaluation.significance import interval, paired
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.tasks.classification import classify
from wenloom.tasks.finetune import finetune
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import ModelSettings, TrainSettings

AUTHORS, STRETCHES, CONTEXT = 8, 250, 128
"""Authors told apart, labelled stretches of each, and the tokens that both models see at once."""


def read_books() -> list[dict[str, str]]:
    path = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data")) / "classic_books" / "books.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def split(books: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, dict[str, str]]]:
    """Books to learn language from, and two unseen ones of each of some authors: to tune on, and to test on."""
    by_author: dict[str, list[dict[str, str]]] = {}
    for book in books:
        if len(book["text"]) > 80_000:
            by_author.setdefault(book["author"], []).append(book)
    chosen = sorted(author for author, own in by_author.items() if len(own) >= 2)[:AUTHORS]
    unseen = {
        author: {"train": by_author[author][0]["text"], "test": by_author[author][1]["text"]} for author in chosen
    }
    taken = {text for texts in unseen.values() for text in texts.values()}
    return [book for book in books if book["text"] not in taken], unseen


def stretches(text: str, count: int, drawn: random.Random) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + 60]) for at in drawn.sample(range(1000, len(words) - 1000), count)]


@torch.inference_mode()
def hits(model: Model, tokenizer: TextTokenizer, texts: list[str], plain: TextTokenizer) -> np.ndarray:
    """Whether the most probable token is the hidden one: the middle token of each text."""
    found = []
    for text in texts:
        ids = plain.encode(text, add_special_tokens=False)
        middle = len(ids) // 2
        if isinstance(model, Encoder):
            assert tokenizer.mask_token_id is not None
            around = tokenizer.encode("")
            row = [around[0], *ids[:middle], tokenizer.mask_token_id, *ids[middle + 1 :], around[-1]][:CONTEXT]
            logits = model.unembed(model.hidden(torch.tensor([row]))[0, middle + 1])
        else:
            assert isinstance(model, Decoder)
            logits = model.unembed(model.hidden(torch.tensor([[tokenizer.bos_token_id, *ids[:middle]]]))[0, -1])
        found.append(int(logits.argmax()) == ids[middle])
    return np.array(found, float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="time to train each model")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    general, unseen = split(read_books())
    drawn, budget = random.Random(0), f"{arguments.minutes}min"
    rows: dict[str, list[dict[str, str]]] = {
        side: [{"text": text, "label": author} for author, texts in unseen.items()
               for text in stretches(texts[side], STRETCHES if side == "train" else STRETCHES // 2, drawn)]
        for side in ("train", "test")
    }  # fmt: skip
    tested = [row["text"] for row in rows["test"]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = folder / "books.jsonl"
        texts.write_text("\n".join(json.dumps({"text": book["text"]}) for book in general))
        for side, some in rows.items():
            (folder / f"{side}.jsonl").write_text("\n".join(map(json.dumps, some)))
        prepare([str(texts)], folder / "corpus", PrepareOptions(vocab_size=4096))
        plain = TextTokenizer.from_pretrained(folder / "corpus")
        training = TrainSettings(budget=budget, seed=0)
        pretrain(
            folder / "corpus",
            folder / "gpt",
            ModelSettings(arch="gpt2", layers=4, width=256, heads=4, context=CONTEXT),
            training,
        )
        finetune("fill-mask", folder / "bert", None, DataSettings(str(texts), max_source_tokens=CONTEXT),
                 FreshSettings(layers=4, width=256, heads=4, tokenizer=str(folder / "corpus")),
                 training=TrainSettings(budget=budget, batch=16, seed=0))  # fmt: skip
        figures: dict[str, Any] = {}
        right: dict[str, dict[str, np.ndarray]] = {"fill": {}, "classify": {}}
        for name in ("gpt", "bert"):
            model, tokenizer = load_model(folder / name), TextTokenizer.from_pretrained(folder / name)
            finetune("classification", folder / f"{name}-authors", folder / name,
                     DataSettings(str(folder / "train.jsonl")), learning=LearningSettings(),
                     training=TrainSettings(epochs=4, seed=0))  # fmt: skip
            tuned = load_model(folder / f"{name}-authors")
            guesses = classify(tuned, tokenizer, tested)
            right["classify"][name] = np.array([
                guess.label == row["label"] for guess, row in zip(guesses, rows["test"], strict=True)], float)  # fmt: skip
            right["fill"][name] = hits(model, tokenizer, tested, plain)
            figures[name] = {"parameters": model.n_parameters(), "nats_per_token": nats(model, tokenizer, tested[::5])}
            for what, each in right.items():
                figures[name][what] = interval(each[name])._asdict()
        for what, each in right.items():
            figures[f"{what}: gpt - bert"] = paired(each["bert"], each["gpt"])._asdict()
    print(json.dumps(figures, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


def nats(model: Model, tokenizer: TextTokenizer, texts: list[str]) -> float:
    """-log P per token: of each token given those before it, or given all others."""
    if isinstance(model, Encoder):
        scores = [pseudo_score(model, tokenizer, text) for text in texts]
    else:
        assert isinstance(model, Decoder)
        from wenloom.evaluation.perplexity import score

        scores = [score(model, tokenizer, text) for text in texts]
    return -sum(each.log_probability for each in scores) / sum(len(each.token_ids) for each in scores)


if __name__ == "__main__":
    main()
