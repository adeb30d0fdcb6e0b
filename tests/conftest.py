"""Fixtures that many tests share: small texts, tokenizers and models, made on the spot."""

import functools
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import wenloom.training.measure
import wenloom.training.setup
from wenloom.core.hardware import matmul_peak
from wenloom.core.randomness import generator
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # in a shell's background: programs begun here would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

VERSES = [
    "The lamp was lit at dusk, and the keeper read aloud to nobody.",
    "A storm came from the west; the boats stayed in, the nets stayed dry.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "def area(r):\n    return 3.14159 * r ** 2\n\n\nprint(area(2))",
    "emoji 👩‍👩‍👧 and tabs\tand  two blanks",
]
"""Short texts of several languages and kinds."""


def story(number: int) -> str:
    """A text like no other, long enough to learn from."""
    lines = [f"Chapter {number}."]
    for part in range(6):
        lines.append(f"{VERSES[(number + part) % len(VERSES)]} And so ended day {part} of journey {number}.")
    return "\n".join(lines)


def pytest_collection_finish() -> None:
    """What stands by now stays: the collector need not look at it again in every training that frees memory."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test draws its own numbers, whatever ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def quick_machine() -> Iterator[None]:
    """The machine's speed, which every training measures for a second or more, measured once and by less."""
    with pytest.MonkeyPatch.context() as patch:
        peak = functools.cache(lambda device, dtype: matmul_peak(device, dtype, 256))
        for module in (wenloom.training.measure, wenloom.training.setup):
            patch.setattr(module, "matmul_peak", peak)
        yield


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [story(number) for number in range(60)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> TextTokenizer:
    return train_tokenizer(texts, "bpe", 400)


@pytest.fixture(scope="session")
def dataset(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("corpus")
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return prepare([str(folder)], folder / "prepared", PrepareOptions("bpe", 400)).dataset


def tiny_config(vocab_size: int = 400, architecture: str = "llama", context_length: int = 32) -> ModelConfig:
    return from_scratch(
        architecture,  # pyright: ignore[reportArgumentType]
        vocab_size=vocab_size,
        n_layers=2,
        d_model=32,
        n_heads=4,
        n_kv_heads=2 if architecture in ("llama", "qwen3") else 4,
        context_length=context_length,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )


def random_decoder(config: ModelConfig, seed: int = 0) -> Decoder:
    """Weights large enough that predictions differ from token to token."""
    decoder = Decoder(config)
    decoder.initialise(generator(seed, "test"))
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() > 1:
                parameter *= 8
    return decoder.eval()


@pytest.fixture(scope="session")
def decoder() -> Decoder:
    return random_decoder(tiny_config())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public datasets, if there is one."""
    folder = Path(os.environ.get("WENLOOM_SHARED_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no datasets at {folder}; set WENLOOM_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of pretrained models, if there is one."""
    folder = os.environ.get("WENLOOM_REAL_MODELS")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("no pretrained models; set WENLOOM_REAL_MODELS")
    return Path(folder)
