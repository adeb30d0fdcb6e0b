"""Data sets of a Hugging Face hub by their names: `hf:owner/name`, `hf:owner/name/config:split`."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

from wenloom.core.errors import InputError, printable
from wenloom.core.hub import unreachable
from wenloom.core.progress import progress

PREFIX = "hf:"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?::([\w.-]+))?")
_SPLITS = ("train", "validation", "test")


def is_hub_data(name: str | Path) -> bool:
    """Whether a name is that of a data set on the hub."""
    return str(name).startswith(PREFIX)


def download(name: str, readable: Callable[[Path], bool], every_split: bool = False) -> list[Path]:
    """The files of a data set in the hub's cache, downloaded if they are not there.

    Args:
        name: `hf:owner/name`, with a configuration or folder (`hf:owner/name/config`) and a split (`:train`). Without a
            split, the files of the training split where the names tell one, else all files.
        readable: whether a file of this name can be read.
        every_split: take the files of all splits where none is named.

    Raises:
        InputError: the name is none, the hub cannot be reached, or has no such data set, configuration or split.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise InputError(
            f"{printable(name, 200)}: name a data set as hf:owner/name, hf:owner/name/config or hf:owner/name:split."
        )
    owner_and_name, config, split = parts[1], parts[2].strip("/"), parts[3]
    from huggingface_hub import HfApi, snapshot_download

    with progress(f"Asking the hub for {name}"), _told(name):
        if silent := unreachable():
            raise ConnectionError(silent)
        listed = HfApi().list_repo_files(owner_and_name, repo_type="dataset")
    files = sorted(each for each in listed if readable(Path(each)))
    if not files:
        raise InputError(f"{name}: holds no file that can be read ({', '.join(listed[:8]) or 'no files'}).")
    chosen = [each for each in files if not config or _is_of(each, config)]
    if not chosen:
        folders = sorted({str(PurePosixPath(each).parent) for each in files} - {"."})
        raise InputError(f'{name}: has no configuration "{config}" (folders: {", ".join(folders[:12]) or "none"}).')
    if split is not None:
        found = [each for each in chosen if _is_of(each, split)]
        if not found:
            known = [each for each in _SPLITS if any(_is_of(file, each) for file in chosen)]
            raise InputError(
                f'{name}: has no split "{split}" ({", ".join(known) or "the names of its files tell none"}).'
            )
    else:
        found = [each for each in chosen if _is_of(each, "train") and not every_split] or chosen
    with progress(f"Downloading {len(found)} file{'s' * (len(found) > 1)} of {owner_and_name}"), _told(name):
        folder = Path(snapshot_download(owner_and_name, repo_type="dataset", allow_patterns=found))
    return [folder / each for each in found]


@cache
def download_all(name: str) -> Path:
    """The folder of a whole data set in the hub's cache, without programs.

    Raises:
        InputError: see `download`.
    """
    files = download(name, lambda file: file.suffix not in (".py", ".pkl", ".bin"), every_split=True)
    return Path(*files[0].parts[: files[0].parts.index("snapshots") + 2])


def _is_of(file: str, word: str) -> bool:
    """Whether a part of a path is this word, or its name begins or ends with it: `data/train-00000-of-00001.parquet`.

    >>> _is_of("main/train-00000.parquet", "train"), _is_of("my_train.jsonl", "train"), _is_of("training.txt", "train")
    (True, True, False)
    """
    return re.search(rf"(?:^|[/._-]){re.escape(word)}(?:[/._-]|$)", file, re.IGNORECASE) is not None


class _told:  # noqa: N801 - reads as a phrase
    """Makes one sentence of whatever the network, the cache or the hub raises."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        if not isinstance(error, Exception) or isinstance(error, InputError):
            return
        if isinstance(error, GatedRepoError):
            raise InputError(
                f"{self._name}: the hub asks for a login with access to it (run `hf auth login`)."
            ) from None
        if isinstance(error, RepositoryNotFoundError):
            raise InputError(f"{self._name}: no such data set on the hub.") from None
        first_line = printable((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
        raise InputError(f"{self._name}: the hub could not be asked ({first_line}).") from None
