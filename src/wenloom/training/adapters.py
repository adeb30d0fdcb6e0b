"""Which weights of a trained model learn: all of them, its head, or an adapter beside them."""

from collections.abc import Sequence

from wenloom.checkpoint.adapter import STACKED
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.lora import ATTENTION, TARGETS, AdapterConfig, adapt
from wenloom.model.quantize import parse_bits, quantize, require_unquantized
from wenloom.training.dial import Derived
from wenloom.training.settings import ADAPTERS, AdapterSettings


def tuned_by_method(
    model: Model, how: AdapterSettings, seed: int, derived: list[Derived], heads: Sequence[str] = ()
) -> Model:
    """The model, with the weights that a method learns ready to learn and the others frozen.

    Args:
        how: the method (full, lora: Hu et al. 2021, dora: Liu et al. 2024, head) and the adapter's settings.
        seed: decides the adapter's first weights.
        derived: told how many weights learn, where not all do.
        heads: beginnings of names of the modules that `head` learns.

    Raises:
        InputError: the model is quantized, or cannot be, or has no head of its own.
    """
    method = how.method
    if method in ADAPTERS:
        if how.quantize is not None:
            if not isinstance(model, Decoder):
                raise InputError("--quantize is for models without an encoder only.")
            model = quantize(model, parse_bits(how.quantize))
        targets = ATTENTION if model.config.family in STACKED else TARGETS
        config = AdapterConfig(how.rank, how.alpha, targets=targets, dora=method == "dora")
        model = adapt(model, config, generator(seed, "adapter"))
    else:
        require_unquantized(
            model, f"--method {method} learns unquantized weights (lora and dora leave them as they are)"
        )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(method == "full" or any(f".{head}" in f".{name}" for head in heads))
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not learned:
        raise InputError("--method head: this model's output matrix is its embedding; there is no head to learn.")
    if method != "full":
        whole = sum(parameter.numel() for parameter in model.parameters())
        derived.append(Derived("learned weights", f"{learned:,}", f"{100 * learned / whole:.1f} % of {whole:,}"))
    return model
