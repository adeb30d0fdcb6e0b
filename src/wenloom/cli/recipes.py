"""A recipe as it is typed, with what only the command line can find: the data of suites."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wenloom.core.errors import InputError
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
    from wenloom.evaluation.suites import SUITES, suite_of

    found = list[str]()
    for name in SUITES if "all" in suites else suites:
        suite = suite_of(name)
        try:
            found += [str(each.resolve()) for each in suite.data_files(suite.find()) if Path(each).is_file()]
        except InputError:
            if name in suites:
                raise
    if not found:
        raise InputError("contamination.suites: no data of a suite was found; name their folder in WENLOOM_DATA.")
    return sorted(set(found))
