"""Answers that have to obey schemas, by a small model: how many do.

    WENLOOM_REAL_MODELS=models python bench/structured.py [--answers 200]

SmolLM2-135M-Instruct answers over HTTP; half of the answers are calls of functions, half are documents; half are streamed. The
schemas are the official client's own types in the strict form that it sends (nested objects, arrays, enums, definitions), and some
with Chinese keys. `jsonschema` says whether an answer is valid; one that is cut off is not.
"""

import argparse
import json
import os
import pkgutil
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import openai
import openai.types
from bench.servers import free_port, running
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel

MODELS = Path(os.environ.get("WENLOOM_REAL_MODELS", "models"))
MOST_PROPERTIES = 10
CHINESE: dict[str, Any] = {
    "order": {"type": "object", "properties": {
        "收件人": {"type": "object", "properties": {"姓名": {"type": "string", "maxLength": 12}, "电话": {"type": "string", "pattern": "^1[0-9]{10}$"}},
                "required": ["姓名", "电话"], "additionalProperties": False},
        "商品": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "object", "properties": {
            "名称": {"type": "string", "maxLength": 20}, "数量": {"type": "integer", "minimum": 1, "maximum": 99}},
            "required": ["名称", "数量"], "additionalProperties": False}},
        "付款方式": {"enum": ["微信", "支付宝", "银行卡", "货到付款"]}},
        "required": ["收件人", "商品", "付款方式"], "additionalProperties": False},
    "visit": {"type": "object", "properties": {
        "科室": {"enum": ["内科", "外科", "儿科"]}, "日期": {"type": "string", "format": "date"}, "症状": {
            "type": "array", "items": {"enum": ["发热", "咳嗽", "头痛", "乏力"]}, "uniqueItems": True, "minItems": 1},
        "备注": {"anyOf": [{"type": "string", "maxLength": 40}, {"type": "null"}]}},
        "required": ["科室", "日期", "症状", "备注"], "additionalProperties": False},
    "route": {"type": "object", "properties": {"起点": {"$ref": "#/$defs/地点"}, "终点": {"$ref": "#/$defs/地点"}, "方式": {"oneOf": [
        {"type": "object", "properties": {"类型": {"const": "步行"}}, "required": ["类型"], "additionalProperties": False},
        {"type": "object", "properties": {"类型": {"const": "公交"}, "线路": {"type": "integer", "minimum": 1, "maximum": 999}},
         "required": ["类型", "线路"], "additionalProperties": False}]}},
        "required": ["起点", "终点", "方式"], "additionalProperties": False, "$defs": {"地点": {
            "type": "object", "properties": {"城市": {"enum": ["北京", "上海", "苏州", "成都"]}, "经度": {"type": "number", "minimum": 73, "maximum": 136}},
            "required": ["城市", "经度"], "additionalProperties": False}}},
}  # fmt: skip


def schemas_of_the_client() -> dict[str, Any]:
    """Types of the official client by name, those that are not too large."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        for name, kind in vars(import_module(module.name)).items():
            if not (isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == module.name):
                continue
            try:
                schema = to_strict_json_schema(kind)
            except Exception:  # what the client itself cannot send
                continue
            if json.dumps(schema).count('"type"') >= 2 and json.dumps(schema).count('"title"') <= MOST_PROPERTIES:
                found[name] = schema
    return found


def ask(client: openai.OpenAI, number: int, name: str, schema: Any) -> str | None:
    """What is wrong with an answer; None: nothing."""
    prompt = f"Give me an example of {name}, as short as you can."
    options: Any = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 700,
        "seed": number,
    }
    is_call = number % 2 == 0
    if is_call:
        function = {"name": name[:64], "parameters": schema, "strict": True}
        options |= {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        }
    else:
        options["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": name[:64], "schema": schema, "strict": True},
        }
    choice: Any = None
    try:
        if number // 2 % 2:
            with client.chat.completions.stream(**options) as stream:
                choice = stream.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**options).choices[0]
    except openai.LengthFinishReasonError:
        return "cut off"
    except openai.APIError as error:
        return f"refused: {error}"
    if choice.finish_reason == "length":
        return "cut off"
    text = choice.message.tool_calls[0].function.arguments if is_call else choice.message.content
    try:
        jsonschema.validate(json.loads(text), schema)
    except (jsonschema.ValidationError, ValueError) as error:
        return f"invalid: {str(error)[:200]}"
    return None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--answers", type=int, default=200)
    arguments.add_argument("--at-once", type=int, default=8)
    given = arguments.parse_args()
    real = schemas_of_the_client()
    draw = random.Random(1)
    names = sorted(real)
    drawn = [(name, real[name]) for name in draw.sample(names, min(len(names), given.answers * 3 // 4))]
    while len(drawn) < given.answers:
        drawn.append(list(CHINESE.items())[len(drawn) % len(CHINESE)])
    draw.shuffle(drawn)
    port = free_port()
    command = [sys.executable, "-m", "wenloom", "serve", f"smollm2={MODELS / 'smollm2'}", "--port", port]
    with running(command, port, "/readyz"):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=600, max_retries=0)
        with ThreadPoolExecutor(given.at_once) as pool:
            wrong = list(pool.map(lambda each: ask(client, each[0], *each[1]), enumerate(drawn)))
    for (name, _), each in zip(drawn, wrong, strict=True):
        if each is not None:
            print(f"{name}: {each}")
    print(
        f"{sum(each is None for each in wrong)} of {len(wrong)} answers are valid ({len({name for name, _ in drawn})} schemas)"
    )


if __name__ == "__main__":
    main()
