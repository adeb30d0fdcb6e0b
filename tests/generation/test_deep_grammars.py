"""Grammars whose rules lead to each other very deeply: compiled or refused, and the process lives on."""

import json

import pytest

from wenloom.core.errors import InputError
from wenloom.generation.grammars import Grammars
from wenloom.tokens.tokenizer import TextTokenizer

N = 5000
DEEP = {
    "rules": ("grammar", "start: r0\n" + "".join(f"r{n}: r{n + 1}\n" for n in range(N)) + f'r{N}: "a"\n'),
    "terminals": ("grammar", "start: R0\n" + "".join(f"R{n}: R{n + 1}\n" for n in range(N)) + f'R{N}: "a"\n'),
    "references": ("json_schema", json.dumps(
        {"$ref": "#/$defs/d0", "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(N)}, f"d{N}": {"type": "null"}}})),
    "longest": ("grammar", "start: a0\n" + "".join(f"a{n}:a{n + 1}\n" for n in range(28_000)) + 'a28000:"a"\n'),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEEP)
def test_no_grammar_ends_the_process(tokenizer: TextTokenizer, kind: str):
    grammars = Grammars(tokenizer, tokenizer.vocab_size, frozenset({0}))
    try:
        allowed = grammars.matcher(*DEEP[kind]).allowed(tokenizer.vocab_size)
    except InputError:
        return
    assert allowed.any()


def test_what_is_too_long_is_refused_before_it_is_read(tokenizer: TextTokenizer):
    grammars = Grammars(tokenizer, tokenizer.vocab_size, frozenset({0}))
    with pytest.raises(InputError, match="400,000"):
        grammars.matcher("regex", "a" * 400_001)
