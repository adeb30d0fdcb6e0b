"""What is asked of generation, validated at once, in transformers' names where it has one."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wordloom.core.errors import InputError

MAX_TOKENS = 1_000_000
"""Most tokens that one request may write, over all its sequences: a bound against slips and hostile requests."""
MAX_SEQUENCES = 1024
"""Most sequences or beams of one request."""
MAX_WORDS = 1024
"""Most entries of any list in a request."""
MAX_CONSTRAINT = 100_000
"""Most characters of a schema, pattern or grammar."""


@dataclass(frozen=True)
class Length:
    """When a continuation ends."""

    max_new_tokens: int = 200
    """Most tokens to write."""
    max_length: int | None = None
    """Most tokens of prompt and continuation together; the smaller of both limits holds."""
    min_new_tokens: int = 0
    """No end before this many new tokens."""
    min_length: int = 0
    """No end before this many tokens, prompt included."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end the continuation; they are left out of it."""
    eos_token_id: tuple[int, ...] | None = None
    """Tokens that end the continuation; None takes the model's own, () none."""
    forced_bos_token_id: int | None = None
    """The first new token, whatever the model thinks."""
    forced_eos_token_id: int | None = None
    """The last token, where the length limit is reached."""


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. The options apply in the order in which they stand here."""

    do_sample: bool = True
    """Draw tokens at random; False takes the most probable one each time (greedy)."""
    temperature: float | None = None
    """Divides the logits before drawing: below 1 is safer, above 1 is wilder. Default 0.8."""
    top_n_sigma: float | None = None
    """Draw only among logits within n standard deviations of the largest (Tang et al. 2024)."""
    top_k: int | None = None
    """Draw only among the k most probable tokens (Fan et al. 2018)."""
    top_p: float | None = None
    """Draw only among the fewest tokens whose probabilities add up to p (nucleus, Holtzman et al. 2020). Default
    0.95; 1 is all."""
    min_p: float | None = None
    """Draw only among tokens at least this probable relative to the best (Nguyen et al. 2024)."""
    typical_p: float | None = None
    """Draw among the tokens of most typical surprise that add up to this mass (Meister et al. 2023)."""
    epsilon_cutoff: float | None = None
    """Draw only among tokens at least this probable (Hewitt et al. 2022)."""
    eta_cutoff: float | None = None
    """The same with a threshold that falls with entropy: min(eta, sqrt(eta) exp(-entropy)) (Hewitt et al. 2022)."""
    xtc_probability: float = 0.0
    """How often the most probable choices are left out (exclude top choices, p-e-w 2024)."""
    xtc_threshold: float = 0.1
    """With xtc_probability: of the tokens at least this probable only the least probable stays."""
    mirostat_tau: float | None = None
    """Hold the surprise of the text near tau bits per token (mirostat 2, Basu et al. 2021), in place of cut-offs."""
    mirostat_eta: float = 0.1
    """With mirostat_tau: how fast it adapts."""
    seed: int | None = None
    """Makes the draw repeatable, whatever else is in the batch; None is different every time."""


@dataclass(frozen=True)
class Penalties:
    """What is discouraged or forbidden."""

    repetition_penalty: float = 1.0
    """Divides the scores of tokens seen before, the prompt's included (CTRL, Keskar et al. 2019)."""
    presence_penalty: float = 0.0
    """Subtracted once from tokens already written (OpenAI)."""
    frequency_penalty: float = 0.0
    """Subtracted from tokens already written, as often as they were (OpenAI)."""
    no_repeat_ngram_size: int = 0
    """No sequence of this many tokens occurs twice."""
    dry_multiplier: float = 0.0
    """Discourages going on with a repetition, the more the longer it is (DRY, p-e-w 2024); 0.8 is common."""
    dry_base: float = 1.75
    """With dry_multiplier: growth of the penalty per repeated token."""
    dry_allowed_length: int = 2
    """With dry_multiplier: repetitions up to this many tokens are free."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """With dry_multiplier: tokens with these texts end a repetition."""
    bad_words: tuple[str, ...] = ()
    """Words that must not be written, as the tokens that spell them alone or after a blank."""
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    """The same as token sequences."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, bias) pairs, or a mapping: added to the logits."""
    suppress_tokens: tuple[int, ...] = ()
    """Tokens that are never written."""
    begin_suppress_tokens: tuple[int, ...] = ()
    """Tokens that are not written first."""
    allowed_token_ids: tuple[int, ...] | None = None
    """Only these tokens (and the end tokens) may be written."""


@dataclass(frozen=True)
class Search:
    """Looking for the best continuation instead of drawing one, and steering by a second opinion."""

    num_beams: int = 1
    """Beam search: how many continuations are followed side by side."""
    length_penalty: float = 1.0
    """Beam search: scores are divided by length to this power; above 0 favours longer texts."""
    early_stopping: bool | Literal["never"] = False
    """Beam search ends when as many texts as beams have ended (True), when a better one is unlikely (False), or
    only when none can come (never)."""
    num_beam_groups: int = 1
    """Diverse beam search: groups of beams that avoid each other's tokens (Vijayakumar et al. 2018)."""
    diversity_penalty: float = 0.0
    """Diverse beam search: subtracted per earlier group that chose the same token."""
    force_words: tuple[str, ...] = ()
    """Beam search: texts that must be written (grid beam search, Hokamp & Liu 2017)."""
    force_words_ids: tuple[tuple[int, ...], ...] = ()
    """The same as token sequences."""
    penalty_alpha: float | None = None
    """Contrastive search among the top_k tokens: weight of being unlike the text so far (Su et al. 2022); 0.6."""
    dola_layers: tuple[int, ...] | Literal["low", "high"] | None = None
    """DoLa: contrast the last layer with the one of these that differs most (Chuang et al. 2023)."""
    guidance_scale: float = 1.0
    """Classifier-free guidance: above 1 follows the prompt more, against `negative_prompt` (Sanchez et al. 2023)."""
    negative_prompt: str | None = None
    """Guidance away from this text; None is the last token of the prompt alone."""
    contrastive_beta: float | None = None
    """Contrastive decoding against a smaller model: its weight (O'Brien & Lewis 2023); 0.5."""
    contrastive_alpha: float = 0.1
    """Contrastive decoding: only tokens at least this probable relative to the best count."""
    adapter: str | None = None
    """Write with the adapter of this name, one of those that the model was loaded with."""


@dataclass(frozen=True)
class Form:
    """The form that a continuation must have; at most one of these."""

    json_schema: str | None = None
    """A JSON document that obeys this schema (JSON text); {} is any JSON."""
    regex: str | None = None
    """A text that matches this regular expression."""
    choices: tuple[str, ...] = ()
    """One of these texts."""
    grammar: str | None = None
    """A text of this grammar, in Lark's notation."""


@dataclass(frozen=True)
class Output:
    """What comes back."""

    num_return_sequences: int = 1
    """Continuations per prompt."""
    logprobs: int | None = None
    """The log-probability of every new token, and of this many most probable ones (0: of the token alone)."""
    prompt_logprobs: int | None = None
    """The same for the prompt."""
    echo: bool = False
    """Repeat the prompt before the continuation."""


@dataclass(frozen=True)
class Speed:
    """Ways to the same result."""

    prompt_lookup_num_tokens: int = 0
    """Guess this many tokens by looking the last ones up in the text so far, and check them at once."""
    num_assistant_tokens: int = 0
    """Guess this many tokens with the draft model, and check them at once."""
    use_cache: bool = True
    """Keep keys and values of the tokens already read; without, the same comes out more slowly."""


@dataclass(frozen=True)
class Watermark:
    """A mark that statistics can find again (Kirchenbauer et al. 2023)."""

    watermark_key: int | None = None
    """Mark the text with this key; `wordloom detect` finds it by the same."""
    watermark_greenlist_ratio: float = 0.25
    """Share of the vocabulary that is favoured after each token."""
    watermark_bias: float = 2.0
    """Added to the logits of favoured tokens."""


@dataclass(frozen=True)
class GenerationRequest(Watermark, Speed, Output, Form, Search, Penalties, Sampling, Length):
    """How one or several continuations of a prompt are chosen.

    Every option that is given applies, or the request is refused: none is ignored. The processors apply in this
    order: guidance (or contrastive decoding, or DoLa); logit_bias; repetition, presence, frequency penalties; DRY;
    no_repeat_ngram_size; bad words; suppressed tokens; minimum length; allowed tokens; the form (schema, ...);
    forced tokens; then the options of `Sampling` in their order; the watermark; the draw.

    Raises:
        InputError: options out of range or at odds with each other; all of them are named at once.
    """

    def __post_init__(self):
        _normalise(self)
        if wrong := [*_out_of_range(self), *_at_odds(self)]:
            raise InputError("; ".join(wrong) + ".")

    @property
    def is_beam_search(self) -> bool:
        """Whether continuations compete instead of being drawn one by one."""
        return self.num_beams > 1

    @property
    def form(self) -> tuple[str, str] | None:
        """The kind of the form and its source."""
        if self.choices:
            return "choices", json.dumps(self.choices, ensure_ascii=False)
        return next(((k, v) for k in ("json_schema", "regex", "grammar") if (v := getattr(self, k)) is not None), None)

    def room(self, n_prompt: int) -> int:
        """How many tokens may follow a prompt of so many.

        Raises:
            InputError: the prompt fills max_length already.
        """
        room = self.max_new_tokens if self.max_length is None else min(self.max_new_tokens, self.max_length - n_prompt)
        if room < 1:
            raise InputError(
                f"the prompt has {n_prompt} tokens already: give a max_length above {self.max_length}, or max_new_tokens."
            )
        return room


def request_from(options: Mapping[str, Any], **defaults: Any) -> GenerationRequest:
    """A request from options by name, over defaults.

    Raises:
        InputError: there is no such option.
    """
    known = GenerationRequest.__dataclass_fields__
    if unknown := sorted(options.keys() - known.keys()):
        close = {name: [each for each in known if name in each or each in name] for name in unknown}
        hint = "; ".join(f"{name} (like {', '.join(some[:3])}?)" if some else name for name, some in close.items())
        raise InputError(f"generation has no option {hint}.")
    return GenerationRequest(**{**defaults, **options})


def _normalise(request: GenerationRequest) -> None:
    """Lists become tuples and single entries become tuples of one, as JSON and transformers' users write them."""

    def change(name: str, value: Any) -> None:
        object.__setattr__(request, name, value)

    for name in ("stop_strings", "bad_words", "force_words", "choices", "dry_sequence_breakers"):
        value = getattr(request, name)
        change(name, (value,) if isinstance(value, str) else tuple(value or ()))
    for name in ("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "allowed_token_ids"):
        value = getattr(request, name)
        if isinstance(value, Iterable):
            change(name, tuple(value))
        elif value is not None:
            change(name, (value,))
    for name in ("bad_words_ids", "force_words_ids"):
        change(name, tuple(tuple(each) if isinstance(each, Iterable) else (each,) for each in getattr(request, name)))
    bias = request.logit_bias
    pairs = bias.items() if isinstance(bias, Mapping) else bias
    change("logit_bias", tuple((int(token), float(value)) for token, value in pairs))
    if isinstance(request.dola_layers, list):
        change("dola_layers", tuple(request.dola_layers))
    for name in ("top_k", "min_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma"):
        if getattr(request, name) == 0:  # how other libraries say "off"
            change(name, None)


_AT_LEAST = {
    "max_new_tokens": 1, "max_length": 1, "min_new_tokens": 0, "min_length": 0, "top_k": 1, "no_repeat_ngram_size": 0,
    "dry_allowed_length": 1, "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1, "logprobs": 0,
    "prompt_logprobs": 0, "prompt_lookup_num_tokens": 0, "num_assistant_tokens": 0, "watermark_key": 0, "seed": 0,
    "forced_bos_token_id": 0, "forced_eos_token_id": 0,
}  # fmt: skip
_AT_MOST = {
    "max_new_tokens": MAX_TOKENS, "top_k": 10**7, "num_beams": MAX_SEQUENCES, "num_return_sequences": MAX_SEQUENCES,
    "logprobs": 1000, "prompt_logprobs": 1000, "prompt_lookup_num_tokens": 64, "num_assistant_tokens": 64,
    "seed": 2**63 - 1, "watermark_key": 2**63 - 1,
}  # fmt: skip
_BETWEEN = {  # above the first, at most the second
    "temperature": (0, 1e4), "top_n_sigma": (0, 1e4), "top_p": (0, 1), "min_p": (0, 1), "typical_p": (0, 1),
    "epsilon_cutoff": (0, 1), "eta_cutoff": (0, 1), "xtc_threshold": (0, 1), "mirostat_tau": (0, 1e3),
    "mirostat_eta": (0, 1), "repetition_penalty": (0, 1e4), "dry_base": (1, 1e3), "watermark_greenlist_ratio": (0, 1),
    "contrastive_alpha": (0, 1),
}  # fmt: skip
_FINITE = ("presence_penalty", "frequency_penalty", "length_penalty", "guidance_scale", "watermark_bias")
_NOT_NEGATIVE = ("dry_multiplier", "diversity_penalty", "xtc_probability", "penalty_alpha", "contrastive_beta")


def _out_of_range(request: GenerationRequest) -> list[str]:
    wrong = []
    for name, least in _AT_LEAST.items():
        value = getattr(request, name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            wrong.append(f"{name} must be a whole number, got {value!r}")
        elif value < least:
            wrong.append(f"{name} must be at least {least}, got {value}")
        elif value > _AT_MOST.get(name, value):
            wrong.append(f"{name} must be at most {_AT_MOST[name]:,}, got {value:,}")
    for name in (*_BETWEEN, *_FINITE, *_NOT_NEGATIVE):
        value = getattr(request, name)
        if value is None:
            continue
        if not isinstance(value, int | float) or not math.isfinite(value):
            wrong.append(f"{name} must be a finite number, got {value!r}")
        elif name in _BETWEEN and not _BETWEEN[name][0] < value <= _BETWEEN[name][1]:
            advice = " (for greedy choice do not sample)" if name == "temperature" else ""
            low, high = _BETWEEN[name]
            wrong.append(f"{name} must be above {low} and at most {high:g}, got {value}{advice}")
        elif name in _NOT_NEGATIVE and value < 0:
            wrong.append(f"{name} must not be below 0, got {value}")
    if request.xtc_probability > 1:
        wrong.append(f"xtc_probability must be at most 1, got {request.xtc_probability}")
    if request.penalty_alpha is not None and request.penalty_alpha > 1:
        wrong.append(f"penalty_alpha must be at most 1, got {request.penalty_alpha}")
    if request.early_stopping not in (True, False, "never"):
        wrong.append(f'early_stopping must be true, false or "never", got {request.early_stopping!r}')
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if isinstance(value, tuple):
            if len(value) > MAX_WORDS and field.name not in ("logit_bias", "allowed_token_ids", "suppress_tokens"):
                wrong.append(f"{field.name} holds {len(value):,} entries, at most {MAX_WORDS:,} are allowed")
            if any(each in ("", ()) for each in value):
                wrong.append(f"{field.name} must not hold an empty entry")
    if any(not math.isfinite(value) for _, value in request.logit_bias):
        wrong.append("logit_bias must be finite (suppress_tokens forbids a token)")
    return wrong


def _at_odds(request: GenerationRequest) -> list[str]:
    """Options that cannot apply together."""
    r, wrong = request, []
    forms = [name for name in ("json_schema", "regex", "choices", "grammar") if getattr(r, name) not in (None, ())]
    if len(forms) > 1:
        wrong.append(f"{' and '.join(forms)} cannot both hold: give one form")
    if r.form is not None and len(r.form[1]) > MAX_CONSTRAINT:
        wrong.append(f"{r.form[0]} is {len(r.form[1]):,} characters long, at most {MAX_CONSTRAINT:,} are allowed")
    beams, contrastive = r.num_beams > 1, r.penalty_alpha is not None
    total = r.max_new_tokens * max(r.num_beams, r.num_return_sequences)
    if isinstance(total, int) and r.max_new_tokens <= MAX_TOKENS < total:
        wrong.append(f"{total:,} tokens over all sequences are too many, at most {MAX_TOKENS:,} are allowed")
    if r.num_return_sequences > 1 and not r.do_sample and not beams:
        wrong.append("several greedy continuations would all be the same: sample, or give num_beams")
    if beams and r.num_return_sequences > r.num_beams:
        wrong.append(f"num_beams ({r.num_beams}) must be at least num_return_sequences ({r.num_return_sequences})")
    if not beams:
        for name, default in (("length_penalty", 1.0), ("early_stopping", False), ("num_beam_groups", 1),
                              ("diversity_penalty", 0.0), ("force_words", ()), ("force_words_ids", ())):  # fmt: skip
            if getattr(r, name) != default:
                wrong.append(f"{name} needs beam search: give num_beams of 2 or more")
    elif r.num_beams % r.num_beam_groups:
        wrong.append(f"num_beams ({r.num_beams}) must be a multiple of num_beam_groups ({r.num_beam_groups})")
    if r.diversity_penalty and r.num_beam_groups == 1 and beams:
        wrong.append("diversity_penalty needs num_beam_groups of 2 or more")
    if r.num_beam_groups > 1 and (r.do_sample or r.force_words or r.force_words_ids):
        wrong.append("num_beam_groups cannot be joined with do_sample or force_words")
    if (r.force_words or r.force_words_ids) and r.do_sample:
        wrong.append("force_words cannot be joined with do_sample")
    cut_offs = ("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma")
    if r.do_sample and r.mirostat_tau is not None:
        if given := [name for name in cut_offs if getattr(r, name) not in (None, 1.0)]:
            wrong.append(f"mirostat_tau takes the place of {', '.join(given)}: give one or the other (none: null)")
        if beams:
            wrong.append("mirostat_tau follows one text, not beams")
    if not r.do_sample:
        drawing = ("temperature", *cut_offs, "mirostat_tau", "xtc_probability")
        given = [name for name in drawing if getattr(r, name) and not (name == "top_k" and contrastive)]
        if given:
            wrong.append(f"{', '.join(given)} needs do_sample=True")
    if contrastive:
        if r.do_sample or beams:
            wrong.append("penalty_alpha (contrastive search) cannot be joined with do_sample or num_beams")
        if r.top_k is None or r.top_k < 2:
            wrong.append("penalty_alpha (contrastive search) needs top_k of 2 or more: the candidates (4 is common)")
    second = [name for name, given in (("guidance_scale", r.guidance_scale != 1), ("dola_layers", r.dola_layers),
                                       ("contrastive_beta", r.contrastive_beta is not None)) if given]  # fmt: skip
    if len(second) > 1 or (second and contrastive):
        wrong.append(f"{' and '.join([*second, *(['penalty_alpha'] if contrastive else [])])} cannot be joined")
    if second and beams:
        wrong.append(f"{second[0]} cannot be joined with num_beams")
    if r.negative_prompt is not None and r.guidance_scale == 1:
        wrong.append("negative_prompt needs a guidance_scale other than 1")
    if r.prompt_lookup_num_tokens and r.num_assistant_tokens:
        wrong.append("prompt_lookup_num_tokens and num_assistant_tokens cannot both guess: give one")
    if (r.prompt_lookup_num_tokens or r.num_assistant_tokens) and (beams or contrastive or second):
        wrong.append("guessing ahead (prompt_lookup_num_tokens, num_assistant_tokens) follows one text at a time: "
                     "leave it out beside beams, contrastive search, guidance or DoLa")  # fmt: skip
    if r.form is not None and (r.forced_bos_token_id is not None or r.forced_eos_token_id is not None):
        wrong.append(f"forced tokens would break the form ({forms[0]})")
    if r.min_new_tokens > r.max_new_tokens:
        wrong.append(f"min_new_tokens ({r.min_new_tokens}) is above max_new_tokens ({r.max_new_tokens})")
    if r.max_length is not None and r.min_length > r.max_length:
        wrong.append(f"min_length ({r.min_length}) is above max_length ({r.max_length})")
    if r.watermark_key is None and (r.watermark_greenlist_ratio, r.watermark_bias) != (0.25, 2.0):
        wrong.append("watermark_greenlist_ratio and watermark_bias need a watermark_key")
    if r.xtc_threshold != 0.1 and not r.xtc_probability:
        wrong.append("xtc_threshold needs an xtc_probability above 0")
    if r.mirostat_eta != 0.1 and r.mirostat_tau is None:
        wrong.append("mirostat_eta needs mirostat_tau")
    return wrong
