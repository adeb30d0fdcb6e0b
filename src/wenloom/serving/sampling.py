"""From the fields of a body to a request to the engine."""

from typing import Any

from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.serving.chat_schema import ChatRequest
from wenloom.serving.completion_schema import CompletionRequest
from wenloom.serving.errors import refused
from wenloom.serving.fields import own_options
from wenloom.serving.models import ServedModel
from wenloom.serving.responses_schema import ResponseRequest
from wenloom.serving.settings import RequestLimits

AnyRequest = ChatRequest | CompletionRequest | ResponseRequest


def check_limits(body: AnyRequest, limits: RequestLimits, n_prompts: int, n: int, max_tokens: int | None) -> None:
    """
    Raises:
        APIError: it asks for more than a request may.
    """
    if len(stops(body)) > limits.max_stop_strings:
        raise refused("stop", f"stop: at most {limits.max_stop_strings} texts are allowed.")
    if n_prompts * n > limits.max_choices:
        raise refused(
            "n", f"n: {n_prompts * n:,} choices over all prompts, at most {limits.max_choices:,} are allowed."
        )
    if max_tokens is not None and n_prompts * n * max_tokens > limits.max_total_tokens:
        total, param = (
            n_prompts * n * max_tokens,
            "max_output_tokens" if isinstance(body, ResponseRequest) else "max_tokens",
        )
        raise refused(param, f"{param}: {total:,} tokens over all choices, at most {limits.max_total_tokens:,} are allowed.")  # fmt: skip
    for name in ("json_schema", "grammar", "regex", "choices"):
        value = getattr(body, name, None)
        if value is not None and len(str(value)) > limits.max_schema_kb * 1000:
            raise refused(name, f"{name}: is longer than {limits.max_schema_kb:g} kB.")


def stops(body: AnyRequest) -> list[str]:
    """The texts that end a reply."""
    return [] if body.stop is None else [body.stop] if isinstance(body.stop, str) else body.stop


def request_of(body: AnyRequest, served: ServedModel, n: int, max_tokens: int, **more: Any) -> GenerationRequest:
    """The engine's request.

    OpenAI's defaults hold: temperature 1, all tokens. Temperature 0 takes the most probable token each time.

    Args:
        n: choices.
        max_tokens: of each.
        more: options that the endpoint sets.

    Raises:
        InputError: options are at odds with each other.
    """
    options = own_options(body) | {name: value for name, value in more.items() if value is not None}
    is_greedy = body.temperature == 0 or body.top_p == 0 or options.get("do_sample") is False
    if is_greedy and options.get("do_sample"):
        raise InputError("do_sample draws and temperature 0 takes the most probable token each time: give one of them.")
    if not is_greedy:
        options["temperature"] = 1.0 if body.temperature is None else body.temperature
        options["top_p"] = 1.0 if body.top_p is None else body.top_p
    elif body.temperature and options.get("do_sample") is False:
        raise InputError(
            "do_sample false takes the most probable token each time and temperature draws: give one of them."
        )
    elif n > 1 and not options.get("num_beams"):  # n times the same
        options |= {"do_sample": True, "temperature": 1.0, "top_k": 1}
    else:
        options["do_sample"] = False
    if body.seed is not None:
        options["seed"] = body.seed % 2**63
    for name in ("presence_penalty", "frequency_penalty"):
        if (value := getattr(body, name)) is not None:
            options[name] = value
    if body.logit_bias:
        options["logit_bias"] = body.logit_bias
    if served.adapter is not None and options.setdefault("adapter", served.adapter) != served.adapter:
        raise refused("adapter", f"adapter: the model {served.name} is an adapter itself.")
    if (
        served.model.draft_model is not None
        and not {"num_assistant_tokens", "prompt_lookup_num_tokens"} & options.keys()
    ):
        options |= _drafts(options)
    options.setdefault("on_overflow", "error")
    stop_strings = (*stops(body), *options.pop("more_stop_strings", ()))
    return request_from(
        {**options, "num_return_sequences": n, "max_new_tokens": max_tokens, "stop_strings": stop_strings}
    )


def _drafts(options: dict[str, Any]) -> dict[str, Any]:
    """Guesses by the draft model, where they do not stand in the way of what is asked for."""
    in_the_way = ("num_beams", "penalty_alpha", "guidance_scale", "dola_layers", "contrastive_beta")
    return {} if any(options.get(name) for name in in_the_way) else {"num_assistant_tokens": 5}
