"""Tokens as the log-probabilities of the OpenAI API name them."""

from wenloom.tokens.tokenizer import TextTokenizer


class TokenNames:
    """What each token of a vocabulary is as bytes and as text."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int):
        self._bytes = tokenizer.token_bytes(vocab_size)
        self._tokenizer = tokenizer
        self.longest = max(map(len, self._bytes))
        """Bytes of the longest token."""

    def data(self, token: int) -> bytes:
        """The bytes that it stands for; of a special token, those of its name."""
        return self._bytes[token] or (self._tokenizer.backend.id_to_token(token) or "").encode()

    def text(self, token: int) -> str:
        """It as text; what is not a whole character is replaced."""
        return self.data(token).decode(errors="replace")

    def unique(self, token: int) -> str:
        r"""It as text that no other token has: where it is not a whole character, its bytes in the spelling `bytes:\xe4`."""
        try:
            return self.data(token).decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.data(token))
