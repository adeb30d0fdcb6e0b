"""Everything a person can set about a training run; the text under a field is its help text."""

from dataclasses import dataclass, fields
from typing import Literal

from wenloom.core.errors import InputError
from wenloom.core.quantities import parse_count, parse_duration
from wenloom.model.presets import Architecture

Compile = Literal["auto", "on", "off"]
Parallel = Literal["auto", "ddp", "fsdp", "hsdp"]
Schedule = Literal["linear", "cosine", "wsd"]
Method = Literal["full", "lora", "dora", "head"]
OptimizerName = Literal["muon", "adamw"]
LENGTHS = ("budget", "tokens", "epochs", "steps")
"""Settings of which one says how long a run is."""
ADAPTERS = ("lora", "dora")
"""Methods that learn an adapter."""


@dataclass(frozen=True)
class ModelSettings:
    """The shape of a model trained from scratch; what is left open follows from --size or --budget."""

    size: str | None = None
    """Parameters inside the blocks, such as 1m, 10m or 124m; sets layers, width and heads."""
    arch: Architecture = "qwen3"
    """qwen3 (RMSNorm, rotary positions, SwiGLU, normalised queries and keys), llama (the same without the latter),
    gpt2, gpt_neox."""
    layers: int | None = None
    """Number of blocks."""
    width: int | None = None
    """Width of the residual stream (d_model)."""
    heads: int | None = None
    """Attention heads; the width must be a multiple."""
    kv_heads: int | None = None
    """Key and value heads, fewer than heads for grouped queries; default: as many as heads."""
    context: int | None = None
    """Tokens the model sees at once."""
    dropout: float | None = None
    """Dropout rate; default: more the more often the text will be read, 0 for one to a few times."""
    experts: int | None = None
    """Mixture of experts: this many feed-forward layers in the place of one, of which each token passes --active: more weights
    for about the same time. --size counts the weights that a token passes; saved as qwen3_moe, or with --arch llama as mixtral."""
    active: int | None = None
    """With --experts: how many of them a token passes; default: 2."""
    balance_loss: float | None = None
    """With --experts: weight of the load-balancing loss, which evens out their tokens; default: 0.01."""
    router_z_loss: float | None = None
    """With --experts: weight of the router z-loss, which keeps the router's logits small; default: 0.001."""

    def __post_init__(self):
        of_experts = ("active", "balance_loss", "router_z_loss")
        if self.experts is None and (idle := [name for name in of_experts if getattr(self, name) is not None]):
            raise InputError(f"--{idle[0].replace('_', '-')} goes with --experts: say how many there are.")
        if self.experts is not None and self.experts < 2:
            raise InputError(f"--experts must be at least 2, got {self.experts}.")
        if self.experts is not None and not 1 <= (self.active or 2) <= self.experts:
            raise InputError(f"--active must be from 1 to --experts {self.experts}, got {self.active}.")
        if self.experts is not None and self.arch not in ("qwen3", "llama"):
            raise InputError(f"--experts goes with --arch qwen3 or llama, not {self.arch}.")
        if self.size is not None:
            parse_count(self.size, "--size")
            given = [f"--{name}" for name in ("layers", "width") if getattr(self, name) is not None]
            if given:
                raise InputError(f"--size sets layers and width: leave out {' and '.join(given)}.")


@dataclass(frozen=True)
class AdapterSettings:
    """Which weights of a trained model learn, and the small matrices that learn beside frozen ones."""

    method: Method = "full"
    """full (every weight), lora (a small adapter beside frozen weights), dora (one that also scales them) or head
    (only the layers above the blocks)."""
    rank: int = 8
    """lora, dora: rank of the adapter's matrices."""
    alpha: float = 16.0
    """lora, dora: the adapter's output is scaled by alpha / rank."""
    quantize: str | None = None
    """lora, dora: quantize the frozen weights to int8 or int4 while training, to save memory."""

    def __post_init__(self):
        if self.quantize is not None and self.method not in ADAPTERS:
            raise InputError(
                f"--quantize goes with --method lora or dora, not {self.method}: quantized weights stay as they are."
            )


@dataclass(frozen=True)
class _Beginning:
    init: str | None = None
    """Go on training this model, with its shape and its vocabulary: a folder, or a hub model such as owner/name."""


@dataclass(frozen=True)
class InitSettings(AdapterSettings, _Beginning):
    """A model that pretraining goes on with, instead of a new one."""

    method: Literal["full", "lora", "dora"] = "full"
    """With --init: full (every weight), lora (a small adapter beside frozen weights) or dora (one that also scales
    them)."""
    keep_data: str | None = None
    """With --init: text like the model's earlier text, prepared or not, mixed in so that the model forgets less."""
    keep: float | None = None
    """Part of the samples that come from --keep-data; default: 0.1."""
    equalize: float | None = None
    """With --init: weight of a penalty where a word of one group is more probable than its counterpart of the other (Qian et al.
    2019); 1 weighs a nat of difference like a nat of loss."""
    equalize_words: str | None = None
    """Words that --equalize compares: lexicon and axis; default: en:gender."""

    def __post_init__(self):
        super().__post_init__()
        if self.keep is not None and not 0 < self.keep < 1:
            raise InputError(f"--keep must be above 0 and below 1, got {self.keep}.")
        if self.keep is not None and self.keep_data is None:
            raise InputError("--keep is the part of the samples from --keep-data: name that text, too.")
        if self.equalize is not None and not 0 < self.equalize <= 1000:
            raise InputError(f"--equalize must be above 0 and at most 1,000, got {self.equalize:g}.")
        if self.equalize is None and self.equalize_words is not None:
            raise InputError("--equalize-words says whose words --equalize compares: give that, too.")
        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if self.init is None and given:
            raise InputError(f"--{given[0].replace('_', '-')} goes with --init: name the model to go on with.")
        if self.method not in ADAPTERS and (idle := sorted({"rank", "alpha"} & set(given))):
            raise InputError(f"--{idle[0]} has no effect here: only --method lora and dora have it.")


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained; what is left open follows from the model's size and the length of the run."""

    budget: str | None = None
    """Training time on this machine, such as 90s, 10min or 2h. Give one of --budget, --tokens, --epochs and --steps;
    default of a pretraining: 20 tokens per parameter where --size is given, else 10min; of a task: 3 epochs from a
    trained model, 20 from scratch (transcription: 800 steps at least)."""
    tokens: str | None = None
    """Tokens to train on, such as 500k or 1b."""
    epochs: float | None = None
    """Passes over the training text."""
    steps: int | None = None
    """Optimizer steps."""
    batch: int | None = None
    """Sequences per optimizer step, over all processes."""
    micro_batch: int | None = None
    """Sequences at a time in one process; default: as many as fit in memory. The result is the same."""
    optimizer: OptimizerName | None = None
    """muon (matrices by Muon, the rest by AdamW) or adamw (everything); default: muon from scratch, adamw from a trained
    model."""
    learning_rate: float | None = None
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """linear or cosine (falling from warm-up to the end) or wsd (stable, then falling: can be prolonged)."""
    warmup: float = 0.02
    """Part of the steps over which the learning rate rises."""
    decay: float = 0.3
    """wsd: part of the steps over which the learning rate falls."""
    final_learning_rate: float = 0.0
    """Learning rate at the end, as a part of the peak."""
    weight_decay: float = 0.1
    """Decay of matrices per unit of learning rate."""
    momentum: float = 0.95
    """Momentum of Muon."""
    beta1: float = 0.9
    """AdamW's beta1: decay of the mean of gradients."""
    beta2: float = 0.95
    """AdamW's beta2: decay of the mean of squared gradients."""
    clip: float = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    document_mask: bool | None = None
    """Let tokens attend within their own document only; default: where documents are shorter than the context, on average."""
    patience: int | None = None
    """Stop after this many evaluations in a row without a better one; default: never. The best model is kept anyway."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the hardware supports it."""
    compile: Compile = "auto"
    """torch.compile: auto compiles where the run is long enough to repay it."""
    recompute: bool = False
    """Activation checkpointing: keep less for the backward pass and compute it again: less memory, a third more work."""
    parallel: Parallel = "auto"
    """Under torchrun: ddp (every process holds the model), fsdp (each holds a part), hsdp (parts within a machine,
    copies between machines); auto is ddp where it fits."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    seed: int = 0
    """Seed of new weights, the order of samples and dropout."""
    evaluations: int | None = None
    """How often the validation data is scored; default: as often as costs 10 % of the time, up to 20."""
    validation_part: float | None = None
    """Part of the validation data that is scored; default: all, or with --budget what a tenth of it holds."""
    save_minutes: float = 5.0
    """Minutes between checkpoints; there is always one before an evaluation, at the end and on Ctrl-C."""
    keep_every: int | None = None
    """Keep a checkpoint for good every this many steps, to branch from by --from-step; wsd keeps one before its decay."""
    max_skipped: int = 5
    """Stop after this many steps in a row whose loss or gradient was not finite."""
    tensorboard: bool = False
    """Write TensorBoard events into the run folder as well (pip install tensorboard)."""
    wandb: str | None = None
    """Log to this Weights & Biases project as well (pip install wandb)."""

    def __post_init__(self):
        wrong = []
        if self.budget is not None:
            parse_duration(self.budget, "--budget")
        if self.tokens is not None:
            parse_count(self.tokens, "--tokens")
        lengths = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(lengths) > 1:
            wrong.append(f"give only one of {', '.join('--' + name for name in lengths)}")
        positive = ("epochs", "steps", "batch", "micro_batch", "learning_rate", "patience", "evaluations",
                    "keep_every", "save_minutes", "max_skipped", "validation_part")  # fmt: skip
        for name in positive:
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                wrong.append(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "decay", "final_learning_rate"):
            if not 0 <= getattr(self, name) <= 1:
                wrong.append(f"--{name.replace('_', '-')} must be between 0 and 1, got {getattr(self, name)}")
        if (self.validation_part or 0) > 1:
            wrong.append(f"--validation-part is a part of the data, at most 1, got {self.validation_part}")
        for name in ("weight_decay", "clip"):
            if getattr(self, name) < 0:
                wrong.append(f"--{name.replace('_', '-')} must not be negative, got {getattr(self, name)}")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                wrong.append(f"--{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if wrong:
            raise InputError("; ".join(wrong) + ".")
