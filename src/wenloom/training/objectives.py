"""What is minimised: negative log-probabilities of tokens or classes, and their measures."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.taps import Taps, keep, within
from wenloom.tokens.shards import TokenStream
from wenloom.training.cross_entropy import IGNORED, PRODUCT_LOGITS, cross_entropy
from wenloom.training.parallel import World
from wenloom.training.routing import RouterLosses, routed, router_places


class LossSum(NamedTuple):
    """What an objective says of some rows. Sums, not means: who asks divides by the weight of the whole optimizer step
    (`source.Batch`), so that splitting a batch changes nothing."""

    total: Tensor
    """What is minimised, summed; in nats where it is a log-probability."""
    weight: Tensor
    """How many targets it is summed over."""
    figures: dict[str, Tensor]
    """Further figures by name, each summed over these targets; a tensor with dimensions is a table of figures."""


class Objective(nn.Module):
    """The loss of a model as one module: what is replicated or sharded (`parallel`) is this, the model inside it.

    `forward` takes rows of a batch by name and gives a `LossSum`; it passes `taps` on to the model, under its names.
    """

    needs_whole_batch: ClassVar[bool] = False
    """Whether the loss of a row depends on the others of its batch, which is then not divided; what takes memory is."""
    rows_at_once: int | None = None
    """Rows that the model should read at a time, where the batch is not divided; None: all."""
    done: float = 0.0
    """The part of the run that is behind, for losses that change on the way."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model


class CausalObjective(Objective):
    """Next tokens of a decoder.

    Args:
        document_start: the token that opens a document, if tokens are to see their own document only; rows then
            give the loss that their documents would give one by one.
        routers: what counts beside the loss while a model with experts is trained. It is part of the gradient and not of
            the value, so that losses of models with and without experts are compared.
    """

    def __init__(self, decoder: Decoder, document_start: int | None = None, routers: RouterLosses | None = None):
        super().__init__(decoder)
        self.document_start, self.routers = document_start, routers

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        dropout_keys_B: Tensor | None = None,
        documents_BT: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """-Σ log P(target | inputs up to it), see `causal_loss`.

        Args:
            documents_BT: a number per document where rows hold several; default: as `document_start` tells.
        """
        assert isinstance(self.model, Decoder)
        if documents_BT is None and self.document_start is not None:
            documents_BT = (inputs_BT == self.document_start).cumsum(1)
        scores: dict[str, Tensor] = {}
        if self.routers is not None and self.model.training and taps is None:
            taps = Taps({place: keep(place, scores) for place in router_places(self.model)}, self.model.places)
        found = counted(causal_loss(self.model, inputs_BT, targets_BT, documents_BT, dropout_keys_B, taps), targets_BT)
        return self._with_routers(found, list(scores.values()), targets_BT) if scores else found

    def _with_routers(self, found: LossSum, scores: list[Tensor], targets_BT: Tensor) -> LossSum:
        assert self.routers is not None and self.model.config.mlp.experts is not None
        of = routed(scores, self.model.config.mlp.experts.active, (targets_BT != IGNORED).sum(1))
        beside = self.routers.balance * of.balance + self.routers.z * of.z
        figures = {"expert_balance": of.balance, "router_z": of.z, "expert_load": of.load_LE}
        return LossSum(found.total + (beside - beside.detach()), found.weight, figures)


class MaskedObjective(Objective):
    """Tokens that are hidden from an encoder (Devlin et al. 2019, section 3.1)."""

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        mask_BT: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """-Σ log P(target | all inputs).

        Args:
            inputs_BT: with masks where tokens are hidden.
            targets_BT: the hidden tokens; `IGNORED` elsewhere.
            mask_BT: 1 for tokens, 0 for padding.
        """
        encoder = self.model
        assert isinstance(encoder, Encoder)
        hidden_BTD = encoder.hidden(inputs_BT, mask_BT, dropout_keys_B=dropout_keys_B, taps=taps)
        counts_BT = targets_BT != IGNORED
        hidden_ND = encoder.transformed(hidden_BTD[counts_BT])
        nats = cross_entropy(hidden_ND, encoder.output_weight, targets_BT[counts_BT], encoder.output_bias)
        return counted(nats, targets_BT)


class EncoderDecoderObjective(Objective):
    """Tokens of a target text, given its source and the target before them (teacher forcing).

    Args:
        smoothing: part of the probability that is to be spread over all tokens (Szegedy et al. 2016, section 7), while
            training.
    """

    def __init__(self, model: EncoderDecoder, smoothing: float = 0.0):
        super().__init__(model)
        self.smoothing = smoothing

    def forward(
        self,
        source_BS: Tensor,
        source_mask_BS: Tensor,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """-Σ log P(target | inputs up to it, source).

        Args:
            source_mask_BS: 1 for tokens, 0 for padding.
            inputs_BT: the target one place later, behind the decoder's first token.
        """
        assert isinstance(self.model, EncoderDecoder)
        decoder = self.model.decoder
        encoder_kv = self.model.encode(source_BS, source_mask_BS, dropout_keys_B, within(taps, "encoder"))
        keys_B = None if dropout_keys_B is None else dropout_keys_B + 0x5BD1E995  # others than the encoder's
        hidden_BTD = decoder.hidden(
            inputs_BT, dropout_keys_B=keys_B, encoder_kv=encoder_kv, taps=within(taps, "decoder")
        )
        smoothing = self.smoothing if self.model.training else 0.0
        return counted(_token_loss(decoder, hidden_BTD, targets_BT, smoothing), targets_BT)


class ClassificationObjective(Objective):
    """Classes of texts, by an encoder or a decoder with classes."""

    def forward(
        self,
        inputs_BT: Tensor,
        mask_BT: Tensor,
        targets_B: Tensor,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """-Σ log P(class | text)."""
        assert not isinstance(self.model, EncoderDecoder)
        scores_BC = self.model.classify(inputs_BT, mask_BT, dropout_keys_B=dropout_keys_B, taps=taps)
        nats = functional.cross_entropy(scores_BC.float(), targets_B, ignore_index=IGNORED, reduction="sum")
        return counted(nats, targets_B)


class PreferenceObjective(Objective):
    """Which of two answers is better: direct preference optimisation (DPO, Rafailov et al. 2023, eq. 7).

    Rows are pairs: what is preferred, and what is not.

    Args:
        beta: how strongly the model may leave the one it began as.
    """

    def __init__(self, model: Decoder, beta: float = 0.1):
        super().__init__(model)
        self.beta = beta

    def forward(
        self,
        chosen_BT: Tensor,
        chosen_labels_BT: Tensor,
        rejected_BT: Tensor,
        rejected_labels_BT: Tensor,
        reference_B: Tensor,
        targets_B: Tensor,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        """-Σ log σ(beta (m - m_reference)), m = log P(chosen) - log P(rejected).

        Args:
            chosen_labels_BT, rejected_labels_BT: the answers' tokens; `IGNORED` where the question stands.
            reference_B: m of the model as it began.
            targets_B: one per pair, so that pairs are counted.
        """
        counts_B = targets_B != IGNORED
        margin_B = self.margin(chosen_BT, chosen_labels_BT, rejected_BT, rejected_labels_BT, dropout_keys_B, taps)
        nats = -(functional.logsigmoid(self.beta * (margin_B - reference_B)) * counts_B).sum()
        return counted(nats, targets_B)

    def margin(
        self,
        chosen_BT: Tensor,
        chosen_labels_BT: Tensor,
        rejected_BT: Tensor,
        rejected_labels_BT: Tensor,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """m = log P(chosen) - log P(rejected), shape (B,)."""
        return self._logprob(chosen_BT, chosen_labels_BT, dropout_keys_B, taps) - self._logprob(
            rejected_BT, rejected_labels_BT, dropout_keys_B, taps
        )

    def _logprob(
        self, inputs_BT: Tensor, labels_BT: Tensor, dropout_keys_B: Tensor | None, taps: Taps | None
    ) -> Tensor:
        assert isinstance(self.model, Decoder)
        hidden_BTD = self.model.hidden(inputs_BT, dropout_keys_B=dropout_keys_B, taps=taps)
        counts_BT = labels_BT != IGNORED
        length = max(64, PRODUCT_LOGITS // self.model.config.vocab_size)
        parts = zip(hidden_BTD[counts_BT].split(length), labels_BT[counts_BT].split(length), strict=True)
        # logits of a few tokens at a time, made again for the backward pass: of all they would take gigabytes
        chosen_N = torch.cat([checkpoint(self._of_tokens, *part, use_reentrant=False) for part in parts])
        return torch.zeros(counts_BT.shape, device=inputs_BT.device).masked_scatter(counts_BT, chosen_N).sum(1)

    def _of_tokens(self, hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
        assert isinstance(self.model, Decoder)
        logits_NV = self.model.unembed(hidden_ND).float()
        return logits_NV.gather(1, labels_N[:, None])[:, 0] - logits_NV.logsumexp(-1)


def counted(total: Tensor, targets: Tensor) -> LossSum:
    """A sum over the targets that count."""
    return LossSum(total, (targets != IGNORED).sum(), {})


def causal_loss(
    decoder: Decoder,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    documents_BT: Tensor | None = None,
    dropout_keys_B: Tensor | None = None,
    taps: Taps | None = None,
) -> Tensor:
    """-Σ log P(target | inputs up to it) in nats, summed over all targets that count.

    Args:
        documents_BT: a number per document where rows hold several: each token sees its own only.
    """
    positions_BT = None
    if documents_BT is not None and decoder.positions is not None:  # rotary positions are relative: no new start
        opens_BT = documents_BT.diff(dim=1, prepend=documents_BT[:, :1]) != 0
        places = torch.arange(inputs_BT.shape[1], device=inputs_BT.device)
        positions_BT = places - (places * opens_BT).cummax(1).values
    hidden_BTD = decoder.hidden(
        inputs_BT, position_ids=positions_BT, documents_BT=documents_BT, dropout_keys_B=dropout_keys_B, taps=taps
    )
    return _token_loss(decoder, hidden_BTD, targets_BT)


def _token_loss(decoder: Decoder, hidden_BTD: Tensor, targets_BT: Tensor, smoothing: float = 0.0) -> Tensor:
    hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    if not bool((counts_N := targets_N != IGNORED).all()):  # prompts and padding need no logits
        hidden_ND, targets_N = hidden_ND[counts_N], targets_N[counts_N]
    weight, bias, cap = decoder.output_weight, decoder.output_bias, decoder.config.logits.cap
    return cross_entropy(decoder.transformed(hidden_ND), weight, targets_N, bias, smoothing, cap)


@dataclass(frozen=True)
class Loss:
    """A total over a text, and the figures it gives."""

    nats: float
    """-log P of all tokens."""
    tokens: int
    bytes: int
    """UTF-8 bytes of the text that these tokens are; special tokens are none."""
    characters: int
    pieces: tuple[float, ...] = ()
    """The nats of consecutive pieces of the text, where it was scored piece by piece: what two models are compared on."""

    @property
    def nats_per_token(self) -> float:
        """Comparable only between models with one tokenizer."""
        return self.nats / max(1, self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """log2 units per UTF-8 byte: comparable between tokenizers."""
        return self.nats / math.log(2) / max(1, self.bytes)

    @property
    def nats_per_character(self) -> float:
        """Comparable between tokenizers; the unit of character-level results."""
        return self.nats / max(1, self.characters)

    def figures(self) -> dict[str, float]:
        """All three, for logs; only the first where targets are no text (classes, preferences)."""
        of_text = {"bits_per_byte": self.bits_per_byte, "nats_per_character": self.nats_per_character}
        return {"nats_per_token": self.nats_per_token} | (of_text if self.bytes else {})


_PIECES = range(32, 256)
"""Pieces of a text that are told apart: enough for an interval, few enough to be kept."""
_LEAST_CHUNK = 128
"""Tokens of one: fewer cost by far more than more at once do."""


@torch.no_grad()
def evaluate(
    objective: nn.Module,
    stream: TokenStream,
    size: Loss,
    context_length: int,
    batch_tokens: int = 2048,
    device: str = "cpu",
    on_tokens: Callable[[int], None] = lambda n: None,
    world: World = World(),  # noqa: B008 - frozen
) -> Loss:
    """The loss over a whole split: consecutive windows, every token but the first predicted exactly once.

    Tokens that close documents are predicted and counted in the nats but not in bytes and characters, so
    the figures err on the high side by a separator a document.

    Args:
        objective: a `CausalObjective`, wrapped or not.
        size: of the text without its first token, which nothing stands before.
        on_tokens: told how many tokens are done, for progress.
        world: the processes that share the work; all get the result.
    """
    n_targets = len(stream) - 1
    T = min(context_length, max(1, n_targets))
    chunk = max(1, min(batch_tokens, max(_LEAST_CHUNK, n_targets // _PIECES[0])) // T) * T
    n_chunks = -(-n_targets // chunk)
    nats_N = torch.zeros(n_chunks, dtype=torch.float64)
    for turn in range(-(-n_chunks // world.size)):
        number = turn * world.size + world.rank
        start = number * chunk if number < n_chunks else 0  # sharded models need every process at every turn
        count = min(chunk, n_targets - start)
        tokens = torch.from_numpy(stream.window(start, count + 1))
        padding = -count % T
        inputs = functional.pad(tokens[:-1], (0, padding)).view(-1, T).to(device)
        targets = functional.pad(tokens[1:], (0, padding), value=IGNORED).view(-1, T).to(device)
        loss = objective(inputs, targets).total
        if number < n_chunks:
            nats_N[number] = loss.item()
        on_tokens(min(count * world.size, n_targets - turn * world.size * chunk))
    if world.size > 1:
        nats_N = world.total(nats_N.to(device)).cpu()
    pieces = nats_N.split(-(-n_chunks // _PIECES[-1]))
    return replace(size, nats=nats_N.sum().item(), pieces=tuple(round(each.sum().item(), 4) for each in pieces))
