"""The data card: what came in, what each step dropped and why, languages, lengths, duplicates, personal data, hashes."""

import heapq
import itertools
from collections import Counter
from typing import Any

from wenloom.text.digest import content_hash
from wenloom.text.document import Document
from wenloom.text.languages import by_script, named
from wenloom.text.recipe import Recipe
from wenloom.text.sifted import Decided, Sifted
from wenloom.text.steps.personal import Personal
from wenloom.text.steps.step import Kept

_EXAMPLES, _SHOWN, _CLUSTERS = 20, 400, 10
_LENGTHS = (100, 300, 1000, 3000, 10_000, 30_000, 100_000, 1_000_000)
"""Bounds of the classes of length, characters."""
_LICENCES = ("license", "licence", "licenses")
_MOST_SOURCES = 1000


class Card:
    """Collects what the card shows while documents pass; its examples are chosen by hash, so that they are always the same."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._seen, self._kept = [0, 0], [0, 0]
        self._steps: dict[str, list[int]] = {}
        self._added: dict[str, tuple[int, int]] = {}
        self._examples: dict[str, list[tuple[int, int, dict[str, str]]]] = {}
        self._languages, self._lengths, self._licences = Counter[str](), Counter[int](), Counter[tuple[str, str]]()
        self._personal, self._numbers = Personal(), itertools.count()

    def _masked(self, text: str) -> str:
        """What a card shows of a text: personal data is counted, and never shown."""
        result = self._personal(Document(text, ""))
        return result.document.text if isinstance(result, Kept) else text

    def add(self, decided: Decided) -> None:
        """A document, kept or dropped."""
        document = decided.document
        size = len(document.text.encode("utf-8", "replace"))
        self._seen = [self._seen[0] + 1, self._seen[1] + size]
        if decided.step:
            count, total = self._steps.get(decided.step, [0, 0])
            self._steps[decided.step] = [count + 1, total + size]
            self._exemplify(decided.step, document, decided.reason)
            return
        self._kept = [self._kept[0] + 1, self._kept[1] + size]
        self._languages[document.fields.get("language") or by_script(document.text) or "und"] += 1
        self._lengths[sum(len(document.text) >= bound for bound in _LENGTHS)] += 1
        licence = next((str(document.fields[name]) for name in _LICENCES if document.fields.get(name)), "")
        if licence:
            self._licences[licence[:100], document.source.partition(",")[0]] += 1
        self._exemplify("kept", document, "")

    def add_copy(self, step: str, source: str, text: str) -> None:
        """A changed copy that a step adds to training."""
        count, total = self._added.get(step, (0, 0))
        self._added[step] = count + 1, total + len(text.encode("utf-8", "replace"))
        self._exemplify(f"added by {step}", Document(text, source), "")

    def _exemplify(self, what: str, document: Document, reason: str) -> None:
        rank = -int.from_bytes(content_hash(document.source + document.text[:1000])[:8])
        heap = self._examples.setdefault(what, [])
        if len(heap) < _EXAMPLES or rank > heap[0][0]:
            row = {"source": document.source, "reason": reason, "text": self._masked(document.text[:_SHOWN])}
            push = heapq.heappush if len(heap) < _EXAMPLES else heapq.heapreplace
            push(heap, (rank, next(self._numbers), row))

    def facts(self, sifted: Sifted) -> dict[str, Any]:
        """Everything, for JSON and the page."""
        bounds = [0, *_LENGTHS]
        return {
            "recipe": {"name": self._recipe.name, "steps": self._recipe.resolved()},
            "read": {"documents": self._seen[0], "bytes": self._seen[1]},
            "kept": {"documents": self._kept[0], "bytes": self._kept[1]},
            "dropped": {step: {"documents": self._steps[step][0], "bytes": self._steps[step][1]}
                        for step in [*sifted.order, *self._steps] if step in self._steps},
            "cut": {step: {"documents": count, "bytes": size} for step, (count, size) in sifted.cut.items()},
            "added": {step: {"documents": count, "bytes": size} for step, (count, size) in self._added.items()},
            "languages": {code: {"name": named(code), "documents": count} for code, count in self._languages.most_common()},
            "lengths": [{"from": bounds[place], "documents": self._lengths[place]} for place in range(len(bounds))],
            "personal_data": dict(sifted.facts),
            "licences": [{"licence": licence, "source": source, "documents": count}
                         for (licence, source), count in self._licences.most_common(_MOST_SOURCES)],
            "clusters": sifted.largest_clusters(_CLUSTERS),
            "examples": {what: [row for _, _, row in sorted(self._examples[what], key=lambda each: -each[0])]
                         for what in dict.fromkeys(["kept", *sifted.order, *self._examples]) if what in self._examples},
        }  # fmt: skip
