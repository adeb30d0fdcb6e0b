"""Suites read small files that are laid out as the published ones, and ask what their formats say."""

import json
from pathlib import Path
from typing import Any

import pytest

from wenloom.core.errors import InputError
from wenloom.evaluation.choice import Question
from wenloom.evaluation.reference_suite import Reference
from wenloom.evaluation.suites import SUITES


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(name: str, folder: Path) -> tuple[list[Any], list[Any]]:
    """The questions and the rows for worked examples."""
    suite = SUITES[name]
    path = suite.find(folder)
    examples = suite.find_examples(path, folder)
    return suite.read(path), suite.read(examples) if examples else []


def test_mmlu(tmp_path: Path):
    write(tmp_path / "data/test/high_school_physics_test.csv", 'What is "F"?,"m, a",ma,m/a,a/m,B\n Why? ,a,b,c,d,D\n')
    write(tmp_path / "data/test/virology_test.csv", "Which?,1,2,3,4,A\n")
    write(tmp_path / "data/dev/high_school_physics_dev.csv", "How?,x,y,z,w,C\n")
    write(tmp_path / "data/dev/virology_dev.csv", "Who?,p,q,r,s,A\n")
    asked, examples = read("mmlu", tmp_path)
    assert [each.group for each in asked] == ["high school physics"] * 2 + ["virology"]
    assert asked[0].pairs()[1] == (
        "The following are multiple choice questions (with answers) about high school physics.\n\n"
        'What is "F"?\nA. m, a\nB. ma\nC. m/a\nD. a/m\nAnswer:', " B")  # fmt: skip
    assert asked[1].contexts[0].startswith("Why?\n") and [each.gold for each in asked] == [1, 3, 0]
    assert examples[0].solved() == "How?\nA. x\nB. y\nC. z\nD. w\nAnswer: C" and examples[1].group == "virology"
    assert SUITES["mmlu"].in_order


def test_ceval_and_cmmlu(tmp_path: Path):
    write(tmp_path / "ceval-exam/val/law_val.csv", "id,question,A,B,C,D,answer\n0,下列哪项是法律？,甲,乙,丙,丁,C\n")
    write(
        tmp_path / "ceval-exam/dev/law_dev.csv",
        'id,question,A,B,C,D,answer,explanation\n0,谁？,甲,乙,丙,丁,A,"因为，\n如此"\n',
    )
    write(tmp_path / "cmmlu_v1/test/anatomy.csv", ",Question,A,B,C,D,Answer\n0,骨有几块？,一,二,三,四,B\n")
    write(tmp_path / "cmmlu_v1/dev/anatomy.csv", ",Question,A,B,C,D,Answer\n0,何为骨？,一,二,三,四,A\n")
    (asked,), (example,) = read("ceval", tmp_path)
    assert asked.lead == "以下是中国关于法学的单项选择题，请选出其中的正确答案。\n\n"
    assert (
        asked.contexts == ("下列哪项是法律？\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案：",)
        and asked.choices[asked.gold] == " C"
    )
    assert example.solved().endswith("D. 丁\n答案： A")
    (asked,), (example,) = read("cmmlu", tmp_path)
    assert asked.lead == "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n" and asked.gold == 1
    assert example.solved().startswith("何为骨？")


def test_arc_challenge_as_first_published_and_as_on_the_hub(tmp_path: Path):
    choices = [{"text": "dry", "label": "1"}, {"text": "wet", "label": "2"}]
    first = {"id": "M_1", "question": {"stem": "How is water?", "choices": choices}, "answerKey": "2"}
    later = {"question": "How is water?", "choices": {"text": ["dry", "wet"], "label": ["A", "B"]}, "answerKey": "B"}
    for row, name in ((first, "one/ARC-Challenge-Test.jsonl"), (later, "two/ARC-Challenge/test.jsonl")):
        write(tmp_path / name, lines(row))
        (asked,), _ = read("arc_challenge", tmp_path / name.split("/")[0])
        assert asked.pairs()[1] == ("Question: How is water?\nAnswer:", " wet") and asked.gold == 1


def test_triviaqa_with_aliases(tmp_path: Path):
    answer = {"Aliases": ["Paris", "City of Light"], "NormalizedAliases": ["paris"], "Value": "Paris"}
    rows = [{"Question": "What is the capital of France?", "QuestionId": "q1", "Answer": answer, "EntityPages": []}]
    write(tmp_path / "qa/wikipedia-dev.json", {"Data": rows, "Domain": "Wikipedia", "VerifiedEval": False})
    (asked,), _ = read("triviaqa", tmp_path)
    assert asked.prompt == "Question: What is the capital of France??\nAnswer:"
    assert asked.references == ["Paris", "City of Light"] and asked.solved() == asked.prompt + " Paris"
    suite = SUITES["triviaqa"]
    assert suite.matching.exact(" city of LIGHT!", asked.references) == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert suite.matching.exact("Lyon", asked.references) == 0  # pyright: ignore[reportAttributeAccessIssue]


def test_cmrc_in_both_layouts(tmp_path: Path):
    squad = {"version": "v1.0", "data": [{"title": "长城", "id": "D", "paragraphs": [{"id": "D", "context": "长城长两万公里。", "qas": [
        {"question": "长城有多长？", "id": "D_0", "answers": [{"text": "两万公里", "answer_start": 3}] * 2}]}]}]}  # fmt: skip
    first = [{"context_id": "T", "context_text": "长城长两万公里。", "title": "长城",
              "qas": [{"query_text": "长城有多长？", "query_id": "T_0", "answers": ["两万公里", "两万公里"]}]}]  # fmt: skip
    write(tmp_path / "a/cmrc2018_public/dev.json", squad)
    write(tmp_path / "b/cmrc2018_dev.json", first)
    for name in "ab":
        (asked,), _ = read("cmrc2018", tmp_path / name)
        assert asked.prompt == "文章：长城长两万公里。\n问题：长城有多长？\n答案：" and asked.references == ["两万公里"]
    matching = SUITES["cmrc2018"].matching  # pyright: ignore[reportAttributeAccessIssue]
    assert matching.exact("两万 公里。", ["两万公里"]) == 1
    assert matching.f1("约两万里", ["两万公里"]) == pytest.approx(2 * 2 / 8)  # 两万 is the longest stretch of both
    write(tmp_path / "c/cmrc2018_dev.json", [{"text": "x"}])
    with pytest.raises(InputError, match="is not laid out as squad files are"):
        read("cmrc2018", tmp_path / "c")


CLUE: dict[str, tuple[Any, str, list[str], int]] = {
    "afqmc": ({"sentence1": "怎么还款", "sentence2": "如何还钱", "label": "1"}, "问题一：怎么还款\n问题二：如何还钱\n这两个问题的意思相同吗？", ["不同", "相同"], 1),
    "tnews": ({"label": "109", "label_desc": "news_tech", "sentence": "新手机", "keywords": ""}, "新闻标题：新手机\n类别：", [], 8),
    "cmnli": ({"sentence1": "下雨了", "sentence2": "天晴", "label": "contradiction"}, "前提：下雨了\n假设：天晴\n两句话的关系：", ["蕴含", "中立", "矛盾"], 2),
    "cluewsc": ({"target": {"span1_text": "猫", "span1_index": 0, "span2_text": "它", "span2_index": 3}, "idx": 0, "label": "true", "text": "猫饿了它叫"},
                "猫饿了它叫\n上文中的“它”指的是“猫”吗？", ["不是", "是"], 1),
    "csl": ({"id": 1, "abst": "本文研究长城", "keyword": ["长城", "砖"], "label": "0"}, "摘要：本文研究长城\n关键词：长城、砖\n这些关键词都与摘要相符吗？", ["不相符", "相符"], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CLUE)
def test_clue(name: str, tmp_path: Path):
    row, query, choices, gold = CLUE[name]
    folder = {"cluewsc": "cluewsc2020"}.get(name, name)
    write(tmp_path / f"{folder}_public/dev.json", lines(row, *[{**row, "label": "-"}] * (name == "cmnli")))
    write(tmp_path / f"{folder}_public/train.json", lines(row))
    (asked,), (example,) = read(name, tmp_path)
    assert asked.contexts == (query,) and asked.gold == gold and (not choices or list(asked.choices) == choices)
    assert example.solved() == query + asked.choices[gold]


def test_iflytek_has_the_categories_of_its_rows_and_c3_its_two_parts(tmp_path: Path):
    write(
        tmp_path / "iflytek_public/dev.json",
        lines(
            *(
                {"label": str(n), "label_des": name, "sentence": name + "应用"}
                for n, name in enumerate(["打车", "地图", "打车"])
            )
        ),
    )
    asked, _ = read("iflytek", tmp_path)
    assert [each.choices for each in asked] == [("打车", "地图")] * 3 and [each.gold for each in asked] == [0, 1, 0]
    for part in "dm":
        write(
            tmp_path / f"c3_public/{part}-dev.json",
            [
                [
                    ["甲：走吗？", "乙：走。"],
                    [{"question": "走吗？", "choice": ["走", "不走"], "answer": "走"}],
                    f"{part}1-1",
                ]
            ],
        )
        write(
            tmp_path / f"c3_public/{part}-train.json",
            [[["文"], [{"question": "何？", "choice": ["文", "武"], "answer": "文"}], "t"]] * 2,
        )
    asked, examples = read("c3", tmp_path)
    assert len(asked) == 2 and len(examples) == 4
    assert asked[0] == Question(
        ("甲：走吗？\n乙：走。\n问题：走吗？\n答案：",),
        ("走", "不走"),
        0,
        example="甲：走吗？\n乙：走。\n问题：走吗？\n答案：走",
    )


def test_a_row_that_does_not_fit_is_named(tmp_path: Path):
    write(tmp_path / "afqmc_public/dev.json", lines({"sentence1": "a", "sentence2": "b", "label": "7"}))
    with pytest.raises(InputError, match=r"dev.json, line 1: the right choice is '7', which is none of 0, 1"):
        read("afqmc", tmp_path)
    write(tmp_path / "afqmc_public/dev.json", lines({"sentence1": "a", "label": "0"}))
    with pytest.raises(
        InputError,
        match=r'line 1: no field "sentence2", which "query" of afqmc.toml asks for; it has "sentence1", "label"',
    ):
        read("afqmc", tmp_path)
    write(tmp_path / "test/a_test.csv", "q,1,2,3,4,A\nq,1,2\n")
    with pytest.raises(
        InputError, match=r"a_test.csv, line 2: has 3 cells; question, A, B, C, D, answer were expected"
    ):
        read("mmlu", tmp_path)
    write(tmp_path / "other/test/a_test.csv", "q,1,2,3,4,A\n")
    with pytest.raises(InputError, match="name one of them with --data"):
        read("mmlu", tmp_path)


def test_references_of_any_number(tmp_path: Path):
    answer = {"aliases": ["x", "y", "z"], "value": "x"}
    write(
        tmp_path / "triviaqa.jsonl",
        lines({"question": "Q", "answer": answer}, {"question": "R", "answer": {**answer, "aliases": ["w"]}}),
    )
    asked, _ = read("triviaqa", tmp_path)
    assert all(isinstance(each, Reference) for each in asked) and [len(each.references) for each in asked] == [3, 1]
