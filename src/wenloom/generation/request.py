"""A request to generate: its options, all checked together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wenloom.core.errors import InputError, printable
from wenloom.generation.options import RequestOptions
from wenloom.generation.request_checks import at_odds, normalise, out_of_range


@dataclass(frozen=True)
class GenerationRequest(RequestOptions):
    """How to choose one or several continuations of a prompt.

    Every option that is given applies, or the request is refused: none is ignored. The processors apply in this
    order: guidance (or contrastive decoding, or DoLa); logit_bias; repetition, presence, frequency penalties; DRY;
    no_repeat_ngram_size; bad words; suppressed tokens; minimum length; allowed tokens; the grammar (schema, ...);
    forced tokens; then the options of `Sampling` in their order; the watermark; the draw.

    Raises:
        InputError: options out of range or at odds with each other; all of them are named at once.
    """

    def __post_init__(self):
        if wrong := normalise(self) or [*out_of_range(self), *at_odds(self)]:
            raise InputError("; ".join(wrong) + ".")

    def room(self, n_prompt: int) -> int:
        """How many tokens may follow a prompt of so many, as far as the request says.

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
    if unknown := sorted(map(str, options.keys() - known.keys())):
        close = {name: [each for each in known if name in each or each in name] for name in unknown}
        hint = "; ".join(
            f"{printable(name, 60)} (like {', '.join(some[:3])}?)" if some else printable(name, 60)
            for name, some in close.items()
        )
        raise InputError(f"generation has no option {hint}.")
    return GenerationRequest(**{**defaults, **options})
