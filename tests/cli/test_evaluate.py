"""`evaluate`, `leaderboard`, `compare-signatures` and `doctor` as a person calls them."""

import json
from pathlib import Path

import pytest

from wenloom.checkpoint.folder import write_model_files
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import VERSES, random_decoder, tiny_config
from .calling import call, refused, succeed
from .test_commands import wenloom


@pytest.fixture
def work(tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models and data of every kind."""
    for name, seed in (("one", 0), ("two", 1)):
        (tmp_path / name).mkdir()
        write_model_files(random_decoder(tiny_config(context_length=128), seed), tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = {
        "lambada_test.jsonl": [{"text": each} for each in VERSES[:3] * 4],
        "blimp.jsonl": [{"sentence_good": f"Cats {n} sleep.", "sentence_bad": f"Cats {n} sleeps.", "UID": f"kind_{n % 2}"} for n in range(30)],
        "own.jsonl": [{"query": "天气", "choices": ["很好", "很坏"], "gold": n % 2} for n in range(9)],
        "pairs.jsonl": [{"prompt": f"{each[:10]}", "reference": each} for each in VERSES],
        "HumanEval.jsonl": [{"task_id": "H/0", "prompt": "def f():\n", "test": "def check(g): assert g() == 1", "entry_point": "f"}],
    }  # fmt: skip
    for name, lines in rows.items():
        (tmp_path / name).write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines), encoding="utf-8"
        )
    (tmp_path / "text.txt").write_text("\n".join(VERSES), encoding="utf-8")
    monkeypatch.setenv("WENLOOM_RESULTS", str(tmp_path / "results.sqlite"))
    monkeypatch.setenv("WENLOOM_DATA", str(tmp_path))
    return tmp_path


def test_two_models_on_everything(work: Path):
    found = json.loads(succeed("evaluate", "one", "two", "--on", "lambada,blimp,own.jsonl,text.txt", "--on", "pairs.jsonl",
                            "--metric", "rouge,chrf", "--max-new-tokens", 5, "--json", cwd=work))  # fmt: skip
    assert set(found["figures"]) == {"one", "two"}
    names = {(row["dataset"], row["metric"]) for row in found["figures"]["one"]}
    assert {("LAMBADA (OpenAI)", "acc"), ("BLiMP", "acc"), ("own.jsonl", "acc"), ("text.txt", "bits_per_byte"),
            ("pairs.jsonl", "rouge1"), ("pairs.jsonl", "chrf")} <= names | {(d, m.lower()) for d, m in names}  # fmt: skip
    for row in found["figures"]["one"]:
        assert row["low"] <= row["value"] * 1.0001 and row["value"] <= row["high"] * 1.0001 and "|" in row["signature"]
    assert [each["on"] for each in found["comparisons"]] == ["lambada", "blimp", "own", "text", "pairs"]
    bits = {
        model: row["value"]
        for model, rows in found["figures"].items()
        for row in rows
        if row["metric"] == "bits_per_byte"
    }
    tested = found["comparisons"][3]
    assert tested["by"] == "bits_per_byte" and tested["difference"] == pytest.approx(bits["two"] - bits["one"])
    page = (work / "evaluation/index.html").read_text(encoding="utf-8")
    assert "很好" in page and "blimp: worst of <bdi>one</bdi>" in page and "McNemar" in page
    shown = succeed("evaluate", "one", "--on", "blimp", cwd=work)
    assert "acc (raw, token, byte, character)" in shown  # all 100, so on one line
    for group in ("kind_0", "kind_1"):
        assert f"<td>{group}</td>" in page
    samples = (work / "evaluation/one/blimp.jsonl").read_text().splitlines()
    assert len(samples) == 31 and json.loads(samples[1])["choices"][0].startswith("Cats")
    board = json.loads(succeed("leaderboard", "--out", "board", "--json", cwd=work))
    assert board["own"] > 20
    text = (work / "board/index.html").read_text(encoding="utf-8")
    assert "own.jsonl" in text and "GPT-2 124M" in text
    assert (
        "one"
        in succeed("leaderboard", "--export", "model-index", "--out", "given", cwd=work)
        + (work / "given/model-index.md").read_text()
    )


def test_the_page_holds_what_earlier_calls_put_into_the_folder(work: Path):
    succeed("evaluate", "one", "two", "--on", "blimp", "--no-keep", cwd=work)
    succeed("evaluate", "one", "--on", "text.txt", "--no-keep", cwd=work)
    page = (work / "evaluation/index.html").read_text(encoding="utf-8")
    assert all(
        said in page
        for said in ("BLiMP", "text.txt", "<bdi>two</bdi> against <bdi>one</bdi>", "2 models on 2 datasets")
    )
    (work / "evaluation/one/blimp.figures.json").write_text("[1]")
    (work / "evaluation/comparisons.json").write_text('[{"on": "x"}]')
    again = call("evaluate", "one", "--on", "own.jsonl", "--no-keep", cwd=work)
    assert again.code == 0 and again.err.count("left out of the page") == 2
    page = (work / "evaluation/index.html").read_text(encoding="utf-8")
    assert "own.jsonl" in page and "text.txt" in page and "against <bdi>one" not in page
    assert "own.jsonl" in (work / "evaluation/one/own.figures.json").read_text(encoding="utf-8")


def test_an_interrupted_evaluation_goes_on(work: Path):
    first = json.loads(succeed("evaluate", "one", "--on", "blimp", "--json", "--no-keep", cwd=work))
    path = work / "evaluation/one/blimp.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:11]) + lines[11][:20])  # cut off in the middle of a line
    marked = json.loads(lines[3]) | {"right": -123.0}
    path.write_text(path.read_text().replace(lines[3].strip(), json.dumps(marked)))
    again = json.loads(succeed("evaluate", "one", "--on", "blimp", "--json", "--no-keep", cwd=work))
    assert again["figures"] == first["figures"]
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert (
        len(kept) == 31 and sum(row.get("right") == -123.0 for row in kept) == 1
    )  # what was there was not scored again
    assert not (work / "results.sqlite").exists()
    other = json.loads(succeed("evaluate", "two", "--on", "blimp", "--json", cwd=work))
    assert other["figures"]["two"] != first["figures"]["one"]


def test_worked_examples_are_the_same_for_every_model_and_named(work: Path):
    for name, when in (("asked", "今年"), ("more", "去年")):
        rows = [{"query": f"{when}{n}月的天气", "choices": ["很好", "很坏"], "gold": n % 2} for n in range(1, 10)]
        (work / f"{name}.jsonl").write_text("".join(map("{}\n".format, map(json.dumps, rows))))
    call = ("evaluate", "one", "two", "--on", "asked.jsonl,pairs.jsonl", "--max-new-tokens", 4, "--shots", 2, "--json")
    found = json.loads(succeed(*call, cwd=work))
    for model in ("one", "two"):
        signature = found["figures"][model][0]["signature"]
        assert "|shots:2|seed:1234|examples:asked.jsonl " in signature
    heads = [
        json.loads((work / f"evaluation/{model}/asked-2-shot.jsonl").read_text().splitlines()[0])
        for model in ("one", "two")
    ]
    assert heads[0]["examples"] == heads[1]["examples"] and len(heads[0]["examples"]) == 3  # one to spare
    row = json.loads((work / "evaluation/one/pairs-2-shot.jsonl").read_text().splitlines()[1])
    assert len(row["examples"]) == 2 and row["number"] + 1 not in row["examples"]
    again = json.loads(
        succeed(*call[:3], "--on", "asked.jsonl", "--shots", 1, "--shots-from", "more.jsonl", "--json", cwd=work)
    )
    assert "examples:more.jsonl" in again["figures"]["one"][0]["signature"]
    for arguments, message in (
        (("--on", "own.jsonl", "--shots", 99), "--shots 99: own.jsonl has only 1 examples besides the question itself"),
        (("--on", "text.txt", "--shots", 1), "text has none that take worked examples"),
        (("--on", "own.jsonl", "--shots", -1), "--shots -1: at least 0"),
        (("--on", "own.jsonl", "--shots-seed", 3), "--shots-seed: goes with --shots of 1 or more"),
        (("--on", "own.jsonl", "--shots", 1, "--shots-from", "none.jsonl"), "none.jsonl: no such file"),
    ):
        assert message in refused("evaluate", "one", *arguments, cwd=work)


def test_a_suite_of_ones_own_and_the_list(work: Path):
    (work / "mine.toml").write_text(
        'files = ["asked.csv"]\nquery = "谜面：{谜面}"\nreference = "{谜底}"\ngroup = "{类别}"\n', encoding="utf-8"
    )
    (work / "asked.csv").write_text(
        "谜面,谜底,类别\n" + "".join(f"有{n}口,回,字{n % 2}\n" for n in range(6)), encoding="utf-8"
    )
    call = ("evaluate", "one", "two", "--on", "mine.toml", "--shots", 1, "--max-new-tokens", 3, "--json")
    found = json.loads(succeed(*call, cwd=work))
    assert [each["metric"] for each in found["figures"]["one"]] == ["exact_match", "f1"]
    assert found["figures"]["one"][0]["details"]["group_sizes"] == {"字0": 3, "字1": 3}
    assert "|format:own " in found["figures"]["one"][0]["signature"] and found["comparisons"][0]["by"] == "exact_match"
    listed = {each["name"]: each for each in json.loads(succeed("evaluate", "--list", "--json", cwd=work))}
    assert listed["blimp"]["file"] == "blimp.jsonl" and listed["mmlu"]["file"] == "" and listed["mmlu"]["shots"]
    assert "cmrc2018" in succeed("evaluate", "--list", cwd=work)
    (work / "mine.toml").write_text('files = ["asked.csv"]\nquery = "{谜面}"\nreference = "{答}"\n', encoding="utf-8")
    assert 'asked.csv, line 2: no field "答"' in refused("evaluate", "one", "--on", "mine.toml", cwd=work)


def test_predictions_without_a_model(work: Path):
    (work / "hyp.txt").write_text("the cat sat\n今天很冷\n", encoding="utf-8")
    (work / "ref.txt").write_text("the cat sat down\n今天很热\n", encoding="utf-8")
    text = succeed(
        "evaluate", "--predictions", "hyp.txt", "--references", "ref.txt", "--metric", "rouge,bleu", cwd=work
    )
    assert "rouge1|nrefs:1" in text and "BLEU|nrefs:1|case:mixed" in text and "95 % interval" in text
    rows = json.loads(
        succeed(
            "evaluate", "--predictions", "hyp.txt", "--references", "ref.txt", "--metric", "answers", "--json", cwd=work
        )
    )
    assert [row["metric"] for row in rows] == ["exact_match", "f1"]
    assert "distinct_1" in succeed("evaluate", "--predictions", "hyp.txt", "--metric", "quality", cwd=work)
    (work / "short.txt").write_text("one\n")
    (work / "empty.txt").write_text("")
    (work / "latin.txt").write_bytes("caf\xe9\nb\n".encode("latin-1"))
    for reference, message in (("short.txt", "hyp.txt has 2 lines and short.txt has 1"), ("empty.txt", "is empty"),
                               ("latin.txt", "line 1: not UTF-8"), ("none.txt", "no such file")):  # fmt: skip
        assert message in refused("evaluate", "--predictions", "hyp.txt", "--references", reference, cwd=work)
    assert "known are" in refused(
        "evaluate", "--predictions", "hyp.txt", "--references", "ref.txt", "--metric", "magic", cwd=work
    )


def test_wrong_calls_say_what_to_do(work: Path):
    (work / "broken.jsonl").write_text('{"query": "a", "choices": ["b", "c"], "gold": 0}\n{"query"\n')
    (work / "far.jsonl").write_text('{"query": "a", "choices": ["b", "c"], "gold": 5}\n')
    (work / "none.jsonl").write_text('{"query": "a", "choices": [], "gold": 0}\n')
    (work / "neither.jsonl").write_text('{"name": "x"}\n')
    for arguments, message in (
        (("one", "--on", "nonsense"), "neither a file nor a suite. Suites: wikitext2"),
        (("one", "--on", "hellaswag"), "It can be had from"),
        (("one",), "name a model and what to score it on"),
        (("one", "--on", "humaneval"), "--run-code"),
        (("one", "--on", "humaneval", "--run-code", "--pass-k", 5), "--attempts 5 or more"),
        (("one", "--on", "broken.jsonl"), "broken.jsonl, line 2: not valid JSON"),
        (("one", "--on", "far.jsonl"), "gold 5, but the choices are 0 to 1"),
        (("one", "--on", "none.jsonl"), '"choices" must be a list of one or more texts'),
        (("one", "--on", "neither.jsonl"), 'no field "prompt"'),
        (("one", "one", "--on", "blimp"), "named twice"),
        (("one", "--on", "text.txt", "--context", 999), "--context 999"),
        (("nowhere", "--on", "blimp"), "nowhere"),
        (("one", "--on", "blimp", "--limit", 0), "--limit 0"),
    ):
        assert message in refused("evaluate", *arguments, cwd=work)


def test_programs_are_run_when_asked(work: Path):
    found = json.loads(succeed("evaluate", "one", "--on", "humaneval", "--run-code", "--attempts", 2, "--pass-k", 1, "--pass-k", 2,
                            "--max-new-tokens", 8, "--json", cwd=work))  # fmt: skip
    assert [row["metric"] for row in found["figures"]["one"]] == ["pass@1", "pass@2"]
    assert {row["value"] for row in found["figures"]["one"]} == {0.0}


def test_signatures_side_by_side(tmp_path: Path):
    text = succeed("compare-signatures", "ppl|ctx:1024|stride:1024", "ppl|ctx:1024|stride:512", cwd=tmp_path)
    assert "stride: 1024 / 512" in text and "context" in text
    assert json.loads(succeed("compare-signatures", "ppl|ctx:8", "ppl|ctx:8|version:2", "--json", cwd=tmp_path))[
        "comparable"
    ]
    assert "not a signature" in refused("compare-signatures", "ppl", "ppl|a:b", cwd=tmp_path)


def test_the_doctor(tmp_path: Path):
    found = json.loads(succeed("doctor", "--json", cwd=tmp_path))
    assert all(each["state"] != "wrong" for each in found)
    without = wenloom(
        "doctor", CC="/bin/false", XDG_CACHE_HOME="/dev/null/no"
    )  # the kernels of this process are loaded
    assert without.returncode == 0 and "no C compiler" in without.stdout
