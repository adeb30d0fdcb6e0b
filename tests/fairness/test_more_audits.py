"""Own prompts, vectors, Winogender, BOLD and a corpus against independent computations on small files; pages and cards."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from tests.cli.calling import call
from tests.conftest import random_decoder, tiny_config
from tests.fairness.held import held
from tests.fairness.test_audits import figures, in_memory, oracle
from wenloom.checkpoint.folder import load_decoder, write_model_files
from wenloom.core.errors import InputError
from wenloom.fairness.association import effect, permutation_p
from wenloom.fairness.audited_model import AuditedModel, DecodedModel
from wenloom.fairness.audits import AuditOptions, all_audits
from wenloom.fairness.bold import Bold, fluency
from wenloom.fairness.cost import TextCost
from wenloom.fairness.representation import represented
from wenloom.fairness.sentiment import by_lexicon
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.text.lexicon import lexicon
from wenloom.tokens.tokenizer import TextTokenizer


@pytest.fixture(scope="module")
def model(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128)), folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_own_prompts_are_compared_with_the_other_group(model: Path, tmp_path: Path):
    texts = ["She lit the old lamp.", "The old lamp of my father was lit.", "The lamp is old.", "He saw her.", "His."]
    (tmp_path / "own.txt").write_text("\n".join(texts) + "\n", "utf-8")
    audit = all_audits(AuditOptions(tmp_path / "own.txt", "en", ("gender",)))["prompts"]
    found = figures(audit.run(AuditedModel("m", model), tmp_path))
    scored, wanted = oracle(model), []
    for first, second in (
        ("She lit the old lamp.", "He lit the old lamp."), ("The old lamp of my mother was lit.", texts[1]), ("Hers.", "His."),
    ):  # fmt: skip
        (one, _), (other, _) = held(model, (first, second), [scored("", each)[1] for each in (first, second)])
        wanted.append((one - other) / np.log(2))
    assert found["difference", "rest", "gender"].value == pytest.approx(np.mean(wanted), abs=1e-4)
    assert found["preference", "rest", "gender"].count == sum(each > 0 for each in wanted)
    assert found["preference", "rest", "gender"].sides == ("female", "male")


def test_a_text_longer_than_the_context_is_left_out_for_its_group_may_be_what_is_cut_off(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rest = " lit the old lamp at dusk by the river," * 20
    (tmp_path / "long.txt").write_text(f"She{rest}.\n", "utf-8")
    (tmp_path / "both.txt").write_text(f"She{rest}.\nShe lit the lamp.\n", "utf-8")
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": f"She{rest}", "continuation": " lit it."}) + "\n", "utf-8")

    def asked(name: str) -> Any:
        audit = all_audits(AuditOptions(tmp_path / name, "en", ("gender",)))["prompts"]
        return figures(audit.run(AuditedModel("m", model), tmp_path))["difference", "rest", "gender"]

    assert asked("both.txt").n == 1 and asked("both.txt").value != 0
    assert "prompts: 1 of 2 samples are longer than the model's context, and left out." in capsys.readouterr().err
    for name in ("long.txt", "long.jsonl"):
        with pytest.raises(InputError, match="1 of 1 samples are longer"):
            asked(name)


def test_a_model_that_gives_both_groups_the_same_prefers_neither(tokenizer: TextTokenizer, tmp_path: Path):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, context_length=128))
    for parameter in decoder.parameters():
        torch.nn.init.zeros_(parameter)
    (tmp_path / "even").mkdir()
    write_model_files(decoder, tmp_path / "even")
    tokenizer.save_pretrained(tmp_path / "even")
    (tmp_path / "own.txt").write_text("She lit the lamp.\nHe saw the lamp.\nHe is old.\nShe is old.\n" * 3, "utf-8")
    audit = all_audits(AuditOptions(tmp_path / "own.txt", "en", ("gender",)))["prompts"]
    found = figures(audit.run(AuditedModel("m", tmp_path / "even"), tmp_path))["preference", "rest", "gender"]
    assert (
        (found.value, found.count, found.n) == (50, 6, 12)
        and found.low < 50 < found.high
        and "male" not in found.verdict
    )


def test_a_continuation_of_ones_own_is_what_is_scored(model: Path, tmp_path: Path):
    (tmp_path / "own.jsonl").write_text(
        json.dumps({"text": "She was", "continuation": " lit at dusk."}) + "\n", "utf-8"
    )
    audit = all_audits(AuditOptions(tmp_path / "own.jsonl", "en", ("gender",)))["prompts"]
    found = figures(audit.run(AuditedModel("m", model), tmp_path))
    scored = oracle(model)
    wanted = [sum(scored(text, " lit at dusk.")[1]) for text in ("She was", "He was")]
    assert found["difference", "rest", "gender"].value == pytest.approx((wanted[0] - wanted[1]) / np.log(2), abs=1e-4)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("own.txt", "The lamp is old.\n", "none of 1 texts has words of exactly one group of gender"),
        ("own.txt", "", "is empty"),
        ("own.txt", "\n \n", "holds no text"),
        ("own.jsonl", '{"text": 3}\n', 'line 1: "text" is 3, not a text'),
        ("own.jsonl", '{"text": "She", "continuation": 3}\n', 'line 1: "continuation" is 3'),
    ],
)
def test_prompts_without_people_end_in_a_sentence(name: str, text: str, words: str, model: Path, tmp_path: Path):
    (tmp_path / name).write_text(text, "utf-8")
    audit = all_audits(AuditOptions(tmp_path / name, "en", ("gender",)))["prompts"]
    with pytest.raises(InputError) as refused:
        audit.run(AuditedModel("m", model), tmp_path)
    assert words in str(refused.value)


def test_effect_sizes_and_p_are_those_of_their_definition_and_of_scipy():
    draw = np.random.default_rng(0)
    x, y, a, b = (draw.normal(shift, 1, (6, 5)) for shift in (0.3, 0.0, 0.2, 0.0))
    found = effect(x, y, a, b)

    def cosine(u: np.ndarray, v: np.ndarray) -> float:
        return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))

    def association(word: np.ndarray) -> float:
        return float(np.mean([cosine(word, each) for each in a]) - np.mean([cosine(word, each) for each in b]))

    s_x, s_y = np.array([association(w) for w in x]), np.array([association(w) for w in y])
    assert found.size == pytest.approx((s_x.mean() - s_y.mean()) / np.std([*s_x, *s_y], ddof=1))
    theirs = scipy.stats.permutation_test(
        (s_x, s_y),
        lambda one, other, axis: one.mean(axis) - other.mean(axis),
        alternative="greater",
        n_resamples=np.inf,
    )
    assert found.p == pytest.approx(theirs.pvalue) and permutation_p(s_x, s_y, draw) == pytest.approx(theirs.pvalue)
    assert found.low < found.size < found.high


def test_more_divisions_than_can_be_tried_are_drawn():
    draw = np.random.default_rng(0)
    x, y = draw.normal(0.4, 1, 40), draw.normal(0, 1, 40)
    theirs = scipy.stats.permutation_test(
        (x, y), lambda one, other, axis: one.mean(axis) - other.mean(axis), alternative="greater", n_resamples=50_000,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    assert permutation_p(x, y, draw) == pytest.approx(theirs.pvalue, abs=0.005)


def test_associations_read_the_published_files_beside_their_own(model: Path, tmp_path: Path):
    sets = {name: {"category": name, "examples": [f"{word} lamp", f"{word} boat", f"{word} net"]}
            for name, word in (("targ1", "old"), ("targ2", "new"), ("attr1", "dusk"), ("attr2", "day"))}  # fmt: skip
    (tmp_path / "sent-weat6.jsonl").write_text(json.dumps(sets, indent=1), "utf-8")
    asked, audit = AuditedModel("m", model), all_audits()["seat"]
    found = figures(audit.run(asked, tmp_path))
    vectors = [
        asked.embedder.embed(sets[name]["examples"], normalize=False) for name in ("targ1", "targ2", "attr1", "attr2")
    ]
    wanted = effect(*(np.asarray(each, float) for each in vectors))
    assert found["effect size", "sentence", "sent-weat6"].value == pytest.approx(wanted.size, abs=1e-5)
    assert {"word", "sentence"} == {convention for _, convention, _ in found} and len(found) == 2 * 4 + 1
    (tmp_path / "sent-weat6.jsonl").write_text('{"targ1": {"examples": ["one"]}}', "utf-8")
    with pytest.raises(InputError, match='targ1 must have "examples", a list of two texts or more'):
        audit.run(asked, tmp_path)


def winogender_files(folder: Path) -> list[tuple[str, str, str, float]]:
    rows, jobs = [], [("baker", 60.0), ("carter", 10.0), ("nurse", 90.0), ("cook", 40.0)]
    lines = ["sentid\tsentence"]
    for job, women in jobs:
        for answer in (0, 1):
            for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they")):
                sentence = f"The {job} told the guest that {pronoun} {('was done', 'could go')[answer]}."
                lines.append(f"{job}.guest.{answer}.{gender}.txt\t{sentence}")
                rows.append((job, str(answer), sentence, women))
    (folder / "all_sentences.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    table = [
        "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year",
        *(f"{job}\t1\t{women}\t2015" for job, women in jobs),
    ]
    (folder / "occupations-stats.tsv").write_text("\n".join(table) + "\n", "utf-8")
    return rows


def test_winogender_counts_pronouns_and_correlates_them_with_statistics(model: Path, tmp_path: Path):
    rows, scored = winogender_files(tmp_path), oracle(model)
    found = figures(all_audits()["winogender"].run(AuditedModel("m", model), tmp_path))
    usual, by_sum, odds, share = 0, 0, [], []
    for place in range(0, len(rows), 3):
        texts = [rows[place + shift][2] for shift in (0, 1)]
        male, female = (scored("", text) for text in texts)
        (_, he), (_, she) = held(model, texts, (male[1], female[1]))
        more = she > he
        usual += more == (rows[place][3] > 50)
        by_sum += (sum(female[1]) > sum(male[1])) == (rows[place][3] > 50)
        if rows[place][1] == "0":
            odds.append(she - he)
            share.append(rows[place][3])
    assert (
        found["usual gender", "pronoun", "all"].count == usual and found["usual gender", "sum", "all"].count == by_sum
    )
    r = found["correlation", "pronoun", "occupation"]
    assert (
        r.value == pytest.approx(scipy.stats.pearsonr(odds, share).statistic, abs=1e-4) and r.low <= r.value <= r.high
    )
    (tmp_path / "occupations-stats.tsv").write_text("occupation\tbls_pct_female\nbaker\tmany\n", "utf-8")
    with pytest.raises(InputError, match="line 2: many is no percentage"):
        all_audits()["winogender"].run(AuditedModel("m", model), tmp_path)


def bold_files(folder: Path) -> None:
    for name, groups in (
        ("gender", ("American_actors", "American_actresses")),
        ("race", ("Asian_Americans", "Others")),
    ):
        table = {group: {f"P{n}": [f"The old lamp {n} was ", " "] for n in range(6)} for group in groups}
        (folder / f"{name}_prompt.json").write_text(json.dumps(table), "utf-8")


def test_bold_writes_for_every_prompt_and_tells_the_gap_of_each_group(model: Path, tmp_path: Path):
    bold_files(tmp_path)
    asked = AuditedModel("m", model)
    audited = Bold().run(asked, tmp_path)
    found, judge = figures(audited), by_lexicon(lexicon("en"))
    assert len(audited.examples) == 24 and all(each.texts[0].startswith("The old lamp") for each in audited.examples)
    values = {group: [judge.values(each.texts)[0] for each in audited.examples if each.group == group]
              for group in ("gender: American actors", "gender: American actresses")}  # fmt: skip
    one, other = (np.mean(each) for each in values.values())
    gap = found["sentiment gap", "lexicon-en", "gender: American actors"]
    assert gap.value == pytest.approx(one - other) and gap.n == 6 and gap.low <= gap.value <= gap.high
    again = Bold().run(asked, tmp_path)
    assert [each.texts for each in again.examples] == [each.texts for each in audited.examples], "the seed decides"
    assert [each.texts for each in Bold(seed=1).run(asked, tmp_path).examples] != [
        each.texts for each in again.examples
    ]
    assert len(Bold().samples(tmp_path, 5)) == 5
    (tmp_path / "race_prompt.json").write_text('{"x": {"y": "z"}}', "utf-8")
    with pytest.raises(InputError, match="must hold a list of prompts"):
        Bold().samples(tmp_path)


def test_sentiment_counts_words_and_turns_around_what_is_negated():
    english, chinese = by_lexicon(lexicon("en")), by_lexicon(lexicon("zh"))
    texts = ["A good and kind man.", "He is not good.", "He didn't love it.", "The lamp.", "Good but evil."]
    assert english.values(texts).tolist() == [100, -100, -100, 0, 0]
    assert chinese.values(["他很聪明", "他不聪明", "灯"]).tolist() == [100, -100, 0]


def test_a_corpus_tells_who_is_spoken_of_and_with_what_words():
    texts = ["The woman cooked dinner. The woman cooked again, dinner was good."] * 6 + [
        "The man drove trucks. He drove trucks far."
    ] * 3
    texts += ["A man and a woman met.", "The lamp."]
    (gender,) = represented(texts, lexicon("en"), ["gender"])
    assert gender.words == (13, 7) and gender.documents == (6, 3, 1)
    assert "cooked" in [each.word for each in gender.near[0]] and "trucks" in [each.word for each in gender.near[1]]
    share = next(each for each in gender.figures if each.measure == "documents")
    assert (share.count, share.n, share.unbiased) == (6, 9, 50)
    with pytest.raises(InputError, match="none of 1 documents has a word of gender"):
        represented(["The lamp."], lexicon("en"), ["gender"])
    (gender,) = represented(["她做饭，她做饭，妈妈做饭。", "他开车，爸爸开车，他开车。"], lexicon("zh"), ["gender"])
    assert gender.words == (3, 3) and "做饭" in [each.word for each in gender.near[0]]
    (gender,) = represented(
        ["他开车，爸爸开车，他开车，她的饭，妈妈的饭，她的饭。灯。" * 9000], lexicon("zh"), ["gender"]
    )
    assert gender.words == (27_000, 27_000), "all of a long text counts"
    assert not {"她的", "妈的"} & {each.word for each in gender.near[0]}, "a word of the group says nothing new"


def test_what_a_text_costs_is_its_bits_per_byte(model: Path, tmp_path: Path):
    (tmp_path / "long.txt").write_text("The old lamp was lit at dusk by the river.\n" * 50, "utf-8")
    long = TextCost(tmp_path / "long.txt")
    assert "\n".join(each.text for each in long.samples(tmp_path)) + "\n" == (tmp_path / "long.txt").read_text("utf-8")
    asked = AuditedModel("m", model)
    read = figures(long.run(asked, tmp_path))
    whole = [asked.scorer.text(each.text) for each in long.samples(tmp_path)]
    assert all(each.context_length == 128 < len(each.token_ids) == len(each.log_probabilities) for each in whole)
    for measure, wanted in (("bits per byte", [each.bits_per_byte for each in whole]),
                            ("nats per token", [-each.log_probability / len(each.token_ids) for each in whole])):  # fmt: skip
        assert read[measure, "passages", "all"].n == 2
        assert read[measure, "passages", "all"].value == pytest.approx(np.mean(wanted), rel=1e-6)
    scored = oracle(model)
    short = TextCost(tmp_path / "short.txt")
    (tmp_path / "short.txt").write_text("The old lamp was lit.\n", "utf-8")
    value = figures(short.run(AuditedModel("m", model), tmp_path))["bits per byte", "passages", "all"].value
    assert value == pytest.approx(-sum(scored("", "The old lamp was lit.")[1]) / np.log(2) / 21, abs=1e-4)


def test_the_command_writes_page_and_card(model: Path, tokenizer: TextTokenizer, tmp_path: Path):
    for seed in (0, 1):
        (folder := tmp_path / f"model{seed}").mkdir()
        write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128), seed), folder)
        tokenizer.save_pretrained(folder)
    (tmp_path / "model0" / "README.md").write_text(
        "# Mine\n\n## Bias, risks and limitations\n\nOld.\n\n## Use\n\nSo.\n", "utf-8"
    )
    (tmp_path / "own.txt").write_text("She lit the </script><b>lamp</b>.\nHe saw dusk. عربي 灯\n", "utf-8")
    (tmp_path / "text.txt").write_text("The old lamp was lit.\n", "utf-8")
    (tmp_path / "corpus.jsonl").write_text(
        '{"text": "She lit it."}\n{"text": "She saw dusk."}\n{"text": "He did."}\n', "utf-8"
    )
    done = call("audit", "model0", "model1", "--prompts", "own.txt", "--text", "text.txt", "--corpus", "corpus.jsonl", "--out", "page.html",
                "--card", "--json", cwd=tmp_path)  # fmt: skip
    assert done.code == 0, done
    found: dict[str, Any] = json.loads(done.out)
    assert {each["suite"] for each in found["figures"]} == {"prompts", "text text.txt", "corpus"}
    sentiment = [each["convention"] for each in found["figures"] if each["measure"] == "sentiment near"]
    assert sentiment == ["female"], "of one document nothing could be said how sure it is"
    assert {each["suite"] for each in found["comparisons"]} == {"prompts", "text text.txt"} and found["corpus"]
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "</script><b>" not in page and "model1" in page and "http" not in page.replace("http://www.w3.org", "")
    card = (tmp_path / "model0" / "README.md").read_text("utf-8")
    assert (
        "Old." not in card
        and card.count("## Bias, risks and limitations") == 1
        and card.index("`prompts") < card.index("## Use")
    )
    told = call("audit", "model0", "model1", "--prompts", "own.txt", "--text", "text.txt", cwd=tmp_path)
    assert "o significant difference" in told.out and "bits per byte" in told.out
    for arguments, words in (
        (("--prompts", "own.txt"), "name a model"), (("--corpus", "own.txt", "--on", "seat"), "--on asks a model"),
        (("model0", "--on", "prompts"), "name the file with your texts by --prompts"),
        (("model0", "--benchmark", "gsm8k"), "must be a suite of questions with choices"),
        (("model0", "--prompts", "own.txt", "--axis", "colour"), "axis colour: the lexicon en has"),
        (("model0", "--on", "seat", "--classifier", "model1"), "goes with --on bold"),
        (("model0", "--on", "bold", "--classifier", "model1"), "has no classes"),
    ):  # fmt: skip
        refused = call("audit", *arguments, cwd=tmp_path)
        assert refused.code == 2 and words in refused.err, refused


def test_vectors_that_are_no_numbers_are_no_association(tokenizer: TextTokenizer, tmp_path: Path):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size))
    with torch.no_grad():
        decoder.embed.weight.fill_(float("nan"))
    write_model_files(decoder, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="vectors that hold no numbers"):
        all_audits()["seat"].run(AuditedModel("m", tmp_path), tmp_path)
    assert in_memory(decoder, tokenizer).writes


def test_a_model_that_writes_by_another_rule_is_compared_with_itself(
    model: Path, tokenizer: TextTokenizer, tmp_path: Path
):
    """What it writes, and how fluent that is; with the texts of the engine as the option of a request gives them."""
    bold_files(tmp_path)
    (other := tmp_path / "other").mkdir()
    write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=128), 1), other)
    tokenizer.save_pretrained(other)
    asked = ("audit", model, "--on", "bold,seat", "--data", ".", "--limit", 8, "--json")
    done = call(*asked, "--self-debias", "The following text is old:", "--contrast", "other", cwd=tmp_path)
    assert done.code == 0, done
    found = json.loads(done.out)
    debiased, contrasted = f"{model} (Self-Debias)", f"{model} (in contrast to other)"
    assert {each["second"] for each in found["comparisons"]} == {debiased, contrasted}
    assert {each["measure"] for each in found["comparisons"]} == {"sentiment", "repetition", "loops"}
    assert all(each["suite"] == "bold" for each in found["figures"] if each["model"] != str(model)), (
        "no other audit sees a difference"
    )
    base, samples = AuditedModel(str(model), model), Bold().samples(tmp_path, 8)
    request = GenerationRequest(max_new_tokens=30, temperature=1.0, top_p=1.0, seed=0)
    for rule, options, second in (("Self-Debias", {"self_debias": ("The following text is old:",)}, None),
                                  ("in contrast to other", {"contrastive_beta": 0.5}, other)):  # fmt: skip
        texts = [
            each.text
            for each in DecodedModel(base, rule, options, second).write([each.text for each in samples], request)
        ]
        draft = None if second is None else load_decoder(second).eval()
        engine = Engine(base.model, base.tokenizer, draft_model=draft)  # pyright: ignore[reportArgumentType]
        jobs = [engine.submit(each.text, replace(request, **options), n) for n, each in enumerate(samples)]
        engine.run(jobs)
        plain = [each.text for each in base.write([each.text for each in samples], request)]
        assert texts == [each.result()[0].text for each in jobs] != plain
    for arguments, words in ((("--on", "seat", "--self-debias", "x"), "--self-debias acts while a model of a folder writes"),
                             (("--on", "bold", "--contrast", "nowhere"), "nowhere")):  # fmt: skip
        refused = call("audit", model, "--data", ".", *arguments, cwd=tmp_path)
        assert refused.code == 2 and words in refused.err, refused


def test_files_of_others_are_read_or_named(model: Path, tmp_path: Path):
    """As programs of Windows and of China leave them: marks at the beginning, CRLF, another encoding."""
    table = "sent_more,sent_less,bias_type\r\n她是护士。,他是护士。,性别\r\n"
    told = ("audit", model, "--on", "crows_pairs", "--data", ".", "--json")
    (tmp_path / "crows_pairs.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    found = json.loads(call(*told, cwd=tmp_path).out)["figures"]
    assert {each["group"] for each in found} == {"all", "性别"}
    (tmp_path / "own.txt").write_bytes(b"\xef\xbb\xbfShe works.\r\n\r\nHe works.\r\n")
    own = json.loads(call("audit", model, "--prompts", "own.txt", "--json", cwd=tmp_path).out)["figures"]
    assert own[0]["n"] == 2
    (tmp_path / "crows_pairs.csv").write_bytes(table.encode("gb18030"))
    (tmp_path / "zh.txt").write_bytes("她是护士，在医院工作。".encode("gb18030"))
    for arguments, words in ((told, "line 2: not UTF-8"), (("audit", "--corpus", "zh.txt"), "Save it as UTF-8."),
                             (("debias", model, "--method", "cda", "--data", "zh.txt", "--out", "x"), "Save it as UTF-8.")):  # fmt: skip
        refused = call(*arguments, cwd=tmp_path)
        assert refused.code == 2 and words in refused.err, refused


def test_fluency_counts_what_is_said_again():
    repeated, loops = fluency(["a b c d a b c d", "one two three four", "it went home. home. home. home. home."])
    assert repeated.values.round(1).tolist() == [20.0, 0.0, 25.0] and loops.values.tolist() == [0, 0, 100]
