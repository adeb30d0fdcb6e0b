"""The audits that there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.fairness.association import Associations
from wenloom.fairness.audit import Audit
from wenloom.fairness.bbq import BBQ
from wenloom.fairness.bold import Bold
from wenloom.fairness.crows_pairs import CrowsPairs
from wenloom.fairness.sentiment import TextJudge
from wenloom.fairness.stereoset import StereoSet
from wenloom.fairness.swapped_prompts import SwappedPrompts
from wenloom.fairness.winobias import WinoBias
from wenloom.fairness.winogender import Winogender


@dataclass(frozen=True)
class AuditOptions:
    """What the user says about audits with choices."""

    prompts: Path | None = None
    """Texts of the user's own."""
    lexicon: str | None = None
    """A language or a file; None: what suits the texts, English where there are none."""
    axes: tuple[str, ...] = ()
    judge: TextJudge | None = None
    """What gives written texts a value; None: words of the lexicon."""
    seed: int = 0


def all_audits(options: AuditOptions | None = None) -> dict[str, Audit]:
    """Every audit by its name; that of the user's prompts where there are some."""
    options = options or AuditOptions()
    made: list[Audit] = [CrowsPairs(), StereoSet(), WinoBias(), Winogender(), BBQ(), Bold(options.judge, options.seed),
                         Associations(options.lexicon or "en")]  # fmt: skip
    if options.prompts is not None:
        made.insert(0, SwappedPrompts(options.prompts, options.lexicon, options.axes))
    return {each.name: each for each in made}


NAMES = (*all_audits(), SwappedPrompts.name)


def audits_named(names: Sequence[str], data: Path, options: AuditOptions | None = None) -> list[Audit]:
    """The audits of these names; without any, those whose files lie below a folder, and that of the user's prompts.

    Raises:
        InputError: an unknown name, or no file.
    """
    options = options or AuditOptions()
    known = all_audits(options)
    for name in names:
        if name == SwappedPrompts.name and name not in known:
            raise InputError("--on prompts: name the file with your texts by --prompts.")
        if name not in known:
            raise InputError(f"--on {name}: known audits are {', '.join(NAMES)}.")
    chosen = [known[name] for name in dict.fromkeys(names)]
    if options.prompts is not None and known[SwappedPrompts.name] not in chosen:
        chosen.insert(0, known[SwappedPrompts.name])
    if not names and options.prompts is None:
        chosen = [each for each in known.values() if each.is_below(data)]
    if not chosen:
        sources = "; ".join(f"{each.name}: {each.source}" for each in known.values() if each.source)
        raise InputError(
            f"{data}: no file of an audit lies below it. Name the folder with --data, or ask by words that come with Wenloom "
            f"(--on seat) or by texts of your own (--prompts FILE). {sources}."
        )
    return chosen
