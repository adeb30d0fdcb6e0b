"""`wenloom compare-signatures`."""

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say
from wenloom.evaluation.signature import Signature, differences


def compare_signatures(first: str, second: str, /, *, json: Json = False) -> None:
    """Explain why two scores are not comparable, from their signatures.

        wenloom compare-signatures "ppl|ctx:1024|stride:1024|bos:no" "ppl|ctx:1024|stride:512|bos:no"

    Parameters
    ----------
    first
        The signature of one figure: the line with | that is printed beside it.
    second
        The signature of the other figure.
    """
    found = differences(Signature.parse(first), Signature.parse(second))
    if json:
        print_json({"comparable": not found, "differences": [each._asdict() for each in found]})
        return
    if not found:
        say("Comparable: the two were measured alike.")
        return
    say("Not comparable:")
    for each in found:
        meaning = f" ({each.meaning})" if each.meaning else ""
        say(f"  {each.field}: {each.first} / {each.second}{meaning}")
