"""Training for tasks, from files to answers: tiny models that learn what can be learned in seconds."""

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.cli.calling import call, refused
from wenloom.auto import AutoTokenizer
from wenloom.checkpoint.folder import load_decoder, load_model, write_model_files
from wenloom.cli.app import build_app
from wenloom.cli.finetune import summary
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.lora import adapted_layers
from wenloom.model.presets import from_scratch
from wenloom.tasks.apply import PairWriter
from wenloom.tasks.classification import classify
from wenloom.tasks.dialogue import DialogueRecipe, PreferenceRecipe
from wenloom.tasks.finetune import finetune, finished_result, resume
from wenloom.tasks.messages import ChatEncoder
from wenloom.tasks.pairs import TRANSLATION, bounds
from wenloom.tasks.recipe import TaskResult
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.chat import PLAIN_TEMPLATE, Message
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer
from wenloom.training.columns import Targets, Tokens, collated
from wenloom.training.comparison import compare
from wenloom.training.examples import Examples
from wenloom.training.history import read_metrics
from wenloom.training.interrupt import Interrupted
from wenloom.training.objectives import CausalObjective
from wenloom.training.parallel import World
from wenloom.training.run_file import read_run
from wenloom.training.settings import TrainSettings

WORDS = {"red": "rot", "green": "grün", "blue": "blau", "one": "eins", "two": "zwei", "dog": "Hund", "cat": "Katze"}
SHORT = TrainSettings(steps=300, batch=16, evaluations=1, device="cpu", precision="fp32")
SMALL = FreshSettings(layers=1, width=32, heads=2, vocab_size=300, dropout=0.0)


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    drawn = random.Random(seed)
    chosen = [[drawn.choice(sorted(WORDS)) for _ in range(drawn.randint(1, 5))] for _ in range(count)]
    return [(" ".join(words), " ".join(WORDS[word] for word in words)) for words in chosen]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("\n".join(json.dumps({"source": a, "target": b}) for a, b in sentences(600)))
    return path


@pytest.fixture(scope="module")
def translator(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("translator") / "run"
    training = TrainSettings(steps=400, batch=32, evaluations=2, device="cpu", learning_rate=0.01)
    result = finetune("translation", out, None, DataSettings(train=str(pairs)), SMALL, LearningSettings(), training)
    assert result.figures["bleu"][0] > 60
    return out


def test_a_translator_from_scratch_translates(translator: Path):
    model, tokenizer = load_model(translator), TextTokenizer.from_pretrained(translator)
    writer = PairWriter(model, tokenizer, TRANSLATION)
    for options in ({}, {"num_beams": 4}):
        found = [answer.text.strip() for answer in writer.write(["two dog", "blue", "red cat"], **options)]
        assert found == ["zwei Hund", "blau", "rot Katze"]


def test_a_recipe_adds_copies_that_went_there_and_back(translator: Path, tmp_path: Path):
    """Translated twice by the same model, which leaves words that it does not know as some German word or other."""
    texts = [" ".join(sorted(WORDS)[number % 5 :][:3]) for number in range(40)]
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n, text in enumerate(texts))
    )
    steps = ("--recipe", "plain", "--set", "back_translation=on", "--set", f'back_translation.there="{translator}"')
    made = call("prepare", "texts.jsonl", "--out", "corpus", *steps, "--set", f'back_translation.back="{translator}"',
                "--set", "back_translation.share=0.5", cwd=tmp_path)  # fmt: skip
    assert made.code == 0, made.err
    card = json.loads((tmp_path / "corpus/data-card.json").read_text())
    assert 5 < card["added"]["back_translation"]["documents"] < 35 and card["kept"]["documents"] == 40
    shown = card["examples"]["added by back_translation"][0]["text"]
    assert any(word in shown for word in WORDS.values())
    given = ("prepare", "texts.jsonl", "--out", "other", "--recipe", "plain", "--set", "back_translation=on")
    nowhere = ("--set", 'back_translation.there="nowhere"', "--set", 'back_translation.back="nowhere"')
    assert "nowhere" in refused(*given, *nowhere, cwd=tmp_path) and not (tmp_path / "other").exists()
    assert "back_translation.there: name the folder" in refused(*given, cwd=tmp_path)


def test_transformers_writes_the_same(translator: Path):
    theirs = transformers.MarianMTModel.from_pretrained(translator).eval()
    tokenizer = TextTokenizer.from_pretrained(translator)
    ids = torch.tensor([tokenizer.encode("one green cat")])
    written = theirs.generate(ids, num_beams=1, do_sample=False, max_new_tokens=20)[0]
    ours = next(PairWriter(load_model(translator), tokenizer, TRANSLATION).write(["one green cat"]))
    assert tokenizer.decode(written, skip_special_tokens=True).strip() == ours.text.strip()


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """A training inside is stopped before this step."""
    from wenloom.training.train_step import TrainStep

    original, done = TrainStep.step, []

    def stopping(self: TrainStep, *arguments: Any) -> Any:
        done.append(1)
        if len(done) == step:
            raise Interrupted("stopped", "wenloom finetune --resume")
        return original(self, *arguments)

    monkeypatch.setattr("wenloom.training.setup.time_steps", lambda *_, **__: 0.01)
    monkeypatch.setattr(TrainStep, "step", stopping)
    with pytest.raises(Interrupted):
        yield
    monkeypatch.setattr(TrainStep, "step", original)


def test_an_interrupted_training_goes_on(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, training = DataSettings(train=str(pairs)), TrainSettings(steps=20, batch=8, evaluations=2, device="cpu")
    whole = finetune("translation", tmp_path / "whole", None, data, SMALL, LearningSettings(), training)
    with interrupted(monkeypatch, 15):
        finetune("translation", tmp_path / "cut", None, data, SMALL, LearningSettings(), training)
    again = resume(tmp_path / "cut")
    assert again.run.loss.nats == pytest.approx(whole.run.loss.nats, rel=1e-6)
    pairs.write_text(pairs.read_text() + '\n{"source": "x", "target": "y"}')
    with pytest.raises(InputError, match="not those that this run was started on"):
        resume(tmp_path / "cut")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that knows nothing yet."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer([f"User: {a}\nAssistant: {b}\n" for a, b in sentences(200)], "bpe", 300)
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=2, d_model=48, n_heads=2, n_kv_heads=2,
                          context_length=64, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                          pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "base"))
    write_model_files(decoder, folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_sources_and_targets_share_the_context_of_a_decoder(
    base: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Whose context is shorter than what is asked for by default: it learns, writes and is measured all the same."""
    training = TrainSettings(steps=3, batch=8, evaluations=1, device="cpu")
    result = finetune("translation", tmp_path / "run", base, DataSettings(train=str(pairs)), training=training)
    assert set(result.figures) == {"bleu"} and units_of_the_loss(result, capsys) == {"nats per token"}
    model, tokenizer = load_model(base), TextTokenizer.from_pretrained(base)
    assert bounds(model.config, None, None) == (32, 32) and bounds(model.config, 9, 20) == (9, 20)
    with pytest.raises(InputError, match="--max-new-tokens 50: this model's context allows 32"):
        PairWriter(model, tokenizer, TRANSLATION, max_new_tokens=50)


def test_rows_that_are_left_out_are_named_before_too_few_are_left(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [{"text": "x" * 1_000_000, "label": "a"}, {"text": "good", "label": "b"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="too few"):
        finetune("classification", tmp_path / "run", base, DataSettings(train=str(tmp_path / "rows.jsonl")))
    assert "line 1: has 1,000,0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def chat(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    rows = [{"instruction": a, "output": b} for a, b in sentences(500)]
    (folder / "talk.json").write_text(json.dumps(rows))
    training = TrainSettings(steps=250, batch=8, evaluations=1, device="cpu", learning_rate=0.003)
    result = finetune("chat", folder / "run", base, DataSettings(train=str(folder / "talk.json")), training=training)
    assert result.figures["stopped"][0] >= 0.99
    return folder / "run"


def test_a_base_model_learns_to_answer_and_to_stop(chat: Path, capsys: pytest.CaptureFixture[str]):
    assert AutoTokenizer.from_pretrained(chat).chat_template == PLAIN_TEMPLATE
    build_app(["generate"])(
        ["generate", str(chat), "User: two dog\nAssistant:", "--greedy"],
        exit_on_error=False,
        result_action="return_value",
    )
    assert capsys.readouterr().out == " zwei Hund\n"


@pytest.mark.parametrize(
    "method, quantize", [pytest.param("lora", None, marks=pytest.mark.slow), ("dora", None), ("lora", "int8")]
)
def test_adapters_learn_a_new_task(chat: Path, tmp_path: Path, method: Any, quantize: str | None):
    rows = [{"prompt": a, "response": b.upper()} for a, b in sentences(300)]
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, rows)))
    learning = LearningSettings(method=method, quantize=quantize, rank=8)
    training = TrainSettings(steps=150, batch=8, evaluations=1, device="cpu", learning_rate=0.01)
    data = DataSettings(train=str(tmp_path / "talk.jsonl"))
    before = finetune(
        "chat", tmp_path / "none", chat, data, training=TrainSettings(steps=1, batch=1, learning_rate=1e-9)
    )
    after = finetune("chat", tmp_path / "run", chat, data, learning=learning, training=training)
    assert after.run.loss.nats_per_token < 0.7 * before.run.loss.nats_per_token
    assert {path.name for path in (tmp_path / "run").glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert not any(adapted_layers(load_decoder(tmp_path / "run")))  # merged


@pytest.mark.parametrize("pack", [True, False])
def test_a_step_holds_as_many_conversations_whether_they_share_rows_or_not(pack: bool, base: Path, tmp_path: Path):
    rows = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "ok"}]} for n in range(98)
    ]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data, learning = DataSettings(train=str(tmp_path / "chat.jsonl")), LearningSettings(pack=pack)
    recipe = DialogueRecipe(Settings("chat", base, data, FreshSettings(), learning, TrainSettings()))
    source = recipe._specified(World())[0].source
    shared = 97 / len(source.examples)  # pyright: ignore
    assert (shared > 2) == pack and 12 <= shared * source.batch <= 20
    assert recipe.settings.table()["batch"] == source.batch


def test_packed_rows_give_the_loss_of_their_conversations(base: Path):
    tokenizer = TextTokenizer.from_pretrained(base)
    tokenizer.chat_template = PLAIN_TEMPLATE
    talk = [(Message("user", a), Message("assistant", b)) for a, b in sentences(12)]
    for architecture in ("llama", "gpt2"):  # without and with positions that must begin anew
        config = from_scratch(architecture, vocab_size=tokenizer.vocab_size, n_layers=2, d_model=32, n_heads=2,
                              n_kv_heads=2, context_length=64)  # fmt: skip
        decoder = Decoder(config)
        decoder.initialise(generator(1, "packed"))
        objective = CausalObjective(decoder.eval())
        losses = []
        for pack in (False, True):
            examples = ChatEncoder(tokenizer, 64).examples(talk, pack)
            losses.append(sum(float(objective(**collated([example])).total) for example in examples))
            losses.append(float(objective(**collated(examples)).total))
        assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


def units_of_the_loss(result: TaskResult, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What it is a mean over, wherever a run says so: at each step, in the end, in the card and on pages."""
    run, found = result.run.folder, capsys.readouterr()
    step = next(line for line in (found.out + found.err).splitlines() if line.startswith("step "))
    texts = [step, summary(result), (run / "README.md").read_text(), (run / "report.html").read_text(), compare([run])]
    units = [set(re.findall(r"nats (?:per |/)(?!character)\w+", text)) for text in texts]
    assert all(units[:4])  # runs are compared in bits per byte where they have them
    return set().union(*units)


def test_preferences_are_learned(chat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": a, "chosen": b.lower(), "rejected": b} for a, b in sentences(400) if b.lower() != b]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    training = TrainSettings(steps=60, batch=8, evaluations=1, device="cpu", learning_rate=0.001)
    data = DataSettings(train=str(tmp_path / "pairs.jsonl"))
    result = finetune("preference", tmp_path / "run", chat, data, training=training)
    accuracy, error = result.figures["preferred"]
    assert accuracy > 0.5 + 2 * (error or 0.01)
    assert result.run.loss.nats_per_token < 0.6  # ln 2 where it began
    assert units_of_the_loss(result, capsys) == {"nats per pair"}
    adapter = finetune(
        "preference", tmp_path / "lora", chat, data, learning=LearningSettings(method="lora"), training=training
    )
    assert adapter.run.loss.nats_per_token < 0.69
    assert PreferenceRecipe.needs_base


def labelled(path: Path) -> Path:
    drawn = random.Random(1)
    words = {"animal": ["dog", "cat"], "colour": ["red", "green", "blue"], "number": ["one", "two"]}
    rows = []
    for _ in range(400):
        label = drawn.choice(sorted(words))
        rows.append({"text": " ".join(drawn.choice(words[label]) for _ in range(3)), "label": label})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_an_interrupted_adapter_with_classes_goes_on(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataSettings(train=str(labelled(tmp_path / "labels.jsonl")))
    training = TrainSettings(steps=20, batch=8, evaluations=2, device="cpu", learning_rate=0.01)
    asked = {"learning": LearningSettings(method="lora", rank=2), "training": training}
    whole = finetune("classification", tmp_path / "whole", base, data, **asked)
    with interrupted(monkeypatch, 15):
        finetune("classification", tmp_path / "cut", base, data, **asked)
    assert resume(tmp_path / "cut").run.loss.nats == pytest.approx(whole.run.loss.nats, rel=1e-6)
    evaluated = [line["step"] for line in read_metrics(tmp_path / "cut") if "validation" in line]
    assert evaluated == [10, 20]  # none is lost, though classes have no bits per byte


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_classes_are_learned(kind: str, method: Any, base: Path, tmp_path: Path):
    start = base
    if kind == "encoder":
        start = tmp_path / "bert"
        tokenizer = TextTokenizer.from_pretrained(base)
        config = transformers.BertConfig(vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1,
                                         num_attention_heads=2, intermediate_size=64, max_position_embeddings=32)  # fmt: skip
        torch.manual_seed(0)
        transformers.BertForMaskedLM(config).save_pretrained(start)
        tokenizer.save_pretrained(start)
    rate = 0.003 if method == "full" else 0.02
    training = TrainSettings(steps=150, batch=16, evaluations=5, device="cpu", learning_rate=rate)
    data = DataSettings(train=str(labelled(tmp_path / "labels.jsonl")))
    learning = LearningSettings(method=method)
    result = finetune("classification", tmp_path / "run", start, data, learning=learning, training=training)
    assert result.figures["accuracy"][0] > (0.95 if method == "full" else 0.8)
    model, tokenizer = load_model(tmp_path / "run"), TextTokenizer.from_pretrained(tmp_path / "run")
    assert model.config.labels == ("animal", "colour", "number")
    if method == "lora":
        return  # beside an encoder that knows nothing; what PEFT makes of it: tests/checkpoint/test_adapter.py
    assert [guess.label for guess in classify(model, tokenizer, ["dog dog", "blue", "two one"])] == [
        "animal",
        "colour",
        "number",
    ]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    ids = torch.tensor([tokenizer.encode("green red")])
    assert theirs.config.id2label[int(theirs(ids).logits.argmax())] == "colour"


def test_only_the_head_learns(base: Path, tmp_path: Path):
    training = TrainSettings(steps=20, batch=16, evaluations=1, device="cpu", learning_rate=0.003)
    data = DataSettings(train=str(labelled(tmp_path / "labels.jsonl")))
    finetune(
        "classification", tmp_path / "run", base, data, learning=LearningSettings(method="head"), training=training
    )
    before, after = load_model(base).state_dict(), load_model(tmp_path / "run").state_dict()
    moved = {name for name, tensor in after.items() if name not in before or not tensor.equal(before[name])}
    assert moved == {"classifier.output.weight"}


def test_batches_hold_like_lengths_and_every_example_once_an_epoch():
    examples = [
        {"inputs_BT": Tokens([1] * n), "targets_BT": Targets([2] * n)}
        for n in random.Random(0).choices(range(1, 50), k=130)
    ]
    made = Examples(examples, 16, seed=3)
    seen = [made.rows(start, start + 16) for start in range(0, made.per_epoch, 16)]
    assert sum(len(rows["inputs_BT"]) for rows in seen) == 144  # 130, and 14 again
    padding = sum(float((rows["targets_BT"] == -100).float().mean()) for rows in seen) / len(seen)
    assert padding < 0.2
    again = Examples(examples, 16, seed=3)
    assert again.rows(32, 48)["inputs_BT"].equal(made.rows(32, 48)["inputs_BT"])
    assert made.rows(40, 44)["inputs_BT"].shape[0] == 4  # a process's part of a step


@pytest.mark.parametrize("settings, why", [
    (dict(task="juggling"), "known are"),
    (dict(task="chat"), "begins with a model"),
    (dict(task="translation", learning=LearningSettings(method="lora")), "nothing to freeze"),
    (dict(task="translation", data=DataSettings()), "--train"),
])  # fmt: skip
def test_what_does_not_fit_together_is_refused(settings: dict[str, Any], why: str, pairs: Path, tmp_path: Path):
    with pytest.raises(InputError, match=why):
        finetune(out=tmp_path / "run", **({"data": DataSettings(train=str(pairs))} | settings))
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_token_to_learn_is_refused(base: Path, pairs: Path, tmp_path: Path):
    long = tmp_path / "long.tsv"
    long.write_text("".join(f"{number}\ta target of many tokens, the {number}th\n" for number in range(60)))
    with pytest.raises(InputError, match="no example is left for training: all 60 are too long"):
        finetune("translation", tmp_path / "run", base, DataSettings(train=str(long), max_target_tokens=2))
    encoder = tmp_path / "bert"
    config = transformers.BertConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    transformers.BertForMaskedLM(config).save_pretrained(encoder)
    TextTokenizer.from_pretrained(base).save_pretrained(encoder)
    assert isinstance(load_model(encoder), Encoder)
    with pytest.raises(InputError, match="encoder, which cannot write"):
        finetune("translation", tmp_path / "run", encoder, DataSettings(train=str(pairs)))
    with pytest.raises(InputError, match="no head to learn"):
        finetune(
            "chat",
            tmp_path / "run",
            base,
            DataSettings(train=str(_talk(tmp_path))),
            learning=LearningSettings(method="head"),
        )


def _talk(folder: Path) -> Path:
    path = folder / "talk.json"
    path.write_text(json.dumps([{"prompt": a, "response": b} for a, b in sentences(60)]))
    return path


@pytest.mark.parametrize("method", [pytest.param("full", marks=pytest.mark.slow), "lora"])
def test_a_finished_training_is_prolonged(method: str, base: Path, tmp_path: Path):
    rows = [{"messages": [{"role": "user", "content": f"How many is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
            for n in range(40)]  # fmt: skip
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data, learning = DataSettings(train=str(tmp_path / "chat.jsonl")), LearningSettings(method=method)  # pyright: ignore
    training = TrainSettings(steps=3, batch=2, evaluations=1, device="cpu", precision="fp32")
    done = finetune("chat", tmp_path / "run", base, data, learning=learning, training=training)
    told = finished_result(tmp_path / "run")
    assert told is not None and told.run.steps == 3 and told.figures == done.figures
    longer = resume(tmp_path / "run", TrainSettings(steps=4))
    assert longer.run.steps == 7 and longer.run.loss.nats_per_token < done.run.loss.nats_per_token
    assert resume(tmp_path / "run").run.steps == 7
    assert read_run(tmp_path / "run")["result"]["prolonged"] == ["at step 3 by --steps 4"]
