"""Answers that always parse: only tokens that a JSON schema allows can be drawn.

python examples/structured_output.py runs/mine
"""

import json
import sys

import wenloom

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["story", "poem", "letter"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["title", "kind", "stars"],
    "additionalProperties": False,
}


def main(name: str) -> None:
    model = wenloom.load(name)
    text = model.generate("A review: ", json_schema=SCHEMA, max_new_tokens=200, seed=1)
    review = json.loads(text)
    print(review["kind"], review["stars"], review["title"])


if __name__ == "__main__":
    main(*sys.argv[1:])
