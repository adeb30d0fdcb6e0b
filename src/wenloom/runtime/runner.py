"""A model with room for many texts: one pass over its weights for whatever is to be read of them."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from wenloom.core.hardware import probe
from wenloom.model.cache import Segment, SlotBatch
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.quantize import QuantizedLinear
from wenloom.model.taps import Tap, Taps
from wenloom.runtime.native import compiler
from wenloom.runtime.native.step import NativeStep
from wenloom.runtime.native.supported import fits
from wenloom.runtime.prefixes import PrefixCache
from wenloom.runtime.slots import Slots
from wenloom.runtime.steering import Addition, adding
from wenloom.runtime.threads import ThreadChoices


class ModelRunner:
    """A decoder with its slots, and the encoder that it may write from."""

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        max_slots: int,
        prefix_bytes: int,
        cache_dtype: torch.dtype | None = None,
    ):
        self._model = model
        self.decoder = decoder = model.decoder if isinstance(model, EncoderDecoder) else model
        self.encode = model.encode if isinstance(model, EncoderDecoder) else None
        weight = decoder.embed.weight
        self.device = weight.device
        self.slots = Slots(decoder.config, weight.device, cache_dtype or decoder.cache_dtype)
        self.prefixes = PrefixCache(self.slots, prefix_bytes)
        self.max_slots = max_slots
        self._free = list(range(max_slots))[::-1]
        # weights that are quantized to 8 or 4 bits lose nothing more by products in bf16
        self._mixed = isinstance(decoder.head, QuantizedLinear) and probe(weight.device.type).bf16
        self._weights: list[tuple[int, int]] = []
        """Where they lie and which version they are, see `weights_changed`."""
        self.weights_changed()
        self.forget()
        if self._fits:
            compiler.library(0.2)  # begins to build; that it cannot be is said before the first token
        self._threads = ThreadChoices(torch.get_num_threads(), trial=1, first=4)  # a prompt is a few long steps
        """Of steps by PyTorch."""
        self.seconds: dict[int, float] = {}
        """Running mean of a step's time by number of tokens (a power of two)."""

    def weights_changed(self) -> bool:
        """Whether other weights stand here than at the last call: replaced ones, or changed in place by PyTorch."""
        before, self._weights = self._weights, _versions(self._model)
        return self._weights != before

    def forget(self) -> None:
        """Drop whatever was made of the weights: what is known of prompts, and the compiled step."""
        self.prefixes.clear()
        self._fits = fits(self.decoder, self.slots.keys[0].dtype)
        self._step: NativeStep | None = None

    @property
    def in_use(self) -> int:
        """Slots taken."""
        return self.max_slots - len(self._free)

    def take(self) -> int:
        """The lowest free slot: slots in use stay close together."""
        slot = min(self._free)
        self._free.remove(slot)
        return slot

    def give(self, slot: int) -> None:
        """A slot is free again, and its text's pages are."""
        self.slots.release(slot)
        self._free.append(slot)

    def read(
        self,
        tokens: list[int],
        segments: list[Segment],
        rows: list[int],
        layers: Sequence[int],
        additions: Sequence[Addition] = (),
        hidden: bool = True,
    ) -> tuple[Tensor, Tensor | None, dict[int, Tensor]]:
        """One pass over some tokens.

        Args:
            additions: what is added to the residual stream on the way.
            hidden: whether somebody reads the last residual stream.

        Returns:
            Logits of the wanted rows (float32 on the CPU), the last residual stream of all, and per layer early logits
            of the wanted rows.
        """
        if not layers and (step := self._compiled(len(tokens))) is not None:
            hidden_ND, logits = step.read(tokens, self.slots, segments, rows, additions, hidden)
            return logits, hidden_ND, {}
        tokens_N = torch.tensor(tokens, device=self.device)
        with self._threads_for(len(tokens)), torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            hidden_ND, streams = self._read(tokens_N, segments, layers, additions)

        def scores(x_ND: Tensor) -> Tensor:
            return self.decoder.unembed(x_ND[rows]).float().cpu() if rows else torch.empty(0)

        return scores(hidden_ND), hidden_ND, {layer: scores(each) for layer, each in streams.items()}

    def _read(
        self, tokens_N: Tensor, segments: list[Segment], layers: Sequence[int], additions: Sequence[Addition]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The last residual stream, and those after some blocks, normalised as the last one is."""
        streams: dict[int, Tensor] = {}

        def keep(layer: int, before: Tap | None) -> Tap:
            def tap(x_1ND: Tensor) -> Tensor | None:
                added_1ND = None if before is None else before(x_1ND)
                streams[layer] = self.decoder.final_norm(x_1ND if added_1ND is None else added_1ND)[0]
                return added_1ND

            return tap

        wanted = dict(adding(additions))
        for layer in layers:
            place = f"blocks.{layer}.resid_post"
            wanted[place] = keep(layer, wanted.get(place))
        taps = Taps(wanted, self.decoder.places) if wanted else None
        return self.decoder.read(tokens_N, SlotBatch(self.slots, segments), taps), streams

    @contextlib.contextmanager
    def _threads_for(self, n_tokens: int) -> Iterator[None]:
        """On a CPU, as many of PyTorch's threads as are of use."""
        most = torch.get_num_threads()
        if self.device.type != "cpu" or most == 1:
            yield
            return
        try:
            with self._threads.of(n_tokens) as number:
                torch.set_num_threads(number)
                yield
        finally:
            torch.set_num_threads(most)

    def _compiled(self, n_tokens: int = 1) -> NativeStep | None:
        """The compiled step, as soon as it is there, if it reads so many tokens."""
        if self._step is None and self._fits and (library := compiler.library()) is not None:
            self._step = NativeStep(self.decoder, library)
        return self._step if self._step is not None and self._step.applies(n_tokens) else None

    def cost(self, n_tokens: int) -> float | None:
        """Seconds that a step of so many tokens takes; None while unknown."""
        return self.seconds.get((n_tokens - 1).bit_length())

    def timed(self, n_tokens: int, seconds: float) -> None:
        """Learn from a step."""
        size = (n_tokens - 1).bit_length()
        before = self.seconds.get(size)
        self.seconds[size] = seconds if before is None else 0.9 * before + 0.1 * seconds


def _versions(model: nn.Module) -> list[tuple[int, int]]:
    """Where a model's numbers lie, and how often PyTorch has changed them; a walk of a third of `parameters()`' time."""
    found, modules = [], [model]
    while modules:
        module = modules.pop()
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                found.append((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version))
        modules += [each for each in module._modules.values() if each is not None]
    return found
