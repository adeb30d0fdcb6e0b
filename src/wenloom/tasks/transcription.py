"""Speech recognition: a model learns to write down what it hears, from nothing or from a folder of Whisper."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wenloom.audio.augment import RANGE, augmented
from wenloom.audio.log_mel import FRAMES_PER_SECOND, HOP, LogMel
from wenloom.audio.playing import as_data_url
from wenloom.audio.reading import RATE
from wenloom.checkpoint.folder import base_of, is_model
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.files import write_atomically
from wenloom.core.progress import progress
from wenloom.core.quantities import parse_duration
from wenloom.core.randomness import derive_seed, generator
from wenloom.evaluation.speech import speech_errors, speech_figure
from wenloom.model.build import Model
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.sound import SoundEncoder
from wenloom.tasks.lost import Lost
from wenloom.tasks.recipe import SHOWN, EncodedExamples, Figures, TaskRecipe, TaskResult
from wenloom.tasks.rows import RowReader
from wenloom.tasks.settings import DataSettings
from wenloom.tasks.speech.fresh import BANDS, END, fresh_shape, fresh_vocabulary
from wenloom.tasks.speech.joined import CutWords
from wenloom.tasks.speech.manifest import Spoken, read_manifest
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.transcriber import Recording, Transcriber
from wenloom.tasks.speech.transcript import Transcript
from wenloom.tasks.speech.vocabulary import CTC_BLANK, CTC_WEIGHT, SpeechTokens, said_of_decoding, speech_tokens
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Example, Targets, Tokens, Vectors
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.objectives import Objective
from wenloom.training.report import Sample, SamplePreview
from wenloom.training.transcription import TranscriptionObjective

_CTC = 0.5
"""Part of the loss that is CTC's, from nothing; attention alone finds no alignment in little data (Kim et al. 2017)."""
_SECONDS, _OF_HOURS, _LEAST_BATCH, _MOST_BATCH = 7.0, 12.0, 4, 64
"""Of speech in a step, from nothing, in how many recordings: steps are what CTC lacks most before it finds where words are. Of 4 hours, steps
of 24 seconds go through more speech in a minute than those of 12, and of 48 no more."""
_LONGEST = 30.0
"""Seconds of a recording that a fresh model hears at once, at most."""
_MEASURED, _EACH, _MEASURING = 300, 1.0, 0.1
"""Recordings that are transcribed at the end, seconds of a budget that are kept for one at most, and part of it for all."""
_HEARD_FIRST = 500
"""Recordings, at most, whose spectra tell how the weights of a new model begin."""
_JOINED = 0.7
"""Of the examples of a new model, how many are sentences joined of the recordings' words, where all recordings fall into their words."""
_CUT = 0.3
"""Recordings that must fall into their words before any are joined: of fluent speech some do by chance."""
_SPEEDS = (0.9, 1.1)
"""At which a new model hears its recordings."""
_BEHIND = 20
"""A new model hears up to so many frames of silence behind a recording, or all that it hears at once (`TranscriptionObjective`)."""
_SILENCE = (-10 + 4) / 4
"""The lowest number that a spectrogram holds."""
_WEIGHTS = (1.0, 0.5)
"""Of the CTC head beside the decoder, of which the better is found; the head alone first, as it takes the least time."""
_KEPT = ("alignment_heads", "is_multilingual", "suppress_tokens", "begin_suppress_tokens", "no_timestamps_token_id",
         CTC_BLANK, CTC_WEIGHT, "prev_sot_token_id", "max_initial_timestamp_index", "lang_to_id", "task_to_id")  # fmt: skip
"""What a folder says of decoding that stays true of a model tuned from it."""


ExampleChange = Callable[[Example, int], Example]


class TranscriptionRecipe(TaskRecipe[Spoken]):
    """From recordings to text."""

    needs_base = False
    _ctc_weight = _WEIGHTS[-1]
    least_steps = 800
    smaller = "choose a smaller --batch, --width or --layers, --method lora, or --recompute"
    longer = "recordings are at most as long as the model hears at once, texts as --max-target-tokens"

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Spoken]:
        """The recordings of a manifest."""
        self._sounds: dict[tuple[str, float, float | None], tuple[np.ndarray, float]] = getattr(self, "_sounds", {})
        return [each for path in where.split(",") for each in read_manifest(Path(path.strip()), reader)]

    @property
    def measuring(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A tenth of a budget, at most what it takes to decode every recording in every way."""
        budget = self.settings.training.budget
        seconds = _EACH * len(_WEIGHTS) * len(self.validation[:_MEASURED])
        return min(_MEASURING, seconds / parse_duration(budget, "--budget")) if budget else _MEASURING

    def question(self, row: Spoken) -> str:
        """Which stretch of sound it is."""
        return f"{row.path} {row.start}"

    def _heard(self, row: Spoken, bands: int, most: int) -> tuple[np.ndarray, float] | None:
        """The spectrogram of a recording, float16 of shape (frames, bands), and what silence is in it; None: too long."""
        place = _place(row)
        if place not in self._sounds:
            mel = LogMel(row.read().samples, bands)
            frames = mel.window(0, max(1, mel.n_frames)).T.contiguous().numpy().astype(np.float16)
            self._sounds[place] = frames, (max(-10.0, mel.loudest - 8) + 4) / 4
        found = self._sounds[place]
        return found if len(found[0]) <= most else None

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Spectrograms and tokens; recordings that cannot be read are named and left out."""
        assert isinstance(model, EncoderDecoder) and model.config.encoder is not None
        tokens = self._tokens(model, tokenizer)
        most, bands = 2 * model.config.encoder.context_length, model.config.encoder.n_mels or BANDS
        room = min(self.settings.data.max_target_tokens, model.config.context_length // 2) - 1
        long_sound, long_text = Lost(), Lost()
        made: list[list[Example]] = []
        for rows in (self.train, self.validation):
            examples: list[Example] = []
            with progress("Hearing the recordings", len(rows), "recordings") as bar:
                for row in rows:
                    bar.advance()
                    try:
                        heard = self._heard(row, bands, most)
                    except WenloomError as error:
                        bar.print(f"Left out: {error}")
                        continue
                    ids = tokenizer.encode(f" {row.text.strip()}", add_special_tokens=False)
                    if heard is None:
                        long_sound.add(len(ids))
                    elif len(ids) > room:
                        long_text.add(len(ids))
                    else:
                        examples.append(self._example(tokens, row, ids, *heard))
            made.append(examples)
        self.change = self._fresh_change(tokens, tokenizer, most, room) if self.settings.base is None else _changed
        return EncodedExamples(made[0], made[1], {
            f"recordings are longer than {most * HOP / 16_000:g} s: left out": long_sound,
            f"texts have more than {room} tokens: left out": long_text,
        })  # fmt: skip

    def _example(
        self, tokens: SpeechTokens, row: Spoken, ids: list[int], frames: np.ndarray, silence: float
    ) -> Example:
        language = row.language or next(iter(tokens.languages), "en")
        opening = tokens.opening(language if tokens.languages else None, False, False)
        line = [*opening, *ids, tokens.end]
        targets = [IGNORED] * (len(opening) - 1) + line[len(opening) :]
        return {"inputs_BT": Tokens(line[:-1]), "targets_BT": Targets(targets), "frames_BFM": Vectors(frames),
                "length_B": len(frames), "silence_B": silence}  # fmt: skip

    def _fresh_change(self, tokens: SpeechTokens, tokenizer: TextTokenizer, most: int, room: int) -> ExampleChange:
        """How a new model hears examples: often a sentence of joined words instead, by another voice, with silence behind it."""
        words, language = CutWords(), next((row.language for row in self.train if row.language), "")
        heard = [(row, sound) for row in self.train if (sound := self._sounds.get(_place(row))) is not None]
        for row, (frames_TM, silence) in heard:
            words.add(row.text, frames_TM, silence)
        found = words.n_cut / max(1, len(heard))
        part = _JOINED * found if found > _CUT else 0.0

        def change(example: Example, seed: int) -> Example:
            drawn = np.random.default_rng(derive_seed(seed, "joined"))
            if drawn.random() < part and (made := words.sentence(drawn, most)) is not None:
                ids = tokenizer.encode(f" {made.text}", add_special_tokens=False)
                if len(ids) <= room:
                    row = Spoken("", "", made.text, language)
                    example = self._example(tokens, row, ids, made.frames_TM, made.silence)
            return _changed_by_another(example, seed, most)

        return change

    def usual_batch(self, encoded: EncodedExamples) -> tuple[int, str]:
        """From nothing as many recordings as last 7 seconds, more where there are hours: CTC needs steps more than much speech in each."""
        if self.settings.base is not None:
            return super().usual_batch(encoded)
        frames = sum(len(each["frames_BFM"]) for each in encoded.train)  # pyright: ignore[reportArgumentType]
        hours = frames / FRAMES_PER_SECOND / 3600
        rows = round(max(_SECONDS, _OF_HOURS * hours**0.5) * FRAMES_PER_SECOND * len(encoded.train) / frames)
        formula = (
            f"{_SECONDS:.0f} s of speech, or {_OF_HOURS:.0f} sqrt(hours), {_LEAST_BATCH} to {_MOST_BATCH} recordings"
        )
        return min(_MOST_BATCH, max(_LEAST_BATCH, rows)), formula

    def objective(self, model: Model) -> Objective:
        """The decoder's tokens, and CTC beside them where there is a head or all is new."""
        assert isinstance(model, EncoderDecoder)
        blank = self._marks.ctc_blank
        ctc = 0.0 if blank is None else _CTC
        return TranscriptionObjective(model, self.settings.learning.smoothing, ctc, blank or 0, self._marks.end,
                                      short=self.settings.base is None)  # fmt: skip

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """A model that hears."""
        if not isinstance(model, EncoderDecoder) or not model.config.hears:
            raise InputError(
                f"{self.settings.base}: is no speech recogniser; transcription is tuned from a folder of the family whisper."
            )
        return model

    def _tokens(self, model: Model, tokenizer: TextTokenizer) -> SpeechTokens:
        base = self.settings.base
        folder = Path("the model") if base is None else base_of(base)
        said = self._said(tokenizer) if base is None else said_of_decoding(folder)
        self._marks = speech_tokens(folder, model.config, tokenizer, said)
        return self._marks

    def _said(self, tokenizer: TextTokenizer) -> dict[str, Any]:
        """What generation_config.json says of a fresh model: it writes no token that steers."""
        special, end = sorted(tokenizer.special_ids), tokenizer.backend.token_to_id(END)
        return {"is_multilingual": bool(self._languages), "suppress_tokens": [each for each in special if each != end],
                "begin_suppress_tokens": [end], CTC_BLANK: tokenizer.backend.token_to_id("<|nospeech|>")}  # fmt: skip

    @property
    def _languages(self) -> list[str]:
        """Those of the manifest; English alone needs no token."""
        found = sorted({row.language for row in (*self.train, *self.validation) if row.language})
        return [] if found in ([], ["en"]) else found

    def fresh(self) -> tuple[Model, TextTokenizer]:
        """A model of Whisper's shape that hears as much at once as the longest recording, with a vocabulary of its own."""
        settings, texts = self.settings, [row.text for row in self.train]
        most = settings.data.max_target_tokens
        tokenizer, derived = fresh_vocabulary(settings.fresh, texts, most, self._languages)
        self.derived += [] if derived is None else [derived]
        lengths = [len(tokenizer.encode(f" {text.strip()}", add_special_tokens=False)) for text in texts]
        model = EncoderDecoder(fresh_shape(settings.fresh, tokenizer, self._places(), min(most, max(lengths))))
        model.initialise(generator(settings.training.seed, "weights"))
        self._whiten(model)
        return model, tokenizer

    def _whiten(self, model: EncoderDecoder) -> None:
        """Fresh weights begin from what this manifest's recordings sound like."""
        encoder = model.encoder
        assert isinstance(encoder, SoundEncoder)
        rows = self.train[:: -(-len(self.train) // _HEARD_FIRST)]
        heard = [found[0] for row in rows if (found := self._sounds.get(_place(row))) is not None]
        if heard:
            frames_FM = torch.from_numpy(np.concatenate(heard)).double()
            encoder.whiten(frames_FM.mean(0), frames_FM.T.cov(correction=0))

    def _places(self) -> int:
        """Positions of the encoder: half the frames of the longest recording, in whole seconds."""
        longest = 1
        for row in (*self.train, *self.validation):
            try:
                found = self._heard(row, BANDS, round(_LONGEST * 100))
            except WenloomError:
                continue  # `encode` names it
            longest = longest if found is None else max(longest, len(found[0]))
        return min(round(_LONGEST * 50), -(-longest // 100) * 50)

    def _transcriber(self, model: Model, tokenizer: TextTokenizer) -> Transcriber:
        assert isinstance(model, EncoderDecoder)
        return Transcriber(model, self._tokens(model, tokenizer), tokenizer)

    def _transcripts(
        self, model: Model, tokenizer: TextTokenizer, rows: list[Spoken], until: float | None = None, ctc_weight: float | None = None,
    ) -> list[tuple[Spoken, str]]:  # fmt: skip
        """What is heard in recordings, at temperature 0, by the most probable token."""
        recordings = [Recording(row.name, row.read, row.language or None) for row in rows]
        options = TranscriptionOptions(
            num_beams=1,
            temperatures=(0.0,),
            max_compression_ratio=99,
            min_logprob=-99,
            min_speech_seconds=0,
            times=False,
            ctc_weight=ctc_weight,
        )
        found: list[tuple[Spoken, str]] = []
        with torch.inference_mode():
            transcripts = self._transcriber(model, tokenizer).transcribe(recordings, options)
            for number, outcome in self.in_time(transcripts, until):
                if isinstance(outcome, Transcript):
                    found.append((rows[number], outcome.text))
        return found

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Word error rates by language (of languages without blanks: character error rates), with half of the interval."""
        rows = self.validation[:_MEASURED]
        found = (
            self._by_the_better(model, tokenizer, rows)
            if self.settings.base is None
            else self._transcripts(model, tokenizer, rows)
        )
        by_language: dict[str, list[tuple[str, str]]] = {}
        for row, text in found:
            by_language.setdefault(row.language or "en", []).append((row.text, text))
        figures: Figures = {}
        for language, pairs in by_language.items():
            figure = speech_figure(pairs, language, "validation")
            low, value, high = figure.interval
            name = figure.metric if len(by_language) == 1 else f"{figure.metric}_{language}"
            figures[name] = (value, (high - low) / 2)
        return figures

    def _by_the_better(self, model: Model, tokenizer: TextTokenizer, rows: list[Spoken]) -> list[tuple[Spoken, str]]:
        """What is heard with the weight of the CTC head that makes fewer errors, which the folder then names."""
        ways = {weight: dict(self._transcripts(model, tokenizer, rows, ctc_weight=weight)) for weight in _WEIGHTS}
        both = set.intersection(*(set(found) for found in ways.values()))  # the budget may have ended before

        def errors(weight: float) -> int:
            return sum(speech_errors(row.text, ways[weight][row], row.language or "en").errors for row in both)

        self._ctc_weight = min(ways, key=errors)
        return list(ways[self._ctc_weight].items())

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """What is heard in a few recordings, beside what was said, to be played."""
        was_training = model.training
        found = self._transcripts(model, tokenizer, self.validation[:SHOWN], until)
        model.train(was_training)
        return SamplePreview([_sample(row, text) for row, text in found])

    def run(self, out: Path, checkpoint: Path | None = None) -> TaskResult:
        """Train to the end; the folder says how it is to be decoded, also after Ctrl-C."""
        try:
            return super().run(out, checkpoint)
        finally:
            if is_model(out):
                self._write_decoding(out)

    def _write_decoding(self, out: Path) -> None:
        base = self.settings.base
        if base is None:
            kept = self._said(TextTokenizer.from_pretrained(out)) | {CTC_WEIGHT: self._ctc_weight}
        else:
            folder = base_of(base)
            kept = {name: value for name, value in said_of_decoding(folder).items() if name in _KEPT}
            if (folder / "preprocessor_config.json").exists():
                write_atomically(out / "preprocessor_config.json", (folder / "preprocessor_config.json").read_bytes())
        path = out / "generation_config.json"
        raw = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        write_atomically(path, json.dumps(raw | kept, indent=2) + "\n")
        if base is None:
            encoder = json.loads((out / "config.json").read_text(encoding="utf-8"))
            frames = 2 * encoder["max_source_positions"]
            described = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": encoder["num_mel_bins"],
                         "sampling_rate": 16_000, "hop_length": HOP, "n_fft": 400, "nb_max_frames": frames,
                         "n_samples": frames * HOP, "chunk_length": frames // 100, "padding_value": 0.0,
                         "padding_side": "right", "return_attention_mask": False}  # fmt: skip
            write_atomically(out / "preprocessor_config.json", json.dumps(described, indent=2) + "\n")


def _place(row: Spoken) -> tuple[str, float, float | None]:
    """Which stretch of sound it is."""
    return row.path, row.start, row.end


def _sample(row: Spoken, heard: str) -> Sample:
    """A recording on the page of a run; too long a one is not played."""
    sound = row.read()
    short = sound.samples[: round(_LONGEST * RATE) + 1]
    url = as_data_url(short, RATE) if len(short) <= _LONGEST * RATE else None
    errors = speech_errors(row.text, heard, row.language or "en")
    return Sample(f"{row.text}\n→ ", heard, url, tuple(errors.marked()), errors.gap)


def _changed(example: Example, seed: int) -> Example:
    """The example with what SpecAugment hides this time."""
    made = augmented(np.asarray(example["frames_BFM"], np.float32), seed, (1.0, 1.0))
    return example | {"frames_BFM": Vectors(made), "length_B": len(made)}


def _changed_by_another(example: Example, seed: int, most: int) -> Example:
    """The example as another voice says it at another speed, with silence behind it.

    Args:
        most: frames that the model hears at once.
    """
    made = augmented(np.asarray(example["frames_BFM"], np.float32), seed, _SPEEDS, most, voices=True)
    silence, length = float(max(_SILENCE, made.max() - RANGE)), len(made)
    drawn = np.random.default_rng(derive_seed(seed, "silence"))
    behind = int(drawn.integers(0, min(most - length, _BEHIND) + 1))
    made = np.pad(made, ((0, behind), (0, 0)), constant_values=silence)
    return example | {"frames_BFM": Vectors(made), "length_B": length, "silence_B": silence}
