"""Names to folders: a local path, or a model on a Hugging Face hub (safetensors only, no remote code)."""

import re
from pathlib import Path

from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import reading

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
    with reading(said, CheckpointError, "is no name of a folder"):
        path = Path(name).expanduser()
        if path.exists():
            return path
    begins_here = "/" in text and Path(text.partition("/")[0] or "/").exists()
    if isinstance(name, Path) or begins_here or not _HUB_NAME.fullmatch(text) or text.startswith("."):
        raise CheckpointError(f"{said}: no such folder.")

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(text, allow_patterns=list(_FILES)))
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
