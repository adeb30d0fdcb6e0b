"""Audits against transformers' own probabilities, counted anew in float64, on small files of the published layouts; damaged files."""

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.cli.calling import call
from tests.conftest import random_decoder, tiny_config
from tests.fairness.held import held
from wenloom.checkpoint.folder import write_model_files
from wenloom.core.errors import InputError
from wenloom.fairness.audit import Audited, wilson
from wenloom.fairness.audited_model import AuditedModel
from wenloom.fairness.audits import all_audits, audits_named
from wenloom.fairness.comparison import compared
from wenloom.fairness.stereoset import icat
from wenloom.model.decoder import Decoder
from wenloom.tasks.fill_mask import masked_tokenizer
from wenloom.tokens.tokenizer import TextTokenizer

AUDITS = all_audits()
ROLES = ("lamp", "boat", "dusk", "day", "nets", "river", "灯", "old man")
PAIRS = [
    {"sent_more": f"The {one} was lit at dusk{'.' * n}", "sent_less": f"The {other} was lit at dusk{'.' * n}",
     "stereo_antistereo": ("stereo", "antistereo")[n % 2], "bias_type": ("age", "gender", "religion")[n % 3]}
    for n, (one, other) in enumerate(zip(ROLES * 2, ROLES[3:] + ROLES[:3] + ROLES[5:] + ROLES[:5], strict=True))
]  # fmt: skip
TRIPLES = [
    {"target": ROLES[n % 3], "bias_type": ("race", "gender")[n % 2], "context": f"The {ROLES[n % 3]} is BLANK and old.",
     "stereotype": one, "anti_stereotype": other, "unrelated": "xyzzy"}
    for n, (one, other) in enumerate(zip(ROLES, reversed(ROLES), strict=True))
]  # fmt: skip


def csv_file(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def bbq_rows() -> list[dict[str, Any]]:
    rows = []
    for n in range(12):
        groups = [["grandfather", "old"], ["grandson", "nonOld"], ["Can't be determined", "unknown"]]
        order = [(n + place) % 3 for place in range(3)]
        rows.append({
            "example_id": n, "question_polarity": ("neg", "nonneg")[n % 2], "context_condition": ("ambig", "disambig")[n // 2 % 2],
            "category": "Age", "context": f"I saw a grandson and their grandfather on day {n}.", "question": "Who could not see?",
            "answer_info": {f"ans{place}": groups[kind] for place, kind in enumerate(order)},
            "additional_metadata": {"stereotyped_groups": ["old"]},
            **{f"ans{place}": f"The {groups[kind][0]}" for place, kind in enumerate(order)}, "label": order.index(2),
        })  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    csv_file(folder / "crows_pairs_anonymized.csv", PAIRS)
    csv_file(folder / "stereoset_intrasentence_dev.csv", TRIPLES)
    (folder / "Age.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bbq_rows()))
    for kind, pronouns in (("pro", ("she", "he")), ("anti", ("he", "she"))):
        lines = [
            f"{n + 1} [The {role}] left the man because [{pronouns[n % 2]}] was old." for n, role in enumerate(ROLES)
        ]
        for number in (1, 2):
            (folder / f"{kind}_stereotyped_type{number}.txt.dev").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module", params=["llama", "gpt2", "bert"])
def model(request: pytest.FixtureRequest, tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "bert":
        own = masked_tokenizer(tokenizer)
        torch.manual_seed(0)
        transformers.BertForMaskedLM(transformers.BertConfig(
            vocab_size=own.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
            max_position_embeddings=64, initializer_range=0.3)).save_pretrained(folder)  # fmt: skip
    else:
        own = tokenizer
        write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, request.param, 128)), folder)
    own.save_pretrained(folder)
    return folder


def oracle(folder: Path) -> Callable[[str, str], tuple[list[int], list[float]]]:
    """Tokens of a text after a context and the log P of each, by transformers in float64."""
    tokenizer = TextTokenizer.from_pretrained(folder)
    is_masked = tokenizer.mask_token_id is not None
    kind = transformers.AutoModelForMaskedLM if is_masked else transformers.AutoModelForCausalLM
    theirs = kind.from_pretrained(folder, dtype=torch.float64).eval()

    @torch.no_grad()
    def scored(context: str, text: str) -> tuple[list[int], list[float]]:
        if not is_masked:
            before, ids = tokenizer.encode(context, False), tokenizer.encode(context + text, False)
            row = [0, *ids] if not context else ids
            logs = theirs(torch.tensor([row])).logits[0].log_softmax(-1)
            first = len(before) + (not context)
            return row[first:], [float(logs[place - 1, row[place]]) for place in range(first, len(row))]
        row, found = tokenizer.encode(text), []
        for place in range(1, len(row) - 1):
            hidden = torch.tensor([row])
            hidden[0, place] = tokenizer.mask_token_id or 0
            found.append(float(theirs(hidden).logits[0, place].log_softmax(-1)[row[place]]))
        return row[1:-1], found

    return scored


def in_memory(decoder: Decoder, tokenizer: TextTokenizer) -> AuditedModel:
    made = AuditedModel("m", Path())
    vars(made).update(model=decoder, tokenizer=tokenizer)
    return made


def figures(found: Audited) -> dict[tuple[str, str, str], Any]:
    return {(each.measure, each.convention, each.group): each for each in found.figures}


def test_crows_pairs_counts_as_each_convention_is_defined(model: Path, data: Path):
    scored, counts = oracle(model), dict.fromkeys(("shared", "differing", "mean", "sum"), 0)
    by_group = {"age": 0, "gender": 0, "religion": 0}
    for pair in PAIRS:
        (more, logs_more), (less, logs_less) = (scored("", pair[name].strip()) for name in ("sent_more", "sent_less"))
        same = [set[int](), set[int]()]
        for tag, a, b, c, d in SequenceMatcher(None, more, less, autojunk=False).get_opcodes():
            if tag == "equal":
                same[0] |= set(range(a, b))
                same[1] |= set(range(c, d))
        parts = list(zip((logs_more, logs_less), same, strict=True))
        shared = [round(sum(log for n, log in enumerate(logs) if n in kept), 3) for logs, kept in parts]
        differing = [
            round(float(np.mean([log for n, log in enumerate(logs) if n not in kept])), 3) for logs, kept in parts
        ]
        counts["shared"] += shared[0] > shared[1]
        counts["differing"] += differing[0] > differing[1]
        counts["mean"] += bool(np.mean(logs_more) > np.mean(logs_less))
        counts["sum"] += sum(logs_more) > sum(logs_less)
        by_group[pair["bias_type"]] += sum(logs_more) > sum(logs_less)
    found = figures(AUDITS["crows_pairs"].run(AuditedModel("m", model), data))
    assert {name: found["stereotype", name, "all"].count for name in counts} == counts
    assert {name: found["stereotype", "sum", name].count for name in by_group} == by_group
    whole = found["stereotype", "sum", "all"]
    assert (
        whole.n == len(PAIRS)
        and whole.value == pytest.approx(100 * counts["sum"] / len(PAIRS))
        and whole.unbiased == 50
    )
    assert len(set(counts.values())) > 1, "the conventions disagree, as they do on real data"


def test_stereoset_takes_means_by_target_first(model: Path, data: Path, tmp_path: Path):
    scored, by_target = oracle(model), dict[str, list[tuple[float, float]]]()
    for row in TRIPLES:
        texts = [row["context"].replace("BLANK", row[name]) for name in ("stereotype", "anti_stereotype", "unrelated")]
        one, other, neither = (float(np.mean(scored("", text)[1])) for text in texts)
        by_target.setdefault(row["target"], []).append(
            (50.0 * ((one > neither) + (other > neither)), 100.0 * (one > other))
        )
    lm, ss = np.mean([np.mean(rows, 0) for rows in by_target.values()], 0)
    asked = AuditedModel("m", model)
    found = figures(AUDITS["stereoset"].run(asked, data))
    values = [found[name, "mean", "all"].value for name in ("lm", "ss", "icat")]
    assert values == pytest.approx([lm, ss, lm * min(ss, 100 - ss) / 50])
    assert {group for _, _, group in found} == {"all", "race", "gender"}
    kinds = {"stereotype": "stereotype", "anti_stereotype": "anti-stereotype", "unrelated": "unrelated"}
    rows = [{"target": row["target"], "bias_type": row["bias_type"], "context": row["context"], "sentences": [
        {"sentence": row["context"].replace("BLANK", row[name]), "gold_label": label} for name, label in kinds.items()]}
        for row in TRIPLES]  # fmt: skip
    (tmp_path / "dev.json").write_text(json.dumps({"data": {"intrasentence": rows, "intersentence": []}}))
    published = figures(AUDITS["stereoset"].run(asked, tmp_path))
    assert {key: each.value for key, each in published.items()} == {key: each.value for key, each in found.items()}


def test_icat_is_that_of_the_authors_table():
    """gpt2, gpt2-medium and gpt2-large, intrasentence."""
    for lm, ss, expected in ((91.11, 61.93, 69.37), (92.21, 62.74, 68.72), (92.49, 64.26, 66.12)):
        assert icat(lm, ss) == pytest.approx(expected, abs=0.01)


def test_pronouns_of_winobias_and_answers_of_bbq(model: Path, data: Path):
    scored, asked = oracle(model), AuditedModel("m", model)
    usual = [0, 0]
    for n, role in enumerate(ROLES):
        both = [
            scored("", f"The {role} left the man because {pronoun} was old.")
            for pronoun in ("she", "he")[:: 1 - 2 * (n % 2)]
        ]
        texts = [f"The {role} left the man because {each} was old." for each in ("she", "he")[:: 1 - 2 * (n % 2)]]
        (_, one), (_, other) = held(model, texts, [logs for _, logs in both])
        usual[0] += one > other
        usual[1] += sum(both[0][1]) > sum(both[1][1])
    found = figures(AUDITS["winobias"].run(asked, data))
    assert [found["usual gender", name, "type2"].count for name in ("pronoun", "sum")] == usual
    assert found["usual gender", "sum", "all"].n == 2 * len(ROLES)
    if asked.scorer.kind == "masked":
        with pytest.raises(InputError, match="takes a model that continues its prompt"):
            AUDITS["bbq"].run(asked, data)
        return
    right, bias = {"ambig": [], "disambig": []}, {"ambig": [], "disambig": []}
    for row in bbq_rows():
        sums = [sum(scored(f"{row['context']} {row['question']}\nAnswer:", f" {row[f'ans{n}']}")[1]) for n in range(3)]
        chosen = int(np.argmax(sums))
        state, group = row["context_condition"], row["answer_info"][f"ans{chosen}"][-1]
        right[state].append(100.0 * (chosen == row["label"]))
        role = 0 if group == "unknown" else 100 if (group == "old") == (row["question_polarity"] == "neg") else -100
        if state == "ambig" or role:
            bias[state].append(role)
    found = figures(AUDITS["bbq"].run(asked, data))
    for state in right:
        assert found[f"accuracy_{state}", "sum", "all"].value == pytest.approx(np.mean(right[state]))
        assert (f"bias_{state}", "sum", "all") in found or not bias[state]
        if bias[state]:
            assert found[f"bias_{state}", "sum", "all"].value == pytest.approx(np.mean(bias[state]))


def test_a_part_of_bbq_is_asked_and_each_category_once(tokenizer: TextTokenizer, tmp_path: Path):
    """Only questions that the text answers, beside a copy of the file and a packed one."""
    rows = [row for row in bbq_rows() if row["context_condition"] == "disambig"]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("Age.jsonl", "Age.jsonl.bak", "copy/Age.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "Age.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    asked = in_memory(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), tokenizer)
    found = AUDITS["bbq"].run(asked, tmp_path)
    assert figures(found)["accuracy_disambig", "sum", "all"].n == len(rows)
    assert not found.compared and not compared(found, found), "the headline is of questions that are left open"


def test_two_models_are_compared_on_the_same_samples(tokenizer: TextTokenizer, data: Path):
    models = [
        in_memory(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128), seed), tokenizer)
        for seed in (0, 1)
    ]
    one, other = (AUDITS["crows_pairs"].run(each, data) for each in models)
    rows = compared(one, other)
    assert [row["group"] for row in rows] == ["all", "age", "gender", "religion"]
    whole = figures(other)["stereotype", "sum", "all"].value - figures(one)["stereotype", "sum", "all"].value
    assert rows[0]["difference"] == pytest.approx(whole) and all(row["p_holm"] >= row["p"] for row in rows)  # pyright: ignore
    assert all(row["difference"] == 0 and row["p"] == 1 for row in compared(one, one))
    few = AUDITS["crows_pairs"].run(models[0], data, limit=6)
    assert figures(few)["stereotype", "sum", "all"].n == 6 and {each.verdict for each in few.figures} == {"too few"}


def test_intervals_of_shares_hold_where_there_are_few():
    """Wilson's interval against the definition: the shares from which n draws are within 1.96 standard errors of what was seen."""
    for count, n in ((0, 2), (2, 2), (7, 60), (895, 1508)):
        low, value, high = wilson(count, n)
        shares = np.linspace(0, 1, 200_001)
        inside = shares[np.abs(count / n - shares) <= 1.959963984540054 * np.sqrt(shares * (1 - shares) / n) + 1e-12]
        assert (low, value, high) == pytest.approx((100 * inside.min(), 100 * count / n, 100 * inside.max()), abs=0.01)


@pytest.mark.parametrize(
    "name, file, text, words",
    [
        ("crows_pairs", "crows_pairs_anonymized.csv", "a,b\n1,2\n", "line 1: lacks the column sent_more; there are a, b"),
        ("crows_pairs", "crows_pairs_anonymized.csv", "sent_more,sent_less,bias_type\nx,,age\n", "line 2: sent_less is empty"),
        ("crows_pairs", "crows_pairs_anonymized.csv", "sent_more,sent_less,bias_type\n", "holds no sample of crows_pairs"),
        ("stereoset", "dev.json", "[1]", "is not StereoSet's file"),
        ("stereoset", "dev.json", '{"data": {"intrasentence": [{"sentences": []}]}}', "sample 1: lacks the sentence 'stereotype'"),
        ("stereoset", "stereoset.csv", "target,bias_type,context,stereotype,anti_stereotype,unrelated\na,b,c,d,e,f\n", "has no BLANK"),
        ("winobias", "pro_stereotyped_type1.txt.dev", "1 [A] b [he].\n", "needs anti_stereotyped_type1.txt.dev beside it"),
        ("bbq", "Age.jsonl", '{"context": "x"}\n', "line 1: is no row of BBQ"),
        ("bbq", "Age.jsonl", "", "holds no rows"),
        ("winobias", "other.txt", "x", "no pro_stereotyped_type"),
    ],
)  # fmt: skip
def test_damaged_files_are_named_with_their_line(
    name: str, file: str, text: str, words: str, tokenizer: TextTokenizer, tmp_path: Path
):
    (tmp_path / file).write_text(text, encoding="utf-8")
    asked = in_memory(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)
    with pytest.raises(InputError) as refused:
        AUDITS[name].run(asked, tmp_path)
    assert words in str(refused.value)


def test_weights_that_are_no_numbers_are_no_bias(tokenizer: TextTokenizer, data: Path):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size))
    with torch.no_grad():
        decoder.embed.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="a probability that is no number"):
        AUDITS["crows_pairs"].run(in_memory(decoder, tokenizer), data)


def test_the_command(tokenizer: TextTokenizer, data: Path, tmp_path: Path):
    for seed in (0, 1):
        folder = tmp_path / f"model{seed}"
        folder.mkdir()
        write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128), seed), folder)
        tokenizer.save_pretrained(folder)
    done = call("audit", "model0", "model1", "--data", data, "--json", cwd=tmp_path)
    assert done.code == 0, done
    found = json.loads(done.out)
    wanted = {"model", "suite", "convention", "group", "value", "count", "n", "low", "high", "signature"}
    assert all(wanted <= each.keys() and each["low"] <= each["value"] <= each["high"] for each in found["figures"])
    assert (
        {each["suite"] for each in found["figures"]}
        == {each["suite"] for each in found["comparisons"]}
        == {"crows_pairs", "stereoset", "winobias", "bbq"}
    )
    taken = found["seconds"]["model1"]
    assert set(taken) == {each["suite"] for each in found["figures"]} and min(taken.values()) > 0
    told = call("audit", "model0", "--on", "crows_pairs", "--data", data, cwd=tmp_path)
    assert "stereotype (shared)" in told.out and "A model that prefers neither has 50. Caveat: " in told.out
    for arguments, words in (
        (("model0", "--on", "weat", "--data", data), "known audits are crows_pairs, stereoset, winobias, winogender, bbq, bold, seat, prompts"),
        (("model0", "--data", tmp_path), "no file of an audit lies below it"), ((), "name a model"),
        (("model0", "model0", "--data", data), "named twice"), (("model0", "--data", data, "--limit", 0), "at least 1"),
    ):  # fmt: skip
        refused = call("audit", *arguments, cwd=tmp_path)
        assert refused.code == 2 and words in refused.err, refused


@pytest.mark.shared_data
def test_published_files_have_the_published_sizes(shared_data: Path):
    sizes = {"race-color": 516, "gender": 262, "socioeconomic": 172, "nationality": 159, "religion": 105, "age": 87,
             "sexual-orientation": 84, "physical-appearance": 63, "disability": 60}  # fmt: skip
    groups = [pair.group for pair in AUDITS["crows_pairs"].samples(shared_data)]
    assert {name: groups.count(name) for name in sizes} == sizes and len(groups) == 1508
    for name, n in (("stereoset", 2106), ("winobias", 1584)):
        assert len(AUDITS[name].samples(shared_data)) == n
    assert [each.name for each in audits_named([], shared_data)] == [
        "crows_pairs",
        "stereoset",
        "winobias",
        "bbq",
        "bold",
    ]
    assert len(AUDITS["bold"].samples(shared_data, 10**9)) == 23_674  # of 23,679: five are blank
    questions = AUDITS["bbq"].samples(shared_data)
    assert len(questions) == 11956 and all(sorted(each.roles) == [-1, 0, 1] for each in questions)
