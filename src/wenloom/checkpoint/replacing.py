"""How a model takes the place of another in a folder, so that a kill in between leaves no parts of two."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wenloom.checkpoint.generation import GENERATION
from wenloom.checkpoint.weights import INDEX
from wenloom.core.files import folder_aside, publish

CONFIG, SAVED = "config.json", ".saved"
_OF_A_MODEL = re.compile(
    rf"model(-\d+-of-\d+)?\.safetensors|{re.escape(INDEX)}|{GENERATION}|adapter_config\.json|adapter_model\b.*"
    r"|pytorch_model\b.*\.(bin|json)|tf_model\b.*\.(h5|json)|flax_model\b.*\.(msgpack|json)"
    r"|(quantize|quant|hf_quant)_config\.json"
)
"""Names of files by which some program would read a folder as the model, the adapter or the number format that it held
before another model was saved there."""


def place_of(folder: Path) -> Path:
    """Where a folder's model stands: in a folder of its own while it takes the place of another, see `replaced`."""
    saved = folder / SAVED
    return saved if (saved / CONFIG).exists() else folder


def publish_files(files: Sequence[Path], folder: Path) -> None:
    """Make a model's files, which stay where they are too, those of a folder: one by one where a kill in between
    leaves no parts of two models, as weights in one file do, else see `replaced`.

    Raises:
        WenloomError: the disk refused.
    """
    if not any(file.name == INDEX for file in files):
        for file in files:
            publish(file, folder)
        return
    with replaced(folder) as aside:
        for file in files:
            publish(file, aside)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for a model, which then takes the place of the one in `folder`.

    The new model is complete in a folder of its own (`.saved`) before anything of the old one is touched, and read
    from there until its files are in place. For other programs, config.json goes first and comes last, so that a kill
    in between leaves a folder that is the old model, the new one, or refused, never parts of both.
    """
    _put_in_place(folder)
    with folder_aside(folder / ".saving") as aside:
        yield aside
    (folder / ".saving").rename(folder / SAVED)
    _put_in_place(folder)


def _put_in_place(folder: Path) -> None:
    """Move a complete model from `.saved` into its folder, and what it replaces out of it."""
    saved = folder / SAVED
    if not (saved / CONFIG).exists():
        shutil.rmtree(saved, ignore_errors=True)
        return
    (folder / CONFIG).unlink(missing_ok=True)
    new = {file.name for file in saved.iterdir()}
    for old in [*folder.iterdir()]:
        if old.name not in new and _OF_A_MODEL.fullmatch(old.name) and not old.is_dir():
            old.unlink(missing_ok=True)
    for file in sorted(saved.iterdir(), key=lambda file: file.name == CONFIG):
        publish(file, folder)
    (saved / CONFIG).unlink()
    shutil.rmtree(saved)
