"""Generation speed, side by side with transformers, llama.cpp and CTranslate2 on the same weights.

Each engine runs in a process of its own with two threads; `rounds.py` says how they take turns, what is thrown away and
what is no result, `engines.py` how each is driven. The model is random and Llama-shaped (GPT-2-shaped for CTranslate2),
written as a Wenloom folder, or a real one, such as SmolLM2; llama.cpp reads the GGUF file that Wenloom exports from it.
Measured apart: decoding one text, reading prompts of 512 and 4,096 tokens, 16 texts of mixed length at once.

    python bench/generation.py [--sizes 15m 124m 350m] [--model FOLDER] [--rounds 5] [--contestants ...]

llama.cpp and CTranslate2 need `pip install llama-cpp-python ctranslate2`. Figures go into `bench/history`; `make
bench-report` shows them.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from history import Wanted, record
from rounds import MOST_ROUNDS, ROUNDS, Need, Round, Tournament, cache_bytes, in_own_process


class Size(NamedTuple):
    layers: int
    width: int
    heads: int


SIZES = {"15m": Size(6, 288, 6), "124m": Size(12, 768, 12), "350m": Size(24, 1024, 16)}
VOCABULARY, CONTEXT = 50304, 8192
OURS = ["wenloom-fp32", "wenloom-bf16", "wenloom-int8", "wenloom-int4"]
PEERS = ["hf-fp32", "hf-bf16", "llamacpp-f32", "llamacpp-f16", "llamacpp-q8_0", "llamacpp-q4_0"]
CT2 = ["ct2-fp32", "ct2-int8", "wenloom_gpt2-fp32", "wenloom_gpt2-int8"]
EQUAL = {"fp32": "f32", "bf16": "f16", "int8": "q8_0", "int4": "q4_0"}
"""Our number types and those of llama.cpp."""
BITS = {"fp32": 32, "f32": 32, "bf16": 16, "f16": 16, "int8": 8, "q8_0": 8, "int4": 4, "q4_0": 4}
"""The least that a weight takes, without scales."""


def write_model(folder: Path, size: Size, arch: str) -> None:
    """A model of random weights, with a tokenizer of bytes and of names for the other tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    from wenloom.checkpoint.folder import write_model_files
    from wenloom.core.randomness import generator
    from wenloom.model.decoder import Decoder
    from wenloom.model.presets import from_scratch
    from wenloom.tokens.tokenizer import TextTokenizer

    config = from_scratch(arch, vocab_size=VOCABULARY, n_layers=size.layers, d_model=size.width, n_heads=size.heads,  # pyright: ignore
                          n_kv_heads=size.heads, context_length=CONTEXT, bos_token_id=0, eos_token_id=0, pad_token_id=1)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "bench"))
    write_model_files(decoder, folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words.add_tokens([AddedToken(f"<t{number}>", normalized=False) for number in range(len(letters), VOCABULARY)])
    TextTokenizer(words, dict.fromkeys(("bos_token", "eos_token"), "<t256>")).save_pretrained(folder)


def write_gguf(folder: Path, contestants: list[str]) -> None:
    """The files that llama.cpp reads."""
    from wenloom.checkpoint.folder import load_decoder
    from wenloom.checkpoint.gguf.export import export_gguf
    from wenloom.tokens.tokenizer import TextTokenizer

    decoder, text = load_decoder(folder), TextTokenizer.from_pretrained(folder)
    for kind in (each.removeprefix("llamacpp-") for each in contestants if each.startswith("llamacpp-")):
        export_gguf(decoder, text, folder / f"model-{kind}.gguf", kind.upper())


def needs(folder: Path) -> Any:
    """What a token takes at least: the weights of matrices, read once a step (or by every text where there are 16), and two
    operations for each."""
    from wenloom.checkpoint.folder import load_decoder
    from wenloom.training.measure import flops_per_token

    config = load_decoder(folder).config
    output = config.vocab_size * config.d_model
    weights = flops_per_token(config, 0) / 6
    in_cache = cache_bytes()

    def need(contestant: str, figure: str) -> Need:
        if figure.startswith("prefill"):
            return Need(flops=2 * (weights - output))
        read = weights * BITS[contestant.split("-")[1]] / 8
        # what stays in the cache from step to step is not read from memory
        return Need(2 * weights, max(0.0, read - 2 * in_cache) / (16 if figure == "streams" else 1))

    return need


def wanted(names: list[str]) -> list[Wanted]:
    """The ratios that are looked at, with what they are to be."""
    by_kind = [
        Wanted("decode", f"wenloom-{kind}", f"llamacpp-{theirs}", 1.2 if kind in ("fp32", "bf16") else 1.5)
        for kind, theirs in EQUAL.items()
    ]
    by_kind += [Wanted("streams", f"wenloom-{kind}", f"llamacpp-{theirs}") for kind, theirs in EQUAL.items()]
    by_kind += [Wanted("decode", f"wenloom-{kind}", f"hf-{kind}") for kind in ("fp32", "bf16")]
    by_kind += [Wanted("decode", f"wenloom_gpt2-{kind}", f"ct2-{kind}") for kind in ("fp32", "int8")]
    for length in (512, 4096):
        by_kind.append(Wanted(f"prefill {length}", "wenloom-bf16", "hf-bf16", 1.5))
    return [each for each in by_kind if each.ours in names and each.peer in names]


def against_the_best(tournament: Tournament, names: list[str]) -> list[Wanted]:
    """Ratios of our best format to the best of llama.cpp's."""
    found = []
    for figure, least in (("prefill 512", 1.2), ("prefill 4096", 1.2), ("streams", 4.0)):
        ours, theirs = (
            tournament.best(figure, [each for each in names if each.startswith(who)])
            for who in ("wenloom-", "llamacpp-")
        )
        if ours and theirs:
            found.append(Wanted(figure, ours, theirs, least))
    return found


def run(name: str, folders: dict[str, Path], arguments: argparse.Namespace) -> None:
    """All rounds of one model."""
    contestants = [each for each in arguments.contestants if folder_of(each, folders) is not None]
    write_gguf(folders["llama"], contestants)

    def measure(contestant: str) -> Round | None:
        script = Path(__file__).with_name("engines.py")
        return in_own_process([str(script), contestant, str(folder_of(contestant, folders))], threads=2)

    tournament = Tournament(contestants, measure, needs(folders["llama"])).run(arguments.rounds, arguments.most_rounds)
    names = list(tournament.figures())
    record(f"generation {name}", "tokens a second", tournament, [*wanted(names), *against_the_best(tournament, names)])
    for each in names:
        ready = [found.more["ready"] for found in tournament.rounds[each]]
        print(f"  {each:20} ready {min(ready):.2f} to {max(ready):.2f} s")
    exact = [
        tournament.more(each).get("tokens") for each in ("wenloom-fp32", "hf-fp32", "llamacpp-f32") if each in names
    ]
    print(f"  float32 engines write the same tokens: {all(tokens == exact[0] for tokens in exact)}")


def folder_of(contestant: str, folders: dict[str, Path]) -> Path | None:
    """Where the weights of a contestant are; None where there are none of its shape."""
    return folders.get("gpt2" if contestant in CT2 else "llama")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--model", type=Path, help="a folder of real weights, measured after the random ones")
    parser.add_argument("--contestants", nargs="+", default=[*OURS, *PEERS, *CT2], choices=[*OURS, *PEERS, *CT2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--most-rounds", type=int, default=MOST_ROUNDS)
    arguments = parser.parse_args()
    if arguments.model and not (arguments.model / "config.json").exists():
        sys.exit(f"{arguments.model}: is not a model folder (it has no config.json)")
    for name in arguments.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folders = {arch: Path(temporary) / arch for arch in ("llama", "gpt2")}
            for arch, folder in folders.items():
                folder.mkdir()
                write_model(folder, SIZES[name], arch)
            run(name, folders, arguments)
    if arguments.model:
        with tempfile.TemporaryDirectory() as temporary:  # GGUF files are written beside the weights
            folder = Path(temporary) / "llama"
            folder.mkdir()
            for file in arguments.model.resolve().iterdir():
                (folder / file.name).symlink_to(file)
            run(arguments.model.resolve().name, {"llama": folder}, arguments)


if __name__ == "__main__":
    main()
