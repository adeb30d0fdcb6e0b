"""Requests: what cannot apply is refused, with the option's name; what can is never ignored."""

import pytest

from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest, request_from


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
        ({"json_schema": "{}", "regex": "a"}, "one form"),
        ({"regex": "a" * 200_000}, "characters long"),
        ({"choices": ["a"], "forced_eos_token_id": 3}, "form"),
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
