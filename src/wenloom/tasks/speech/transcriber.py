"""Many recordings side by side through one model: windows that wait are encoded and decoded together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wenloom.audio.log_mel import FRAMES_PER_SECOND, HOP, LogMel
from wenloom.audio.reading import Sound
from wenloom.checkpoint.folder import base_of, load_model, load_tokenizer, read_config
from wenloom.checkpoint.hub import resolve
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.randomness import generator
from wenloom.model.cache import EncoderKV
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.packed import packed
from wenloom.tasks.speech.ctc import Guide, ctc_logprobs
from wenloom.tasks.speech.decoding import decode, joined, rows_of
from wenloom.tasks.speech.joint import CtcHeard, Judge, by_both, by_ctc, chosen
from wenloom.tasks.speech.language_model import LM_WEIGHT, FusedLanguageModel
from wenloom.tasks.speech.long_form import Align, Ask, Listener, Listening
from wenloom.tasks.speech.n_best import n_best
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.rules import TokenRules
from wenloom.tasks.speech.transcript import SpokenSegment, Transcript
from wenloom.tasks.speech.vocabulary import SpeechTokens, said_of_decoding, speech_tokens
from wenloom.tasks.speech.word_times import ctc_word_times, word_times
from wenloom.tokens.tokenizer import TextTokenizer


class Recording(NamedTuple):
    """What is to be heard."""

    name: str
    read: Callable[[], Sound]
    """Reads the sound, when its turn has come."""
    language: str | None = None
    """Code of its language; None: that of the options, else the model says."""


Advance = Callable[[int, float, float], None]
"""Told the number of a recording, the seconds of it that are done, and those that it has."""
Outcome = tuple[int, Transcript | WenloomError]
"""The number of a recording, and what it was heard as, or why not."""


@dataclass
class _Work:
    """A recording that is under way."""

    number: int
    name: str
    sound: Sound
    mel: LogMel
    language: str | None
    listener: Listener | None = None
    listening: Listening | None = None
    asked: Ask | Align | None = None
    heard_from: int = -1
    """First frame of the window that `encoder_kv` is of."""
    encoder_kv: EncoderKV | None = None
    ctc_SV: Tensor | None = None
    """Of the same window: what its CTC head says."""
    draws: int = 0
    done_seconds: float = 0.0
    n_told: int = 0
    most_texts: int = 1
    """How many texts are told of."""
    transcript: Transcript | None = None


class _Judges(NamedTuple):
    """A language model, as it is asked here."""

    guide: Guide | None = None
    judge: Judge | None = None


class Transcriber:
    """A model that writes down what it hears.

    Args:
        model: one with an encoder of sound.
        tokens: those that steer it.
    """

    def __init__(self, model: EncoderDecoder, tokens: SpeechTokens, tokenizer: TextTokenizer):
        self.model, self.tokens, self.tokenizer = packed(model.eval()), tokens, tokenizer
        self._rules: dict[bool, TokenRules] = {}
        self._judges = _Judges()
        self._language_model: FusedLanguageModel | None = None

    def ask(self, model: str, weight: float | None = None, bonus: float = 0.0, decides: bool = True) -> None:
        """Let a language model have its say in what is written at temperature 0.

        Args:
            model: a folder, or a hub model.
            weight: how much it counts; None: `LM_WEIGHT`.
            bonus: nats per word.
            decides: else it is asked by `judged` only.

        Raises:
            InputError: see `FusedLanguageModel.load`.
        """
        device = self.model.embed.weight.device.type
        asked = FusedLanguageModel.load(resolve(model), self.tokenizer, self.model.config.vocab_size, self.tokens.end,
                                   LM_WEIGHT if weight is None else weight, bonus, device)  # fmt: skip
        self._language_model = asked
        if decides:
            guide = asked.following if asked.guides else None
            self._judges = _Judges(guide, lambda texts: asked.judged([self.text_of(ids) for ids in texts]))

    def judged(self, texts: Sequence[str]) -> list[float]:
        """What the language model says of whole texts, see `FusedLanguageModel.judged`; 0 without one."""
        return [0.0] * len(texts) if self._language_model is None else self._language_model.judged(texts)

    def text_of(self, ids: Sequence[int]) -> str:
        """What tokens spell, without those of time."""
        return self.tokenizer.decode([each for each in ids if each < self.tokens.end], skip_special_tokens=True)

    @property
    def _frames(self) -> int:
        """Frames of a window."""
        return 2 * self.model.encoder.config.context_length

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Transcriber":
        """From a folder of the family whisper.

        Raises:
            InputError: the model does not hear.
            CheckpointError: see `checkpoint.folder.load_model`.
        """
        if not (config := read_config(folder)).hears:
            raise InputError(f"{folder}: is no speech recogniser (its family is {config.family}); transcribing takes a model of the family whisper.")  # fmt: skip
        tokenizer = load_tokenizer(folder)
        said = said_of_decoding(base_of(folder))
        tokens = speech_tokens(folder, config, tokenizer, said)
        model = load_model(folder, device, dtype)
        assert isinstance(model, EncoderDecoder)
        return cls(model, tokens, tokenizer)

    def transcribe(
        self,
        recordings: Iterable[Recording],
        options: TranscriptionOptions | None = None,
        side_by_side: int = 8,
        advance: Advance = lambda number, seconds, whole: None,
        tell: Callable[[int, list[SpokenSegment]], None] = lambda number, segments: None,
    ) -> Iterator[Outcome]:
        """What every recording was heard as, in the order in which they are done.

        A recording that cannot be read yields its error, and the others go on.

        Args:
            side_by_side: recordings that are heard at a time.
            advance: told how far a recording is, also when it begins; what it raises ends the work.
            tell: told the number of a recording and its segments as they are heard.

        Raises:
            InputError: the options ask for what the model cannot do.
        """
        options = options or TranscriptionOptions()
        if self.tokens.first_time >= self.model.config.vocab_size:
            options = replace(options, times=False)
        if options.ctc_weight is None:
            options = replace(options, ctc_weight=self.tokens.ctc_weight)
        if options.words and not options.times and self.tokens.ctc_blank is None:
            raise InputError(
                "times of words need a model that has learned times, or one with a CTC head; or leave out --no-times."
            )
        if options.language is not None or not self.tokens.languages:
            self.tokens.opening(options.language, options.translate, options.times)
        waiting = enumerate(recordings)
        works: list[_Work] = []
        is_over = False
        while True:
            while len(works) < side_by_side and not is_over:
                following = next(waiting, None)
                if following is None:
                    is_over = True
                    break
                number, recording = following
                try:
                    sound = recording.read()
                except WenloomError as error:
                    yield number, error
                    continue
                works.append(self._begun(number, recording, sound, options))
                advance(number, 0.0, sound.seconds)
            if not works:
                return
            self._encode([work for work in works if work.heard_from != _first(work)])
            for work in works:
                if work.listening is None:
                    self._start(work, options)
                    self._say(work, tell)
            works_of: dict[tuple[str, float], list[_Work]] = {}
            for work in works:
                if isinstance(work.asked, Ask):
                    works_of.setdefault(("ask", work.asked.temperature), []).append(work)
                elif isinstance(work.asked, Align):
                    works_of.setdefault(("align", work.number), []).append(work)
            answers: list[tuple[_Work, Any]] = []
            for (kind, temperature), some in works_of.items():
                if kind == "ask":
                    answers += self._asked(some, temperature, options)
                else:
                    answers += [(work, self._aligned(work, options)) for work in some]
            for work, answer in answers:
                self._go_on(work, answer, advance)
                self._say(work, tell)
            for work in [each for each in works if each.transcript is not None]:
                works.remove(work)
                assert work.transcript is not None
                yield work.number, work.transcript

    @staticmethod
    def _say(work: _Work, tell: Callable[[int, list[SpokenSegment]], None]) -> None:
        """Tell of segments that nobody was told of yet."""
        assert work.listener is not None
        if len(work.listener.segments) > work.n_told:
            tell(work.number, work.listener.segments[work.n_told :])
            work.n_told = len(work.listener.segments)

    def _begun(self, number: int, recording: Recording, sound: Sound, options: TranscriptionOptions) -> _Work:
        encoder = self.model.config.encoder
        assert encoder is not None and encoder.n_mels is not None
        language = recording.language or options.language or (None if self.tokens.languages else "en")
        return _Work(
            number, recording.name, sound, LogMel(sound.samples, encoder.n_mels), language, most_texts=options.n_best
        )

    @torch.inference_mode()
    def _encode(self, works: list[_Work]) -> None:
        if not works:
            return
        device, dtype = self.model.decoder.embed.weight.device, self.model.decoder.embed.weight.dtype
        windows = torch.stack([work.mel.window(_first(work), self._frames) for work in works])
        encoded_BSD = self.model.encoder.hidden(windows.to(device, dtype))
        encoder_kv = self.model.decoder.project_source(encoded_BSD)
        for row, work in enumerate(works):
            work.encoder_kv = encoder_kv if len(works) == 1 else rows_of(encoder_kv, [row])
            work.heard_from = _first(work)
            work.ctc_SV = self._ctc(work, encoded_BSD[row])

    def _ctc(self, work: _Work, encoded_SD: Tensor) -> Tensor | None:
        """What the CTC head says of the places of a window that are sound; None where there is no head."""
        blank = self.tokens.ctc_blank
        if blank is None:
            return None
        n_frames = min(self._frames, work.mel.n_frames - _first(work))
        silent = [each for each in self.tokenizer.special_ids if each != blank]
        return ctc_logprobs(encoded_SD[: (n_frames + 1) // 2], self.model.decoder.embed.weight, silent)

    def _start(self, work: _Work, options: TranscriptionOptions) -> None:
        if work.language is None:
            work.language = self._language(work)
        config = self.model.config
        work.listener = Listener(work.mel, self.tokens, self.tokenizer, options, config.context_length, self._frames)
        work.listening = work.listener.listen()
        self._go_on(work, None, lambda number, seconds, whole: None)

    @torch.inference_mode()
    def _language(self, work: _Work) -> str:
        """The most probable language of the first window."""
        decoder = self.model.decoder
        start = torch.tensor([[self.tokens.start]], device=decoder.embed.weight.device)
        logits_V = decoder.unembed(decoder.hidden(start, encoder_kv=work.encoder_kv))[0, -1]
        return max(self.tokens.languages, key=lambda code: float(logits_V[self.tokens.languages[code]]))

    def _opening(self, work: _Work, options: TranscriptionOptions, times: bool) -> list[int]:
        return self.tokens.opening(work.language, options.translate, times)

    def _asked(self, works: list[_Work], temperature: float, options: TranscriptionOptions) -> list[tuple[_Work, Any]]:
        asks = [work.asked for work in works if isinstance(work.asked, Ask)]
        prompts = [
            ask.prompt + self._opening(work, options, options.times) for work, ask in zip(works, asks, strict=True)
        ]
        draws = [generator(options.seed, "transcription", work.number, work.draws) for work in works]
        for work in works:
            work.draws += temperature > 0
        judges = self._judges if temperature == 0 else _Judges()
        rules, most = self._rules_of(options.times), self.model.config.context_length // 2
        count = max(options.num_beams, options.n_best) if temperature == 0 else options.best_of
        guide = None if options.times else judges.guide
        ctc = [self._ctc_heard(work, options) if temperature == 0 else None for work in works]
        if options.ctc_weight == 1 and all(each is not None for each in ctc):
            return [(work, by_ctc(each, count, guide, judges.judge)) for work, each in zip(works, ctc, strict=True)
                    if each is not None]  # fmt: skip
        found = decode(
            self.model.decoder, self.tokens, rules, joined([work.encoder_kv for work in works if work.encoder_kv is not None]),
            prompts, most, temperature, count, draws, guide,
        )  # fmt: skip
        answers: list[tuple[_Work, Any]] = []
        for work, prompt, heard, each in zip(works, prompts, found, ctc, strict=True):
            if each is not None or guide is not None:
                assert work.encoder_kv is not None
                heard = by_both(self.model.decoder, rules, self.tokens.end, work.encoder_kv, prompt, heard, most, count, each,
                                guide, judges.judge)  # fmt: skip
            elif judges.judge is not None:
                heard = chosen(heard.others, heard.no_speech_prob, judges.judge)
            answers.append((work, heard))
        return answers

    def _ctc_heard(self, work: _Work, options: TranscriptionOptions) -> CtcHeard | None:
        """What the CTC head says, where it is asked: it knows no times."""
        if work.ctc_SV is None or options.times or not options.ctc_weight:
            return None
        assert self.tokens.ctc_blank is not None
        return CtcHeard(work.ctc_SV, self.tokens.ctc_blank, options.ctc_weight)

    def _rules_of(self, times: bool) -> TokenRules:
        if times not in self._rules:
            self._rules[times] = TokenRules(self.tokens, self.model.config.vocab_size, times)
        return self._rules[times]

    def _aligned(self, work: _Work, options: TranscriptionOptions) -> Any:
        asked = work.asked
        assert isinstance(asked, Align) and work.encoder_kv is not None and work.language is not None
        if work.ctc_SV is not None and self.tokens.ctc_blank is not None:
            return ctc_word_times(work.ctc_SV, self.tokens.ctc_blank, self.tokenizer, asked.segments, asked.first / FRAMES_PER_SECOND,
                                  work.language)  # fmt: skip
        return word_times(
            self.model.decoder, self.tokens, self.tokenizer, work.encoder_kv, self._opening(work, options, True),
            asked.segments, asked.first / FRAMES_PER_SECOND,
            work.mel.samples[asked.first * HOP : (asked.first + asked.n_frames) * HOP], work.language,
        )  # fmt: skip

    def _go_on(self, work: _Work, answer: Any, advance: Advance) -> None:
        """Answer a recording's question, and note its next one, or that it is done."""
        assert work.listening is not None and work.listener is not None and work.language is not None
        try:
            work.asked = next(work.listening) if answer is None else work.listening.send(answer)
            done = work.asked.first / FRAMES_PER_SECOND
        except StopIteration as end:
            remarks = (*work.sound.remarks, *_remarks(work.name, work.listener))
            done = work.sound.seconds
            texts = [[(self.text_of(ids), score) for ids, score in window] for window in work.listener.found]
            work.transcript = Transcript(
                work.name, work.language, done, end.value, remarks, n_best(texts, work.most_texts)
            )
        if done > work.done_seconds:
            work.done_seconds = done
            advance(work.number, done, work.sound.seconds)


def _remarks(name: str, listener: Listener) -> list[str]:
    """What was cut and left out, with the seconds where that was."""
    said: list[str] = []
    for windows, what in ((listener.loops, "text that went round in circles is cut"),
                          (listener.left_out, "only loops and improbable text were heard, which is left out")):  # fmt: skip
        if windows:
            more = ", ..." if len(windows) > 5 else ""
            said.append(
                f"{name}: from second {', '.join(f'{each / FRAMES_PER_SECOND:,.0f}' for each in windows[:5])}{more} {what}."
            )
    return said


def _first(work: _Work) -> int:
    """The first frame of the window that a recording needs next."""
    return 0 if work.asked is None else work.asked.first
