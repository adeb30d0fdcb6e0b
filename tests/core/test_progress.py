"""What long work shows, at any width: whole words, the most important first."""

import io
import re
import shlex
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

import wenloom.core.progress as module
from wenloom.core.console import wrapped
from wenloom.core.progress import ProgressBar, progress
from wenloom.evaluation.signature import Signature

WIDTHS = (60, 80, 100, 140)
TRAINING = ["loss 2.345", "1.92 bits per byte", "12,345 tokens/s", "38 % of peak", "1.25 GB", "gradient 0.61"]
LONG = [
    ("Training", 200_000, "steps", 68_123, TRAINING),
    ("Training", 2_000, "steps", 680, ["loss 11.250", *TRAINING[2:]]),
    ("Validating", 1_234_567, "tokens", 345_678, []),
    ("Reading", 3.2e9, "bytes", 1.1e9, []),
    ("Encoding", 3.2e9, "bytes", 1.1e9, []),
    ("humaneval: checking", 164, "problems", 23, []),
    ("hellaswag", 40_168, "choices", 9_000, []),
    ("Measuring replies", 200, "replies", 28, []),
    ("Writing", 12_000, "prompts", 1_700, []),
    ("正在读取很长的文件", 12_000, "行", 1_700, []),
]
"""What the long commands count: pretrain and finetune, prepare, tokenizer, evaluate, generate --prompts, measuring."""


class Clock:
    """Seconds that pass when they are told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def under_way(label: str, total: float | None, unit: str, done: float, figures: list[str]) -> ProgressBar:
    bar = ProgressBar(label, total, unit, clock := Clock())
    bar.advance(done)
    bar.tell(figures)
    clock.now += 4000
    return bar


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", LONG, ids=lambda case: case[0])
def test_nothing_is_cut_and_the_first_things_are_there(case: tuple[str, float, str, float, list[str]], width: int):
    bar = under_way(*case)
    line = bar.line(width)
    assert cell_len(line) <= width
    shown = [part for part in line.split("  ") if not set(part) <= set("━╌")]
    whole = [field.text for field in bar._fields()] + [field.short for field in bar._fields()]
    assert set(shown) <= set(whole), "a field is there as a whole or not at all"
    first = rf"{int(100 * case[3] / case[1])} % done", " left"
    assert all(part in line for part in first)
    assert re.search(r"[\d.,]+(?: [kMG]?B)?(?:/| of )[\d.,]+", line), "how many of how many"
    assert not case[4] or case[4][0] in line, "the loss"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_part_that_is_done_never_reads_as_what_is_left(width: int):
    line = under_way(*LONG[0]).line(width)
    assert re.search(r"34 % done", line) and not re.search(r"% +left", line)
    assert re.search(r"\d (s|min|h|d) left", line)


def test_fields_come_in_order_of_importance_as_room_allows():
    bar = under_way(*LONG[0])
    held = [[figure for figure in TRAINING if figure in bar.line(width)] for width in range(40, 200)]
    assert all(figures == TRAINING[: len(figures)] for figures in held)
    assert held[-1] == TRAINING and held == sorted(held, key=len)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_terminal_that_changes_its_width_is_followed(width: int, monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    display = module._Display()
    display.bars = [under_way(*LONG[0]), under_way(*LONG[2])]
    console.print(display)
    first = screen.getvalue()
    console.width = 60
    console.print(display)
    for text, columns in ((first, width), (screen.getvalue()[len(first) :], 60)):
        lines = text.splitlines()
        assert len(lines) == 2 and all(cell_len(line) <= columns and "left" in line for line in lines)


def test_work_without_a_known_end_says_how_long_it_goes_on():
    assert under_way("Learning the vocabulary", None, "", 0, []).line(60) == "Learning the vocabulary  1 h 7 min"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, int], list[str]]:
    """What a pipe is told of work that takes so many seconds."""

    def lines(seconds: float, _: int = 0) -> list[str]:
        said: list[str] = []
        monkeypatch.setattr(module, "remark", said.append)
        bar = ProgressBar("Measuring", 10, "replies", clock := Clock())
        display, began = module._Display(), clock.now
        display.bars = [bar]

        class Ticks:
            def wait(self, _: float) -> bool:
                clock.now += 0.5
                return clock.now - began > seconds

        monkeypatch.setattr(display, "_ended", Ticks())
        display._tell()
        return said

    return lines


def test_a_pipe_is_told_now_and_then(told: Callable[..., list[str]]):
    assert told(1) == []
    assert len(told(3)) == 1 and told(3)[0].startswith("Measuring  0 % done  0 of 10 replies")
    assert 3 <= len(told(130)) <= 5


def test_work_inside_other_work_gives_the_line_back():
    with progress("Training", 3, "steps") as outer:
        with progress("Validating", 5, "tokens") as inner:
            assert module._DISPLAY.bars == [outer, inner]
        assert module._DISPLAY.bars == [outer]
    assert module._DISPLAY.bars == []


@pytest.mark.parametrize("width", WIDTHS)
def test_remarks_break_between_words(width: int):
    text = (
        "  shape 4 layers of width 128 = layers = 4 (N/0.8m)^0.22, 12 layers width² + vocabulary x width = size, 两个字 "
        * 2
    )
    rows = wrapped(text, width).split("\n")
    assert " ".join(rows).split() == text.split()
    assert all(cell_len(row) <= width for row in rows) and all(row.startswith("  ") for row in rows)
    command = f"  wenloom finetune --resume {'runs/' * 30}mine"
    assert wrapped(command, width) == command


@pytest.mark.parametrize("width", WIDTHS)
def test_chinese_breaks_between_its_characters_and_punctuation_stays_with_them(width: int):
    text = "  " + "问题：《静夜思》（李白作）共有二十个字，“床前明月光”是第一句。" * 5
    rows = wrapped(text, width).split("\n")
    assert "".join(map(str.strip, rows)) == text.strip() and all(cell_len(row) <= width for row in rows)
    assert not any(row.strip()[0] in "，。：》）" or row[-1] in "《（“" for row in rows)
    command = f"  wenloom finetune --resume {'语料' * 60}"
    assert wrapped(command, width) == command


@pytest.mark.parametrize("width", WIDTHS)
def test_a_command_that_was_broken_is_the_same_for_a_shell(width: int):
    command = "  try  wenloom finetune runs/mine --task chat --train 'my rows.json' --out \"runs/a chat\" --budget 3min --seed 1"
    rows = wrapped(command * 2, width).split("\n")
    assert all(cell_len(row) <= width for row in rows)
    assert shlex.split("\n".join(rows).replace("\\\n", "")) == shlex.split(command * 2)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_signature_breaks_between_its_fields_and_is_read_as_it_is_copied(width: int):
    signature = Signature.of("bits_per_byte", join="raw", ctx=1024, stride=512, bos=True, window="rolling", dtype="bfloat16",
                             denominator="scored", shots=5, examples="arc_easy.jsonl rows 1 2", data="e5aa676cde8e", version=1)  # fmt: skip
    rows = wrapped(f"  {signature}", width).split("\n")
    assert all(cell_len(row) <= width for row in rows)
    fields = str(signature).replace("|", "|\n").split()
    assert all(any(field in row for row in rows) for field in fields)
    assert Signature.parse("\n".join(rows)) == signature
