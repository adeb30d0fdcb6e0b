"""What is asked of a model: why this continuation, label or filling, and why not that one. One number answers: log P, or the
difference of two."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.subject import Reading, Subject
from wenloom.model.encoder import Encoder
from wenloom.model.taps import Taps, keep

Answer = str | int
"""A continuation, a filling or a label as text, or one token (of a classifier, one class) by its number."""


@dataclass(frozen=True)
class AnswerRow:
    """A text with one answer, and where its log-probability is read."""

    reading: Reading
    """Without the answer's last token, which predicts nothing."""
    places: Tensor
    """Of the tokens after which the answer's are predicted (of an encoder: where), shape (N,); of a classifier none."""
    answers: Tensor
    """Tokens, or one class, shape (N,)."""
    signs: Tensor
    """1 of what is asked for, -1 of what it is compared with, shape (N,)."""


@dataclass(frozen=True)
class Inquiry:
    """f(text) = log P(target | text), or that minus log P(against | text)."""

    subject: Subject
    rows: list[AnswerRow]
    """One; two where the answers have several tokens each and so are read each for itself."""
    target: str
    against: str | None

    def value(
        self, row: AnswerRow, vectors_BTD: Tensor, source_BSD: Tensor | None = None, taps: Taps | None = None
    ) -> Tensor:
        """A row's part of f, from token vectors, shape (B,), float64."""
        at = row.places if len(row.places) else None
        logits = self.subject.forward(vectors_BTD, source_BSD, taps, at)
        log_p = logits.double().log_softmax(-1)
        if at is None:
            return (log_p[:, row.answers] * row.signs).sum(-1)
        picked_BN = log_p.gather(-1, row.answers.expand(len(log_p), -1)[..., None])[..., 0]
        return (picked_BN * row.signs).sum(-1)

    def gradients(self, row: AnswerRow, names: Sequence[str]) -> tuple[float, dict[str, Tensor], list[Tensor]]:
        """A row's part of f, what flows at places, and the gradient of f by each of them, in their order."""
        kept: dict[str, Tensor] = {}
        taps = Taps({name: keep(name, kept) for name in names}, self.subject.model.places)
        with torch.enable_grad():
            vectors, source = self.subject.vectors(row.reading)
            value = self.value(
                row,
                vectors.detach().requires_grad_(),
                None if source is None else source.detach().requires_grad_(),
                taps,
            )
            found = torch.autograd.grad(value.sum(), [kept[name] for name in names])
        return float(value.detach()), {name: kept[name].detach() for name in names}, list(found)

    def at_answer(self, names: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
        """What flows at places where the first token of the answer is predicted, and the gradient of f by it, of all rows together."""
        flowing, slopes = list[Tensor](), list[Tensor]()
        for row in self.rows:
            _, kept, found = self.gradients(row, names)
            at = int(row.places[0])
            flowing, here = [kept[name][0, at] for name in names], [each[0, at] for each in found]
            slopes = [a + b for a, b in zip(slopes, here, strict=True)] if slopes else here
        return flowing, slopes


def ask(subject: Subject, text: str, target: Answer | None = None, against: Answer | None = None) -> Inquiry:
    """The question of a text.

    Args:
        text: of an encoder that predicts tokens, with one mask; of a model with two stacks, the source.
        target: a continuation, the filling of the mask, or a label; None: the most probable one (of one token).
        against: what might have stood there instead.

    Raises:
        InputError: an unknown label, a text without a mask, an empty answer, or two answers with which the text divides
            into different tokens.
    """
    if target is None:
        target = _most_probable(subject, text)
    one = _row(subject, text, target)
    named = [_named(subject, one)]
    if against is None:
        return Inquiry(subject, [one], named[0], None)
    other = _row(subject, text, against)
    named.append(_named(subject, other))
    if one.reading.start != other.reading.start:
        raise InputError(
            f"{named[0]!r} and {named[1]!r} cannot be compared: with each, the text before divides into other tokens."
        )
    answers, signs = torch.cat((one.answers, other.answers)), torch.cat((one.signs, -other.signs))
    if torch.equal(one.answers, other.answers):
        raise InputError(f"{named[0]!r} is compared with itself.")
    if torch.equal(one.reading.tokens, other.reading.tokens):
        rows = [AnswerRow(one.reading, torch.cat((one.places, other.places)), answers, signs)]
    else:
        rows = [one, AnswerRow(other.reading, other.places, other.answers, -other.signs)]
    return Inquiry(subject, rows, named[0], named[1])


@torch.no_grad()
def _most_probable(subject: Subject, text: str) -> int:
    row = _row(subject, text, 0)
    logits = subject.forward(*subject.vectors(row.reading), at=row.places if len(row.places) else None)
    return int(logits.flatten(0, -2)[0].argmax())


def _row(subject: Subject, text: str, answer: Answer) -> AnswerRow:
    if subject.predicts == "nothing":
        raise InputError("this encoder has no head: it gives hidden states, and nothing can be asked of those.")
    if subject.classifier is not None:
        return _made(subject, subject.read(text), [], [_label(subject, answer)])
    if isinstance(subject.model, Encoder):
        reading = subject.read(text)
        return _made(subject, reading, [_mask_of(subject, reading)], [_filling(subject, answer)])
    reading = subject.read(text, answer) if isinstance(answer, str) else subject.read(text)
    start = reading.start
    if isinstance(answer, int):
        return _made(subject, reading, [start - 1], [_checked(subject, answer)])
    answers = reading.tokens[0, start:].tolist()
    if not answers:
        raise InputError("an answer without a token: nothing can be asked of it.")
    shorter = Reading(reading.tokens[:, :-1], start, reading.source)
    return _made(subject, shorter, list(range(start - 1, start - 1 + len(answers))), answers)


def _made(subject: Subject, reading: Reading, places: list[int], answers: list[int]) -> AnswerRow:
    device = reading.tokens.device
    return AnswerRow(
        reading,
        torch.tensor(places, dtype=torch.long, device=device),
        torch.tensor(answers, device=device),
        torch.ones(len(answers), dtype=torch.float64, device=device),
    )


def _named(subject: Subject, row: AnswerRow) -> str:
    if subject.classifier is not None:
        return subject.model.config.labels[int(row.answers[0])]
    return subject.piece(int(row.answers[0])) if len(row.answers) == 1 else subject.tokenizer.decode(row.answers)


def _checked(subject: Subject, token: int) -> int:
    if not 0 <= token < subject.model.config.vocab_size:
        raise InputError(f"there is no token {token}; they go from 0 to {subject.model.config.vocab_size - 1}.")
    return token


def _label(subject: Subject, answer: Answer) -> int:
    labels = subject.model.config.labels
    if isinstance(answer, int) and 0 <= answer < len(labels):
        return answer
    if answer not in labels:
        raise InputError(f"there is no label {answer!r}; this model knows {', '.join(labels[:20])}.")
    return labels.index(answer)


def _mask_of(subject: Subject, reading: Reading) -> int:
    mask = subject.tokenizer.mask_token_id
    found = [place for place, token in enumerate(reading.tokens[0].tolist()) if token == mask]
    if mask is None or len(found) != 1:
        raise InputError(
            f"this model fills in one hidden token: write {subject.tokenizer.mask_token or 'the mask'} once in the text, "
            f"not {len(found)} times."
        )
    return found[0]


def _filling(subject: Subject, answer: Answer) -> int:
    if isinstance(answer, int):
        return _checked(subject, answer)
    spelled = [subject.tokenizer.encode(answer, False), *subject.tokenizer.spellings(answer)]
    single = [ids[0] for ids in spelled if len(ids) == 1]
    if not single:
        raise InputError(f"{answer!r} has {len(spelled[0])} tokens; the mask stands for one.")
    return single[0]
