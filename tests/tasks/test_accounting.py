"""Figures of the validation data: nats, tokens, bytes and characters of the same tokens, however many rows are left out.

Against a recomputation of its own: logits one row at a time, log-softmax in float64, bytes of the texts that were scored.
"""

import json
import random
from pathlib import Path

import pytest
import torch

from wenloom.checkpoint.folder import load_model, write_model_files
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tasks.finetune import RECIPES
from wenloom.tasks.recipe import TaskRecipe
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.examples import ExampleData
from wenloom.training.objectives import CausalObjective, Loss
from wenloom.training.parallel import World
from wenloom.training.settings import TrainSettings
from wenloom.training.training_data import CorpusData

CONTEXT = 96


@pytest.fixture(scope="module")
def base(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2, n_kv_heads=2,
                          context_length=CONTEXT, bos_token_id=tokenizer.bos_token_id,
                          eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(3, "base"))
    write_model_files(decoder, folder)
    tokenizer.save_pretrained(folder)
    return folder


def exchanges() -> list[tuple[str, str]]:
    """Questions and answers, nine of ten too long for the model; of several scripts."""
    drawn = random.Random(5)
    short = ["Zwölf Körbe", "春眠不觉晓", "two nets", "emoji 👩‍👩‍👧 too", "ещё чаю"]
    return [
        (f"{number}: {drawn.choice(short)}?", drawn.choice(short) + ("!" if number % 10 == 0 else " and so on" * 90))
        for number in range(60)
    ]


def measured(
    task: str, path: Path, base: Path | None, **data: int
) -> tuple[TaskRecipe, Model, TextTokenizer, Loss, ExampleData]:
    """What a run would say of the model before its first step."""
    fresh = FreshSettings() if base else FreshSettings(layers=1, width=32, heads=2, vocab_size=300, dropout=0.0)
    asked = DataSettings(train=str(path), validation=str(path), **data)  # pyright: ignore
    recipe = RECIPES[task](Settings(task, base, asked, fresh, LearningSettings(), TrainSettings(device="cpu")))
    if base is None:
        model, tokenizer = recipe.fresh()
    else:
        tokenizer = TextTokenizer.from_pretrained(base)
        model = recipe.prepared(load_model(base), tokenizer)
    encoded = recipe.encode(model, tokenizer)
    training_data = ExampleData(tokenizer, encoded.validation, encoded.validation, {})
    loss = training_data.evaluate(recipe.objective(model.eval()), "cpu", World(), lambda n: None)
    assert (loss.tokens, loss.bytes, loss.characters) == (
        training_data.validation_size.tokens, training_data.validation_size.bytes, training_data.validation_size.characters,
    )  # fmt: skip
    return recipe, model, tokenizer, loss, training_data


def nats_of(decoder: Model, read: list[int], targets: list[int]) -> float:
    """-log P of targets behind what is read, in float64."""
    ids = torch.tensor([[*read, *targets]])
    with torch.no_grad():
        log_p = decoder(ids)[0].double().log_softmax(-1)
    return -sum(float(log_p[len(read) + n - 1, token]) for n, token in enumerate(targets))


def agrees(loss: Loss, nats: float, tokens: int, texts: list[str]) -> None:
    assert tokens and len(texts) < 30  # most rows are left out
    expected = Loss(nats, tokens, sum(len(text.encode()) for text in texts), sum(map(len, texts)))
    assert (loss.tokens, loss.bytes, loss.characters) == (expected.tokens, expected.bytes, expected.characters)
    assert loss.figures() == pytest.approx(expected.figures(), rel=1e-4)


def test_chat(base: Path, tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    rows = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in exchanges()]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    _, model, tokenizer, loss, _ = measured("chat", path, base, max_length=80)
    nats, tokens, texts = 0.0, 0, []
    for asked, answer in exchanges():
        ids = [
            tokenizer.encode(part, add_special_tokens=False) for part in (f"User: {asked}\nAssistant:", f" {answer}")
        ]
        if len(ids[0]) + len(ids[1]) + 2 <= 80:  # an end token and a line break follow
            targets = [*ids[1], tokenizer.eos_token_id or 0]
            nats, tokens = nats + nats_of(model, ids[0], targets), tokens + len(targets)
            texts.append(f" {answer}")
    agrees(loss, nats, tokens, texts)


@pytest.mark.parametrize("task, cue, space", [("translation", "\nTranslation:", " "), ("summarization", "\nSummary:", " "),
                                              ("story", "\n", ""), ("poetry", "\n", ""), ("code", "\n", "")])  # fmt: skip
def test_texts_from_texts_by_a_decoder(task: str, cue: str, space: str, base: Path, tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    names = ("source", "target") if space else ("prompt", "text")
    path.write_text(
        "\n".join(json.dumps(dict(zip(names, pair, strict=True))) for pair in exchanges()), encoding="utf-8"
    )
    recipe, model, tokenizer, loss, _ = measured(task, path, base, max_target_tokens=24)
    nats, tokens, texts = 0.0, 0, []
    for pair in recipe.validation:
        target = tokenizer.encode(space + pair.targets[0], add_special_tokens=False)
        if len(target) + 1 <= 24:
            read = [*tokenizer.encode(""), *tokenizer.encode(pair.source + cue, add_special_tokens=False)]
            targets = [*target, tokenizer.eos_token_id or 0]
            nats, tokens = nats + nats_of(model, read, targets), tokens + len(targets)
            texts.append(space + pair.targets[0])
    agrees(loss, nats, tokens, texts)


def test_texts_from_texts_by_a_fresh_model(tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps({"source": a, "target": b}) for a, b in exchanges()), encoding="utf-8")
    recipe, model, tokenizer, loss, _ = measured("translation", path, None, max_target_tokens=24)
    nats, tokens, texts = 0.0, 0, []
    for pair in recipe.validation:
        targets = tokenizer.encode(pair.targets[0])
        if len(targets) <= 24:
            source, read = torch.tensor([tokenizer.encode(pair.source)]), torch.tensor([[0, *targets[:-1]]])
            read[0, 0] = model.config.decoder_start_token_id
            with torch.no_grad():
                log_p = model(source, read)[0].double().log_softmax(-1)
            nats -= sum(float(log_p[n, token]) for n, token in enumerate(targets))
            tokens += len(targets)
            texts.append(pair.targets[0])
    agrees(loss, nats, tokens, texts)


def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.txt"
    path.write_text("\n\n".join(f"{a} {b[:200]}" for a, b in exchanges()), encoding="utf-8")
    return path


def bytes_of_tokens(tokenizer: TextTokenizer, tokens: list[int]) -> bytes:
    """Byte-level vocabularies: each token spelled in the alphabet of GPT-2, special ones left out."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    special = {token for token, each in tokenizer.backend.get_added_tokens_decoder().items() if each.special}
    spelled = "".join(tokenizer.backend.id_to_token(token) for token in tokens if token not in special)  # pyright: ignore[reportCallIssue]
    return bytes(alphabet[character] for character in spelled)


@pytest.mark.parametrize("task", ["fill-mask", "denoising"])
def test_hidden_tokens_and_missing_spans(task: str, tmp_path: Path):
    """Of every window of a text, and of tokens that are a part of a character."""
    _, model, tokenizer, loss, training_data = measured(task, plain(tmp_path), None, max_source_tokens=24)
    nats, hidden = 0.0, []
    for example in training_data._validation:
        rows = {name: torch.tensor([value]) for name, value in example.items()}
        with torch.no_grad():
            if task == "fill-mask":
                log_p = model(rows["inputs_BT"], rows["mask_BT"])[0].double().log_softmax(-1)
            else:
                log_p = model(rows["source_BS"], rows["inputs_BT"])[0].double().log_softmax(-1)
        places = (rows["targets_BT"][0] >= 0).nonzero()[:, 0].tolist()
        nats -= sum(float(log_p[place, rows["targets_BT"][0, place]]) for place in places)
        hidden += [int(rows["targets_BT"][0, place]) for place in places]
    found = bytes_of_tokens(tokenizer, hidden)
    characters = len(found) - sum(0x80 <= byte < 0xC0 for byte in found)
    assert (loss.tokens, loss.bytes, loss.characters) == (len(hidden), len(found), characters)
    assert loss.figures() == pytest.approx(Loss(nats, len(hidden), len(found), characters).figures(), rel=1e-4)


def test_classes_and_preferences_are_no_text(base: Path, tmp_path: Path):
    labels, pairs = tmp_path / "labels.jsonl", tmp_path / "pairs.jsonl"
    labels.write_text("\n".join(json.dumps({"text": a, "label": "ab"[len(b) % 2]}) for a, b in exchanges()))
    pairs.write_text("\n".join(json.dumps({"prompt": a, "chosen": b, "rejected": "no"}) for a, b in exchanges()))
    for task, path in (("classification", labels), ("preference", pairs)):
        room = {"max_length": CONTEXT} if task == "preference" else {}
        _, _, _, loss, training_data = measured(task, path, base, **room)
        assert loss.figures().keys() == {"nats_per_token"} and training_data.bytes_per_token is None
        assert loss.tokens == (60 if task == "classification" else 6)


def test_the_first_token_of_a_corpus_is_in_no_figure(dataset: Dataset, tokenizer: TextTokenizer, base: Path):
    """Nothing stands before it; here it is a special one, which has no bytes, and there a letter, which has."""
    model = load_model(base).eval()
    stream, split = dataset.stream("validation"), dataset.splits["validation"]
    training_data = CorpusData(dataset, dataset.tokenizer(), CONTEXT)
    loss = training_data.evaluate(CausalObjective(model), "cpu", World(), lambda n: None)  # pyright: ignore
    tokens = stream.window(0, len(stream)).tolist()
    nats = sum(
        nats_of(model, tokens[start : start + 1], tokens[start + 1 : start + CONTEXT + 1])
        for start in range(0, len(tokens) - 1, CONTEXT)
    )
    first = bytes_of_tokens(dataset.tokenizer(), tokens[:1])
    expected = Loss(nats, len(tokens) - 1, split.bytes - len(first), split.characters - len(first.decode()))
    assert (loss.tokens, loss.bytes, loss.characters) == (expected.tokens, expected.bytes, expected.characters)
    assert loss.figures() == pytest.approx(expected.figures(), rel=1e-4)


LONG = "".join(chr(0x4E00 + n * 7 % 9000) for n in range(2500))
"""More than any of these models reads, without a blank."""


@pytest.mark.parametrize(
    "task", ["fill-mask", "denoising", "translation", "summarization", "story", "chat", "preference"]
)
def test_what_is_shown_at_an_evaluation_fits_the_model_however_long_the_texts_are(
    task: str, base: Path, tmp_path: Path
):
    path = tmp_path / ("texts.txt" if task in ("fill-mask", "denoising") else "rows.jsonl")
    pairs = [(f"{number} {LONG}", "short") for number in range(12)]
    rows = {
        "chat": [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                               {"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs],
        "preference": [{"prompt": f"{n}?", "chosen": "b", "rejected": "c" + a * (n % 2)} for n, (a, _) in enumerate(pairs)],
    }.get(task, [{"source": a, "target": b, "prompt": a, "text": b} for a, b in pairs])  # fmt: skip
    text = "\n\n".join(a for a, _ in pairs) if path.suffix == ".txt" else "\n".join(map(json.dumps, rows))
    path.write_text(text, encoding="utf-8")
    needs_base = task in ("chat", "preference")
    work, model, tokenizer, _, _ = measured(
        task, path, base if needs_base else None, **({"max_source_tokens": 32} if not needs_base else {})
    )
    samples = work.show(model.eval(), tokenizer).samples
    assert (samples or task == "denoising") and all(sample.prompt for sample in samples)
    work.measure(model, tokenizer)


def test_other_rows_are_chosen_for_validation_where_none_of_those_chosen_fits(base: Path, tmp_path: Path):
    """Or a run would end though half of its rows can be learned."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}?", "response": "so " * (200 if n % 10 else 2)} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    for seed in range(4):
        asked = DataSettings(train=str(path), max_length=CONTEXT)
        work = RECIPES["chat"](
            Settings("chat", base, asked, FreshSettings(), LearningSettings(), TrainSettings(seed=seed))
        )
        tokenizer = TextTokenizer.from_pretrained(base)
        encoded = work._encoded(work.prepared(load_model(base), tokenizer), tokenizer)
        assert (
            encoded.validation
            and len(encoded.train)
            and {str(row) for row in work.train}.isdisjoint(map(str, work.validation))
        )
    path.write_text("\n".join(json.dumps(row) for row in rows if len(row["response"]) > 99))
    work = RECIPES["chat"](
        Settings(
            "chat",
            base,
            DataSettings(train=str(path), max_length=CONTEXT),
            FreshSettings(),
            LearningSettings(),
            TrainSettings(),
        )
    )
    with pytest.raises(
        InputError, match="no example is left for training: all 54 are too long; allow more by --max-length"
    ):
        work._encoded(work.prepared(load_model(base), tokenizer), tokenizer)
