"""Requests: what cannot apply is refused, with the option's name; what can is never ignored."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch

from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.generation.request_checks import NEEDS


@pytest.mark.parametrize(
    "options, named",
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 10**12}, "max_new_tokens"),
        ({"num_return_sequences": 10**9}, "num_return_sequences"),
        ({"num_return_sequences": 1024, "max_new_tokens": 10**6}, "too many"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 2.5}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop_strings": ("",)}, "stop_strings"),
        ({"bad_words_ids": [[]]}, "bad_words_ids"),
        ({"num_return_sequences": 2, "do_sample": False}, "greedy"),
        ({"do_sample": False, "temperature": 0.5}, "do_sample"),
        ({"do_sample": False, "min_p": 0.1, "xtc_probability": 0.5}, "min_p, xtc_probability"),
        ({"early_stopping": True}, "num_beams"),
        ({"length_penalty": 2.0}, "num_beams"),
        ({"num_beams": 4, "num_beam_groups": 3}, "multiple"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_beams"),
        ({"num_beams": 2, "early_stopping": "sometimes"}, "early_stopping"),
        ({"penalty_alpha": 0.6, "do_sample": False}, "top_k"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "do_sample"),
        ({"guidance_scale": 2.0, "dola_layers": "low"}, "cannot be joined"),
        ({"guidance_scale": 2.0, "num_beams": 2}, "num_beams"),
        ({"negative_prompt": "x"}, "guidance_scale"),
        ({"prompt_lookup_num_tokens": 3, "num_assistant_tokens": 3}, "both guess"),
        ({"prompt_lookup_num_tokens": 3, "num_beams": 2}, "beams"),
        ({"json_schema": "{}", "regex": "a"}, "one of them"),
        ({"regex": "a" * 200_000}, "characters long"),
        ({"choices": ["a"], "forced_eos_token_id": 3}, "grammar"),
        ({"min_new_tokens": 30, "max_new_tokens": 20}, "min_new_tokens"),
        ({"mirostat_tau": 3.0, "top_k": 5}, "top_k"),
        ({"watermark_bias": 3.0}, "watermark_key"),
        ({"logit_bias": {3: float("inf")}}, "logit_bias"),
        ({"stop_strings": ["x"] * 5000}, "entries"),
    ],
)
def test_options_that_cannot_apply_are_refused(options: dict[str, object], named: str):
    with pytest.raises(InputError, match=named):
        GenerationRequest(**options)  # pyright: ignore[reportArgumentType]


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(InputError, match=r"temperature.*num_beams"):
        GenerationRequest(temperature=-1, length_penalty=2.0)


def test_lists_and_single_values_are_taken_as_users_write_them():
    request = GenerationRequest(eos_token_id=3, stop_strings="x", bad_words_ids=[[1, 2]], logit_bias={5: -1})  # pyright: ignore
    assert (request.eos_token_id, request.stop_strings) == ((3,), ("x",))
    assert (request.bad_words_ids, request.logit_bias) == (((1, 2),), ((5, -1.0),))
    assert request_from({"top_k": 0, "min_p": 0}) == GenerationRequest()


def test_a_misspelt_option_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"top_kk.*top_k"):
        request_from({"top_kk": 3})


NAN, INF = float("nan"), float("inf")
LOOP: list[Any] = []
LOOP.append(LOOP)
ODD: list[Any] = [
    None, NAN, INF, -INF, "text", "", "\ud800", "5", b"bytes", b"", 10**5000, -(10**5000), 10**30, -1, 0, 1, 2.5, 1e300, -1e300,
    5e-324, True, False, [], [[]], [[[1]]], [None], [5], ["x"], [-1], [10**30], [NAN], [True], [b"x"], ["\ud800"], [{}], {},
    {"a": 1}, {1: "a"}, {"5": 1}, {5: NAN}, {5: 10**400}, {None: 1}, {-1: 1.0}, (), (1, 2), (1, (2,)), ((1,), (2,)), {1, 2}, {"a"}, range(3),
    range(10**12), object(), int, len, 1j, np.int64(3), np.float32(0.5), np.float64(NAN), np.bool_(True), np.str_("x"),
    np.complex128(1), np.array(3), np.array([1, 2]), np.array([]), np.array([["a"]]), np.array([[1]]), np.zeros((2, 2, 2)),
    np.datetime64("2020-01-01"), torch.tensor(3), torch.tensor(0.5), torch.tensor([1, 2]), torch.tensor([[1]]),
    torch.tensor([]), torch.tensor(True), torch.tensor(NAN), torch.empty(2, device="meta"), torch.empty((), device="meta"),
    LOOP, iter([1]), (x for x in [1]), ["x"] * 5000, "x" * 200_000, ["x" * 200_000], {"a": LOOP}, {"a": {1, 2}},
]  # fmt: skip
"""Values of every kind that a JSON row, a notebook or an enemy may put into a field."""


@pytest.mark.parametrize("field", [each.name for each in dataclasses.fields(GenerationRequest)])
def test_every_field_takes_a_value_or_refuses_it_by_name(field: str):
    """Whatever is taken has the field's own type afterwards, so that nothing fails later."""
    kinds = (int, float, str, bool, tuple, type(None))
    for value in ODD:
        try:
            found = getattr(request_from({field: value}), field)
        except InputError as error:
            assert field in str(error) and len(str(error)) < 2000, (value, error)
        else:
            assert type(found) in kinds, (value, found)
            plain = found if isinstance(found, tuple) else (found,)
            assert all(type(each) in kinds for each in plain) and hash(found) is not None
            assert not isinstance(found, float) or abs(found) < 1e300
            again = dataclasses.replace(GenerationRequest(), **{field: found}) if field != "do_sample" else None
            assert again is None or getattr(again, field) == found


@pytest.mark.parametrize("value", [np.int64(3), np.array(3), torch.tensor(3), 3])
def test_numbers_of_numpy_and_torch_are_numbers(value: Any):
    request = GenerationRequest(top_k=value, max_new_tokens=value, eos_token_id=value, temperature=value, seed=value)
    assert request == GenerationRequest(top_k=3, max_new_tokens=3, eos_token_id=(3,), temperature=3, seed=3)
    many = GenerationRequest(suppress_tokens=np.array([1, 2]), bad_words_ids=torch.tensor([[1, 2]]))  # pyright: ignore
    assert (many.suppress_tokens, many.bad_words_ids) == ((1, 2), ((1, 2),))


def test_a_form_may_be_an_object():
    schema = {"type": "object", "properties": {"ä": {"type": "integer"}}}
    for name in ("json_schema", "grammar"):
        request = request_from({name: schema})
        assert request.constraint is not None and request.constraint[0] == name and "ä" in request.constraint[1]


@pytest.mark.parametrize("name, needed", [(name, needed) for needed, _, names in NEEDS for name in names])
def test_an_option_that_does_nothing_alone_is_refused_naming_what_it_needs(name: str, needed: str):
    value = {"early_stopping": True, "dry_sequence_breakers": ("x",), "force_words": ("x",), "force_words_ids": ((1,),),
             "negative_prompt": "x", "dry_allowed_length": 3, "num_beam_groups": 2, "dry_base": 2.0}.get(name, 0.5)  # fmt: skip
    with pytest.raises(InputError, match=f"{name} needs {re.escape(needed)}"):
        GenerationRequest(**{name: value})


@pytest.mark.parametrize("others", [{}, {"num_beams": 4, "do_sample": False}, {"penalty_alpha": 0.5, "do_sample": False},
                                    {"mirostat_tau": 3.0}, {"num_beam_groups": 2, "num_beams": 4, "do_sample": False}])  # fmt: skip
def test_any_number_in_any_field_is_taken_or_refused_in_a_sentence(others: dict[str, Any]):
    for each in dataclasses.fields(GenerationRequest):
        for value in (0, -1, 1, 2, 0.0, 0.5, -0.0, 1e300, 10**30, float("nan"), True, None):
            try:
                request_from({**others, each.name: value})
            except InputError as refused:
                assert "\n" not in str(refused)
