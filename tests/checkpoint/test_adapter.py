"""Adapters: what they compute, and PEFT's format both ways."""

from pathlib import Path

import peft
import pytest
import torch
import transformers

from wenloom.checkpoint.adapter import load_adapter, with_adapter, write_adapter
from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.core.errors import CheckpointError, InputError
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.build import Model, with_classes
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.lora import TARGETS, AdapterConfig, adapt, adapted_layers, merge, without_adapter
from wenloom.model.quantize import quantize
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

from .folders import DECODERS, VOCAB, tiny_config

CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, vocab_size=VOCAB),
    "llama": lambda: transformers.LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                              intermediate_size=24, vocab_size=VOCAB, num_key_value_heads=1),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                                   intermediate_size=24, vocab_size=VOCAB),
    "marian": lambda: transformers.MarianConfig(d_model=16, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=24,
                                                decoder_ffn_dim=24, encoder_attention_heads=2, vocab_size=VOCAB,
                                                decoder_attention_heads=2, pad_token_id=1, decoder_start_token_id=1),
    "t5": lambda: transformers.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, vocab_size=VOCAB),
    **{family: lambda family=family: tiny_config(family) for family in (*DECODERS, "umt5")},
}  # fmt: skip


def base_folder(family: str, folder: Path) -> Path:
    torch.manual_seed(0)
    config = CONFIGS[family]()
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder)
    return folder


def peft_base(folder: Path) -> transformers.PreTrainedModel:
    config = transformers.AutoConfig.from_pretrained(folder)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder).eval()


def moved(model: Model, seed: int = 0) -> Model:
    generator = torch.Generator().manual_seed(seed)
    for _, layer in adapted_layers(model):
        layer.lora_b.data += 0.3 * torch.randn(layer.lora_b.shape, generator=generator)
        if layer.magnitude is not None:
            layer.magnitude.data *= 1 + 0.3 * torch.rand(layer.magnitude.shape, generator=generator)
    return model.eval()


@torch.no_grad()
def logits(model: Model | torch.nn.Module) -> torch.Tensor:
    tokens = torch.randint(2, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    if isinstance(model, EncoderDecoder):
        return model(tokens, tokens[:, :5])
    if isinstance(model, peft.PeftModel) or hasattr(model, "hf_device_map") or hasattr(model, "generate"):
        if model.config.is_encoder_decoder:  # pyright: ignore
            return model(input_ids=tokens, decoder_input_ids=tokens[:, :5]).logits
        return model(input_ids=tokens).logits
    return model(tokens)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_peft_reads_what_is_written_here(family: str, dora: bool, tmp_path: Path):
    base = base_folder(family, tmp_path / "base")
    # PEFT joins the adapters of all experts, where it has no DoRA, and layers without experts take other names
    is_odd = (family in ("mixtral", "olmoe") and dora) or family in ("qwen3_moe", "gpt_oss")
    targets = ("query", "key", "value", "output") if is_odd else TARGETS
    ours = adapt(load_model(base), AdapterConfig(4, 6, 0.0, targets, dora), torch.Generator().manual_seed(0))
    plain = logits(load_model(base))
    assert torch.allclose(logits(ours.eval()), plain, atol=1e-6)  # B is 0: nothing is changed yet
    moved(ours)
    (tmp_path / "adapter").mkdir()
    write_adapter(ours, tmp_path / "adapter", str(base))
    theirs = peft.PeftModel.from_pretrained(peft_base(base), tmp_path / "adapter").eval()
    assert (logits(ours) - plain).abs().max() > 1e-3
    assert torch.allclose(logits(ours), logits(theirs), atol=1e-4)
    again = load_adapter(load_model(base), tmp_path / "adapter").eval()
    assert torch.allclose(logits(again), logits(ours), atol=1e-5)
    with without_adapter(ours):
        assert torch.allclose(logits(ours), plain, atol=1e-6)
    assert torch.allclose(logits(merge(again)), logits(ours), atol=1e-4)
    assert not any(adapted_layers(again))
    assert torch.allclose(logits(load_model(tmp_path / "adapter")), logits(ours), atol=1e-4)  # base found and merged


ENCODERS = {
    "bert": lambda: transformers.BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                            intermediate_size=24, vocab_size=VOCAB),
    "roberta": lambda: transformers.RobertaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                                  intermediate_size=24, vocab_size=VOCAB, pad_token_id=1),
    "distilbert": lambda: transformers.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=24, vocab_size=VOCAB),
    **{family: lambda family=family: tiny_config(family) for family in ("electra", "albert", "mpnet", "deberta-v2", "nomic_bert")},
}  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gpt2", *ENCODERS])
def test_classes_are_learned_beside_the_adapter_and_kept_with_it(family: str, tmp_path: Path):
    base = tmp_path / "base"
    if family in ENCODERS:
        torch.manual_seed(0)
        transformers.AutoModelForMaskedLM.from_config(ENCODERS[family]()).save_pretrained(base)
    else:
        base_folder(family, base)
    labels = ("no", "是", "maybe")
    ours = with_classes(load_model(base), labels, torch.Generator().manual_seed(0))
    ours = moved(adapt(ours, AdapterConfig(rank=2), torch.Generator().manual_seed(0)))
    assert any(name.startswith("classifier.") and each.requires_grad for name, each in ours.named_parameters())
    (tmp_path / "adapter").mkdir()
    write_adapter(ours, tmp_path / "adapter", str(base))
    tokens = torch.randint(2, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        expected = ours.classify(tokens, mask)  # pyright: ignore
        again = load_model(tmp_path / "adapter")
        assert again.config.labels == labels
        assert torch.allclose(again.classify(tokens, mask), expected, atol=1e-5)  # pyright: ignore
        auto = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, pad_token_id=1)
        theirs = peft.PeftModel.from_pretrained(auto, tmp_path / "adapter").eval()
        assert torch.allclose(theirs(input_ids=tokens, attention_mask=mask).logits, expected, atol=1e-4)
        theirs.save_pretrained(tmp_path / "theirs")  # and what PEFT writes of it is read here
        assert torch.allclose(load_model(tmp_path / "theirs").classify(tokens, mask), expected, atol=1e-4)  # pyright: ignore
    with pytest.raises(CheckpointError, match="classes of its own"):
        with_adapter(load_model(base), tmp_path / "adapter")


@pytest.mark.parametrize("targets", ["all-linear", ["query", "value"], ["query", "dense"]])
@pytest.mark.parametrize("family", sorted(ENCODERS))
def test_classes_of_peft_take_the_rest_of_their_head_from_the_model(
    family: str, targets: str | list[str], tmp_path: Path
):
    """PEFT keeps the layer of the classes only; what lies under it (the pooler of BERT) is the model's, if it has one."""
    torch.manual_seed(0)
    if family == "distilbert":
        targets = ["q_lin", "v_lin", "lin1"]  # with all layers PEFT itself fails
    if family in ("electra", "albert") and targets == "all-linear":
        targets = ["query", "key", "value", "output.dense"]  # all would be the one that widens embeddings, too
    if family in ("deberta-v2", "mpnet") and targets == ["query", "value"]:
        targets = ["query_proj", "value_proj"] if family == "deberta-v2" else ["q", "v"]
    if family == "nomic_bert" and "query" in targets:
        targets = ["q_proj", "v_proj", *(["dense"] if "dense" in targets else [])]
    transformers.AutoModelForSequenceClassification.from_config(ENCODERS[family]()).save_pretrained(tmp_path / "whole")
    transformers.AutoModelForMaskedLM.from_config(ENCODERS[family]()).save_pretrained(tmp_path / "headless")
    config = peft.LoraConfig(r=2, task_type="SEQ_CLS", target_modules=targets)
    auto = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole", num_labels=2)
    theirs = peft.get_peft_model(auto, config).eval()
    for name, parameter in theirs.named_parameters():
        parameter.data += 0.3 * torch.randn_like(parameter) if parameter.requires_grad or "lora_" in name else 0.0
    theirs.save_pretrained(tmp_path / "adapter")
    tokens = torch.randint(2, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, attention_mask=mask).logits
        ours = load_model(tmp_path / "adapter")
        assert torch.allclose(ours.classify(tokens, mask), expected, atol=1e-4)  # pyright: ignore
    if family == "bert":  # the names of the layers under the other heads end in "classifier", so PEFT keeps them too
        config_path = tmp_path / "adapter" / "adapter_config.json"
        config_path.write_text(config_path.read_text().replace(str(tmp_path / "whole"), str(tmp_path / "headless")))
        with pytest.raises(CheckpointError, match="neither here nor in the model"):
            load_model(tmp_path / "adapter")


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox", "gpt2"])
def test_classes_over_a_decoder_that_was_saved_without_its_head(family: str, tmp_path: Path):
    """As embedding models are: the classes stand where the output matrix would."""
    torch.manual_seed(0)
    shape = {"qwen2": lambda: transformers.Qwen2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                                       num_key_value_heads=1, intermediate_size=24, vocab_size=VOCAB)}  # fmt: skip
    config = (CONFIGS | shape)[family]()
    config.tie_word_embeddings, config.pad_token_id = family == "gpt2", 1
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    auto = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    theirs = peft.get_peft_model(auto, peft.LoraConfig(task_type="SEQ_CLS")).eval()
    for name, parameter in theirs.named_parameters():
        parameter.data += 0.3 * torch.randn_like(parameter) if "lora_" in name else 0.0
    theirs.save_pretrained(tmp_path / "adapter")
    tokens = torch.randint(2, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, attention_mask=mask).logits
        ours = load_model(tmp_path / "adapter").classify(tokens, mask)  # pyright: ignore
    assert torch.allclose(ours, expected, atol=1e-4)
    if family != "gpt2":
        with pytest.raises(CheckpointError, match="no output matrix"):
            load_model(tmp_path / "base")


def test_classes_without_names_keep_those_of_the_model(tmp_path: Path):
    config = ENCODERS["bert"]()
    config.id2label, config.label2id = {0: "neg", 1: "pos"}, {"neg": 0, "pos": 1}
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(tmp_path / "base")
    named = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    peft.get_peft_model(named, peft.LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "adapter")
    assert load_model(tmp_path / "adapter").config.labels == ("neg", "pos")


def test_a_flipped_bit_of_an_adapter_is_told(tmp_path: Path):
    base = base_folder("llama", tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    write_adapter(moved(adapt(load_model(base), AdapterConfig(rank=2))), tmp_path / "adapter", str(base))
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = path.read_bytes()
    load_adapter(load_model(base), tmp_path / "adapter")
    for place in (1, 33, 203):
        path.write_bytes(whole[:-place] + bytes([whole[-place] ^ 1]) + whole[len(whole) - place + 1 :])
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors.*damaged"):
            load_adapter(load_model(base), tmp_path / "adapter")


@pytest.mark.parametrize("family, modules", [
    ("gpt2", ["c_attn", "c_proj"]), ("llama", ["q_proj", "v_proj"]), ("gpt_neox", ["query_key_value", "dense"]),
    ("t5", ["q", "v", "wi"]),
])  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_what_peft_wrote_is_read_here(family: str, modules: list[str], options: dict[str, bool], tmp_path: Path):
    base = base_folder(family, tmp_path / "base")
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=modules, **options)
    theirs = peft.get_peft_model(peft_base(base), config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    theirs.eval().save_pretrained(tmp_path / "adapter")
    ours = load_adapter(load_model(base), tmp_path / "adapter").eval()
    assert torch.allclose(logits(ours), logits(theirs), atol=1e-4)


def test_only_the_adapter_learns_also_on_rounded_weights(tmp_path: Path):
    base = load_model(base_folder("llama", tmp_path / "base"))
    from wenloom.model.decoder import Decoder

    assert isinstance(base, Decoder)
    ours = adapt(quantize(base, 8), AdapterConfig(rank=2), torch.Generator().manual_seed(0))
    assert isinstance(ours, Decoder)
    tokens = torch.randint(2, VOCAB, (1, 4))
    ours(tokens).logsumexp(-1).sum().backward()
    learned = {name for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert learned and all("lora_" in name for name in learned)
    assert any(parameter.grad.abs().max() > 0 for name, parameter in ours.named_parameters() if name in learned)  # pyright: ignore
    before = logits(moved(ours))
    assert torch.allclose(logits(merge(ours)), before, atol=1e-3)


def test_bad_adapters_are_refused(tmp_path: Path):
    base = base_folder("gpt2", tmp_path / "base")
    with pytest.raises(InputError, match="rank must be at least 1"):
        AdapterConfig(rank=0)
    with pytest.raises(InputError, match="in one matrix"):
        (tmp_path / "some").mkdir()
        write_adapter(adapt(load_model(base), AdapterConfig(targets=("query",))), tmp_path / "some", str(base))
    with pytest.raises(InputError, match="already"):
        adapt(adapt(load_model(base), AdapterConfig()), AdapterConfig())
    (tmp_path / "adapter").mkdir()
    write_adapter(adapt(load_model(base), AdapterConfig()), tmp_path / "adapter", str(base))
    other = load_model(base_folder("llama", tmp_path / "other"))
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_adapter(other, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(path.read_text().replace('"LORA"', '"IA3"'))
    with pytest.raises(CheckpointError, match="IA3"):
        load_adapter(load_model(base), tmp_path / "adapter")


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_requests_of_one_engine_choose_their_adapters(family: str, tmp_path: Path):
    base = base_folder(family, tmp_path / "base")
    folders = {}
    for number, (name, dora) in enumerate({"plain": False, "dora": True}.items()):
        model = adapt(load_model(base), AdapterConfig(rank=2, dora=dora), torch.Generator().manual_seed(number))
        folders[name] = tmp_path / name
        folders[name].mkdir()
        write_adapter(moved(model, number), folders[name], str(base))
    model = load_model(base)
    n_bytes = sum(each.nbytes for each in model.parameters())
    adapted = {name: with_adapter(model, folder) for name, folder in folders.items()}
    assert all(each.embed.weight is model.embed.weight for each in adapted.values())  # in memory once
    together = Engine(model, adapters=adapted)
    request = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": (), "logprobs": 0}
    prompts = [(name, [3, 4, 5 + n]) for n in range(3) for name in (None, *folders)]
    jobs = [together.submit(prompt, GenerationRequest(**request, adapter=name)) for name, prompt in prompts]
    together.run(jobs)
    written = []
    for (name, prompt), job in zip(prompts, jobs, strict=True):
        alone = Engine(model if name is None else load_model(folders[name]))
        single = alone.submit(prompt, GenerationRequest(**request))
        alone.run([single])
        mine, theirs = job.result()[0], single.result()[0]
        assert mine.tokens == theirs.tokens
        assert [each.logprob for each in mine.scores] == pytest.approx(
            [each.logprob for each in theirs.scores], abs=1e-4
        )
        written.append((*mine.tokens, round(mine.scores[0].logprob, 3)))
    assert len(set(written[:3])) == 3 and together.slots_in_use == 0
    assert sum(each.nbytes for each in model.parameters()) == n_bytes  # the base is as it was
    with pytest.raises(InputError, match="this engine has plain, dora"):
        together.submit([3], GenerationRequest(adapter="poems"))


def test_an_adapter_without_a_tokenizer_has_its_models(tokenizer: TextTokenizer, tmp_path: Path):
    """PEFT writes none."""
    base = base_folder("llama", tmp_path / "base")
    tokenizer.save_pretrained(base)
    peft.get_peft_model(peft_base(base), peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(
        tmp_path / "adapter"
    )
    assert load_tokenizer(tmp_path / "adapter").fingerprint() == tokenizer.fingerprint()
    other = train_tokenizer(["another one"], "byte")
    other.save_pretrained(tmp_path / "adapter")
    assert load_tokenizer(tmp_path / "adapter").fingerprint() == other.fingerprint()
