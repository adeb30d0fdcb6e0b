"""Ways to spoil a valid file: by its structure where it has one, and by its bytes."""

import gzip
import json
import random
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import zstandard


class Raw(str):
    """JSON text that stands as it is."""


ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 10**8, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.5, 0.1, 1e-300, 1e308, "", " ",
    "x", "true", "null", "0", "-1", "1.5", "silu", "float16", "\0", "\ud800", "a" * 10_000, "../..", "/dev/zero", "é\u0301",
    "<|endoftext|>", "{{ 1/0 }}", "{% for i in range(10**9) %}x{% endfor %}", "(a+)+$", "[", "^", "*", [], {}, [[]], [None],
    [1, 2, 3], ["a", 1], {"a": 1}, {"": None}, [0] * 2000, Raw("NaN"), Raw("Infinity"), Raw("-Infinity"),
    Raw("1e400"), Raw("9" * 5000), Raw("[" * 2000 + "]" * 2000), Raw('{"a":' * 2000 + "1" + "}" * 2000), Raw('"\\ud83d"'),
    Raw("1" + "0" * 400), Raw("[1,]"), Raw("'x'"), Raw("undefined"), Raw("0x10"), Raw("01"),
]  # fmt: skip
TOKENS = [
    b"<", b">", b"<![", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<p", b"</p>", b"<script>", b"<style>", b"<svg>", b"<pre>",
    b"<head>", b"&#9999999999;", b"&#x110000;", b"&#" + b"9" * 5000 + b";", b"&amp", b"&", b'"', b"'", b'""', b",", b";",
    b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1a", b"\xed\xa0\x80", b"\xff", b"\x80",
    b"{", b"}", b"[", b"]", b":", b"\\", b"\\u", b"\\ud83d", b"null", b"NaN", b"1e999", b"-", b"  ", b"=", b"#", b"---\n",
    b"&a [*a,*a]", b"<<: *a", b"!!python/object:os.system", b"'''", b'"""', b"\xe2\x80\xa8", b"\xcc\x81" * 300, b"a" * 3000,
    b"text", b"{% ", b"%}", b"{{", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x93NUMPY",
]  # fmt: skip


def spoiled(data: bytes, name: str, rng: random.Random) -> bytes:
    """Another content for a file of this name."""
    inner, packed = name, ""
    for ending in (".gz", ".zst"):
        if name.endswith(ending):
            inner, packed = name.removesuffix(ending), ending
    if packed:
        pack, unpack = _PACKERS[packed]
        if rng.random() < 0.4:
            return _bytes_spoiled(data, rng)
        if rng.random() < 0.01:
            return _bomb(packed, rng.choice((b"a", b"\n", b" ", b"{", b'"', b"<p>", b"[],", b"{}\n"))) * 20
        made = pack(spoiled(unpack(data), inner, rng))
        return made + (made if rng.random() < 0.2 else b"") + (rng.choice(TOKENS) if rng.random() < 0.2 else b"")
    chance = rng.random()
    if chance < 0.08:
        return rng.randbytes(rng.choice((0, 1, 3, 8, 64, 1000)))
    if chance < 0.25:
        return _bytes_spoiled(data, rng)
    way = next((make for ending, make in _BY_STRUCTURE.items() if inner.endswith(ending)), _tokens_spoiled)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = way(data, rng)
    return _dressed(data, rng) if rng.random() < 0.1 else data


def _zstd_unpacked(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


_PACKERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".gz": (lambda data: gzip.compress(data, 1, mtime=0), gzip.decompress),
    ".zst": (lambda data: zstandard.ZstdCompressor(1).compress(data), _zstd_unpacked),
}


@cache
def _bomb(ending: str, what: bytes) -> bytes:
    """An archive of 20 MB of the same; twenty of them joined are an archive, too."""
    return _PACKERS[ending][0](what * (20_000_000 // len(what)))


def _bytes_spoiled(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place, way = rng.randrange(len(made) + 1), rng.randrange(6)
        if way == 0 and made:
            made[place % len(made)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del made[place:]
        elif way == 2:
            made[place:place] = rng.randbytes(rng.choice((1, 4, 100)))
        elif way == 3:
            del made[place : place + rng.choice((1, 4, 100))]
        elif way == 4:
            made[place:place] = made[place : place + 200] * rng.choice((1, 50))
        else:
            made[place : place + 8] = rng.choice(
                (b"\0" * 8, b"\xff" * 8, struct.pack("<q", rng.choice((-1, 2**40, 2**62))))
            )
    return bytes(made)


def _tokens_spoiled(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    what = rng.choice(TOKENS) * rng.choice((1, 1, 1, 3, 2000))
    return data[:place] + what + data[place + rng.choice((0, 0, 1, 10)) :]


def _dressed(data: bytes, rng: random.Random) -> bytes:
    """The same in another encoding, with marks or other line ends."""
    text = data.decode("utf-8", "replace")
    ways: list[Callable[[], bytes]] = [
        lambda: text.encode("utf-16", "surrogatepass"), lambda: text.encode("latin-1", "replace"),
        lambda: b"\xef\xbb\xbf" + data, lambda: data.replace(b"\n", b"\r"), lambda: data.replace(b"\n", b"\n\xef\xbb\xbf"),
        lambda: data.replace(b"}", b"},"), lambda: data.replace(b"\n", b"\r\n"), lambda: data + b"\0" * 100, lambda: data * 3,
        lambda: b" " * 100_000 + data, lambda: b"\n" * 100_000 + data, lambda: text.encode("utf-32"),
        lambda: data.replace(b'"', b"'"), lambda: b"[" + data + b"]",
    ]  # fmt: skip
    return rng.choice(ways)()


# --- by structure ---


def _json_spoiled(data: bytes, rng: random.Random) -> bytes:
    try:
        return _written(_value_spoiled(json.loads(data), rng), rng).encode("utf-8", "backslashreplace")
    except (ValueError, OverflowError, RecursionError):  # it was spoiled before
        return _tokens_spoiled(data, rng)


def _value_spoiled(value: Any, rng: random.Random) -> Any:
    """The same with one place changed, found by going down at random."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        way = rng.random()
        if way < 0.15:
            return {key: each for key, each in value.items() if key != name}
        if way < 0.2:
            return {**value, "something_else": rng.choice(ODD)}
        if way < 0.25:
            return {
                rng.choice(("", name.upper(), name + "\ud800", " ")) if key == name else key: each
                for key, each in value.items()
            }
        if way < 0.3:
            return {**value, name: value[rng.choice(list(value))]}
        return {**value, name: _value_spoiled(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place, way = rng.randrange(len(value)), rng.random()
        if way < 0.1:
            return value[:place] + value[place + 1 :]
        if way < 0.2:
            return [*value, *value[place : place + 3]]
        if way < 0.25:
            return value[::-1]
        return [*value[:place], _value_spoiled(value[place], rng), *value[place + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((value + 1, value - 1, -value, value * 2, value * 1.5, value * 10**9, str(value), [value]))
    if isinstance(value, str) and rng.random() < 0.3:
        return rng.choice(
            (value.upper(), value + "x", value[1:], value * 100, value + "\ud83d", [value], {"content": value})
        )
    return rng.choice(ODD)


def _written(value: Any, rng: random.Random) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        items = [
            f"{json.dumps(key, ensure_ascii=rng.random() < 0.5)}: {_written(each, rng)}" for key, each in value.items()
        ]
        return "{" + ", ".join(items + ([items[0]] if items and rng.random() < 0.002 else [])) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(each, rng) for each in value) + "]"
    return json.dumps(value)


def _lines_spoiled(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    way = rng.random()
    if way < 0.6:
        lines[place] = _json_spoiled(lines[place], rng)
    elif way < 0.8:
        lines[place] = rng.choice((b"null", b"[]", b'"x"', b"3", b"{}", b"{", b"", b"\xef\xbb\xbf" + lines[place], b"NaN",
                                   lines[place] + b",", lines[place] * 2, b"[" * 3000, b'{"text": "' + b"x" * 600_000 + b'"}'))  # fmt: skip
    elif way < 0.9:
        lines.insert(place, rng.choice(TOKENS))
    else:
        return _tokens_spoiled(data, rng)
    return b"\n".join(lines)


def _safetensors_spoiled(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.2 or length > len(data):
        return rng.choice((struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, length + 1, 10**9))) + data[8:],
                           data[: rng.randrange(len(data) + 1)], data + b"\0" * 8))  # fmt: skip
    header = _json_spoiled(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _npy_spoiled(data: bytes, rng: random.Random) -> bytes:
    head = data[10:128]
    for old, new in (rng.choice(((b"<u2", rng.choice((b"<i8", b"|O8", b"<f4", b">u2", b"|S9"))), (b"False", b"True"),
                                 (b"shape", b"shapf"), (b"(", rng.choice((b"(-", b"(99", b"((", b"(1, "))),
                                 (b"{", b"["), (b",", b"")),),):  # fmt: skip
        head = head.replace(old, new, 1)[:118].ljust(118)
    return data[:10] + head + data[128:]


def _toml_spoiled(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode("utf-8", "replace").split("\n")
    places = [place for place, line in enumerate(lines) if "=" in line or line.startswith("[")]
    if not places:
        return _tokens_spoiled(data, rng)
    place, way = rng.choice(places), rng.random()
    name = lines[place].partition("=")[0].strip()
    if way < 0.15:
        del lines[place]
    elif way < 0.25:
        lines.insert(place, lines[place])
    elif way < 0.3 and name.startswith("["):
        lines[place] = rng.choice(("[x]", "[[settings]]", "[", "settings = 3"))
    elif way < 0.9:
        odd = rng.choice(ODD)
        lines[place] = f"{name} = {odd if isinstance(odd, Raw) else json.dumps(odd)}"
    else:
        lines.insert(place, f"something_else = {rng.randrange(9)}")
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _gguf_spoiled(data: bytes, rng: random.Random) -> bytes:
    """A number or a text of the header changed where it stands, or a text with its length."""
    try:
        places = _gguf_places(data)
    except (struct.error, KeyError, OverflowError):  # it was spoiled before
        return _bytes_spoiled(data, rng)
    place, size, is_text = rng.choice(places)
    if is_text:
        text = rng.choice(
            (b"", b"llama", b"bert", b"\xff", b"a" * 3000, data[place + 8 : place + size] + b"x", rng.choice(TOKENS))
        )
        return data[:place] + struct.pack("<Q", len(text)) + text + data[place + size :]
    old = int.from_bytes(data[place : place + size], "little")
    odd = (0, 1, 2, 3, 8, 9, 31, 33, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1, old + 1, old - 1,
           old * 2, old ^ (1 << rng.randrange(8 * size)))  # fmt: skip
    return data[:place] + (rng.choice(odd) % 2 ** (8 * size)).to_bytes(size, "little") + data[place + size :]


def _gguf_places(data: bytes) -> list[tuple[int, int, bool]]:
    """Where numbers and texts of the header stand, of a list the first few: byte, size, and whether it is a text."""
    places, at = [(4, 4, False), (8, 8, False), (16, 8, False)], 24
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def number(form: str) -> int:
        nonlocal at
        places.append((at, struct.calcsize(form), False))
        at += struct.calcsize(form)
        return struct.unpack_from(form, data, at - struct.calcsize(form))[0]

    def value(kind: int) -> None:
        nonlocal at
        size = 8 + struct.unpack_from("<Q", data, at)[0] if kind == 8 else sizes[kind]
        places.append((at, size, kind == 8))
        at += size
        if at > len(data):
            raise struct.error

    tensors, fields = struct.unpack_from("<QQ", data, 8)
    for _ in range(fields):
        value(8)
        if (kind := number("<I")) != 9:
            value(kind)
            continue
        kind, count = number("<I"), number("<Q")
        kept = len(places) + 6
        for _ in range(count):
            value(kind)
        del places[kept:]
    for _ in range(tensors):
        value(8)
        for _ in range(number("<I")):
            number("<Q")
        number("<I")
        number("<Q")
    return places


_BY_STRUCTURE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".jsonl": _lines_spoiled, ".json": _json_spoiled, ".safetensors": _safetensors_spoiled, ".npy": _npy_spoiled,
    ".toml": _toml_spoiled, ".db": _bytes_spoiled, ".gguf": _gguf_spoiled,
}  # fmt: skip
