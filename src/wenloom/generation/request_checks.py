"""What is wrong with a request: every option out of range, and those at odds with each other."""

import dataclasses
from typing import TYPE_CHECKING, Any

from wenloom.generation.request_types import convert, shown

if TYPE_CHECKING:
    from wenloom.generation.request import GenerationRequest

MAX_TOKENS = 1_000_000
"""Most tokens that one request may write, over all its sequences: a bound against slips and hostile requests."""
MAX_SEQUENCES = 1024
"""Most sequences or beams of one request."""
MAX_WORDS = 1024
"""Most entries of any list in a request."""
MAX_WORD = 10_000
"""Most characters of a text in a list."""
MAX_CONSTRAINT = 100_000
"""Most characters of a schema, pattern or grammar."""


def normalise(request: "GenerationRequest") -> list[str]:
    """Bring every field into one form, see `request_types`; returns what is wrong with those of another type."""
    if wrong := convert(request):
        return wrong

    def change(name: str, value: Any) -> None:
        object.__setattr__(request, name, value)

    if request.do_sample is None:
        change("do_sample", True)
    for name in ("top_k", "min_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma"):
        if getattr(request, name) == 0:  # how other libraries say "off"
            change(name, None)
    return []


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
_AT_MOST_ELSE = 10**9
_BETWEEN = {  # above the first, at most the second: beyond, scores leave the range of float32
    "temperature": (1e-6, 1e4), "top_n_sigma": (0, 1e4), "top_p": (0, 1), "min_p": (0, 1), "typical_p": (0, 1),
    "epsilon_cutoff": (0, 1), "eta_cutoff": (0, 1), "xtc_threshold": (0, 1), "mirostat_tau": (0, 1e3),
    "mirostat_eta": (0, 1), "repetition_penalty": (1e-4, 1e4), "dry_base": (1, 1e3), "watermark_greenlist_ratio": (0, 1),
    "contrastive_alpha": (0, 1),
}  # fmt: skip
_FROM_TO = {
    "presence_penalty": (-1e6, 1e6), "frequency_penalty": (-1e6, 1e6), "length_penalty": (-100, 100),
    "guidance_scale": (-1e4, 1e4), "watermark_bias": (-1e6, 1e6), "dry_multiplier": (0, 1e6),
    "diversity_penalty": (0, 1e6), "xtc_probability": (0, 1), "penalty_alpha": (0, 1), "contrastive_beta": (0, 1e4),
}  # fmt: skip
_LARGEST_BIAS = 1e30


def out_of_range(request: "GenerationRequest") -> list[str]:
    """Every option that is too small, too large, too long or empty."""
    wrong = []
    for name, least in _AT_LEAST.items():
        value, most = getattr(request, name), _AT_MOST.get(name, _AT_MOST_ELSE)
        if value is not None and value < least:
            wrong.append(f"{name} must be at least {least}, got {shown(value)}")
        elif value is not None and value > most:
            wrong.append(f"{name} must be at most {most:,}, got {shown(value)}")
    for name, (low, high) in _BETWEEN.items():
        value = getattr(request, name)
        if value is not None and not low < value <= high:
            advice = " (for greedy choice do not sample)" if name == "temperature" else ""
            wrong.append(f"{name} must be above {low:g} and at most {high:g}, got {shown(value)}{advice}")
    for name, (low, high) in _FROM_TO.items():
        value = getattr(request, name)
        if value is not None and not low <= value <= high:
            wrong.append(f"{name} must be from {low:g} to {high:g}, got {shown(value)}")
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if isinstance(value, tuple):
            if len(value) > MAX_WORDS and field.name not in ("logit_bias", "allowed_token_ids", "suppress_tokens"):
                wrong.append(f"{field.name} holds {len(value):,} entries, at most {MAX_WORDS:,} are allowed")
            if any(each in ("", ()) for each in value):
                wrong.append(f"{field.name} must not hold an empty entry")
            if any(isinstance(each, str) and len(each) > MAX_WORD for each in value):
                wrong.append(f"{field.name} must not hold a text of more than {MAX_WORD:,} characters")
    if any(abs(value) > _LARGEST_BIAS for _, value in request.logit_bias):
        wrong.append(
            f"logit_bias must be from -{_LARGEST_BIAS:g} to {_LARGEST_BIAS:g} (suppress_tokens forbids a token)"
        )
    return wrong


def at_odds(request: "GenerationRequest") -> list[str]:
    """Options that cannot apply together."""
    r, wrong = request, []
    forms = [name for name in ("json_schema", "regex", "choices", "grammar") if getattr(r, name) not in (None, ())]
    if len(forms) > 1:
        wrong.append(f"{' and '.join(forms)} cannot both hold: give one form")
    if r.form is not None and len(r.form[1]) > MAX_CONSTRAINT:
        wrong.append(f"{r.form[0]} is {len(r.form[1]):,} characters long, at most {MAX_CONSTRAINT:,} are allowed")
    beams, contrastive = r.num_beams > 1, r.penalty_alpha is not None
    total = r.max_new_tokens * max(r.num_beams, r.num_return_sequences)
    if r.max_new_tokens <= MAX_TOKENS < total:
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
        wrong.append(f"forced tokens would break the form ({r.form[0]})")
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
