"""`wenloom info`. torch is loaded when there is work, so that --help answers at once."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from wenloom.checkpoint.hub import resolve
from wenloom.cli.options import Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.model.config import ModelConfig


def info(
    folder: str,
    /,
    *,
    everything: Annotated[
        bool,
        Parameter(
            name="--all", negative="", help="Show every field of the model, not only those that most readers need."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show what is in a folder: family, parameters, tokenizer and training of a model; sources and sizes of a corpus.

        wenloom info runs/quickstart
        wenloom info data/mine --json

    Parameters
    ----------
    folder
        A model, run, corpus or tokenizer folder, or a hub model.
    """
    from wenloom.checkpoint.folder import is_adapter, is_model, load_tokenizer
    from wenloom.tokens.shards import MANIFEST
    from wenloom.training.run_file import RUN

    path = resolve(folder)
    if not path.is_dir():
        raise InputError(f"{path}: is not a folder.")
    sections: dict[str, dict[str, Any]] = {}
    if is_model(path):
        facts = _model(path)
        sections["model"] = facts if everything or json else {name: facts[name] for name in FIRST if name in facts}
    elif is_adapter(path):
        sections["adapter"] = _adapter(path)
    if (path / MANIFEST).exists():
        sections |= _corpus(path)
    try:
        tokenizer = load_tokenizer(path)
        sections["tokenizer"] = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, **tokenizer.special_tokens}
    except WenloomError as error:
        if sections:
            sections["tokenizer"] = {"problem": str(error)}
    if (path / RUN).exists():
        sections |= _run(path, folder)
    if not sections:
        raise InputError(f"{path}: holds neither a model nor an adapter, corpus or tokenizer.")
    if json:
        print_json({"folder": str(path), **sections})
        return
    for title, section in sections.items():
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 0)
        )
        for name, value in section.items():
            if value is not None and value not in ((), []):
                table.add_row(name, _shown(value))
        console.print(table, "")


FIRST = (
    "family", "kind", "gives", "problem", "parameters", "active_parameters", "files", "bytes", "stored_as", "quantized_to", "vocab_size",
    "context_length", "n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_mlp", "experts", "rope", "positions", "encoder", "labels",
    "left_to_pytorch",
)  # fmt: skip
"""Fields of a model that are shown without --all."""


def _model(path: Path) -> dict[str, Any]:
    import torch

    from wenloom.checkpoint.folder import shape_of, weights_of
    from wenloom.model.build import active_parameters, build
    from wenloom.runtime.native.supported import declined

    config, problem = shape_of(path)
    with torch.device("meta"):
        model = build(config)
        counts = {"parameters": model.n_parameters()}
        if config.mlp.experts is not None:
            counts["active_parameters"] = active_parameters(model)
    facts: dict[str, Any] = {"family": config.family, "kind": config.kind, "gives": _gives(config)}
    if problem is None:
        files, kinds, quantized = weights_of(path)
        facts |= {**counts, "files": len(files), "bytes": sum(file.stat().st_size for file in files)}
        facts |= {"stored_as": ", ".join(kinds), "quantized_to": quantized}
    else:
        facts |= {**counts, "problem": problem}
    shape = {name: value for name, value in config.described().items() if name not in ("encoder", "family", "has_head")}
    if config.encoder is not None:
        encoder = asdict(config.encoder)
        shape["encoder"] = {
            name: encoder[name] for name in ("n_layers", "n_heads", "d_head", "d_mlp", "context_length")
        }
    if config.kind != "encoder" and config.output == "tokens":
        facts["left_to_pytorch"] = declined(config)
    return facts | shape


def _gives(config: ModelConfig) -> str:
    if config.output == "classes":
        return "classes of a text"
    if config.kind == "encoder":
        return "tokens for hidden places" if config.output == "tokens" else "hidden states; it has no head"
    return "texts" if config.kind == "decoder" else "texts from texts"


def _adapter(path: Path) -> dict[str, Any]:
    from wenloom.checkpoint.adapter_config import ADAPTER_CONFIG, read_adapter_config
    from wenloom.checkpoint.folder import read_json

    raw = read_json(path / ADAPTER_CONFIG)
    files = sorted(path.glob("adapter_model.safetensors"))
    facts: dict[str, Any] = {"of": raw.get("base_model_name_or_path"), "kind": raw.get("peft_type")}
    facts |= {"rank": raw.get("r"), "alpha": raw.get("lora_alpha"), "targets": raw.get("target_modules")}
    try:
        read_adapter_config(path / ADAPTER_CONFIG)
    except WenloomError as error:
        facts["problem"] = str(error)
    return facts | {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}


def _run(path: Path, folder: str) -> dict[str, dict[str, Any]]:
    from wenloom.fairness.unfinished import debiased_folders, how_to_go_on, unfinished_file
    from wenloom.training.checkpoints import latest_checkpoint
    from wenloom.training.run_file import RUN, read_run, task_of

    try:
        tables, task = read_run(path), task_of(path)
    except WenloomError as error:
        return {"result": {"problem": str(error), "file": RUN}}
    sections = {f"training {name}": table for name, table in tables.items() if name not in ("model", "result")}
    result = tables["result"]
    if latest_checkpoint(path) and result["steps"] < result["of_steps"]:
        command = f"wenloom {'pretrain' if task is None else 'finetune'} --resume {shlex.quote(folder)}"
        made = next((each for each in debiased_folders(Path(folder)) if unfinished_file(each).exists()), None)
        result = {"unfinished": f"go on with: {command if made is None else how_to_go_on(made)}", **result}
    return sections | {"result": result}


def _corpus(path: Path) -> dict[str, dict[str, Any]]:
    from wenloom.tokens.shards import MANIFEST, Dataset

    dataset = Dataset.open(path)
    kept = ("split_rule", "duplicates_removed", "empty_documents", "key")
    sources = [source["file"] for source in dataset.manifest["sources"]]
    count = dataset.manifest.get("left_out", {}).get("rows")
    left_out = {"left_out": f"{count:,} rows or files, listed in {MANIFEST}"} if count else {}
    sections = {name: asdict(split) for name, split in dataset.splits.items()}
    return {"corpus": {name: dataset.manifest[name] for name in kept} | {"sources": sources} | left_out, **sections}


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 8} more" if len(value) > 8 else ""
        return ", ".join(map(str, value[:8])) + more
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each is not None)
    return printable(str(value))
