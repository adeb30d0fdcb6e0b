"""How a server is run: where it listens, whom it lets in, and what one request may take."""

from dataclasses import dataclass, field
from pathlib import Path

from wenloom.core.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Access:
    """Where the server listens and whom it answers."""

    host: str = "127.0.0.1"
    """The address to listen at; another than this machine's own needs --api-key-file or --no-auth."""
    port: int = 8000
    """The port to listen at; 0 takes a free one."""
    api_key_file: Path | None = None
    """API keys, one per line, as KEY or NAME:KEY; the log holds the names."""
    no_auth: bool = False
    """Answer anybody who reaches the server without a key, also from other machines."""
    allow_host: tuple[str, ...] = ()
    """A name in the Host header that is answered beside localhost and plain addresses; * is any. May be given several times."""
    allow_origin: tuple[str, ...] = ()
    """A web page's origin, as in https://example.org, that may ask from a browser. May be given several times."""

    def __post_init__(self):
        if self.host not in LOOPBACK and self.api_key_file is None and not self.no_auth:
            raise InputError(f"--host {self.host} is reached from outside: give --api-key-file FILE, or --no-auth to answer "
                             "whoever asks.")  # fmt: skip
        if self.no_auth and self.api_key_file is not None:
            raise InputError("--no-auth and --api-key-file: give one of them.")
        if not 0 <= self.port < 65536:
            raise InputError(f"--port must be from 0 to 65535, got {self.port}.")


@dataclass(frozen=True)
class RequestLimits:
    """What is refused before anything is allocated for it."""

    max_concurrent_requests: int = 128
    """Requests at a time, waiting ones included; more get 429."""
    max_queued_tokens: int = 262_144
    """Tokens of prompts that wait for their first token; more get 429."""
    max_body_mb: float = 2.0
    """Size of a request's body; larger ones get 413."""
    max_audio_mb: float = 25.0
    """Size of a request with a recording."""
    max_stop_strings: int = 4
    """Stop strings of a request."""
    max_total_tokens: int = 65_536
    """Tokens that one request may write, over all its choices."""
    max_choices: int = 128
    """Choices of one request: prompts times n (or best_of)."""
    max_schema_kb: float = 64.0
    """Size of a schema, pattern, grammar or list of tools."""
    rate: float = 0.0
    """Requests a minute of each key (each address without keys), on average, in bursts of up to as many; 0: no limit."""
    deadline: float = 600.0
    """Seconds after which a request is ended, wherever it is."""

    def __post_init__(self):
        for name in ("max_concurrent_requests", "max_queued_tokens", "max_total_tokens", "max_choices"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}.")
        for name in ("max_body_mb", "max_audio_mb", "max_schema_kb", "deadline"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name):g}.")
        for name in ("max_stop_strings", "rate"):
            if not getattr(self, name) >= 0:
                raise InputError(f"--{name.replace('_', '-')} must not be negative, got {getattr(self, name):g}.")


@dataclass(frozen=True)
class Running:
    """How the server ends, and what it tells."""

    drain: float = 30.0
    """Seconds that running requests have left at SIGTERM or Ctrl-C; a second signal ends them at once."""
    watchdog: float = 120.0
    """Seconds after which a step of a model counts as hung, and /healthz says so."""
    access_log: Path | None = None
    """A file for one JSON line per request; default: standard output, unless that is a terminal."""
    log_prompts: bool = False
    """Write the bodies of requests into the access log."""


@dataclass(frozen=True)
class ServerSettings:
    """All of it."""

    access: Access = field(default_factory=Access)
    limits: RequestLimits = field(default_factory=RequestLimits)
    running: Running = field(default_factory=Running)
