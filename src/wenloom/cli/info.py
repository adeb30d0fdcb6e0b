"""`wenloom info`. torch is loaded when there is work, so that --help answers at once."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from wenloom.checkpoint.hub import resolve
from wenloom.cli.options import Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json
from wenloom.core.errors import InputError, WenloomError
from wenloom.tokens.shards import MANIFEST, Dataset
from wenloom.tokens.tokenizer import TextTokenizer


def info(folder: str, /, *, json: Json = False) -> None:
    """Tell what is in a folder: family, parameters, tokenizer and training of a model; sources and sizes of a corpus.

        wenloom info runs/quickstart
        wenloom info data/mine --json

    Parameters
    ----------
    folder
        A model, run, corpus or tokenizer folder, or a hub model.
    """
    from wenloom.checkpoint.folder import CONFIG
    from wenloom.training.checkpoints import latest_checkpoint
    from wenloom.training.run_file import RUN, read_run

    path = resolve(folder)
    if not path.is_dir():
        raise InputError(f"{path}: is no folder.")
    sections: dict[str, dict[str, Any]] = {}
    if (path / CONFIG).exists():
        sections["model"] = _model(path)
    if (path / MANIFEST).exists():
        sections |= _corpus(path)
    try:
        tokenizer = TextTokenizer.from_pretrained(path)
        sections["tokenizer"] = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, **tokenizer.special_tokens}
    except WenloomError as error:
        if (path / CONFIG).exists():
            sections["tokenizer"] = {"problem": str(error)}
    if (path / RUN).exists():
        tables = read_run(path)
        sections |= {
            f"training {name}" if name != "result" else "result": table
            for name, table in tables.items()
            if name != "model"
        }
        checkpoint, result = latest_checkpoint(path), tables.get("result", {})
        if checkpoint and result.get("steps", 0) < result.get("of_steps", 0):
            sections["result"] = {"unfinished": f"go on with: wenloom pretrain --resume {folder}", **result}
    if not sections:
        raise InputError(f"{path}: holds neither a model nor a corpus nor a tokenizer.")
    if json:
        print_json({"folder": str(path), **sections})
        return
    for title, section in sections.items():
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 0)
        )
        for name, value in section.items():
            if value is not None and value != ():
                table.add_row(name, _shown(value))
        console.print(table, "")


def _model(path: Path) -> dict[str, Any]:
    import torch

    from wenloom.checkpoint.folder import read_config
    from wenloom.model.decoder import Decoder

    config = read_config(path)
    with torch.device("meta"):
        parameters = Decoder(config).n_parameters()
    files = sorted(path.glob("*.safetensors"))
    stored = {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
    return {"family": config.family, "parameters": parameters, **stored} | asdict(config)


def _corpus(path: Path) -> dict[str, dict[str, Any]]:
    dataset = Dataset.open(path)
    kept = ("split_rule", "duplicates_removed", "empty_documents", "key")
    sources = [source["file"] for source in dataset.manifest["sources"]]
    sections = {name: asdict(split) for name, split in dataset.splits.items()}
    return {"corpus": {name: dataset.manifest[name] for name in kept} | {"sources": sources}, **sections}


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 8} more" if len(value) > 8 else ""
        return ", ".join(map(str, value[:8])) + more
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each is not None)
    return str(value)
