"""Structured output: JSON by a schema, a regular expression, a choice or a grammar, through `llguidance`.

All of them are grammars here. One compiles once, within bounds on its size and on the work per token; what exceeds them is refused with the
reason. llguidance derives, it does not backtrack: no pattern takes exponential time.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import llguidance
import numpy as np
import torch
from torch import Tensor

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of, reading
from wenloom.generation.schemas import forced
from wenloom.tokens.tokenizer import TextTokenizer

MAX_DEPTH = 64
"""Levels of nesting in a schema."""
_JSON: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One spelling of JSON: where blanks are free, a model may write nothing else for ever."""
_MOST_TRIED = 64
"""Tokens that a look ahead chooses, beside those that the grammar forces: others wait for it."""
_KEPT = 32
"""Compiled grammars that stay ready for the next request."""

_LONGEST = 400_000
"""Characters of a grammar, so that its rules cannot lead to each other more deeply than the stack reaches."""
_STACK_BYTES = 256 * 2**20
"""llguidance follows rule to rule by recursion, 5 kB a level, and the usual 8 MB end the whole process at some 1,500. The memory
is taken as it is used."""
_starting = threading.Lock()
T = TypeVar("T")


def _on_deep_stack(work: Callable[[], T]) -> T:
    """What some work gives, done on a stack of its own."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="wenloom-grammar")
    with _starting:
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    thread.join()
    return done.result()


class Matcher:
    """How far a sequence has come in its grammar."""

    def __init__(self, inner: llguidance.LLMatcher, closers: "_Closers"):
        self._inner, self._closers = inner, closers

    def allowed(self, vocab_size: int) -> Tensor:
        """Which tokens may follow, shape (V,), boolean; end tokens among them where the text may end."""
        flags = self._flags()[:vocab_size]
        allowed = np.zeros(vocab_size, bool)
        allowed[: len(flags)] = flags
        return torch.from_numpy(allowed)

    def _flags(self) -> np.ndarray:
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        if self._inner.is_error():
            raise InputError(f"the grammar cannot be followed: {_reason(self._inner.get_error())}.")
        return np.unpackbits(bits, bitorder="little")

    def advance(self, token: int) -> None:
        """Go on by a token that was allowed.

        Raises:
            InputError: the grammar cannot be followed any further.
        """
        self._inner.consume_token(token)
        if self._inner.is_error():
            raise InputError(f"the grammar cannot be followed: {_reason(self._inner.get_error())}.")

    def try_advance(self, token: int) -> bool:
        """Go on by a token; False where the text may not, an end token among these."""
        return self._inner.try_consume_tokens([token]) == 1 and not self._inner.is_error()

    def ending(self, most: int) -> list[int] | None:
        """At most so many tokens after which the text may end, quickly found and few, not the fewest; None: none were found."""
        ahead, way, tried = self._inner.deep_copy(), list[int](), 0
        while not ahead.is_accepting():
            if len(way) >= most or tried == _MOST_TRIED:
                return None
            if forced := ahead.compute_ff_tokens():
                if ahead.try_consume_tokens(forced) != len(forced):
                    return None
                way += forced
                continue
            tried += 1
            try:
                token = self._closers.first(Matcher(ahead, self._closers)._flags())
            except InputError:  # the way that is tried leads where the grammar costs too much
                return None
            if token is None or ahead.try_consume_tokens([token]) != 1:
                return None
            way.append(token)
        return way if len(way) <= most else None

    @property
    def complete(self) -> bool:
        """Whether nothing may follow any more."""
        return self._inner.is_stopped()

    def accepts(self, tokens: list[int]) -> bool:
        """Whether the sequence may go on with all of these tokens and then end; goes on as far as it may."""
        return self._inner.try_consume_tokens(tokens) == len(tokens) and self._inner.is_accepting()

    def copy(self) -> "Matcher":
        """Another one in the same state."""
        return Matcher(self._inner.deep_copy(), self._closers)


class Grammars:
    """Compiles grammars for one tokenizer, and keeps the latest; for any thread."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int, endings: frozenset[int]):
        self._tokenizer = _for_llguidance(tokenizer, vocab_size, endings)
        self._closers = _Closers(tokenizer, vocab_size)
        self._limits = llguidance.LLParserLimits(verbose_errors=False)  # its bounds: some 100 ms to build, 15 a token
        self._kept: OrderedDict[tuple[str, str], llguidance.LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, kind: str, source: str) -> Matcher:
        """A fresh matcher.

        Args:
            kind: json_schema, regex, choices (a JSON list) or grammar (Lark's notation, or a JSON object: a schema,
                or llguidance's own notation with its key "grammars").

        Raises:
            InputError: the grammar is not valid or too large.
        """
        key = (kind, source)
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            if len(source) > _LONGEST:
                raise InputError(f"{kind}: is {len(source):,} characters long, at most {_LONGEST:,} are compiled.")
            with reading(kind, what="cannot be compiled"):
                found = _on_deep_stack(lambda: self._compile(kind, source))
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return Matcher(found.deep_copy(), self._closers)

    def obeyed(self, kind: str, source: str, text: str) -> bool:
        """Whether a text is whole in this grammar: neither cut off nor anything else.

        Raises:
            InputError: the grammar is not valid or too large.
        """
        tokens = self._tokenizer.tokenize_bytes(text.encode())
        return self.matcher(kind, source).accepts(tokens)

    def _compile(self, kind: str, source: str) -> llguidance.LLMatcher:
        if kind == "json_schema" or (kind == "grammar" and source.lstrip().startswith("{")):
            schema = _checked_schema(kind, source)
            if kind == "json_schema" or "grammars" not in schema:
                grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_JSON)
            else:
                grammar = source
        elif kind == "regex":
            grammar = llguidance.LLMatcher.grammar_from_regex(source)
        elif kind == "choices":
            options = (json.dumps(choice, ensure_ascii=False) for choice in json.loads(source))
            grammar = llguidance.LLMatcher.grammar_from_lark("start: " + " | ".join(options))
        else:
            grammar = llguidance.LLMatcher.grammar_from_lark(source)
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise InputError(f"{kind}: {_reason(matcher.get_error())}.")
        return matcher


def _checked_schema(kind: str, source: str) -> dict[str, Any]:
    with reading(kind, what="is not valid JSON"):
        schema = json.loads(source)
    if not isinstance(schema, dict):
        raise InputError(f"{kind}: must be an object such as {{}}, got {kind_of(schema)}.")
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level if isinstance(each, dict | list)
                 for inner in (each.values() if isinstance(each, dict) else each)]  # fmt: skip
    if level:
        raise InputError(f"{kind}: is nested deeper than {MAX_DEPTH} levels.")
    if kind == "grammar" and "grammars" in schema:
        return schema
    try:
        return forced(schema)
    except InputError as error:
        raise InputError(f"{kind}: {error}.") from None


class _Closers:
    """Tokens by how soon a text ends with them: what closes, short values, the rest, what opens or goes on."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int):
        spelled = tokenizer.token_bytes(vocab_size)
        known = [token for token, data in enumerate(spelled) if data and token not in tokenizer.special_ids]
        self._letters = [token for token in known if spelled[token] in (b"e", b"x")]
        """Where these are all allowed, the text is within a string, and a bracket closes nothing."""
        self._between = np.array(sorted(known, key=lambda token: _rank(spelled[token])), np.int64)
        quotes = [token for token in known if spelled[token][:1] == b'"' and not spelled[token].strip(b'"}]')]
        quotes.sort(key=lambda token: -len(spelled[token]))
        self._within = np.array(
            quotes + [token for token in self._between.tolist() if token not in set(quotes)], np.int64
        )

    def first(self, flags: np.ndarray) -> int | None:
        """The first of those that are allowed; None: none is."""
        order = self._within if flags[self._letters].all() else self._between
        allowed = flags[order] > 0
        return int(order[allowed.argmax()]) if allowed.any() else None


def _rank(data: bytes) -> tuple[int, bool, int]:
    bare = data.strip()
    if not bare:  # blanks, which may be free to go on for ever
        return 6, False, -len(data)
    if not bare.strip(b"}]"):
        return 0, False, -len(data)
    if not bare.strip(b'"}]'):
        return 1, bare != b'""', -len(data)
    if bare[:1] == b",":  # behind a number, which more digits would make longer for ever
        return 2, False, -len(data)
    if bare in (b"null", b"true", b"false", b"[]", b"{}") or data.isdigit():
        return 3, False, len(data)
    return (5 if b"[" in data or b"{" in data else 4), False, -len(data)


def _reason(message: str) -> str:
    """What llguidance's message says, without its own hints and pictures."""
    lines = message.strip().splitlines() or ["unknown reason"]
    inner = next((line for line in lines if line.startswith("error: ")), None)  # of the regex crate, below a picture
    said = (inner or lines[0]).removeprefix("error: ").removeprefix("Error: ").rstrip(".:")
    return "no text satisfies it" if said.startswith("NoExtension") else printable(said, 300)


def _for_llguidance(tokenizer: TextTokenizer, vocab_size: int, endings: frozenset[int]) -> llguidance.LLTokenizer:
    """The vocabulary as bytes."""
    special = sorted(tokenizer.special_ids)
    first_end = min(endings, default=tokenizer.eos_token_id if tokenizer.eos_token_id is not None else -1)
    if first_end < 0:
        raise InputError("a grammar needs a tokenizer with an end token, to say that it is complete.")

    names = {token: each.content.encode() for token, each in tokenizer.backend.get_added_tokens_decoder().items()}
    spelled = tokenizer.token_bytes(vocab_size)
    for token, data in enumerate(spelled):
        if token in tokenizer.special_ids:
            spelled[token] = names.get(
                token, b"%d" % token
            )  # llguidance tells special tokens apart by what they are called
        elif data.startswith(b"\xff"):
            spelled[token] = (
                b""  # a byte that is in no text, and with which llguidance begins the names of special tokens
            )
    literal = tokenizer.literal(())  # the name of a special token in a grammar is text

    class TokenBytes:
        eos_token_id = first_end
        bos_token_id = tokenizer.bos_token_id
        tokens = spelled
        special_token_ids = sorted({*special, first_end} - {t for t in special if t >= vocab_size})

        def __call__(self, text: bytes) -> list[int]:
            return literal.encoding(text.decode(errors="replace"), add_special_tokens=False).ids

    wrapper = llguidance.TokenizerWrapper(TokenBytes())
    return llguidance.LLTokenizer(wrapper, n_vocab=vocab_size, eos_token=sorted(endings) or first_end)  # pyright: ignore
