"""API keys: who asks."""

import hashlib
import hmac
from pathlib import Path

from wenloom.core.errors import InputError, printable

SHORTEST = 16
"""Characters of a key that nobody guesses."""


class Keys:
    """Names of those who may ask, by their keys, of which only hashes are kept."""

    def __init__(self, named: dict[str, str]):
        self._digests = {name: _digest(key) for name, key in named.items()}

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """The keys of a file: one a line, as KEY or NAME:KEY; empty lines and those that begin with # are left out.

        Raises:
            InputError: it cannot be read, holds no key, or one that is too short or stands twice.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}).") from None
        named: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, _, key = line.strip().rpartition(":")
            name = name.strip() or f"key {number}"
            if len(key := key.strip()) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(
                    f"{path}, line {number}: a key has at least {SHORTEST} ASCII characters and no blank; "
                    '`python -c "import secrets; print(secrets.token_urlsafe(32))"` makes one.'
                )
            if name in named or key in named.values():
                raise InputError(f"{path}, line {number}: name {printable(name, 60)} or its key stands there twice.")
            named[name] = key
        if not named:
            raise InputError(f"{path}: holds no key; write one a line, as KEY or NAME:KEY.")
        return cls(named)

    def name_of(self, key: str) -> str | None:
        """Whose key it is; takes as long for a wrong one as for any."""
        digest, found = _digest(key), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
