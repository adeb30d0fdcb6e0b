"""Every command as a person calls it: results, help, and what wrong input gets."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transformers

from wenloom.cli.commands import COMMANDS, RENAMED, STAGES

from ..conftest import VERSES, story
from .calling import refused, succeed


def wenloom(
    *arguments: object, stdin: str | bytes = b"", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wenloom", *map(str, arguments)]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(command, input=data, capture_output=True, cwd=cwd, env=os.environ | environment, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def good(*arguments: object, cwd: Path | None = None, **more: object) -> str:
    return succeed(*arguments, cwd=cwd or Path.cwd(), **more)


def bad(*arguments: object, cwd: Path | None = None, **more: object) -> str:
    return refused(*arguments, cwd=cwd or Path.cwd(), **more)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, a corpus and a trained model, all made by the commands."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "texts").mkdir()
    for number in range(40):
        (folder / "texts" / f"{number:02}.txt").write_text(story(number), encoding="utf-8")
    good("prepare", "texts", "--out", "corpus", "--vocab-size", 400, cwd=folder)
    good("pretrain", "corpus", "--out", "run", "--steps", 80, "--width", 32, "--layers", 2, "--heads", 2, "--context", 32,
         "--evaluations", 2, cwd=folder)  # fmt: skip
    return folder


def test_help_of_every_command_teaches():
    front = good("--help")
    for name in (
        "quickstart",
        "prepare",
        "tokenizer",
        "plan",
        "pretrain",
        "report",
        "generate",
        "next-tokens",
        "score",
        "info",
        "import",
    ):
        assert name in front
    for command in (["prepare"], ["plan"], ["pretrain"], ["generate"], ["next-tokens"], ["score"], ["info"], ["tokenizer", "train"],
                    ["tokenizer", "report"], ["import", "llama2c"]):  # fmt: skip
        text = good(*command, "--help")
        assert f"wenloom {' '.join(command)} " in text and "--json" in text


def test_help_lists_every_command_under_its_stage():
    front = good("--help")
    places = [front.index(f" {stage} ─") for stage in STAGES]
    assert places == sorted(places)
    for stage, start, end in zip(STAGES, places, [*places[1:], len(front)], strict=True):
        for command in STAGES[stage]:
            assert f"│ {command.split()[0]} " in front[start:end]


@pytest.mark.parametrize("old, new", RENAMED.items())
def test_an_old_command_is_refused_with_its_new_name(old: str, new: str):
    assert f"`{new}`" in bad(old, "x") and old not in COMMANDS and new in COMMANDS


def test_help_and_import_load_no_torch():
    code = "import sys; sys.argv = ['wenloom', '--help']\nfrom wenloom.cli.app import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", "import wenloom, sys; assert 'torch' not in sys.modules"], check=True)


def test_prepare_says_what_it_did_and_does_nothing_twice(work: Path):
    again = json.loads(good("prepare", "texts", "--out", "corpus", "--vocab-size", 400, "--json", cwd=work))
    assert again["reused"] and again["splits"]["train"]["documents"] > 30
    assert "nothing changed" in good("prepare", "texts", "--out", "corpus", "--vocab-size", 400, cwd=work)
    (work / "poems.jsonl").write_text(json.dumps({"title": "春晓", "lines": [VERSES[3]]}, ensure_ascii=False))
    made = good(
        "prepare",
        "poems.jsonl",
        "--text-field",
        "title",
        "--text-field",
        "lines",
        "--kind",
        "char",
        "--out",
        "zh",
        cwd=work,
    )
    assert "characters" in made
    given = good("prepare", "poems.jsonl", "--text-field", "lines", "--tokenizer", "run", "--out", "zh2", cwd=work)
    assert "400 tokens" in given


def test_generate_streams_repeats_and_stops(work: Path):
    command = ("generate", "run", "--seed", 1, "--max-new-tokens", 20)
    text = good(*command, "The lamp", "--echo", cwd=work)
    assert text.startswith("The lamp") and text == good(*command, "--echo", stdin="The lamp\n", cwd=work)
    assert good(*command, "The lamp", cwd=work) == text.removeprefix("The lamp")
    three = json.loads(good("generate", "run", "春", "--n", 3, "--seed", 1, "--max-new-tokens", 9, "--json", cwd=work))
    assert three["prompt"] == "春" and len({each["text"] for each in three["continuations"]}) == 3
    greedy = ("generate", "run", "The", "--greedy", "--max-new-tokens", 30)
    whole = good(*greedy, cwd=work).rstrip("\n")
    cut = good(*greedy, "--stop", whole[5:8], cwd=work).rstrip("\n")
    assert whole.startswith(cut) and whole[5:8] not in cut


def test_many_prompts_go_on_where_they_stopped(work: Path):
    (work / "prompts.jsonl").write_text(
        '{"prompt": "The", "seed": 3}\n\n{"prompt": "春眠", "max_new_tokens": 5}\n', "utf-8"
    )
    command = ["generate", "run", "--prompts", "prompts.jsonl", "--out", "out/answers.jsonl", "--max-new-tokens", 8]
    good(*command, cwd=work)
    out = work / "out/answers.jsonl"
    whole = out.read_text("utf-8")
    rows = {row["line"]: row for row in map(json.loads, whole.splitlines())}
    assert rows.keys() == {1, 3} and len(rows[3]["continuations"][0]["tokens"]) <= 5
    out.write_text(whole[:-20], "utf-8")  # as a kill leaves it
    good(*command, cwd=work)
    assert {json.loads(line)["line"] for line in out.read_text("utf-8").splitlines()} == {1, 3}
    for line, said in (('{"prompt": 1}', "must be text"), ("{}", 'no field "prompt"'), ("x", "not valid JSON"),
                       ('{"prompt": "a", "top_kk": 2}', "line 1"), ("", "holds no prompt")):  # fmt: skip
        (work / "bad.jsonl").write_text(line)
        assert said in bad("generate", "run", "--prompts", "bad.jsonl", "--out", "no.jsonl", cwd=work)
    assert not (work / "no.jsonl").exists()


def test_forms_marks_and_rounding_on_the_command_line(work: Path):
    assert good("generate", "run", "The", "--choices", "yes", "--choices", "否", cwd=work) in ("yes\n", "否\n")
    schema = '{"type": "object", "properties": {"n": {"type": "integer", "maximum": 99, "minimum": 0}}, "required": ["n"], "additionalProperties": false}'
    found = json.loads(good("generate", "run", "The", "--json-schema", schema, "--json", "--seed", 1, cwd=work))
    assert isinstance(json.loads(found["continuations"][0]["text"])["n"], int)
    marked = good("generate", "run", "The", "--watermark-key", 7, "--watermark-bias", 9, "--min-new-tokens", 150, "--max-new-tokens", 150,
                  "--temperature", 2, "--top-p", 1, cwd=work)  # fmt: skip
    (work / "marked.txt").write_text(marked, "utf-8")
    assert json.loads(good("detect-watermark", "run", "marked.txt", "--watermark-key", 7, "--json", cwd=work))["z"] > 4
    assert "shows no mark" in good("detect-watermark", "run", "marked.txt", "--watermark-key", 8, cwd=work)
    good("quantize", "run", "--to", "int4", "--out", "small", cwd=work)
    assert good("generate", "small", "The", "--greedy", "--max-new-tokens", 5, cwd=work).strip()
    assert "is not empty" in bad("quantize", "run", "--out", "small", cwd=work)
    assert "already" in bad("quantize", "small", "--out", "smaller", cwd=work)


def test_chat_answers_every_turn(work: Path):
    said = good("chat", "run", "--max-new-tokens", 6, "--seed", 1, stdin="Hello\n/reset\nHello\n/quit\n", cwd=work)
    first, second = said[: len(said) // 2], said[len(said) // 2 :]
    assert first == second and first.strip()


def test_next_and_score(work: Path):
    table = good("next-tokens", "run", "And so ended day", "--top", 5, cwd=work)
    assert "█" in table and "%" in table
    rows = json.loads(good("next-tokens", "run", "And so ended day", "--top", 5, "--json", cwd=work))["next"]
    assert len(rows) == 5 and rows[0]["probability"] >= rows[4]["probability"]
    shown = good("score", "run", VERSES[0], cwd=work)
    assert "perplexity" in shown and "bits per byte" in shown
    figures = json.loads(good("score", "run", VERSES[3], "--json", cwd=work))
    assert figures["log_probability"] == pytest.approx(sum(each["log_probability"] for each in figures["per_token"]))
    from_file = json.loads(good("score", "run", "--file", "texts/00.txt", "--stride", 8, "--json", cwd=work))
    assert from_file["bytes"] == len(story(0).encode()) and from_file["stride"] == 8


def test_info_of_models_and_corpora(work: Path):
    run = json.loads(good("info", "run", "--json", cwd=work))
    assert run["model"]["family"] == "qwen3" and run["tokenizer"]["vocab_size"] == 400
    assert run["result"]["steps"] == 80 and "corpus" in run["training data"]["folder"]
    assert "byte-level BPE" in good("info", "run", cwd=work)
    corpus = json.loads(good("info", "corpus", "--json", cwd=work))
    assert corpus["train"]["documents"] + corpus["validation"]["documents"] == 40


def test_tokenizer_train_and_report(work: Path):
    good("tokenizer", "train", "texts", "--out", "tok", "--kind", "unigram", "--vocab-size", 300, cwd=work)
    report = good("tokenizer", "report", "tok", cwd=work)
    assert "中文" in report and "unigram" in report
    rows = json.loads(good("tokenizer", "report", "run", "texts/00.txt", "texts/01.txt", "--json", cwd=work))
    assert len(rows["languages"]) == 2 and all(row["lossless"] for row in rows["languages"])


def test_transformers_generates_with_the_trained_model(work: Path):
    model = transformers.AutoModelForCausalLM.from_pretrained(work / "run")
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "run")
    ids = tokenizer("The lamp", return_tensors="pt").input_ids
    theirs = tokenizer.decode(model.generate(ids, max_new_tokens=20, do_sample=False)[0], skip_special_tokens=True)
    ours = good("generate", "run", "The lamp", "--greedy", "--max-new-tokens", 20, "--echo", cwd=work)
    assert theirs == ours.rstrip("\n")


def test_settings_from_a_file_lose_against_flags(work: Path):
    good("pretrain", "corpus", "--out", "again", "--config", "run/run.toml", "--steps", 2, cwd=work)
    info = json.loads(good("info", "again", "--json", cwd=work))
    assert info["training settings"]["width"] == 32 and info["training settings"]["steps"] == 2
    assert "no such file" in bad("pretrain", "corpus", "--out", "x", "--config", "gone.toml", cwd=work)


def test_control_c_saves_and_says_how_to_go_on(work: Path):
    command = [sys.executable, "-m", "wenloom", "pretrain", "corpus", "--out", "stopped", "--steps", "100000", "--width", "32",
               "--heads", "2", "--context", "32"]  # fmt: skip
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = work / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 1):
        time.sleep(0.05)  # waiting for a state, not for time to pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "wenloom pretrain --resume stopped" in errors and "Traceback" not in errors
    assert good("generate", "stopped", "The", "--max-new-tokens", 3, cwd=work)
    assert "unfinished" in good("info", "stopped", cwd=work)


def test_quickstart_runs_and_runs_again(tmp_path: Path):
    done = wenloom("quickstart", "--steps", 4, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["validation"]["nats_per_character"] < 4 and first["validation"]["characters"] == 111_537
    again = wenloom("quickstart", "--steps", 4, cwd=tmp_path)
    assert again.returncode == 0 and "trained already" in again.stderr and "Try next" in again.stdout
    page = (tmp_path / "runs/quickstart/report.html").read_text(encoding="utf-8")
    assert "ROMEO:" in page and "To be or not to" in page and "Go on" in page


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["prepare", "gone.txt", "--out", "x"], "gone.txt: no such file"),
        (["prepare", "texts"], "--out"),
        (["prepare", "texts", "--out", "texts"], "is not replaced"),
        (["prepare", "texts", "--out", "x", "--vocab-size", "60000"], "supports at most"),
        (["prepare", "texts", "--out", "x", "--tokenizer", "run", "--kind", "char"], "leave out --kind"),
        (["pretrain", "run", "--out", "x"], "is a model, not text"),
        (["pretrain", "corpus"], "--out"),
        (["pretrain", "corpus", "--out", "x", "--context", "99999999"], "longer than the training text"),
        (["pretrain", "corpus", "--out", "x", "--width", "33"], "--width 33"),
        (["pretrain", "corpus", "--out", "run"], "is not empty"),
        (["pretrain", "--resume", "texts"], "holds no training run"),
        (["pretrain", "corpus", "--out", "x", "--stepz", "3"], "--stepz"),
        (["generate", "texts", "x"], "is not a model folder"),
        (["generate", "runs/typo/x", "x"], "no such folder"),
        (["generate", "run", "x", "--n", "2", "--greedy"], "several greedy continuations"),
        (["generate", "run", "x", "--top-p", "7"], "--top-p"),
        (["score", "run"], "--file"),
        (["score", "run", ""], "empty"),
        (["score", "run", "x", "--stride", "0"], "--stride 0"),
        (["next-tokens", "run", "x", "--top", "0"], "--top 0"),
        (["info", "texts"], "neither a model"),
        (["tokenizer", "report", "texts"], "has no tokenizer"),
        (["import", "llama2c", "gone.bin", "--tokenizer", "t.bin", "--out", "x"], "gone.bin"),
        (["export", "gguf", "run", "--out", "x", "--type", "Q5"], "type 'Q5': known are F32"),
        (["import", "gguf", "gone.gguf", "--out", "x"], "gone.gguf: no such file"),
        (["import", "gguf", "run/config.json", "--out", "x"], "is not a GGUF file"),
        (["sing"], "sing"),
    ],
)
def test_wrong_input_gets_one_sentence(arguments: list[str], said: str, work: Path):
    assert said in " ".join(bad(*arguments, cwd=work).split())
    assert not (work / "x").exists()


def test_standard_input_that_is_no_text(work: Path):
    assert "not valid UTF-8" in bad("generate", "run", stdin=b"\xff\xfe", cwd=work)


def test_control_c_while_preparing_says_so_and_leaves_nothing(work: Path):
    """In the midst of writing shards."""
    program = (
        "import os, signal, sys\nfrom wenloom.tokens import shards\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "shards.ShardWriter.__init__ = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "from wenloom.cli.app import main\nsys.argv[0] = 'wenloom'\nmain()"
    )
    command = [sys.executable, "-c", program, "prepare", "texts", "--out", "never"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130 and done.stderr.strip().endswith("wenloom: stopped.") and done.stdout == ""
    assert not (work / "never").exists() and not list(work.glob(".never*"))


def test_a_plan_says_what_a_run_would_take(work: Path):
    plan = json.loads(good("plan", "corpus", "--size", "100k", "--batch", 2, "--json", cwd=work))
    assert plan["parameters"] > 50_000 and plan["timetable"]["n_steps"] > 1 and plan["memory"]["activations"] > 0
    assert plan["bits_per_byte"][0] < plan["bits_per_byte"][1] and not (work / "runs").exists()
    told = good("plan", "--tokens", "20k", "--vocab-size", "300", "--precision", "fp32", cwd=work)
    assert "loss to expect" in told and "of the matmul peak" in told and "tokens / 20" in told
    assert "--size huge" in bad("plan", "--size", "huge", cwd=work)


def test_runs_are_compared_on_one_page(work: Path):
    assert good("report", "run", cwd=work).strip() == "run/report.html"
    assert good("report", "run", "run", "--out", "both.html", cwd=work).strip() == "both.html"
    assert "Where they differ" in (work / "both.html").read_text(encoding="utf-8")
    assert "holds no training run" in bad("report", "corpus", cwd=work)


def test_two_processes_train_and_one_speaks(work: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "wenloom",
               "pretrain", "corpus", "--out", "two", "--steps", "4", "--layers", "1", "--width", "32", "--json"]  # fmt: skip
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 4 and "2 processes, ddp" in done.stderr


def test_what_a_machine_lacks_costs_a_line(work: Path, tmp_path: Path):
    """No compiler, and nowhere to write but the run folder."""
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    lacking = {
        "CC": "/bin/false",
        "CXX": "/bin/false",
        "HOME": str(home),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "new"),
    }
    command = [sys.executable, "-m", "wenloom", "pretrain", "corpus", "--out", str(tmp_path / "run"), "--steps", "4",
               "--layers", "1", "--width", "32", "--compile", "on"]  # fmt: skip
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120, env={**os.environ, **lacking})
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("Going on without torch.compile") == 1
