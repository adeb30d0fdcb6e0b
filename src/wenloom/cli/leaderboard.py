"""`wenloom leaderboard`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from wenloom.cli.options import Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError


def leaderboard(
    *,
    out: Path = Path("leaderboard"),
    store: Path | None = None,
    task: list[str] | None = None,
    published: Annotated[bool, Parameter(negative="--no-published")] = True,
    import_: list[Path] | None = None,
    export: Literal["sota", "eval-results", "model-index", "eee"] | None = None,
    json: Json = False,
) -> None:
    """Show all results on one page, yours beside published ones.

    The folder holds index.html (open it in a browser; it needs no network), results.csv and references.bib. A board
    ranks only figures whose signatures agree.

        wenloom leaderboard --out board
        wenloom leaderboard --import their-results.json
        wenloom leaderboard --export eval-results --out for-the-hub

    Parameters
    ----------
    out
        The folder to write.
    store
        The results store (SQLite); default: the variable WENLOOM_RESULTS, else the user's data folder.
    task
        Only these tasks, such as "language modelling"; may be given several times.
    published
        Show figures of papers and model cards that ship with Wenloom.
    import_
        Take in results from files first: Papers with Code (sota-extractor JSON), .eval_results YAML, a model card
        with a model-index, or Every Eval Ever JSON; recognised by their content.
    export
        Also write your own results in one of these forms.
    """
    from wenloom.evaluation import interchange
    from wenloom.evaluation import results as stored
    from wenloom.evaluation.leaderboard import write_leaderboard

    if store is not None and not store.exists() and not import_:
        raise InputError(f"--store {store}: no such store.")
    kept = stored.ResultsStore(store)
    added = sum(kept.add(interchange.read(path)) for path in import_ or [])
    own = kept.all()
    rows = [*(stored.published() if published else []), *own]
    if task:
        known = {each.task for each in rows}
        if missing := [each for each in task if each not in known]:
            raise InputError(f"--task {missing[0]}: there are results of {', '.join(sorted(known)) or 'none'}.")
        rows = [each for each in rows if each.task in task]
    write_leaderboard(rows, out)
    written = interchange.write([each for each in own if each.source == "own"], export, out) if export else []
    if json:
        print_json({"page": str(out / "index.html"), "results": len(rows), "own": len(own), "imported": added, "exported": [str(each) for each in written]})  # fmt: skip
        return
    imported = f", {added:,} imported" if import_ else ""
    say(f"{out / 'index.html'}: {len(rows):,} results, {len(own):,} of them in your store{imported}.")
    for each in written:
        say(str(each))
