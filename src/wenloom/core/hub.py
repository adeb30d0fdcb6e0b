"""Whether a model hub can be reached."""

_PATIENCE = 5.0
"""Seconds in which a hub must answer."""


def unreachable() -> str | None:
    """Why the hub that is set (`HF_ENDPOINT`) gives no answer; None where it does.

    Its client would try again five times, for 20 seconds and more.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None
