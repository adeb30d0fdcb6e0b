"""What is minimised: negative log-probabilities of tokens or classes, and their measures."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wordloom.model.build import Model
from wordloom.model.decoder import Decoder
from wordloom.model.encoder import Encoder
from wordloom.model.encoder_decoder import EncoderDecoder
from wordloom.tokens.shards import Split, TokenStream
from wordloom.training.parallel import World

IGNORED = -100
"""A target that does not count: padding, or what the model is not to learn."""


class Objective(nn.Module):
    """The loss of a model as one module: what is replicated or sharded (`parallel`) is this, the model inside it.

    `forward` takes rows of a batch by name and gives the loss in nats, summed over all targets that count. A sum, not
    a mean: the caller divides by the number of valid targets of the whole optimizer step, so that splitting a batch
    changes nothing (a mean per part would weigh parts of unequal size wrongly).
    """

    def __init__(self, model: Model):
        super().__init__()
        self.model = model


class CausalObjective(Objective):
    """Next tokens of a decoder.

    Args:
        document_start: the token that opens a document, if tokens are to see their own document only; rows then
            give the loss that their documents would give one by one.
    """

    def __init__(self, decoder: Decoder, document_start: int | None = None):
        super().__init__(decoder)
        self.document_start = document_start

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        dropout_keys_B: Tensor | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:
        """-Σ log P(target | inputs up to it), see `causal_loss`.

        Args:
            documents_BT: a number per document where rows hold several; default: as `document_start` tells.
        """
        assert isinstance(self.model, Decoder)
        if documents_BT is None and self.document_start is not None:
            documents_BT = (inputs_BT == self.document_start).cumsum(1)
        return causal_loss(self.model, inputs_BT, targets_BT, documents_BT, dropout_keys_B)


class MaskedObjective(Objective):
    """Tokens that are hidden from an encoder (Devlin et al. 2019, section 3.1)."""

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        mask_BT: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
    ) -> Tensor:
        """-Σ log P(target | all inputs).

        Args:
            inputs_BT: with masks where tokens are hidden.
            targets_BT: the hidden tokens; `IGNORED` elsewhere.
            mask_BT: 1 for tokens, 0 for padding.
        """
        encoder = self.model
        assert isinstance(encoder, Encoder)
        hidden_BTD = encoder.hidden(inputs_BT, mask_BT, dropout_keys_B=dropout_keys_B)
        counts_BT = targets_BT != IGNORED
        hidden_ND = encoder.transformed(hidden_BTD[counts_BT])
        return cross_entropy(hidden_ND, encoder.output_weight, targets_BT[counts_BT], encoder.output_bias)


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
    ) -> Tensor:
        """-Σ log P(target | inputs up to it, source).

        Args:
            source_mask_BS: 1 for tokens, 0 for padding.
            inputs_BT: the target one place later, behind the decoder's first token.
        """
        assert isinstance(self.model, EncoderDecoder)
        decoder = self.model.decoder
        memory = self.model.encode(source_BS, source_mask_BS, dropout_keys_B)
        keys_B = None if dropout_keys_B is None else dropout_keys_B + 0x5BD1E995  # others than the encoder's
        hidden_BTD = decoder.hidden(inputs_BT, dropout_keys_B=keys_B, memory=memory)
        smoothing = self.smoothing if self.model.training else 0.0
        return _token_loss(decoder, hidden_BTD, targets_BT, smoothing)


class ClassificationObjective(Objective):
    """Classes of texts, by an encoder or a decoder with classes."""

    def forward(
        self, inputs_BT: Tensor, mask_BT: Tensor, targets_B: Tensor, dropout_keys_B: Tensor | None = None
    ) -> Tensor:
        """-Σ log P(class | text)."""
        assert not isinstance(self.model, EncoderDecoder)
        scores_BC = self.model.classify(inputs_BT, mask_BT, dropout_keys_B=dropout_keys_B)
        return functional.cross_entropy(scores_BC.float(), targets_B, ignore_index=IGNORED, reduction="sum")


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
    ) -> Tensor:
        """-Σ log σ(beta (m - m_reference)), m = log P(chosen) - log P(rejected).

        Args:
            chosen_labels_BT, rejected_labels_BT: the answers' tokens; `IGNORED` where the question stands.
            reference_B: m of the model as it began.
            targets_B: one per pair, so that pairs are counted.
        """
        counts_B = targets_B != IGNORED
        margin_B = self.margin(chosen_BT, chosen_labels_BT, rejected_BT, rejected_labels_BT, dropout_keys_B)
        return -(functional.logsigmoid(self.beta * (margin_B - reference_B)) * counts_B).sum()

    def margin(
        self,
        chosen_BT: Tensor,
        chosen_labels_BT: Tensor,
        rejected_BT: Tensor,
        rejected_labels_BT: Tensor,
        dropout_keys_B: Tensor | None = None,
    ) -> Tensor:
        """m = log P(chosen) - log P(rejected), shape (B,)."""
        return self._logprob(chosen_BT, chosen_labels_BT, dropout_keys_B) - self._logprob(
            rejected_BT, rejected_labels_BT, dropout_keys_B
        )

    def _logprob(self, inputs_BT: Tensor, labels_BT: Tensor, dropout_keys_B: Tensor | None) -> Tensor:
        assert isinstance(self.model, Decoder)
        hidden_BTD = self.model.hidden(inputs_BT, dropout_keys_B=dropout_keys_B)
        counts_BT = labels_BT != IGNORED
        logits_NV = self.model.unembed(hidden_BTD[counts_BT]).float()
        chosen_N = logits_NV.log_softmax(-1).gather(1, labels_BT[counts_BT][:, None])[:, 0]
        return torch.zeros(counts_BT.shape, device=inputs_BT.device).masked_scatter(counts_BT, chosen_N).sum(1)


def causal_loss(
    decoder: Decoder,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    documents_BT: Tensor | None = None,
    dropout_keys_B: Tensor | None = None,
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
        inputs_BT, position_ids=positions_BT, documents_BT=documents_BT, dropout_keys_B=dropout_keys_B
    )
    return _token_loss(decoder, hidden_BTD, targets_BT)


def _token_loss(decoder: Decoder, hidden_BTD: Tensor, targets_BT: Tensor, smoothing: float = 0.0) -> Tensor:
    hidden_ND = hidden_BTD.flatten(0, 1)
    if decoder.config.scale_output:
        hidden_ND = hidden_ND * decoder.config.d_model**-0.5
    return cross_entropy(hidden_ND, decoder.output_weight, targets_BT.flatten(), decoder.output_bias, smoothing)


def cross_entropy(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Output layer and summed cross-entropy in one.

    Args:
        smoothing: part of each target's probability that is spread over all tokens.
    """
    if torch.is_grad_enabled():
        return _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N, bias_V, smoothing)
    return _cross_entropy(hidden_ND, weight_VD, targets_N, bias_V, smoothing, None)


PRODUCT_LOGITS, _CACHED_LOGITS = 2**23, 2**20
"""Logits made by one matrix product, and logits whose softmax is taken at once (on a CPU they stay in its cache)."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Output layer and cross-entropy in one, a few rows at a time.

    The logits of a batch (tokens x vocabulary) are the largest tensor of a small model, and a plain
    cross-entropy walks over them in memory some eight times. Here a chunk of them stays in the processor's
    cache and is turned into its share of the gradients at once: at 1,024 tokens, 8,192 tokens of vocabulary
    and width 128 on 2 cores, 27 ms instead of 77 ms in bf16, 72 instead of 103 in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None, smoothing: float
    ) -> Tensor:
        precise = torch.promote_types(weight_VD.dtype, torch.float32)
        slopes = _Slopes(
            torch.empty_like(hidden_ND),
            torch.zeros_like(weight_VD, dtype=precise) if ctx.needs_input_grad[1] else None,
            None if bias_V is None else torch.zeros_like(bias_V, dtype=precise),
        )
        bias = None if bias_V is None else bias_V.detach()
        loss = _cross_entropy(hidden_ND.detach(), weight_VD.detach(), targets_N, bias, smoothing, slopes)
        weight = None if slopes.weight is None else slopes.weight.to(weight_VD.dtype)
        ctx.save_for_backward(slopes.hidden, weight, slopes.bias)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = (None if slope is None else slope * grad_outputs[0] for slope in ctx.saved_tensors)
        return hidden, weight, None, bias, None


class _Slopes(NamedTuple):
    """Room for gradients."""

    hidden: Tensor
    weight: Tensor | None
    bias: Tensor | None


def _cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    bias_V: Tensor | None,
    smoothing: float,
    slopes: _Slopes | None,
) -> Tensor:
    """Σ logsumexp(z) - z[target] with z = hidden weightᵀ + bias; fills in the gradients where room for them is given.

    d loss / d z = softmax(z) - onehot(target). Smoothed, a target is (1 - s) onehot + s / V. Products are taken in
    autocast's dtype, all else in float32.
    """
    device = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
    precise = torch.promote_types(dtype, torch.float32)
    weight = weight_VD.to(dtype)
    n_products = max(2 * weight.shape[1], PRODUCT_LOGITS // len(weight))
    n_cached = max(16, _CACHED_LOGITS // len(weight)) if device == "cpu" else n_products
    loss = hidden_ND.new_zeros((), dtype=torch.float64 if device != "mps" else torch.float32)
    with torch.autocast(device, enabled=False):
        for hidden, targets, start in zip(
            hidden_ND.to(dtype).split(n_products),
            targets_N.split(n_products),
            range(0, len(hidden_ND), n_products),
            strict=True,
        ):
            logits = hidden @ weight.T
            if bias_V is not None:
                logits += bias_V.to(dtype)
            for part, target in zip(logits.split(n_cached), targets.split(n_cached), strict=True):
                counts = (target != IGNORED)[:, None]
                target = target[:, None].where(counts, 0)
                log_p = part.to(precise).log_softmax(-1)
                loss -= (1 - smoothing) * (log_p.gather(1, target) * counts).sum()
                if smoothing:
                    loss -= smoothing * (log_p.mean(-1, keepdim=True) * counts).sum()
                if slopes is not None:
                    slope = log_p.exp_()
                    slope.scatter_add_(1, target, torch.full_like(slope[:, :1], smoothing - 1.0))
                    if smoothing:
                        slope -= smoothing / len(weight)
                    torch.mul(slope, counts, out=slope)
                    part.copy_(slope)
            if slopes is not None:
                slopes.hidden[start : start + n_products] = logits @ weight
                if slopes.weight is not None:
                    slopes.weight.add_(logits.T @ hidden)
                if slopes.bias is not None:
                    slopes.bias.add_(logits.to(precise).sum(0))
    return loss.to(torch.promote_types(hidden_ND.dtype, torch.float32))


@dataclass(frozen=True)
class Loss:
    """A total over a text, and the figures it gives."""

    nats: float
    """-log P of all tokens."""
    tokens: int
    bytes: int
    """UTF-8 bytes of the text."""
    characters: int

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
        """All three, for logs."""
        return {
            "nats_per_token": self.nats_per_token,
            "bits_per_byte": self.bits_per_byte,
            "nats_per_character": self.nats_per_character,
        }


@torch.no_grad()
def evaluate(
    objective: nn.Module,
    stream: TokenStream,
    split: Split,
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
        on_tokens: told how many tokens are done, for progress.
        world: the processes that share the work; all get the result.
    """
    n_targets, T = len(stream) - 1, context_length
    chunk = max(1, batch_tokens // T) * T
    n_chunks = -(-n_targets // chunk)
    nats = torch.zeros((), dtype=torch.float64)
    for turn in range(-(-n_chunks // world.size)):
        number = turn * world.size + world.rank
        start = number * chunk if number < n_chunks else 0  # sharded models need every process at every turn
        count = min(chunk, n_targets - start)
        tokens = torch.from_numpy(stream.window(start, count + 1))
        padding = -count % T
        inputs = functional.pad(tokens[:-1], (0, padding)).view(-1, T).to(device)
        targets = functional.pad(tokens[1:], (0, padding), value=IGNORED).view(-1, T).to(device)
        loss = objective(inputs, targets)
        if number < n_chunks:
            nats += loss.item()
        on_tokens(min(count * world.size, n_targets - turn * world.size * chunk))
    if world.size > 1:
        nats = world.total(nats.to(device)).cpu()
    return Loss(nats.item(), n_targets, split.bytes, split.characters)
