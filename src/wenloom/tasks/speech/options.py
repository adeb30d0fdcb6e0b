"""How sound is written down: the options, with the defaults of Whisper's authors."""

from dataclasses import dataclass

from wenloom.core.errors import InputError


@dataclass(frozen=True)
class TranscriptionOptions:
    """What `transcribe` decides by; the thresholds are those of Radford et al. 2022, section 4.5."""

    language: str | None = None
    """Code of the language spoken, as en or zh; default: the model says, from the first 30 seconds of every file."""
    translate: bool = False
    """Translate into English."""
    prompt: str = ""
    """Prompt before the transcript, with names and spelling to follow."""
    hotwords: str = ""
    """Words to expect (hotwords), put before every window, not only the first."""
    num_beams: int = 5
    """Beams at temperature 0; 1 takes the most probable token every time."""
    n_best: int = 1
    """Candidate transcripts, best first, each with its score (--format nbest or json), at most; as many beams
    are followed."""
    best_of: int = 5
    """Draws at temperatures above 0, of which the most probable is taken."""
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Tried in this order, until a window is neither repetitive nor improbable."""
    max_compression_ratio: float = 2.4
    """Text that zlib compresses by more than this repeats itself; the next temperature is tried."""
    min_logprob: float = -1.0
    """Mean log-probability per token below which the next temperature is tried."""
    max_no_speech: float = 0.6
    """Probability of no speech above which a window is silent, if its text is less probable than that."""
    min_speech_seconds: float = 0.05
    """Sound with fewer seconds than this above its background counts as silence and is not transcribed; 0: all is."""
    carry: bool = True
    """Condition every window on the text before it, except after a temperature above 0.5."""
    ctc_weight: float | None = None
    """For a model with a CTC head (any that was trained here from nothing): weight of the head's score beside the decoder's; 0
    is the decoder alone, 1 the head alone; default: what made fewer errors when the model was measured."""
    times: bool = True
    """Segments with their times; else one segment per window of 30 seconds."""
    words: bool = False
    """Times of words, from the CTC head where there is one, else from the attention to the sound."""
    seed: int = 0
    """Seed of the draws at temperatures above 0."""

    def __post_init__(self):
        wrong: list[str] = []
        for name in ("num_beams", "n_best", "best_of"):
            if not 1 <= getattr(self, name) <= 100:
                wrong.append(f"{name} must be from 1 to 100, got {getattr(self, name)}")
        if not self.temperatures or not all(0 <= each <= 10 for each in self.temperatures):
            wrong.append("temperatures must be numbers from 0 to 10, at least one")
        if self.ctc_weight is not None and not 0 <= self.ctc_weight <= 1:
            wrong.append(f"ctc_weight must be from 0 to 1, got {self.ctc_weight:g}")
        if wrong:
            raise InputError("; ".join(wrong) + ".")


@dataclass(frozen=True)
class FusionOptions:
    """A language model that is asked, too."""

    lm: str | None = None
    """A language model (folder or hub) that scores, too: token by token with the same vocabulary, else at the end."""
    lm_weight: float | None = None
    """Weight of its log-probability beside the recogniser's; default: 0.3 (evaluate: found by cross-validation)."""
    lm_bonus: float = 0.0
    """With --lm-weight: nats added for every word, against short texts."""

    def __post_init__(self):
        if self.lm is None and (self.lm_weight is not None or self.lm_bonus):
            raise InputError("--lm-weight and --lm-bonus say how a language model counts: name one by --lm.")
        if self.lm_weight is None and self.lm_bonus:
            raise InputError("--lm-bonus goes with --lm-weight.")
        for name in ("lm_weight", "lm_bonus"):
            value = getattr(self, name)
            if value is not None and not -100 <= value <= 100:
                raise InputError(f"--{name.replace('_', '-')} must be a number of at most 100, got {value}.")
