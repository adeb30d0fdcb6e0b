"""What must not go wrong unseen: a model that looks ahead, and numbers that are no numbers."""

import math

import torch
from torch import Tensor

from wenloom.core.errors import WenloomError
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Tap, Taps
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.parallel import Strategy, full_tensor
from wenloom.training.source import Batch
from wenloom.training.train_step import TrainStep

_WATCHED = ("embed", "attention.out", "cross.out", "resid_mid", "mlp.hidden", "mlp.out", "resid_post", "final_norm")


@torch.no_grad()
def check_causality(decoder: Decoder, generator: torch.Generator) -> None:
    """Changing a token must not change what is predicted before it.

    A leak makes training look splendid (bits per byte near 0) and the model worthless.

    Raises:
        WenloomError: it does change.
    """
    was_training, length = decoder.training, min(64, decoder.config.context_length)
    device = next(decoder.parameters()).device
    tokens = torch.randint(decoder.config.vocab_size, (1, length), generator=generator)
    place = length // 2
    other = tokens.clone()
    other[:, place:] = (other[:, place:] + 1) % decoder.config.vocab_size
    decoder.eval()
    before, after = (decoder(each.to(device))[:, :place].float() for each in (tokens, other))
    decoder.train(was_training)
    if place and not torch.allclose(before, after, rtol=1e-3, atol=1e-4):
        worst = int((before - after).abs().amax((0, 2)).argmax())
        raise WenloomError(
            f"This model looks ahead: changing token {place} changes what it predicts at token {worst}. "
            "Trained like this it would learn to copy, not to predict."
        )


class NotFinite(WenloomError):
    """Loss or gradient is NaN or infinite."""


def all_finite(model: Model) -> bool:
    """Whether every weight is a finite number."""
    return all(_finite(full_tensor(parameter)) for parameter in model.parameters())


def origin(train_step: TrainStep, batch: Batch, tokenizer: TextTokenizer, strategy: Strategy) -> str:
    """Where in the model, and in which text of the batch, the first number that is not finite appears.

    Computes forward and backward again, row by row, in every process its own rows; gradients are cleared. Sharded models,
    whose processes compute together only, are not searched.
    """
    if strategy != "ddp":
        return "a sharded model, where it was not searched for"
    with torch.compiler.set_stance("force_eager"):
        found = [each for each in train_step.world.gathered(_origin_here(train_step, batch, tokenizer)) if each]
    return found[0] if found else "the sum over the batch (every row by itself is finite)"


def _origin_here(train_step: TrainStep, batch: Batch, tokenizer: TextTokenizer) -> str | None:
    objective = train_step.objective
    for row in range(batch.n_rows):
        one = slice(row, row + 1)
        taps, found = _watching(objective.model)
        with train_step.autocast():
            loss = objective(**batch.part(one), taps=taps).total
        if not found and not math.isfinite(loss.item()):
            found = ["the loss"]
        elif not found:
            loss.backward()
            gradients = [(name, each.grad) for name, each in objective.named_parameters() if each.grad is not None]
            bad = [name for name, gradient in gradients if not _finite(gradient)]
            found = [f"the gradient of {bad[-1]}"] if bad else []
            train_step.zero_grad()
        if found:
            text = tokenizer.decode(batch.texts[row].tolist()[:40])
            return f"{found[0].replace('model.', '')}, sample {batch.first + row:,}: {text[:80]!r}"
    return None


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _watching(model: Model) -> tuple[Taps, list[str]]:
    """Taps that note the first place where something is not finite; not within attention, which would then take
    another way to the same."""
    found: list[str] = []

    def tap(place: str) -> Tap:
        def look(x: Tensor) -> None:
            if not found and not _finite(x.detach()):
                found.append(place)

        return look

    places = [each for each in model.places if each.endswith(_WATCHED)]
    return Taps({place: tap(place) for place in places}, places), found
