"""Everything a person can set about a training run; the text under a field is its help text."""

from dataclasses import dataclass
from typing import Literal

from wordloom.core.errors import InputError
from wordloom.model.presets import Architecture


@dataclass(frozen=True)
class ModelSettings:
    """The shape of a model trained from scratch."""

    arch: Architecture = "llama"
    """llama (RMSNorm, rotary positions, SwiGLU), qwen3 (llama with normalised queries and keys), gpt2, gpt_neox."""
    layers: int = 4
    """Number of blocks."""
    width: int = 128
    """Width of the residual stream (d_model)."""
    heads: int = 4
    """Attention heads; the width must be a multiple."""
    kv_heads: int | None = None
    """Key and value heads, fewer than heads for grouped queries; default: as many as heads."""
    context: int = 128
    """Tokens the model sees at once."""
    dropout: float = 0.0
    """Dropout rate; 0.1 to 0.2 helps when the text is seen many times over."""


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained."""

    steps: int | None = None
    """Optimizer steps. Give one of --steps, --epochs and --minutes; default: 10 minutes."""
    epochs: float | None = None
    """Passes over the training text."""
    minutes: float | None = None
    """Training time on this machine; turned into steps by timing a few before the start."""
    batch: int = 8
    """Sequences per optimizer step."""
    micro_batch: int | None = None
    """Sequences at a time, if a whole batch does not fit in memory; the result is the same."""
    learning_rate: float | None = None
    """Peak learning rate; default: 0.003 at width 128, falling with the square root of the width."""
    warmup: float = 0.05
    """Part of the steps over which the learning rate rises."""
    final_learning_rate: float = 0.05
    """Learning rate at the end, as a part of the peak; it falls along a cosine."""
    weight_decay: float = 0.1
    """Decay of matrices per unit of learning rate (AdamW)."""
    beta1: float = 0.9
    """AdamW's memory of gradients."""
    beta2: float = 0.95
    """AdamW's memory of squared gradients."""
    clip: float = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the hardware multiplies in it and the model is at least 128 wide."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    seed: int = 0
    """Decides fresh weights, the order of samples and dropout."""
    evaluations: int | None = None
    """How often the whole validation text is scored; default: as often as costs 15 % of the time, up to 20."""
    save_minutes: float = 5.0
    """Minutes between checkpoints; there is always one at the end and on Ctrl-C."""

    def __post_init__(self):
        lengths = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        wrong = [f"give only one of {', '.join('--' + name for name in lengths)}"] if len(lengths) > 1 else []
        positive = (
            "steps",
            "epochs",
            "minutes",
            "batch",
            "micro_batch",
            "learning_rate",
            "evaluations",
            "save_minutes",
        )
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                wrong.append(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "final_learning_rate"):
            if not 0 <= getattr(self, name) <= 1:
                wrong.append(f"--{name.replace('_', '-')} must be between 0 and 1, got {getattr(self, name)}")
        for name in ("weight_decay", "clip"):
            if getattr(self, name) < 0:
                wrong.append(f"--{name.replace('_', '-')} must not be negative, got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                wrong.append(f"--{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.micro_batch and self.batch % self.micro_batch:
            wrong.append(f"--batch ({self.batch}) must be a multiple of --micro-batch ({self.micro_batch})")
        if wrong:
            raise InputError("; ".join(wrong) + ".")

    def peak_learning_rate(self, width: int) -> float:
        """The learning rate after warm-up: wider models take smaller steps."""
        return self.learning_rate if self.learning_rate is not None else 0.003 * (128 / width) ** 0.5
