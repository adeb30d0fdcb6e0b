"""Whether a prompt fits the model that is to read it."""

from wenloom.serving.errors import APIError, refused
from wenloom.serving.models import ServedModel


def check_text(served: ServedModel, text: str, param: str) -> None:
    """Refuse a text that cannot fit, whatever its tokens are, before it is tokenized.

    Raises:
        APIError: it has more characters than the context's tokens could spell.
    """
    if served.context is not None and len(text) > served.context * served.token_names.longest:
        raise _too_long(served, param, f"{len(text):,} characters")


def check_tokens(served: ServedModel, n_tokens: int, param: str) -> None:
    """
    Raises:
        APIError: they are more than the model sees.
    """
    if served.context is not None and n_tokens > served.context:
        raise _too_long(served, param, f"{n_tokens:,} tokens")


def _too_long(served: ServedModel, param: str, length: str) -> APIError:
    return refused(
        param, f"This model's maximum context length is {served.context:,} tokens. However, your {param} has {length}. "
        'Shorten it, or let "on_overflow": "left" go on without its beginning.', "context_length_exceeded",
    )  # fmt: skip
