"""Configurations of published models: all of their sizes fit by shape, and made small they give the logits of transformers."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import CheckpointError
from wenloom.model.build import build

from .folders import auto_class, difference, moved, write_raw
from .published import MORE, reduced

REFUSED: dict[str, str] = {}
"""Files of the shared folder that are refused, and for which field that the reference reads."""


def published(shared_data: Path) -> dict[str, dict[str, Any]]:
    paths = sorted((shared_data / "model_configs").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def fits_by_shape(raw: dict[str, Any]) -> None:
    """Every tensor of transformers' model of this configuration is one that is asked for, with its shape."""
    family = FAMILIES[raw["model_type"]]
    config = family.read_config(ConfigFields(raw, "config.json"))
    with torch.device("meta"):
        ours = {name: tuple(each.shape) for name, each in build(config).state_dict().items()}
        theirs = auto_class(raw["model_type"]).from_config(transformers.AutoConfig.for_model(**raw))
    wanted = {name: tuple(each.shape) for name, each in theirs.state_dict().items()}
    known = [each for each in family.modules(config) if each.theirs in wanted]
    for each in known:
        joined = each.join([torch.zeros(ours[name], device="meta") for name in each.ours])
        assert tuple(joined.shape) == wanted[each.theirs], each.theirs
    assert len(known) > len(wanted) // 2


def furthest(raw: dict[str, Any]) -> float:
    """The largest difference of logits of a small model of this configuration from those of transformers."""
    classifies = raw.get("architectures", [""])[0].endswith("ForSequenceClassification")
    auto = transformers.AutoModelForSequenceClassification if classifies else auto_class(raw["model_type"])
    with TemporaryDirectory() as name:
        theirs = moved(auto.from_config(transformers.AutoConfig.for_model(**raw), dtype=torch.float32))
        theirs.save_pretrained(name)
        write_raw(Path(name), raw)
        ours, theirs = load_model(Path(name)), auto.from_pretrained(name, dtype=torch.float32).eval()
        return difference(ours, theirs, 16)


@pytest.mark.shared_data
def test_configurations_of_claimed_families_fit_by_shape(shared_data: Path):
    found = published(shared_data)
    assert len(found) >= 37
    for name, raw in found.items():
        if name not in REFUSED:
            fits_by_shape(raw)


@pytest.mark.shared_data
def test_configurations_of_claimed_families_give_the_logits_of_transformers(shared_data: Path):
    far: dict[str, float | str] = {}
    refused: dict[str, str] = {}
    for name, raw in published(shared_data).items():
        try:
            gap = furthest(reduced(raw))
        except CheckpointError as error:
            refused[name] = str(error)
            continue
        if not gap <= 1e-4:
            far[name] = gap
    assert far == {}
    assert refused.keys() == REFUSED.keys(), refused


@pytest.mark.parametrize("name", MORE)
def test_configurations_of_other_families_too(name: str):
    fits_by_shape(MORE[name])
    assert furthest(reduced(MORE[name])) <= 1e-4
