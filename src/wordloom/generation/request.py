"""What is asked of generation, validated at once, in transformers' names."""

from dataclasses import dataclass

from wordloom.core.errors import InputError


@dataclass(frozen=True)
class GenerationRequest:
    """How one or several continuations are chosen."""

    max_new_tokens: int = 200
    """Most tokens to write."""
    do_sample: bool = True
    """Draw tokens at random; False takes the most probable one each time (greedy)."""
    temperature: float = 0.8
    """Divides the logits before drawing: below 1 is safer, above 1 is wilder."""
    top_k: int | None = None
    """Draw only among the k most probable tokens."""
    top_p: float | None = 0.95
    """Draw only among the fewest tokens whose probabilities add up to p (nucleus sampling)."""
    seed: int | None = None
    """Makes the draw repeatable; None is different every time."""
    stop: tuple[str, ...] = ()
    """Texts that end the continuation; they are left out of it."""
    eos_token_ids: tuple[int, ...] | None = None
    """Tokens that end the continuation; None takes the model's own, () none."""
    num_return_sequences: int = 1
    """Continuations per prompt."""
    use_cache: bool = True
    """Keep keys and values of the tokens already read; the result is the same without, only slower."""

    def __post_init__(self):
        wrong = []
        if self.max_new_tokens < 1:
            wrong.append(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature > 0 or self.temperature == float("inf"):
            wrong.append(
                f"temperature must be above 0 and finite, got {self.temperature} (for greedy choice do not sample)"
            )
        if self.top_k is not None and self.top_k < 1:
            wrong.append(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            wrong.append(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if any(not text for text in self.stop):
            wrong.append("a stop text must not be empty")
        if self.num_return_sequences < 1:
            wrong.append(f"num_return_sequences must be at least 1, got {self.num_return_sequences}")
        if self.num_return_sequences > 1 and not self.do_sample:
            wrong.append("several greedy continuations would all be the same: sample, or ask for one")
        if wrong:
            raise InputError("; ".join(wrong) + ".")
