"""What somebody may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names most like a mistyped one, best first; none where none is like it.

    >>> nearest("--temprature", ["--temperature", "--top-p"]), nearest("/xyz", ["/help"])
    (['--temperature'], [])
    """
    return get_close_matches(name, list(known), most, 0.6)
