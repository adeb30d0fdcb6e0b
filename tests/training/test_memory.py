"""Memory of training: asked for before it is taken, bounded by what the process may have, freed when it is no longer needed."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from wenloom.checkpoint.folder import load_model
from wenloom.core import hardware
from wenloom.core.errors import InputError
from wenloom.model.attention import _AttentionInParts
from wenloom.model.decoder import Decoder
from wenloom.model.lora import AdapterConfig, adapt, adapted_layers, keep_frozen_in
from wenloom.model.presets import from_scratch
from wenloom.tasks.settings import DataSettings, LearningSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training import setup as setups
from wenloom.training.measure import StepMemory, step_memory
from wenloom.training.objectives import CausalObjective, PreferenceObjective
from wenloom.training.scratch import CorpusStatistics, scratch_run
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.train_step import autocast


def a_group(tmp_path: Path, files: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cgroup").write_text(line)
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "_CGROUPS", tmp_path)


@pytest.mark.parametrize(
    "line, files, free",
    [
        ("0::/a/b\n", {"a/memory.max": "3000000", "a/memory.current": "2500000", "a/memory.stat": "inactive_file 400000\n",
                       "a/b/memory.max": "max", "a/b/memory.current": "1", "a/b/memory.stat": ""}, 900_000),
        ("3:cpu:/x\n9:memory:/job\n", {"memory/job/memory.limit_in_bytes": "5000000", "memory/job/memory.usage_in_bytes": "1000000",
                                       "memory/job/memory.stat": "total_inactive_file 0\n"}, 4_000_000),
    ],
)  # fmt: skip
def test_a_container_bounds_what_is_free(line: str, files: dict[str, str], free: int, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    a_group(tmp_path, files, line, monkeypatch)
    assert hardware.memory_available("cpu") == free


def test_ulimit_bounds_what_is_free(monkeypatch: pytest.MonkeyPatch):
    size = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line).split()[1])
    limits = {resource.RLIMIT_AS: 1024 * size + 5_000_000}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits.get(kind, resource.RLIM_INFINITY), -1))
    assert 0 <= (hardware.memory_available("cpu") or -1) <= 6_000_000


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("groups", [3, 1])
def test_attention_in_parts_is_attention(is_causal: bool, groups: int, monkeypatch: pytest.MonkeyPatch):
    """Against PyTorch's in float64, forward and backward; in parts of a few queries, the last one shorter, of which each reads
    the keys of its documents only."""
    monkeypatch.setattr("wenloom.model.attention._PART", 3 * 30 * 7)
    drawn = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(2, heads, 30, 8, generator=drawn, dtype=torch.float64).requires_grad_()
        for heads in (3, groups, groups)
    )
    documents = torch.stack((torch.arange(30) // 11, torch.arange(30) // 4))
    mask = documents[:, :, None] == documents[:, None]
    mask = (mask & torch.ones(30, 30).tril().bool() if is_causal else mask)[:, None]
    ours = _AttentionInParts.apply(q, k, v, mask, 0.3, is_causal)
    theirs = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True)
    assert isinstance(ours, torch.Tensor) and ours.allclose(theirs)
    seed = torch.randn(ours.shape, generator=drawn, dtype=torch.float64)
    for mine, other in zip(
        torch.autograd.grad(ours, (q, k, v), seed), torch.autograd.grad(theirs, (q, k, v), seed), strict=True
    ):
        assert mine.allclose(other)
    if is_causal:
        plain = _AttentionInParts.apply(q, k, v, None, 0.3, True)
        assert isinstance(plain, torch.Tensor)
        theirs = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
        assert plain.allclose(theirs)


def kept_by(objective: CausalObjective, tokens: torch.Tensor) -> int:
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast("cpu", True):
        loss = objective(tokens, tokens).total
    assert loss.requires_grad
    return sum(storages.values())


def test_what_a_row_keeps_grows_with_its_length_not_with_the_square_of_it():
    config = from_scratch("llama", vocab_size=300, n_layers=1, d_model=32, n_heads=4, n_kv_heads=4, context_length=2048)
    objective = CausalObjective(Decoder(config).train())
    short, long = (kept_by(objective, torch.zeros(1, length).long()) for length in (300, 900))
    shorter = kept_by(objective, torch.zeros(1, 600).long())
    assert long - shorter <= 1.05 * (shorter - short) + 2 * 900**2  # a mask of one byte a pair is shared by all blocks


def test_a_piece_of_a_row_tells_what_the_whole_row_keeps():
    config = from_scratch("llama", vocab_size=300, n_layers=2, d_model=64, n_heads=2, n_kv_heads=2, context_length=8192)
    objective = CausalObjective(Decoder(config).train())
    tokens = torch.zeros(1, 1000).long()
    step = step_memory(
        objective, {"inputs_BT": tokens, "targets_BT": tokens}, lambda: autocast("cpu", True), "cpu", True
    )
    assert kept_by(objective, tokens.expand(3, -1)) - kept_by(objective, tokens) == pytest.approx(
        2 * step.kept, rel=0.1
    )
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_frozen_matrices_in_the_dtype_of_products_change_nothing(tokenizer: TextTokenizer):
    config = from_scratch("llama", vocab_size=300, n_layers=2, d_model=32, n_heads=2, n_kv_heads=2, context_length=64)
    losses = []
    for frozen_in in (torch.float32, torch.bfloat16):
        decoder = Decoder(config)
        decoder.initialise(torch.Generator().manual_seed(0))
        adapt(decoder, AdapterConfig(), torch.Generator().manual_seed(0))
        keep_frozen_in(decoder, frozen_in)
        assert {layer.linear.weight.dtype for _, layer in adapted_layers(decoder)} == {frozen_in}  # pyright: ignore
        tokens = torch.randint(300, (2, 33), generator=torch.Generator().manual_seed(1))
        with autocast("cpu", True):
            losses.append(CausalObjective(decoder)(tokens, tokens).total.item())
    assert losses[0] == losses[1]


def test_preferences_never_hold_the_logits_of_a_whole_row(monkeypatch: pytest.MonkeyPatch):
    config = from_scratch("llama", vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2, context_length=512)
    decoder = Decoder(config)
    decoder.initialise(torch.Generator().manual_seed(0))
    rows: list[int] = []
    unembed = Decoder.unembed
    monkeypatch.setattr("wenloom.training.objectives.PRODUCT_LOGITS", 64 * 300)
    monkeypatch.setattr(Decoder, "unembed", lambda self, x: (rows.append(len(x)), unembed(self, x))[1])
    tokens = torch.randint(300, (1, 200), generator=torch.Generator().manual_seed(1))
    labels = torch.randint(300, (1, 200), generator=torch.Generator().manual_seed(2))
    objective = PreferenceObjective(decoder)
    objective.margin(tokens, labels, tokens, labels.roll(1)).sum().backward()
    assert max(rows) == 64
    with torch.no_grad():
        log_p = decoder(tokens)[0].double().log_softmax(-1)
        expected = sum(log_p[n, labels[0, n]] - log_p[n, labels.roll(1)[0, n]] for n in range(200))
        assert objective.margin(tokens, labels, tokens, labels.roll(1)).item() == pytest.approx(
            float(expected), abs=1e-3
        )


def test_a_row_that_does_not_fit_is_refused_before_it_runs(
    dataset: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(setups, "memory_available", lambda device: 10**9)
    monkeypatch.setattr(setups, "step_memory", lambda *_: StepMemory(0.0, 5e9, 5e9))
    with pytest.raises(
        InputError, match=r"single row of 32 tokens takes about [\d.]+ GB, and there are [\d.]+ GB: choose"
    ):
        spec = scratch_run(
            CorpusStatistics.of(dataset),  # pyright: ignore
            ModelSettings(layers=1, width=32, context=32),
            TrainSettings(steps=1),
            setups.World(),
        )
        setups.set_up(spec, setups.World())


COUNTED = """
import json, sys, resource
from pathlib import Path
from wenloom.tasks.finetune import finetune
from wenloom.tasks.settings import DataSettings, LearningSettings
from wenloom.training.loop import Run
from wenloom.training.settings import TrainSettings
plans = []
go = Run.go
Run.go = lambda self: (plans.append(self.setup.plan.memory.total), go(self))[1]
base, train, out, method, limit = sys.argv[1:]
data = DataSettings(train=train, max_length=int(limit) if limit else None)
finetune("chat", Path(out), Path(base), data, None, LearningSettings(method=method), TrainSettings(device="cpu", steps=2, evaluations=1))
print(json.dumps([plans[0], 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def planned_and_used(base: Path, train: Path, out: Path, method: str, limit: str = "") -> tuple[float, float]:
    """Bytes of a chat training in a process of its own."""
    done = subprocess.run([sys.executable, "-c", COUNTED, str(base), str(train), str(out), method, limit],
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    planned, used = json.loads(done.stdout.splitlines()[-1])
    return planned, used


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.shared_data
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_of_135m_learns_to_chat_in_four_gigabytes_as_planned(
    method: str, real_models: Path, shared_data: Path, tmp_path: Path
):
    rows = json.loads((shared_data / "alpaca_1k" / "alpaca_data_1k.json").read_text(encoding="utf-8"))[:100]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    planned, used = planned_and_used(real_models / "smollm2", tmp_path / "rows.json", tmp_path / "run", method)
    assert planned == pytest.approx(used, rel=0.2)
    assert used <= (4e9 if method == "lora" else 6e9)


@pytest.mark.slow
@pytest.mark.real_models
def test_the_first_loss_of_an_adapter_is_that_of_peft(real_models: Path, tmp_path: Path):
    """The same rows through transformers and peft, one conversation at a time; in float32."""
    import peft
    import transformers

    from wenloom.tasks.dialogue import DialogueRecipe
    from wenloom.tasks.run_settings import Settings
    from wenloom.tasks.settings import FreshSettings

    folder = real_models / "smollm2"
    pairs = [(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.") for a in range(2, 6) for b in range(3, 6)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": q, "response": r}) for q, r in pairs), encoding="utf-8")
    data = DataSettings(train=str(path), validation=str(path))
    recipe = DialogueRecipe(
        Settings("chat", folder, data, FreshSettings(), LearningSettings(method="lora"), TrainSettings())
    )
    tokenizer = TextTokenizer.from_pretrained(folder)
    model = recipe.prepared(load_model(folder), tokenizer)
    adapt(model, AdapterConfig(), torch.Generator().manual_seed(0))
    from wenloom.training.examples import ExampleData
    from wenloom.training.parallel import World

    encoded = recipe.encode(model, tokenizer)
    ours = ExampleData(tokenizer, encoded.train, encoded.validation, {}).evaluate(
        recipe.objective(model), "cpu", World(), lambda n: None
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    nats, count = 0.0, 0
    for question, reply in pairs:
        asked = [{"role": "user", "content": question}]
        prompt = their_tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        whole = [*prompt, *their_tokenizer.encode(reply + "<|im_end|>", add_special_tokens=False)]
        labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
        with torch.no_grad():
            loss = theirs(input_ids=torch.tensor([whole]), labels=labels).loss
        nats, count = nats + loss.item() * (len(whole) - len(prompt)), count + len(whole) - len(prompt)
    assert ours.tokens == count
    assert ours.nats_per_token == pytest.approx(nats / count, abs=1e-3)
