"""Mixtures: several prepared corpora as one, each with its part of the samples."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from wenloom.core.errors import InputError
from wenloom.core.files import folder_aside
from wenloom.tokens.shards import MANIFEST, Dataset, Split, write_manifest

SUM = ("documents", "bytes", "characters", "tokens", "unknown")


class Ingredient(NamedTuple):
    """A corpus of a mixture, as it is typed: FOLDER or FOLDER:WEIGHT."""

    folder: str
    weight: float | None
    """None: by its size."""


def parse_ingredient(typed: str) -> Ingredient:
    """What stands behind the last colon is the weight, if it is a number.

    >>> parse_ingredient("data/web:0.4"), parse_ingredient("hf:owner/name").weight
    (Ingredient(folder='data/web', weight=0.4), None)
    """
    folder, colon, weight = typed.rpartition(":")
    try:
        number = float(weight)
    except ValueError:
        return Ingredient(typed, None)
    if not colon or not folder or Path(typed).exists():
        return Ingredient(typed, None)
    if not 0 < number < float("inf"):
        raise InputError(f"{typed}: the weight behind the colon must be above 0.")
    return Ingredient(folder, number)


def shares_of(datasets: Sequence[Dataset], weights: Sequence[float | None], temperature: float = 1.0) -> list[float]:
    """Parts of the samples, which sum to 1.

    Args:
        weights: all given, or none: then tokens^(1 / temperature) (Conneau & Lample 2019, section 3.1, with alpha = 1 / temperature):
            1 is by size, more brings small corpora nearer to large ones.

    Raises:
        InputError: some are given and some are not.
    """
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(weights):
        missing = next(dataset.folder for dataset, weight in zip(datasets, weights, strict=True) if weight is None)
        raise InputError(f"{missing}: has no weight and others have one; write FOLDER:WEIGHT for each, or for none.")
    numbers = given or [dataset.splits["train"].tokens ** (1 / temperature) for dataset in datasets]
    return [number / sum(numbers) for number in numbers]


def write_mixture(folder: Path, datasets: Sequence[Dataset], shares: Sequence[float]) -> None:
    """Make a corpus that stands for several: it holds their names, shares and keys, and no tokens.

    Raises:
        InputError: they have different vocabularies, or a name stands twice.
    """
    first = datasets[0]
    names = _names(datasets)
    for dataset in datasets[1:]:
        if dataset.manifest["tokenizer"].get("sha256") != first.manifest["tokenizer"].get("sha256"):
            raise InputError(
                f"{dataset.folder}: was made with another vocabulary than {first.folder}. Prepare it with the same one: "
                f"wenloom prepare TEXT --tokenizer {first.folder} --out FOLDER"
            )
    parts = [{"name": name, "folder": str(dataset.folder.resolve()), "key": dataset.key, "share": share}
             for name, dataset, share in zip(names, datasets, shares, strict=True)]  # fmt: skip
    key = hashlib.sha256(json.dumps([[part["key"], part["share"]] for part in parts]).encode()).hexdigest()
    if (folder / MANIFEST).exists() and Dataset.open(folder).key == key:
        return
    if folder.exists() and not (folder / MANIFEST).exists():
        raise InputError(f"{folder}: exists and is not a mixture, so it is not replaced. Choose another --out.")
    splits = {name: _sum([dataset.splits[name] for dataset in datasets]) for name in ("train", "validation")}
    with folder_aside(folder) as made:
        first.tokenizer().save_pretrained(made)
        write_manifest(
            made, splits, key=key, mixture=parts, split_rule="that of each source",
            duplicates_removed=sum(dataset.manifest["duplicates_removed"] for dataset in datasets),
            empty_documents=sum(dataset.manifest["empty_documents"] for dataset in datasets),
            tokenizer=first.manifest["tokenizer"],
            sources=[source for dataset in datasets for source in dataset.manifest["sources"]],
        )  # fmt: skip


def _names(datasets: Sequence[Dataset]) -> list[str]:
    """Names of the folders, with that of the folder above where two are alike."""
    names = [dataset.folder.resolve().name for dataset in datasets]
    if len(set(names)) < len(names):
        names = [f"{dataset.folder.resolve().parent.name}-{dataset.folder.resolve().name}" for dataset in datasets]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice}: two sources of the mixture have this name; name their folders apart.")
    return names


def _sum(splits: Sequence[Split]) -> Split:
    totals = {name: sum(getattr(split, name) for split in splits) for name in SUM}
    return replace(Split(**{**asdict(splits[0]), "shards": []}), **totals)
