"""What a recipe would do, shown on a sample: `wenloom prepare --try`."""

import tempfile
from collections import Counter
from pathlib import Path

from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.text.documents import SKIP_BAD, ReadOptions, find_files, refuse_idle
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals
from wenloom.text.sift import sift

_EXAMPLES, _SHOWN = 3, 100


def show_trial(paths: list[str], reading: ReadOptions, recipe: Recipe, most: int, as_json: bool) -> None:
    """Print what each step drops of some documents from the beginning of every file, with examples.

    Raises:
        InputError: see `sift.sift`; or fewer than one document is asked for.
    """
    if most < 1:
        raise InputError(f"--try {most}: must be at least 1.")
    files = find_files(paths)
    refuse_idle(files, reading)
    chosen = files[:: max(1, len(files) // most)][:most]
    refusals, counts = Refusals(not reading.skip_bad, SKIP_BAD), Counter[str]()
    examples: dict[str, list[tuple[str, str, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="wenloom-") as work:
        with progress("Trying") as bar:
            sifted = sift(
                chosen, reading, recipe, Path(work), lambda _: bar.advance(0), refusals, limit=-(-most // len(chosen))
            )
        for each in sifted.decided():
            counts[each.step] += 1
            if each.step and len(examples.setdefault(each.step, [])) < _EXAMPLES:
                begin = " ".join(each.document.text[:_SHOWN].split())
                examples[each.step].append((each.document.source, each.reason, begin))
    refusals.report()
    total, kept = counts.total(), counts.pop("") if "" in counts else 0
    if as_json:
        dropped = {step: {"documents": counts[step], "examples": [{"source": source, "reason": why, "text": text} for source, why, text in
                                                                  examples[step]]} for step in sifted.order if counts[step]}  # fmt: skip
        print_json(
            {"recipe": recipe.name, "documents": total, "kept": kept, "dropped": dropped, "personal_data": sifted.facts}
        )
        return
    lines = [f"{recipe.name}: {kept:,} of {counted(total, 'document')} kept ({100 * kept / max(1, total):.0f} %)."]
    for step in sifted.order:
        if counts[step]:
            lines.append(f"  {step:16} drops {counts[step]:>6,} ({100 * counts[step] / total:.1f} %)")
            lines += [f"      {why}\n        {source}: {text}" for source, why, text in examples[step]]
    if sifted.facts:
        lines.append(
            "  personal data replaced: " + ", ".join(f"{count:,} {kind}" for kind, count in sifted.facts.most_common())
        )
    say("\n".join(lines))
