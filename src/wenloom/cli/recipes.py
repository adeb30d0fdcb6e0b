"""A recipe as it is typed, with what only the command line can find: the data of suites."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wenloom.core.errors import InputError, printable
from wenloom.core.nearest import nearest
from wenloom.text.recipe import Recipe, load_recipe


def chosen_recipe(name: str, changes: tuple[str, ...]) -> Recipe:
    """A recipe by name or file, in which suites have become the files of their data.

    Raises:
        InputError: see `load_recipe`; or the data of a suite is not found.
    """
    recipe = replace(load_recipe(name, changes), before=_provide_models)
    values = recipe.values.get("contamination", {})
    if not (suites := values.get("suites")):
        return recipe
    files = [*values.get("files", ()), *_files_of(suites)]
    return replace(recipe, values={**recipe.values, "contamination": {**values, "files": files}})


def _provide_models() -> None:
    from wenloom.text.steps import back_translation, perplexity

    perplexity.provide(_measure)
    back_translation.provide(_translator)


def _translator(folder: str) -> Callable[[Sequence[str]], list[str]]:
    """What translates by a model.

    Raises:
        InputError: it was not trained to translate, or is none.
    """
    from wenloom.cli.answers import pair_writer

    writer = pair_writer(folder, "translation")
    return lambda texts: [each.text.strip() for each in writer.write(list(texts))]


def _measure(folder: str) -> Callable[[str], float]:
    """Bits per byte under a model.

    Raises:
        InputError: it predicts no next tokens, or is none.
    """
    from wenloom.api import load_writer

    model = load_writer(folder)
    return lambda text: model.score(text).bits_per_byte


def _files_of(suites: list[str]) -> list[str]:
    from wenloom.evaluation.locate import DATA_FOLDER, data_folder
    from wenloom.evaluation.suites import SUITES

    if unknown := [name for name in suites if name not in (*SUITES, "all")]:
        near = nearest(unknown[0], SUITES)
        said = f"did you mean {near[0]}?" if near else f"known are all, {', '.join(SUITES)}."
        raise InputError(f"contamination.suites: there is no suite {printable(unknown[0], 60)}; {said}")
    found, missing = list[str](), list[str]()
    for name in SUITES if "all" in suites else suites:
        suite = SUITES[name]
        try:
            found += [str(each.resolve()) for each in suite.data_files(suite.find()) if Path(each).is_file()]
        except InputError:
            missing += [name] if name in suites else []
    if missing or not found:
        what = f"no data of {', '.join(missing) or 'any suite'} below {data_folder(None)}"
        raise InputError(f"contamination.suites: {what}; name the folder that holds it in {DATA_FOLDER}.")
    return sorted(set(found))
