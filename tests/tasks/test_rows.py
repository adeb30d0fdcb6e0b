"""Task data: every shape is read, and what cannot be used is named by line and counted."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from wenloom.core.errors import InputError
from wenloom.tasks.classification import Labelled, read_labelled
from wenloom.tasks.messages import (
    ChatEncoder,
    conversation_of,
    packed,
    preference_of,
    read_conversations,
    read_preferences,
)
from wenloom.tasks.pairs import SUMMARIZATION, TRANSLATION, Pair, read_pairs
from wenloom.tasks.rows import LONGEST_ROW, RowReader
from wenloom.tokens.chat import PLAIN_TEMPLATE, Message
from wenloom.tokens.train import train_tokenizer
from wenloom.training.cross_entropy import IGNORED


def test_pairs_in_every_form(tmp_path: Path):
    expected = [Pair("Ein Hund.", ("A dog.",)), Pair("你好", ("Hello",))]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"src": p.source, "tgt": p.targets[0]}) for p in expected))
    (tmp_path / "a.json").write_text(json.dumps([{"source": p.source, "target": p.targets[0]} for p in expected]))
    with gzip.open(tmp_path / "a.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("".join(f"x\t{p.source}\t{p.targets[0]}\n" for p in expected))
    (tmp_path / "a.zh").write_text("".join(f"{p.source}\n" for p in expected), encoding="utf-8")
    (tmp_path / "a.en").write_text("".join(f"{p.targets[0]}\n" for p in expected))
    for where, columns in (("a.jsonl", None), ("a.json", None), ("a.tsv.gz", ("2", "3"))):
        source, target = columns or (None, None)
        assert read_pairs(str(tmp_path / where), TRANSLATION, RowReader(), source, target) == expected
    assert read_pairs(f"{tmp_path}/a.zh,{tmp_path}/a.en", TRANSLATION, RowReader()) == expected
    (tmp_path / "a.en").write_text("one line\n")
    with pytest.raises(InputError, match=r"a.zh has 2, .*a.en has 1"):
        read_pairs(f"{tmp_path}/a.zh,{tmp_path}/a.en", TRANSLATION, RowReader())


def test_several_references_and_lists_of_sentences(tmp_path: Path):
    row = {"source": ["First.", "Second."], "target": ["One.", "Two."]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read_pairs(str(tmp_path / "a.jsonl"), SUMMARIZATION, RowReader()) == [
        Pair("First. Second.", ("One.", "Two."))
    ]


def test_bad_rows_are_named_by_line_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        '{"source": "a", "target": "b"}', "{broken", '{"source": "a"}', '{"source": " ", "target": "b"}', "[1]",
        '{"source": 3, "target": "b"}', '{"source": "' + "x" * LONGEST_ROW + '", "target": "b"}', "", "[" * 10**5,
        '{"source": "c", "target": "d"}',
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows))
    reader = RowReader()
    assert read_pairs(str(path), TRANSLATION, reader) == [Pair("a", ("b",)), Pair("c", ("d",))]
    assert [each.line for each in reader.refused] == [2, 3, 4, 5, 6, 7, 9]
    reasons = " / ".join(each.why for each in reader.refused)
    for word in (
        "not valid JSON",
        'no field "target"',
        '"source" is empty',
        "holds a list",
        "is a number",
        "characters",
        "nested",
    ):
        assert word in reasons
    reader.report()
    said = " ".join(capsys.readouterr().err.split())
    assert "line 2: not valid JSON" in said and "7 rows in all" in said
    with pytest.raises(InputError, match="line 2"):
        read_pairs(str(path), TRANSLATION, RowReader(strict=True))
    path.write_text("{}\n")
    with pytest.raises(InputError, match="no row that can be used"):
        read_pairs(str(path), TRANSLATION, RowReader())


OPENAI = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
SPEAKERS = {"turns": [{"speaker": "USER", "utterance": "Hi"}, {"speaker": "SYSTEM", "utterance": "Hello"}]}


@pytest.mark.parametrize("row", [
    OPENAI, SHAREGPT, SPEAKERS, {"instruction": "Hi", "input": "", "output": "Hello"},
    {"instruction": "Hi", "response": "Hello"}, {"prompt": "Hi", "response": "Hello"},
    {"question": "Hi", "answer": "Hello"}, {"instruction": "Hi", "instances": [{"input": "", "output": "Hello"}]},
])  # fmt: skip
def test_conversations_in_every_shape(row: dict[str, object]):
    assert conversation_of(row) == (Message("user", "Hi"), Message("assistant", "Hello"))


def test_preferences_in_every_shape():
    transcript = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: "
    found = preference_of({"chosen": transcript + "See you.", "rejected": transcript + "Go away."})
    assert found.chosen[:-1] == found.rejected[:-1] and len(found.chosen) == 4
    assert found.rejected[-1] == Message("assistant", "Go away.")
    found = preference_of({"prompt": "Hi", "chosen": "Hello", "rejected": "No"})
    assert found.chosen == (Message("user", "Hi"), Message("assistant", "Hello"))
    with pytest.raises(ValueError, match="same"):
        preference_of({"prompt": "Hi", "chosen": "a", "rejected": "a"})
    with pytest.raises(ValueError, match="transcript"):
        preference_of({"chosen": "a", "rejected": "b"})


def test_bad_conversations_are_counted(tmp_path: Path):
    bad = [
        {"messages": []}, {"messages": [{"role": "user"}]}, {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": "x"}]}, {"instruction": "x", "output": ""}, {"text": "x"},
    ]  # fmt: skip
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(map(json.dumps, [OPENAI, *bad])))
    reader = RowReader()
    assert len(read_conversations(str(path), reader)) == 1
    assert [each.line for each in reader.refused] == [2, 3, 4, 5, 6, 7]
    path.write_text(json.dumps({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}) + "\n" + json.dumps(OPENAI))
    reader = RowReader()
    assert len(read_preferences(str(path), reader)) == 1
    assert reader.refused[0].line == 2


def test_labels_of_texts(tmp_path: Path):
    (tmp_path / "a.tsv").write_text("good\tA fine film.\nbad\n")
    reader = RowReader()
    assert read_labelled(str(tmp_path / "a.tsv"), reader) == [("A fine film.", "good")]
    assert "2 were expected" in reader.refused[0].why
    (tmp_path / "a.jsonl").write_text('{"sentence": "好", "label": 1}\n{"sentence": "x", "label": [1]}')
    assert read_labelled(str(tmp_path / "a.jsonl"), reader) == [("好", "1")]


def test_rows_are_packed_tightly():
    lengths = [7, 5, 5, 3, 2, 2, 1, 9]
    rows = packed(lengths, 10)
    assert sorted(index for row in rows for index in row) == list(range(8))
    assert all(sum(lengths[index] for index in row) <= 10 for row in rows) and len(rows) == 4


def test_conversations_that_do_not_fit_lose_turns_or_are_left_out():
    tokenizer = train_tokenizer(["abc"], "byte")
    tokenizer.chat_template = PLAIN_TEMPLATE
    exchange = (Message("user", "ab"), Message("assistant", "cd"))
    encoder = ChatEncoder(tokenizer, 60)
    found = encoder.examples([exchange, exchange * 3, (Message("user", "x" * 80), exchange[1])], pack=False)
    assert (len(found), encoder.cut.examples, encoder.dropped.examples) == (2, 1, 1)
    targets = found[1]["targets_BT"]
    assert isinstance(targets, list)
    assert tokenizer.decode([token for token in targets if token != IGNORED]) == " cd<|endoftext|>" * 2


TABLE = [("good", 'a "q" b'), ("bad", "x, y"), ("good", "春眠 z")]


def table(path: Path, delimiter: str, header: bool) -> str:
    """As spreadsheets and data frames write it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerows([("label", "text")] * header + TABLE)
    return str(path)


@pytest.mark.parametrize("name, delimiter, header", [
    ("a.csv", ",", True), ("b.csv", ";", True), ("c.csv", "\t", True), ("d.tsv", "\t", True), ("e.tsv", "\t", False),
])  # fmt: skip
def test_tables_are_read_as_their_header_says(name: str, delimiter: str, header: bool, tmp_path: Path):
    file = table(tmp_path / name, delimiter, header)
    reader = RowReader()
    expected = [Labelled(text, label) for label, text in TABLE]
    assert read_labelled(file, reader) == expected and not reader.count
    if name.endswith(".tsv"):
        assert read_labelled(file, RowReader(), "2", "1") == expected
    if header:
        assert read_labelled(file, RowReader(), "text", "label") == expected
        assert read_pairs(file, TRANSLATION, RowReader(), "label", "text") == [Pair(a, (b,)) for a, b in TABLE]


@pytest.mark.parametrize("source, target, why", [
    ("77", "1", "has no column 77; line 1 has 2"), ("0", "1", "has no column 0"),
    ("text", "nonsense", 'names no column "nonsense"; it has label, text'),
])  # fmt: skip
def test_a_column_that_is_not_there_is_named(source: str, target: str, why: str, tmp_path: Path):
    file = table(tmp_path / "a.tsv", "\t", True)
    for read in (lambda: read_labelled(file, RowReader(), source, target),
                 lambda: read_pairs(file, TRANSLATION, RowReader(), source, target)):  # fmt: skip
        with pytest.raises(InputError, match=why):
            read()


def test_a_header_that_names_one_of_two_columns_is_told(tmp_path: Path):
    (tmp_path / "a.tsv").write_text("id\treview\tlabel\n1\tfine\tgood\n")
    with pytest.raises(InputError, match=r"names columns \(id, review, label\), but none of text"):
        read_labelled(str(tmp_path / "a.tsv"), RowReader())
    assert read_labelled(str(tmp_path / "a.tsv"), RowReader(), "review") == [Labelled("fine", "good")]
    assert read_labelled(str(tmp_path / "a.tsv"), RowReader(), "2", "3") == [Labelled("fine", "good")]


def test_a_table_in_another_encoding_is_named_without_options_of_other_commands(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("label,text\n好,春眠不觉晓处处闻啼鸟\n".encode("gb18030") * 30)
    with pytest.raises(InputError, match="Save it as UTF-8") as refused:
        read_labelled(str(tmp_path / "a.csv"), RowReader())
    assert "--" not in str(refused.value)


@pytest.mark.parametrize("line, cells", [
    ('good\t"a ""x""\ty"', ["good", 'a "x"\ty']), ('good\t"He said', ["good", '"He said']),
    ('good\t"No" means no', ["good", '"No" means no']), ('"good"\t"a"', ["good", "a"]), ("good\ta", ["good", "a"]),
])  # fmt: skip
def test_quotes_of_a_cell_are_its_own_unless_they_match(line: str, cells: list[str], tmp_path: Path):
    (tmp_path / "a.tsv").write_text(line + "\n")
    assert read_labelled(str(tmp_path / "a.tsv"), RowReader()) == [Labelled(cells[1], cells[0])]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_column_that_stands_twice_is_refused(name: str, tmp_path: Path):
    delimiter = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_text("\n".join(delimiter.join(row) for row in (["label", "text", "text"], ["a", "b", "c"])))
    with pytest.raises(InputError, match='line 1: the column "text" stands twice'):
        read_labelled(str(tmp_path / name), RowReader())


SAID = [
    {"role": "user", "content": "Day?"},
    {"role": "assistant", "content": "Which?"},
    {"role": "user", "content": "5"},
]


def reply(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("row", [
    {"prompt": SAID, "chosen": "Yes.", "rejected": "No."},
    {"prompt": SAID, "chosen": [reply("Yes.")], "rejected": [reply("No.")]},
    {"prompt": SAID, "chosen": reply("Yes."), "rejected": reply("No.")},
    {"chosen": [*SAID, reply("Yes.")], "rejected": [*SAID, reply("No.")]},
    {"prompt": "Day?", "chosen": [*SAID, reply("Yes.")], "rejected": [*SAID, reply("No.")]},
    {"conversations": [{"from": {"user": "human", "assistant": "gpt"}[each["role"]], "value": each["content"]} for each in SAID],
     "chosen": {"from": "gpt", "value": "Yes."}, "rejected": {"from": "gpt", "value": "No."}},
    {"chosen": "\n\nHuman: Day?\n\nAssistant: Which?\n\nHuman: 5\n\nAssistant: Yes.",
     "rejected": "\n\nHuman: Day?\n\nAssistant: Which?\n\nHuman: 5\n\nAssistant: No."},
])  # fmt: skip
def test_preferences_in_the_layouts_in_use_are_one(row: dict[str, Any]):
    before = tuple(Message(each["role"], each["content"]) for each in SAID)
    found = preference_of(row)
    assert found.chosen == (*before, Message("assistant", "Yes.")) and found.rejected[:-1] == before
    assert found.rejected[-1].content == "No."


@pytest.mark.parametrize("row, asked", [
    ({"instruction": "Translate.", "input": "day"}, ["Translate.\n\nday"]),
    ({"instruction": "And this?", "history": [["Hi", "Hello"], ["Day?", "Which?"]]}, ["Hi", "Hello", "Day?", "Which?", "And this?"]),
    ({"prompt": "\n\nHuman: Day?\n\nAssistant: Which?\n\nHuman: 5\n\nAssistant:"}, ["Day?", "Which?", "5"]),
    ({"system": "Be brief.", "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Day?"}]},
     ["Be kind.", "Day?"]),
])  # fmt: skip
def test_nothing_of_a_question_is_dropped(row: dict[str, Any], asked: list[str]):
    found = preference_of({**row, "chosen": "Yes.", "rejected": "No."})
    assert [each.content for each in found.chosen] == [*asked, "Yes."] and found.chosen[-2].role == "user"
    if "instruction" in row:  # and of one that is answered once
        assert [each.content for each in conversation_of({**row, "output": "Yes."})] == [*asked, "Yes."]


def test_a_question_with_a_system_text_is_a_prompt():
    found = preference_of({"system": "Be brief.", "question": "Day?", "chosen": "Yes.", "rejected": "No."})
    assert [each.role for each in found.chosen] == ["system", "user", "assistant"]


def test_rows_of_a_list_on_one_line_are_told_apart(tmp_path: Path):
    rows = [{"text": f"{n}", "label": "a"} for n in range(9)]
    del rows[4]["label"], rows[7]["text"]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    reader = RowReader()
    assert len(read_labelled(str(tmp_path / "a.json"), reader)) == 7
    assert [str(each).split(": ")[1] for each in reader.refused] == ["item 5", "item 8"]
