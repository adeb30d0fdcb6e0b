"""What a server tells Prometheus."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wenloom.serving.admission import Admission
from wenloom.serving.models import Models
from wenloom.serving.run import EngineRun

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server."""

    def __init__(self, models: Models, admission: Admission):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "wenloom_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.refusals = Counter(
            "wenloom_refusals", "Requests that were refused, by reason.", ["reason"], registry=self.registry
        )
        self.tokens = Counter("wenloom_tokens", "Tokens read and written.", ["model", "kind"], registry=self.registry)
        self.guesses = Counter(
            "wenloom_guessed_tokens",
            "Tokens guessed ahead, and those that came.",
            ["model", "kind"],
            registry=self.registry,
        )
        self.first = Histogram("wenloom_time_to_first_token_seconds", "From the request to its first token.", ["model"],
                               buckets=_SECONDS, registry=self.registry)  # fmt: skip
        self.between = Histogram("wenloom_time_between_tokens_seconds", "From one token of a choice to its next.", ["model"],
                                 buckets=_SECONDS, registry=self.registry)  # fmt: skip
        self.whole = Histogram(
            "wenloom_request_seconds",
            "From the request to its end.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Load(models, admission))

    def text(self) -> bytes:
        """All of them in Prometheus' own format."""
        return generate_latest(self.registry)

    def ran(self, run: EngineRun) -> None:
        """Count what a run has used."""
        name = run.served.name
        for job in run.jobs.values():
            self.tokens.labels(name, "prompt").inc(len(job.prompt))
            self.tokens.labels(name, "prompt_from_cache").inc(job.n_reused)
            self.tokens.labels(name, "completion").inc(sum(len(each.tokens) for each in job.continuations))
            if job.n_guessed:
                self.guesses.labels(name, "guessed").inc(job.n_guessed)
                self.guesses.labels(name, "agreed").inc(job.n_agreed)


class TokenTimes:
    """Times of one run's tokens."""

    def __init__(self, metrics: Metrics, model: str, began: float):
        self._first, self._between = metrics.first.labels(model), metrics.between.labels(model)
        self._began = began
        self._last: dict[int, float] = {}

    def token(self, choice: int) -> None:
        """A token of a choice has come."""
        now = time.monotonic()
        if not self._last:
            self._first.observe(now - self._began)
        if choice in self._last:
            self._between.observe(now - self._last[choice])
        self._last[choice] = now


class _Load(Collector):
    """How busy the engines are when somebody asks."""

    def __init__(self, models: Models, admission: Admission):
        self._models, self._admission = models, admission

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"wenloom_{name}", text, labels=["model"])
            for name, text in (
                ("waiting", "Continuations that wait for a slot."),
                ("running", "Continuations that are written."),
                ("slots_in_use", "Texts that hold a slot."),
                ("slots", "Slots that there are."),
                ("cache_bytes", "Memory of keys and values in use."),
            )
        }
        for served in self._models.writers:
            for name, value in served.model.engine.load._asdict().items():
                gauges[name].add_metric([served.name], value)
        yield from gauges.values()
        yield GaugeMetricFamily("wenloom_requests_under_way", "Requests under way.", self._admission.n_requests)
        yield GaugeMetricFamily("wenloom_queued_prompt_tokens", "Tokens of prompts that wait for their first token.",
                                self._admission.queued_tokens)  # fmt: skip
