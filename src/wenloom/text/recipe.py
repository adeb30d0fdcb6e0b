"""Recipes: which steps documents go through, in which order and with which values, as a TOML file says."""

import dataclasses
import math
import tomllib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from wenloom.core.errors import InputError, printable
from wenloom.core.files import sha256_of_file
from wenloom.core.foreign import reading, regular_file
from wenloom.core.nearest import nearest
from wenloom.text.steps import FIRST, STEPS
from wenloom.text.steps.step import AugmentingStep, CorpusStep, Step

FILES = ("file", "files", "good", "bad", "lexicon", "lexicons")
"""Values of steps that name files."""
_RECIPES = files("wenloom.text.recipes")


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(each.name.removesuffix(".toml") for each in _RECIPES.iterdir() if each.name.endswith(".toml"))


@dataclass(frozen=True)
class Recipe:
    """Steps by name, each with its values."""

    name: str
    values: dict[str, dict[str, Any]]
    """What was given of each step, in order."""
    before: Callable[[], None] | None = None
    """What every process calls before it makes the steps: a function of a module, which provides what they need of other rooms."""

    def steps(self) -> dict[str, Step]:
        """Fresh steps that look at one document; what every corpus goes through is among them."""
        names = [*(each for each in FIRST if each not in self.values), *self.values]
        names += ["empty"] if "empty" not in names else []
        made = {name: _made(name, self.values.get(name, {})) for name in names}
        return {name: step for name, step in made.items() if not isinstance(step, CorpusStep | AugmentingStep)}

    def corpus_steps(self) -> dict[str, CorpusStep]:
        """Fresh steps that compare documents; they come after the others."""
        made = {name: _made(name, values) for name, values in self.values.items()}
        return {name: step for name, step in made.items() if isinstance(step, CorpusStep)}

    def augmenting_steps(self) -> dict[str, AugmentingStep]:
        """Fresh steps that add copies; they come last."""
        made = {name: _made(name, values) for name, values in self.values.items()}
        return {name: step for name, step in made.items() if isinstance(step, AugmentingStep)}

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every value of every step, for the manifest."""
        found = dict[str, dict[str, Any]]()
        for name, values in self.values.items():
            step = _made(name, values)
            found[name] = dataclasses.asdict(step) if dataclasses.is_dataclass(step) else {}  # pyright: ignore[reportArgumentType]
            _check_bounds(name, found[name])
        return found

    def fingerprint(self) -> dict[str, Any]:
        """What decides: every value, and the content of files that steps read."""
        found = self.resolved()
        for values in found.values():
            for name in [name for name in values if name in FILES and values[name]]:
                values[f"{name} sha256"] = [
                    sha256_of_file(Path(each)) for each in _listed(values[name]) if Path(each).is_file()
                ]
            weights = Path(str(values.get("model") or "."), "model.safetensors")
            if values.get("model") and weights.is_file():
                values["model sha256"] = sha256_of_file(weights)
        return found

    def without(self, step: str) -> "Recipe":
        """The same less a step."""
        return dataclasses.replace(self, values={name: values for name, values in self.values.items() if name != step})


def load_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """A recipe by name or file.

    Args:
        name: one that is shipped (`shipped`), or a TOML file with a table for each step.
        changes: `step.name=value` in the words of TOML; `step=on` adds a step at the end, `step=off` takes it out.

    Raises:
        InputError: there is no such recipe, step or value, or it has another type.
    """
    if name in shipped():
        text, where = (_RECIPES / f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        path = Path(name)
        if not path.exists():
            near = f" Did you mean {nearest(name, shipped())[0]}?" if nearest(name, shipped()) else ""
            raise InputError(
                f"--recipe {name}: no such file, and no recipe of that name (known: {', '.join(shipped())}).{near}"
            )
        regular_file(path)
        where = str(path)
        with reading(path):
            text = path.read_text(encoding="utf-8-sig")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML ({error}).") from None
    for key, value in values.items():
        if not isinstance(value, dict):
            raise InputError(f"{where}: {printable(key, 60)} stands outside of a step; values stand below [step].")
        _check(where, key, value)
    for change in changes:
        _change(values, change)
    recipe = Recipe(name, values)
    recipe.resolved()
    if not values:
        raise InputError(f"{where}: has no steps.")
    return recipe


def _change(values: dict[str, dict[str, Any]], change: str) -> None:
    key, equals, value = change.partition("=")
    step, _, field = key.strip().partition(".")
    if not equals or not step:
        raise InputError(f"--set {printable(change, 100)}: write step.name=value, step=on or step=off.")
    if not field:
        if value not in ("on", "off"):
            raise InputError(f"--set {printable(change, 100)}: a step is on or off; its values are step.name=value.")
        _check("--set", step, {})
        if value == "off" and values.pop(step, None) is None:
            raise InputError(f"--set {step}=off: the recipe does not have it.")
        if value == "on":
            values.setdefault(step, {})
        return
    if step not in values:
        _check("--set", step, {})
        raise InputError(f"--set {change}: the recipe does not have the step {step}; add it with --set {step}=on.")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value
    hints = _hints(step)
    if get_origin(hints.get(field)) is tuple and isinstance(parsed, str):
        parsed = parsed.split(",")
    _check("--set", step, {field: parsed})
    values[step] = {**values[step], field: parsed}


def _hints(step: str) -> dict[str, Any]:
    factory = STEPS[step]
    if not (isinstance(factory, type) and dataclasses.is_dataclass(factory)):
        return {}
    hints = typing.get_type_hints(factory)
    return {field.name: hints[field.name] for field in dataclasses.fields(factory)}


def _check(where: str, step: str, values: dict[str, Any]) -> None:
    """
    Raises:
        InputError: there is no such step, or it has no such value or one of another type.
    """
    if step not in STEPS:
        near = nearest(step, STEPS)
        raise InputError(
            f"{where}: there is no step {printable(step, 60)}"
            + (f"; did you mean {near[0]}?" if near else f" (known: {', '.join(STEPS)}).")
        )
    hints = _hints(step)
    for name, value in values.items():
        if name not in hints:
            near = nearest(name, hints)
            known = f"did you mean {near[0]}?" if near else f"it has {', '.join(hints) or 'none'}."
            raise InputError(f"{where}: the step {step} has no value {printable(name, 60)}; {known}")
        if not _fits(value, hints[name]):
            raise InputError(f"{where}: {step}.{name} = {printable(str(value), 60)}: must be {_in_words(hints[name])}.")


_MOST = 2**31 - 1
"""Of whole numbers in recipes."""


def _check_bounds(step: str, values: dict[str, Any]) -> None:
    """
    Raises:
        InputError: a least value is above the greatest, so that every document would be dropped.
    """
    for name, value in values.items():
        most = f"max_{name.removeprefix('min_')}"
        if name.startswith("min_") and most in values and value > values[most]:
            raise InputError(
                f"{step}.{name} = {value}: is above {step}.{most} = {values[most]}, so that nothing would be kept."
            )
        if (
            isinstance(value, tuple)
            and len(value) == 2
            and all(isinstance(each, float | int) for each in value)
            and value[0] > value[1]
        ):
            raise InputError(f"{step}.{name} = {list(value)}: the least stands first, then the greatest.")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        inside = get_args(hint)
        kinds = (
            [inside[0]] * len(value)
            if isinstance(value, (list, tuple)) and len(inside) == 2 and inside[1] is ...
            else list(inside)
        )
        return isinstance(value, (list, tuple)) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return isinstance(value, hint)


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        inside = get_args(hint)
        return (
            f"a list of {_in_words(inside[0])}s" if inside[-1] is ... else "[" + ", ".join(map(_in_words, inside)) + "]"
        )
    return {int: f"a whole number from 0 to {_MOST:,}", float: "a number", bool: "true or false", str: "text"}.get(
        hint, str(hint)
    )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _made(name: str, values: dict[str, Any]) -> Any:
    return STEPS[name](**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
