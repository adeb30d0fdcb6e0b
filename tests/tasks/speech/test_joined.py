"""Sentences joined of words: recordings fall into their words, and what is joined says what stands beside it."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from wenloom.audio.log_mel import LogMel
from wenloom.audio.reading import RATE, read_sound
from wenloom.tasks.speech.joined import CutWords, stretches


def beeps(lengths: list[float], pause: float = 0.25) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Sound of so many seconds each, with pauses around; and where each stands."""
    draw, parts, places = np.random.default_rng(0), [], []
    for seconds in [0.0, *lengths]:
        if seconds:
            begin = sum(map(len, parts)) / RATE
            places.append((begin, begin + seconds))
            parts.append(0.2 * draw.normal(size=round(seconds * RATE)))
        parts.append(0.001 * draw.normal(size=round(pause * RATE)))
    return np.concatenate(parts).astype(np.float32), places


def frames_of(samples: np.ndarray) -> np.ndarray:
    mel = LogMel(samples, 80)
    return mel.window(0, mel.n_frames).T.numpy()


def test_words_are_where_the_sound_is_and_only_where_their_number_is_right():
    samples, places = beeps([0.3, 0.5, 0.4, 0.25])
    found = stretches(frames_of(samples), 4)
    assert found is not None
    assert np.abs(np.array(found) / 100 - np.array(places)).max() <= 0.05
    assert stretches(frames_of(samples), 3) is None and stretches(frames_of(samples), 5) is None
    assert stretches(frames_of(beeps([0.2, 1.2])[0]), 2) is None, "one is six times as long as the other"
    assert stretches(frames_of(beeps([4.0])[0]), 1) is None, "too long for a word"
    assert stretches(np.zeros((50, 80), np.float16), 1) is None


def test_sentences_say_what_stands_beside_them():
    """Each word is a level of its own, so that the sound of a sentence tells its text."""
    words, levels = CutWords(), {"one": 0.9, "two": 1.2, "three": 1.5}
    for text in ("one two three", "three one", "two two one"):
        frames = np.full((20, 80), -0.5, np.float16)
        for word in text.split():
            frames = np.concatenate(
                [frames, np.full((40, 80), levels[word], np.float16), np.full((20, 80), -0.5, np.float16)]
            )
        words.add(text, frames, -0.5)
    words.add("one two", np.full((90, 80), 0.9, np.float16), -0.5)
    words.add("one", np.pad(np.full((40, 80), 0.9, np.float16), ((20, 20), (0, 0)), constant_values=-0.5), -0.5)
    assert words.n_cut == 3 and len(words.words) == 8
    texts, draw = set(), np.random.default_rng(1)
    for _ in range(50):
        made = words.sentence(draw, 400)
        assert made is not None and len(made.frames_TM) <= 400
        loud = np.concatenate(([-1.0], made.frames_TM[:, 0], [-1.0])) > 0
        begins = np.flatnonzero(loud[1:] & ~loud[:-1])
        assert [round(float(made.frames_TM[place + 5, 0]), 1) for place in begins] == [
            levels[word] for word in made.text.split()
        ]
        texts.add(made.text)
    assert len(texts) > 15 and {len(text.split()) for text in texts} == {2, 3}
    assert words.sentence(draw, 10) is None


@pytest.mark.shared_data
def test_people_who_say_yes_and_no_eight_times_are_cut_into_eight(shared_data: Path):
    """Recordings of the yes/no set, a voice from 2004 with clicks and breath."""
    words, names = CutWords(), []
    with zipfile.ZipFile(shared_data / "audio/yesno.zip") as archive:
        for name in archive.namelist():
            said = Path(name).stem.split("_")
            if name.endswith(".wav") and len(said) == 8:
                words.add(" ".join(said), frames_of(read_sound(archive.read(name), name).samples), -0.5)
                names.append(name)
    assert len(names) == 60 and words.n_cut >= 57, "some breathe as loudly as they speak"
    lengths = [len(each.frames_TM) for each in words.words]
    assert len(lengths) == 8 * words.n_cut and min(lengths) >= 25 and max(lengths) <= 120


@pytest.mark.shared_data
def test_fluent_speech_is_not_cut(shared_data: Path):
    """Sentences that people read in eleven languages: none stops behind every word."""
    words, count = CutWords(), 0
    for line in (shared_data / "audio/transcripts.tsv").read_text("utf-8").splitlines()[1:]:
        name, text = line.split("\t")[:2]
        path = shared_data / "audio" / name
        if len(text.split()) >= 5 and path.exists() and path.stat().st_size < 1_000_000:
            words.add(text, frames_of(read_sound(path).samples), -0.5)
            count += 1
    assert count >= 20 and words.n_cut <= count // 20
