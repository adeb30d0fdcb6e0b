"""Every example of every help text and document runs, on small texts and models under the names that it uses."""

import ast
import contextlib
import glob
import importlib
import inspect
import io
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from wenloom.cli.app import build_app
from wenloom.cli.commands import COMMANDS, FAMILIES, module_of
from wenloom.evaluation.toml_suite import load_suite
from wenloom.text.lexicon import lexicon
from wenloom.text.recipe import load_recipe

from ..conftest import story
from .calling import Done, call, succeed
from .world import SHAPE, World

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(page for page in ROOT.glob("docs/**/*.md") if ROOT / "docs/zh" not in page.parents),
    ]
)
"""Those in English; tests/test_translation.py says that the Chinese ones have the same examples."""

NAMES = {
    "my-texts": "texts", "texts": "texts", "books": "books", "chapter.txt": f"text:{story(3)}", "text.txt": f"text:{story(4)}",
    "stories.txt": f"text:{'<|endoftext|>'.join(map(story, range(20)))}",
    "poems/one.jsonl.gz": "rows:poems", "诗集.jsonl": "rows:诗集", "旧文件.txt": "gb18030:", "poems.jsonl.gz": "rows:poems",
    "wikitext2/train.txt.gz": f"text:{' '.join(map(story, range(9)))}", "wikitext2/valid.txt.gz": f"text:{story(11)}",
    "data/mine": "corpus", "data/poems": "corpus", "data/spoken": "corpus", "my-tokenizer": "tokenizer",
    "runs/mine": "decoder", "runs/quickstart": "decoder", "runs/adamw": "decoder", "runs/muon": "decoder", "runs/old": "small-decoder",
    "runs/gpt": "decoder", "runs/books": "decoder", "runs/spoken": "decoder", "runs/poems": "poet", "runs/code": "programmer",
    "runs/bert": "encoder", "runs/masked": "encoder", "runs/reviews": "classes", "runs/embedder": "sentences", "rows.jsonl": "rows:languages", "scored.jsonl": "rows:scored", "questions-answers.jsonl": "rows:pairs", "runs/en-de": "translator", "runs/de-en": "translator",
    "runs/sum": "summarizer", "runs/t5": "denoiser", "runs/chat": "chat", "runs/letters": "adapter",
    "SmolLM2-135M-Instruct-Q8_0.gguf": "file:gguf/model.gguf", "smollm2": "decoder",
    "stories260K.bin": "file:llama2c/model.bin", "tok512.bin": "file:llama2c/tokenizer.bin", "stories260K": "llama2c-folder",
    "train.en": "side:source", "train.de": "side:target", "val.en": "few:source", "val.de": "few:target",
    "train.en.gz": "side:source", "train.de.gz": "side:target", "small.en": "side:source", "small.de": "side:target",
    "more.en": "few:source", "more.de": "few:target", "test.en": "few:source", "test.de": "few:target",
    "out.txt": "side:source", "ref.txt": "side:target", "one.txt": "few:target", "two.txt": "few:target",
    "texts.txt": "few:source", "reviews.txt": "few:source", "reviews.jsonl": "rows:labels",
    "messages.jsonl": "rows:messages", "alpaca.json": "list:alpaca", "alpaca_data_1k.json": "list:alpaca",
    "alpaca_en_demo.json.gz": "list:alpaca", "dev.jsonl.gz": "rows:messages", "pairs.jsonl": "rows:preferences",
    "held-out.jsonl": "rows:preferences", "train.jsonl": "rows:summaries", "train.jsonl.gz": "rows:summaries",
    "dev.jsonl": "rows:validation summaries", "test.jsonl": "rows:validation summaries", "dialogues.jsonl": "rows:summaries",
    "dialogsum.train.jsonl.gz": "rows:summaries", "dialogsum.dev.jsonl": "rows:validation summaries", "code.json": "list:programs",
    "prompts.jsonl": "rows:prompts", "questions.jsonl": "rows:prompts", "dev_clean.jsonl.gz": "rows:nbest",
    "test.jsonl.gz": "rows:nbest", "their-results.json": "results-json", "results.sqlite": "file:results/results.sqlite",
    "datasets/lambada_test.jsonl": "rows:lambada", "datasets/arc_easy.jsonl": "rows:choices",
    "mine.toml": 'text:files = ["arc_easy.jsonl"]\nquery = "{query}"\nchoices = "{choices}"\ngold = "{gold}"\n',
    "calm.txt": "few:source", "wild.txt": "few:target", "calm.safetensors": "vector", "joy.safetensors": "vector", "sae": "features", "seven.safetensors": "vector", "lens.safetensors": "lens",
    "book.epub": "epub:", "crawl.warc.gz": "warc:", "people.txt": "text:She lit the lamp.\n",
    "datasets/crows_pairs_anonymized.csv": "text:sent_more,sent_less,bias_type\nThe lamp was lit.,The boat was lit.,age\n",
    "datasets/pro_stereotyped_type1.txt.dev": "text:1 [The lamp] was lit by [him].\n",
    "datasets/anti_stereotyped_type1.txt.dev": "text:1 [The lamp] was lit by [her].\n",
    "datasets/stereoset.csv": "text:target,bias_type,context,stereotype,anti_stereotype,unrelated\nlamp,age,The lamp is BLANK.,lit,old,x\n",
    "whisper-tiny.en": "hearing", "my-reader": "hearing",
    "recordings.tsv": "text:path\ttext\tlanguage\nspeech.wav\tThe lamp was lit.\ten\nspeech.wav\tThe lamp.\ten\n", "speech.wav": "recording", "talks/one.flac": "recording", "talks/two.flac": "long-recording",
    "predictions.json": 'text:{"intrasentence": [{"id": "1", "score": 3}, {"id": "2", "score": 2}, {"id": "3", "score": 1}]}',
    "stereoset/dev.json": 'text:{"data": {"intrasentence": [{"target": "a", "bias_type": "race", "sentences": [{"id": "1", "gold_label": '
                          '"stereotype"}, {"id": "2", "gold_label": "anti-stereotype"}, {"id": "3", "gold_label": "unrelated"}]}]}}',
    "datasets/hellaswag_val.jsonl": "rows:hellaswag", "datasets/blimp.jsonl": "rows:blimp",
}  # fmt: skip
"""What stands, in an example, under a name; see `World.lay_out`. A folder is laid out where its beginning occurs."""
OTHERWISE = {
    "translate": {"runs/mine": "translator"},
    "summarize": {"runs/mine": "summarizer"},
    "classify": {"runs/mine": "classes"},
    "fill-mask": {"runs/mine": "encoder"},
    "finetune": {"runs/en-de": "interrupted-pairs"},
    "pretrain": {"runs/mine": "interrupted"},
    "evaluate": {"questions.jsonl": "rows:references"},
    "train-lens": {"runs/mine": "deep-decoder"},
    "docs/explanation.md train-lens": {"runs/quickstart": "deep-decoder"},
    "rescore": {"test.jsonl": "rows:nbest"},
    "docs/evaluation.md": {"questions.jsonl": "rows:choices"},
    "docs/tasks/README.md": {"runs/en-de": "interrupted-pairs", "runs/poems": "adapter", "prompts.jsonl": "rows:adapters"},
    "docs/tasks/dialogue.md preference": {"train.jsonl": "rows:preferences"},
    "docs/tasks/rescoring.md": {"dev.jsonl.gz": "rows:nbest"},
}  # fmt: skip
"""Where a name stands for something else: by the beginning of where the example is, and a word that occurs in it."""
NOT_RUN = {
    "make quickstart": "installs into .venv; the rule exists in the Makefile",
    "make test": "installs into .venv; the rule exists in the Makefile",
    ". .venv/bin/activate": "of an installation",
    "python bench/gpt_and_bert.py": "trains for minutes on public datasets; the script exists",
    "torchrun": "needs several processes or machines; its wenloom command is parsed, and tests/cli/test_commands.py runs two",
    "--method cda,equalize": "needs a vocabulary in which words are one token; tests/training/test_equalized.py has one",
    "--set groups=on": "trains for minutes; tests/fairness/test_filter.py measures a slice",
    "wenloom audit slices/": "needs the models of the line above it",
    "wenloom debias --resume": "needs one that was interrupted; tests/fairness/test_interrupted.py interrupts some",
    "--method leace": "needs texts that speak of people; tests/fairness/test_erasure.py erases",
    "wenloom serve": "answers until a signal comes; it is parsed here, and tests/serving run the server",
    "pip install": "of an installation",
    "wenloom prepare hf:": "asks the hub; it is parsed, and tests/text/test_hub_data.py asks a stand-in",
    "--on ray": "needs the extra [cluster]; tests/text/test_cluster.py runs it",
    "--on slurm": "needs a cluster; tests/text/test_cluster.py gives it a stand-in",
    "--api http": "needs a server; tests/serving/test_served_models.py asks one",
    "curl": "needs the server of the lines above it",
    "from openai": "needs the server of the lines above it; it is compiled",
    "import lm_eval": "needs the extra [harness]; it is compiled",
}
"""Examples that do not run here, by how they begin, and why."""
NO_COMMANDS = {
    "docs/evaluation.md": ["bits_per_byte|"],
    "docs/tasks/dialogue.md": ["> Hello"],
    "docs/scaling.md": ["apiVersion"],
    "docs/api.md": ["class "],
    "docs/serving.md": ["POST /v1/completions"],
}
"""Fenced text that is no example: by how it begins."""
_LENGTHS = {"--budget": 1, "--tokens": 1, "--epochs": 1, "--size": 1}
_SHAPES = {"--layers": "1", "--width": "32", "--heads": "2"}


@dataclass(frozen=True)
class Block:
    """One example: lines that a person would type one after the other."""

    where: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text.splitlines()[0][:50]}"


def _of_help() -> list[Block]:
    found = [Block("wenloom", "sh", part) for part in re.findall(r"```\n(.*?)```", str(build_app([]).help), re.DOTALL)]
    for path in COMMANDS:
        module, function = module_of(path)
        text = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
        for part in re.findall(r"(?:^    \S.*\n?)+", text.partition("\nParameters\n")[0], re.MULTILINE):
            found.append(Block(path, "sh", inspect.cleandoc(part)))
    return found


def _of_documents() -> list[Block]:
    found = []
    for path in DOCUMENTS:
        where = str(path.relative_to(ROOT))
        for language, text in re.findall(
            r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            if not any(text.startswith(beginning) for beginning in NO_COMMANDS.get(where, ())):
                found.append(Block(where, language, text.rstrip()))
    return found  # fmt: skip


BLOCKS = _of_help() + _of_documents()
SHELL = [block for block in BLOCKS if block.language in ("sh", "bash", "console") and not block.text.startswith("#!")]
PYTHON = {block.where: [b.text for b in BLOCKS if b.language == "python" and b.where == block.where]
          for block in BLOCKS if block.language == "python"}  # fmt: skip


def test_every_command_has_an_example():
    shown = " ".join(block.text for block in _of_help())
    for path in COMMANDS:
        assert f"wenloom {path}" in shown, path


@pytest.mark.parametrize("path", COMMANDS)
def test_help_shows_each_line_of_an_example_on_a_line_of_its_own(path: str, tmp_path: Path):
    help_page = re.sub(r" +\\ *\n +", " ", succeed(*path.split(), "--help", cwd=tmp_path))
    shown = [line.strip() for line in help_page.splitlines()]
    lines = [line.strip() for block in _of_help() if block.where == path for line in block.text.splitlines()]
    assert lines and [line for line in lines if line not in shown] == []


def test_every_fence_is_of_a_known_kind():
    assert {block.language for block in BLOCKS} <= {"sh", "bash", "console", "python", "toml", "js", "yaml", "nginx"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_the_suite_lexicon_or_recipe_of_a_document_loads(block: Block, tmp_path: Path):
    (tmp_path / "mine.toml").write_text(block.text, encoding="utf-8")
    made = str(tmp_path / "mine.toml")
    if block.where.endswith("data.md"):
        assert load_recipe(made).values
        return
    assert lexicon(made).axes if "[axes." in block.text else load_suite(Path(made)).files


def names_in(block: Block) -> dict[str, str]:
    """What must be there before the example is run."""
    names = dict(NAMES)
    for where, others in OTHERWISE.items():
        place, _, word = where.partition(" ")
        if block.where == place and word in block.text:
            names |= others
    mentioned = re.sub(r"[\"']", " ", block.text) + " results.sqlite" * ("leaderboard" in block.text)
    mentioned += " speech.wav" * ("recordings.tsv" in block.text)  # which it lists
    return {
        name: kind
        for name, kind in names.items()
        if re.search(rf"(?<![\w/]){re.escape(name)}(?![\w.-])", mentioned)
        or ("/" in name and re.search(rf"(?<![\w/]){re.escape(name.split('/')[0])}/(?=[\s*])", mentioned))
    }


def lines_of(block: Block) -> list[str]:
    """Commands as typed, one a line, without what they print."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        return [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def words_of(line: str) -> list[str]:
    """A line as the shell parts it, patterns that are not quoted replaced by what they match."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found = []
    for word in lexer:
        bare = "*" in word and f"'{word}'" not in line and f'"{word}"' not in line
        found.extend(sorted(glob.glob(word)) if bare else [word])
    return found


def cheaper(words: list[str], folder: Path) -> list[str]:
    """The same command with less to do: as few steps, and as small a model, as show that it works."""
    command = words[0]
    words = ["300" if before == "--vocab-size" else word for word, before in zip(words, ["", *words], strict=False)]
    if command == "quickstart":
        return [word for word, before in zip(words, ["", *words], strict=False) if "--steps" not in (word, before)] + [
            "--steps",
            "2",
        ]
    if command in ("translate", "summarize", "compose") and "--max-new-tokens" not in words:
        return [*words, "--max-new-tokens", "8" if command != "compose" else "40"]
    if command == "debias":
        kept = [
            word
            for word, before in zip(words, ["", *words], strict=False)
            if not {word, before} & {"--budget", "--steps"}
        ]
        return [*kept, "--steps", "2"]
    if command == "features":
        return [*words, "--tokens", "4096"]
    if command not in ("pretrain", "finetune", "plan"):
        return words
    if "--resume" in words:
        run = folder / words[words.index("--resume") + 1]
        there = str(max(int(path.name[5:]) for path in (run / "checkpoints").glob("step-????????")))
        shorter = dict.fromkeys((*_LENGTHS, "--steps"), "2") | {"--from-step": there}
        return ["--steps" if word in _LENGTHS else shorter.get(before, word)
                for word, before in zip(words, ["", *words], strict=False)]  # fmt: skip
    kept: list[str] = []
    for word, before in zip(words, ["", *words], strict=False):
        if word in _LENGTHS or before in _LENGTHS:
            continue
        kept.append(_SHAPES.get(before, word))
    new = "--init" not in kept and (command != "finetune" or kept[1].startswith("--"))
    shape = [] if not new else [str(each) for pair in zip(SHAPE[::2], SHAPE[1::2], strict=True)
                                if pair[0] not in kept for each in pair]  # fmt: skip
    pairs = not {"translation", "summarization"}.isdisjoint(kept) and "--max-target-tokens" not in kept
    return [*kept, *shape, "--steps", "2", *("--max-target-tokens", "48") * pairs]


def is_not_run(line: str) -> bool:
    return any(line.lstrip().startswith(beginning) or f" {beginning}" in line for beginning in NOT_RUN)


def run_line(line: str, folder: Path) -> list[Done]:
    """Run one line, `echo ... | wenloom ... > file` and `a && b` included."""
    with contextlib.chdir(folder):
        words = words_of(line)
    done, piped = [], ""
    while words:
        at = next((n for n, word in enumerate(words) if word in ("|", "&&")), len(words))
        part, joint, words = words[:at], words[at : at + 1], words[at + 1 :]
        target = part[part.index(">") + 1] if ">" in part else None
        part = part[: part.index(">")] if ">" in part else part
        environment: dict[str, str] = {}
        while re.match(r"[A-Z_]+=", part[0]):
            name, _, value = part.pop(0).partition("=")
            environment[name] = value
        if part[0] == "echo":
            piped = " ".join(part[1:]) + "\n"
            continue
        assert part[0] == "wenloom", f"{line}: no way to run {part[0]!r}"
        parse(part[1:])
        arguments = cheaper([word.replace(",...,", ",") for word in part[1:]], folder)
        make_room(arguments, folder)
        stdin = piped or ("Hello\n" if part[1] == "chat" else "")
        result = call(
            *arguments, cwd=folder, stdin=stdin, environment=environment | {"WENLOOM_RESULTS": "results.sqlite"}
        )
        assert result.code == 0, (line, result)
        done.append(result)
        if target is not None:
            (folder / target).write_text(result.out, encoding="utf-8")
        piped = result.out if joint == ["|"] else ""
    return done


def make_room(arguments: list[str], folder: Path) -> None:
    """A folder that is to be made is not there yet."""
    if "--out" in arguments and arguments[0] in (
        "prepare",
        "pretrain",
        "finetune",
        "quantize",
        "import",
        "tokenizer",
        "features",
    ):
        shutil.rmtree(folder / arguments[arguments.index("--out") + 1], ignore_errors=True)


def parse(arguments: list[str]) -> None:
    """The arguments as they stand are understood, whatever is run in their place."""
    arguments = list(arguments)
    if "--config" in arguments:
        at = arguments.index("--config")
        del arguments[at : at + 2]
    build_app(arguments).parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_example_runs(block: Block, world: World):
    folder = world.lay_out(names_in(block))
    shown = ""
    for line in lines_of(block):
        if is_not_run(line):
            check_what_is_not_run(line)
            continue
        shown += "".join(each.out + each.err for each in run_line(line, folder))
    for advice in advised(shown):
        file = "recording" if " transcribe " in advice else "rows:summaries"
        run_line(advice, world.lay_out({"my-texts": "texts", "FILE": file}, folder))


def advised(shown: str) -> list[str]:
    """Commands that a command's output advises."""
    found = re.findall(
        r"(?:^ *|try +|go on with: |Look at it: |continue with: )(wenloom [a-z].*?)\.?$", shown, re.MULTILINE
    )
    return list(dict.fromkeys(found))


def check_what_is_not_run(line: str) -> None:
    if line.startswith("make "):
        assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif "bench/" in line:
        assert all((ROOT / word).is_file() for word in line.split() if word.startswith("bench/"))
    elif line.startswith(("wenloom serve", "wenloom prepare hf:")):
        parse(words_of(line)[1:])
    elif "--no-python wenloom" in line:
        parse(words_of(line.partition("--no-python wenloom ")[2]))


def test_scripts_for_many_machines_are_shell_and_their_commands_parse():
    text = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    for block in BLOCKS:
        if block.text.startswith("#!"):
            subprocess.run(["bash", "-n"], input=block.text.encode(), check=True)
    goals = re.findall(r"goal=[(\"](.*?)[)\"]", text)
    assert len(goals) == 4
    for goal in goals:
        parse(["pretrain", *shlex.split(goal)])


@pytest.mark.parametrize("where", PYTHON)
def test_the_python_examples_run(where: str, world: World):
    """Those of one document one after the other, as a person would type them."""
    parts = PYTHON[where]
    folder, scope = world.lay_out(names_in(Block(where, "python", "\n".join(parts)))), {}
    for part in parts:
        ast.parse(part)
        if not any(part.startswith(beginning) for beginning in NOT_RUN):
            with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
                exec(compile(part, where, "exec"), scope)


def test_what_a_run_says_of_itself_runs(world: World):
    """The model card's Python and the commands of the report's page."""
    import html

    folder = world.lay_out({"runs/mine": "decoder", "my-texts": "texts"})
    card = (folder / "runs/mine/README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    with contextlib.chdir(folder / "runs"), contextlib.redirect_stdout(io.StringIO()):
        (folder / "runs/decoder").symlink_to("mine")  # the name under which it was made
        exec(code[0], {})
    page = (folder / "runs/mine/report.html").read_text(encoding="utf-8")
    commands = [
        line
        for part in re.findall(r"<pre>(wenloom.*?)</pre>", page, re.DOTALL)
        for line in html.unescape(part).splitlines()
    ]
    assert commands
    (folder / "decoder").symlink_to("runs/mine")
    for line in filter(str.strip, commands):
        run_line(line, folder)


INLINE = [
    (path.relative_to(ROOT), each)
    for path in DOCUMENTS
    for each in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S))
]  # fmt: skip
OF_OTHERS = ("--minutes 60",)
"""Options of scripts below bench/."""


def test_every_option_that_a_document_names_exists():
    known = {name for command in COMMANDS for name in flags_of(command)} | {
        "--help",
        "--help-all",
        "--version",
        "--config",
        "--save-config",
    }
    for path, text in INLINE:
        if path.name == "experiments.md" or text in OF_OTHERS:
            continue
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text):
            assert flag in known, f"{path}: `{text}`"


def flags_of(command: str) -> set[str]:
    """Every way to write the options of a command."""
    app = build_app(command.split())
    for part in command.split():
        app = app[part]
    return {name for each in app.assemble_argument_collection() for name in (*each.names, *each.negatives)}


def test_every_command_that_a_document_names_exists():
    for path, text in INLINE:
        if path.name != "experiments.md" and (match := re.match(r"wenloom ([a-z][a-z0-9-]*)(?: ([a-z0-9]+))?", text)):
            called = f"{match[1]} {match[2]}" if match[1] in FAMILIES and match[2] else match[1]
            assert called in {*COMMANDS, *FAMILIES}, (path, text)
