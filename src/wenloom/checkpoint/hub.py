"""Names to folders: a local path, or a model on a Hugging Face hub (safetensors only, no remote code)."""

import re
from difflib import get_close_matches
from pathlib import Path

from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import reading
from wenloom.core.hub import unreachable

_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "README.md",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "[0-9]*_*/*.json",
    "[0-9]*_*/*.safetensors",
)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def resolve(name: str | Path) -> Path:
    """The folder of a model, downloaded to the hub's cache if `name` is no local path.

    A name is taken for a hub model only if it has the form `owner/model` (or `model`) and does not begin
    with a folder that exists here, so that a mistyped path never reaches the network.

    Raises:
        CheckpointError: no such folder, or the hub cannot be reached or has no such model.
    """
    text = str(name)
    said = printable(text, 200)
    with reading(said, CheckpointError, "is not a name of a folder"):
        path = Path(name).expanduser()
        if path.exists():
            return path
    begins_here = "/" in text and Path(text.partition("/")[0] or "/").exists()
    if isinstance(name, Path) or begins_here or not _HUB_NAME.fullmatch(text) or text.startswith("."):
        raise CheckpointError(f"{said}: no such folder{_hint(path) or '.'}")
    if hint := _hint(path):
        raise CheckpointError(f"{said}: no such folder{hint}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    silent = unreachable()
    try:
        folder = Path(snapshot_download(text, allow_patterns=list(_FILES), local_files_only=silent is not None))
    except LocalEntryNotFoundError as error:
        why = printable(silent or str(error).partition("\n")[0], 300)
        raise CheckpointError(f"{name}: no such folder here, and the hub could not be asked ({why}).") from None
    except GatedRepoError:
        raise CheckpointError(f"{name}: the hub asks for a login with access to it (run `hf auth login`).") from None
    except RepositoryNotFoundError:
        raise CheckpointError(f"{name}: no such folder here and no such model on the hub.") from None
    except Exception as error:  # of the network, of the cache, of the hub's answers: libraries raise what they like
        first_line = printable((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
        raise CheckpointError(f"{name}: no such folder here, and the hub could not be asked ({first_line}).") from None
    if not any((folder / name).exists() for name in ("config.json", "adapter_config.json", "tokenizer.json")):
        raise CheckpointError(
            f"{text}: the copy in the hub's cache is not complete ({folder} has no config.json): remove that folder and "
            "try again with the network."
        )
    return folder


_ALIKE = 0.85
"""How like a name must be to one of a folder here, to be taken for it and not for a model of a hub."""


def _hint(path: Path) -> str:
    """The end of a sentence about a folder that is not there: one that may be meant, if any is much like it.

    A hub is not asked for a slip: it would take seconds, and tell others what stands on this disk.
    """
    parent = path.parent
    if parent.is_dir():
        near = _alike(parent, path.name, _ALIKE if parent == Path() else 0.6)
    else:
        near = [each / path.name for each in _alike(parent.parent, parent.name, 0.6) if (each / path.name).is_dir()]
    return f"; did you mean {printable(str(near[0]), 200)}?" if near else ""


def _alike(parent: Path, name: str, least: float) -> list[Path]:
    """Folders whose names are much like this one, the most similar first."""
    try:
        names = [each.name for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    except OSError:
        return []
    return [parent / each for each in get_close_matches(name, names, 3, least)]
