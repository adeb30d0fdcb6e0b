"""What is wrong with a request: every option out of range, and those at odds with each other."""

import dataclasses
from collections.abc import Callable
from typing import Any

from wenloom.generation.bounds import MAX_TOKENS, Bounds, bounds_of
from wenloom.generation.options import RequestOptions
from wenloom.generation.request_types import convert, shown

MAX_WORDS = 1024
"""Most entries of any list in a request."""
MAX_DEBIASING = 8
"""Most texts of Self-Debias, each of which is read beside the prompt."""
MAX_WORD = 10_000
"""Most characters of a text in a list."""
MAX_CONSTRAINT = 100_000
"""Most characters of a schema, pattern or grammar."""


def normalise(request: RequestOptions) -> list[str]:
    """Bring every field to its own type, see `request_types`; returns what is wrong with those of another type."""
    if wrong := convert(request):
        return wrong

    def change(name: str, value: Any) -> None:
        object.__setattr__(request, name, value)

    if request.do_sample is None:
        change("do_sample", True)
    for field in dataclasses.fields(request):
        bounds = bounds_of(field)
        if bounds is not None and bounds.zero_is_off and getattr(request, field.name) == 0:
            change(field.name, None)
    return []


_LARGEST_BIAS = 1e30


def out_of_range(request: RequestOptions) -> list[str]:
    """Every option that is too small, too large, too long or empty."""
    wrong = []
    for field in dataclasses.fields(request):
        value, bounds = getattr(request, field.name), bounds_of(field)
        if bounds is not None and value is not None and (why := _outside(field, value, bounds)):
            advice = " (for greedy choice do not sample)" if field.name == "temperature" else ""
            wrong.append(f"{field.name} must be {why}, got {shown(value)}{advice}")
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


def _outside(field: "dataclasses.Field[Any]", value: Any, bounds: Bounds) -> str:
    """What a value had to be, empty where it is that."""
    if field.type in (int, int | None):
        if value < bounds.low:
            return f"at least {bounds.low}"
        return f"at most {bounds.high:,}" if value > bounds.high else ""
    if bounds.is_open:
        return "" if bounds.low < value <= bounds.high else f"above {bounds.low:g} and at most {bounds.high:g}"
    return "" if bounds.low <= value <= bounds.high else f"from {bounds.low:g} to {bounds.high:g}"


def _named(request: RequestOptions, what: Callable[[Bounds], bool]) -> list[str]:
    """Names of the options of a kind, in the order in which they apply."""
    return [each.name for each in dataclasses.fields(request) if (bounds := bounds_of(each)) and what(bounds)]


NEEDS: tuple[tuple[str, Callable[[RequestOptions], object], tuple[str, ...]], ...] = (
    ("num_beams of 2 or more (beam search)", lambda r: r.is_beam_search,
     ("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty", "force_words", "force_words_ids")),
    ("a watermark_key", lambda r: r.watermark_key is not None, ("watermark_greenlist_ratio", "watermark_bias")),
    ("an xtc_probability above 0", lambda r: r.xtc_probability, ("xtc_threshold",)),
    ("mirostat_tau", lambda r: r.mirostat_tau is not None, ("mirostat_eta",)),
    ("a dry_multiplier above 0", lambda r: r.dry_multiplier, ("dry_base", "dry_allowed_length", "dry_sequence_breakers")),
    ("contrastive_beta", lambda r: r.contrastive_beta is not None, ("contrastive_alpha",)),
    ("a guidance_scale other than 1", lambda r: r.guidance_scale != 1, ("negative_prompt",)),
    ("self_debias", lambda r: r.self_debias, ("self_debias_decay",)),
)  # fmt: skip
"""Options that do nothing alone: what they need, whether it is there, and their names."""


def changed(request: RequestOptions, name: str) -> bool:
    """Whether an option is another than where nobody gives it."""
    return getattr(request, name) != request.__dataclass_fields__[name].default


def at_odds(request: RequestOptions) -> list[str]:
    """Options that cannot apply together."""
    r, wrong = request, []
    grammars = [name for name in ("json_schema", "regex", "choices", "grammar") if getattr(r, name) not in (None, ())]
    if len(grammars) > 1:
        wrong.append(f"{' and '.join(grammars)} cannot both hold: give one of them")
    if r.constraint is not None and len(r.constraint[1]) > MAX_CONSTRAINT:
        wrong.append(
            f"{r.constraint[0]} is {len(r.constraint[1]):,} characters long, at most {MAX_CONSTRAINT:,} are allowed"
        )
    for needed, is_met, names in NEEDS:
        wrong += [f"{name} needs {needed}" for name in names if not is_met(r) and changed(r, name)]
    beams, contrastive = r.is_beam_search, r.penalty_alpha is not None
    total = r.max_new_tokens * max(r.num_beams, r.num_return_sequences)
    if r.max_new_tokens <= MAX_TOKENS < total:
        wrong.append(f"{total:,} tokens over all sequences are too many, at most {MAX_TOKENS:,} are allowed")
    if r.num_return_sequences > 1 and not r.do_sample and not beams:
        wrong.append("several greedy continuations would all be the same: sample, or give num_beams")
    if beams and r.num_return_sequences > r.num_beams:
        wrong.append(f"num_beams ({r.num_beams}) must be at least num_return_sequences ({r.num_return_sequences})")
    if beams and r.num_beam_groups > 0 and r.num_beams % r.num_beam_groups:
        wrong.append(f"num_beams ({r.num_beams}) must be a multiple of num_beam_groups ({r.num_beam_groups})")
    if r.diversity_penalty and r.num_beam_groups == 1 and beams:
        wrong.append("diversity_penalty needs num_beam_groups of 2 or more")
    if r.num_beam_groups > 1 and (r.do_sample or r.force_words or r.force_words_ids):
        wrong.append("num_beam_groups cannot be joined with do_sample or force_words")
    if (r.force_words or r.force_words_ids) and r.do_sample:
        wrong.append("force_words cannot be joined with do_sample")
    if r.do_sample and r.mirostat_tau is not None:
        if given := [name for name in _named(r, lambda each: each.cuts) if getattr(r, name) not in (None, 1.0)]:
            wrong.append(f"mirostat_tau takes the place of {', '.join(given)}: give one or the other (none: null)")
        if beams:
            wrong.append("mirostat_tau follows one text, not beams")
    if not r.do_sample:
        drawing = _named(r, lambda each: each.draws)
        given = [name for name in drawing if getattr(r, name) and not (name == "top_k" and contrastive)]
        if given:
            wrong.append(f"{', '.join(given)} needs do_sample=True")
    if contrastive:
        if r.do_sample or beams:
            wrong.append("penalty_alpha (contrastive search) cannot be joined with do_sample or num_beams")
        if r.top_k is None or r.top_k < 2:
            wrong.append("penalty_alpha (contrastive search) needs top_k of 2 or more: the candidates (4 is common)")
    second = [name for name, given in (("guidance_scale", r.guidance_scale != 1), ("dola_layers", r.dola_layers),
                                       ("contrastive_beta", r.contrastive_beta is not None), ("self_debias", r.self_debias)) if given]  # fmt: skip
    if len(second) > 1 or (second and contrastive):
        wrong.append(f"{' and '.join([*second, *(['penalty_alpha'] if contrastive else [])])} cannot be joined")
    if second and beams:
        wrong.append(f"{second[0]} cannot be joined with num_beams")
    if len(r.guesses) > 1:
        wrong.append(f"{' and '.join(r.guesses)} cannot both guess: give one")
    if r.guesses and (beams or contrastive or second):
        wrong.append(f"guessing ahead ({r.guesses[0]}) follows one text at a time: "
                     "leave it out beside beams, contrastive search, guidance, DoLa or Self-Debias")  # fmt: skip
    if len(r.self_debias) > MAX_DEBIASING:
        wrong.append(f"self_debias holds {len(r.self_debias):,} texts, at most {MAX_DEBIASING} are allowed")
    if r.constraint is not None and (r.forced_bos_token_id is not None or r.forced_eos_token_id is not None):
        wrong.append(f"forced tokens would break the grammar ({r.constraint[0]})")
    if r.min_new_tokens > r.max_new_tokens:
        wrong.append(f"min_new_tokens ({r.min_new_tokens}) is above max_new_tokens ({r.max_new_tokens})")
    if r.max_length is not None and r.min_length > r.max_length:
        wrong.append(f"min_length ({r.min_length}) is above max_length ({r.max_length})")
    return wrong
