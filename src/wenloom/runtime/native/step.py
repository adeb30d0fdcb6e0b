"""The compiled step: `step.c`, called without copies, and `prompt.h` for many tokens.

Where there is no compiler, PyTorch's kernels do the same, only slower. Building takes a second or two and happens in
the background while the first tokens are written by PyTorch; see `compiler.py`.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wenloom.core.errors import InputError
from wenloom.model.block import Block
from wenloom.model.cache import Segment
from wenloom.model.decoder import Decoder
from wenloom.model.experts import MixtureOfExperts
from wenloom.model.feedforward import FeedForward
from wenloom.model.position import rotary_table
from wenloom.model.quantize import QuantizedLinear
from wenloom.runtime.native import layout
from wenloom.runtime.native.layout import MAX_TOKENS, Layer, Linear, Model, Norm
from wenloom.runtime.native.supported import ACTIVATIONS, CACHE_KINDS, hooks_of
from wenloom.runtime.slots import Slots
from wenloom.runtime.steering import Addition
from wenloom.runtime.threads import ThreadChoices

_INT4 = 3


class NativeStep:
    """A decoder that steps through `step.c`."""

    def __init__(self, decoder: Decoder, library: ctypes.CDLL):
        config, self._decoder, self._step = decoder.config, decoder, library.step
        reads_prompts = ctypes.c_int.in_dll(library, "reads_prompts").value
        self._prompt = (
            library.prompt if reads_prompts and config.mlp.experts is None and config.d_head % 2 == 0 else None
        )
        whole, address = ctypes.c_int, ctypes.c_void_p
        for function in (self._step, self._prompt) if self._prompt else (self._step,):
            function.argtypes = [address, whole, *[address] * 4, whole, *[address] * 4, *[whole, address] * 2, whole]
        self._kept: list[Tensor] = []
        """What the structures point to."""
        self._experts: list[ctypes.Array[Linear]] = []
        self._layers = (Layer * config.n_layers)()
        for index, (layer, block) in enumerate(zip(self._layers, decoder.blocks, strict=True)):
            assert isinstance(block, Block)
            attention, mlp = block.attention, block.mlp
            if isinstance(mlp, MixtureOfExperts):
                self._put_experts(layer, mlp)
            for name, norm in (("attention_norm", block.attention_norm), ("mlp_norm", block.mlp_norm),
                               ("query_norm", attention.query_norm), ("key_norm", attention.key_norm)):  # fmt: skip
                setattr(layer, name, self._norm(norm))
            for name in ("query", "key", "value", "output"):
                setattr(layer, name, self._linear(getattr(attention, name)))
            for name in ("gate", "up", "down") if isinstance(mlp, FeedForward) else ():
                setattr(layer, name, self._linear(getattr(mlp, name)))
            layer.scale, layer.window = config.attention_scale(index), attention.window or 0
        self._model = Model(
            n_layers=config.n_layers, d_model=config.d_model, n_heads=config.n_heads, n_kv_heads=config.n_kv_heads,
            d_head=config.d_head, d_mlp=config.d_mlp, d_rotary=config.positions.d_rotary,
            activation=ACTIVATIONS.index(config.mlp.activation), layer_norm=config.norms.kind == "layernorm",
            parallel_residual=config.residual.parallel,
            eps=config.norms.eps, layers=self._layers, final_norm=self._norm(decoder.final_norm),
            embedding=self._linear(decoder.embed), head=self._linear(decoder.output_layer),
            position_vectors=self._position_vectors(),
        )  # fmt: skip
        self._cos = self._sin = torch.zeros(0, dtype=torch.float32, device="cpu")
        """Of all positions so far, shape (positions, d_rotary)."""
        self._points_at: tuple[Slots | None, int] = None, 0
        """The slots whose pools the structures point at, and which version of them."""
        self._hooks = hooks_of(decoder)
        self._threads = ThreadChoices(torch.get_num_threads())

    def applies(self, n_tokens: int) -> bool:
        """Whether so many tokens are read here, and the decoder is still computed as it stands: nobody listens to its
        layers, and nothing is dropped."""
        if n_tokens > MAX_TOKENS and self._prompt is None:
            return False
        return not (self._decoder.training and self._decoder.config.dropout.drops) and not any(self._hooks)

    def read(
        self,
        tokens: Sequence[int],
        slots: Slots,
        segments: Sequence[Segment],
        logit_rows: Sequence[int],
        additions: Sequence[Addition] = (),
        hidden: bool = True,
    ) -> tuple[Tensor | None, Tensor]:
        """What `Decoder.read` and `unembed` give: the last residual stream (N, D) and logits of some rows, float32.

        Args:
            additions: what is added to the residual stream; vectors in float32 on the CPU, contiguous.
            hidden: give the last residual stream; without it, the last layer of a prompt computes what logits need.

        Raises:
            InputError: there is no vector for a position.
        """
        n, config = len(tokens), self._decoder.config
        slots_N = [s.slot for s in segments for _ in range(s.count)]
        positions_N = [at for s in segments for at in range(s.start, s.start + s.count)]
        length = max(positions_N) + 1
        assert n == len(positions_N) and list(logit_rows) == sorted({*logit_rows})
        read = self._step if n <= MAX_TOKENS or self._prompt is None else self._prompt
        if self._model.position_vectors and length > config.context_length:
            raise InputError(f"{length} tokens do not fit: this model has {config.context_length} positions.")
        slots.prepare(segments)
        self._point_at(slots)
        self._extend_angles(length)
        numbers = np.array([*tokens, *slots_N, *positions_N, *logit_rows], np.int32)
        tokens_at = numbers.ctypes.data
        slots_at, positions_at, rows_at = (tokens_at + 4 * n * part for part in (1, 2, 3))
        hidden_ND = torch.empty(n, config.d_model, dtype=torch.float32, device="cpu") if hidden else None
        logits_RV = torch.empty(len(logit_rows), config.vocab_size, dtype=torch.float32, device="cpu")
        added = (layout.AddedVector * len(additions))(
            *(layout.AddedVector(each.vector_D.data_ptr(), each.layer, each.begin, each.end) for each in additions)
        )
        with self._threads.of(n) as threads:
            failed = read(
                ctypes.byref(self._model), n, tokens_at, slots_at, positions_at, slots.tables.ctypes.data,
                slots.tables.shape[1], self._cos.data_ptr(), self._sin.data_ptr(), None if hidden_ND is None else hidden_ND.data_ptr(), rows_at,
                len(logit_rows), logits_RV.data_ptr(), threads, added, len(additions),
            )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory for a step of {n} tokens")
        return hidden_ND, logits_RV

    def _put_experts(self, layer: Layer, mixture: MixtureOfExperts) -> None:
        router = mixture.router
        layer.router = Linear(self._keep(router.weight, torch.float32), None, self._keep(router.bias, torch.float32),
                              CACHE_KINDS[torch.float32], *router.weight.shape)  # fmt: skip
        experts = (Linear * (3 * len(mixture.experts)))()
        for number, expert in enumerate(mixture.experts):
            for place, name in enumerate(("gate", "up", "down")):
                experts[3 * number + place] = self._linear(getattr(expert, name))
        self._experts.append(experts)
        layer.experts, layer.d_expert = experts, experts[1].rows
        layer.n_experts, layer.n_active, layer.over_all = len(mixture.experts), mixture.active, not mixture.normalised

    def _position_vectors(self) -> int | None:
        places = self._decoder.positions
        return (
            None
            if places is None
            else self._keep(places(torch.arange(self._decoder.config.context_length, device="cpu")), torch.float32)
        )

    def _extend_angles(self, length: int) -> None:
        """Cosines and sines of all positions up to a length."""
        config = self._decoder.config
        if config.positions.d_rotary and len(self._cos) < length:
            positions = torch.arange(1 << (length - 1).bit_length(), device="cpu")
            cos, sin = rotary_table(config, positions, 0)
            self._cos, self._sin = cos.contiguous(), sin.contiguous()

    def _point_at(self, slots: Slots) -> None:
        if self._points_at == (slots, slots.version):
            return
        self._points_at = slots, slots.version
        for layer, keys, values in zip(self._layers, slots.keys, slots.values, strict=True):
            layer.keys, layer.values, layer.room = keys.data_ptr(), values.data_ptr(), keys.shape[1]
        self._model.cache_kind = CACHE_KINDS[slots.keys[0].dtype]

    def _keep(self, tensor: Tensor | None, dtype: torch.dtype | None = None) -> int | None:
        if tensor is None:
            return None
        tensor = tensor.detach().to(dtype or tensor.dtype).contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _norm(self, norm: nn.Module | None) -> Norm:
        if norm is None:
            return Norm()
        return Norm(self._keep(norm.weight, torch.float32), self._keep(getattr(norm, "bias", None), torch.float32))  # pyright: ignore

    def _linear(self, linear: nn.Module | None) -> Linear:
        if linear is None:
            return Linear()
        bias = self._keep(getattr(linear, "bias", None), torch.float32)
        if isinstance(linear, QuantizedLinear):
            kind = CACHE_KINDS[torch.int8] if linear.bits == 8 else _INT4
            scale = self._keep(linear.scale, torch.float32)
            return Linear(self._keep(linear.packed), scale, bias, kind, linear.out_features, linear.in_features)
        weight: Tensor = linear.weight  # pyright: ignore
        return Linear(self._keep(weight), None, bias, CACHE_KINDS[weight.dtype], *weight.shape)
