"""Weights on disk: safetensors files, one or several with an index; read with suspicion, written with checksums.

A file that Wenloom writes carries a checksum of each tensor in its metadata, and ends its header with a run of blanks,
which the format allows. A tool that saves the tensors anew drops the blanks, whether or not it hands the metadata on:
then the checksums count no more. So a flipped bit is told, and an edited file is not taken for a damaged one.
"""

import contextlib
import json
import zlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import read_json_object, reading
from wenloom.core.mapped import forget

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5 * 2**30
"""Weights are cut into files of at most this size, as transformers does."""

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
           torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}  # fmt: skip
FLOATING = ("F64", "F32", "BF16", "F16")
_SUMS = "wenloom.checksums"
_BLANKS = b" " * 64
"""More than any writer pads a header with (to a multiple of 8 bytes)."""
_ROW = 4096
"""Words of 8 bytes that are summed up before the CRC, which reads 1.5 GB/s where the sum reads 12."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, not read yet."""

    path: Path
    name: str
    file: Any
    shape: tuple[int, ...]
    dtype: str
    checksum: str | None
    """What was written with it, where that still counts."""
    metadata: Mapping[str, str]
    """Texts by name that stand in the file beside the tensors."""

    def read(self) -> Tensor:
        """The tensor's numbers.

        Raises:
            CheckpointError: they are not those that were written.
        """
        with reading(self.path, CheckpointError):
            tensor = self.file.get_tensor(self.name)
            if self.checksum is not None and checksum(tensor) != self.checksum:
                raise CheckpointError(
                    f'{self.path}: tensor "{self.name}" is damaged: its numbers are not those that were saved '
                    "(checksum). Copy the file again from where it is whole."
                )
        return tensor

    def read_weights(self) -> Tensor:
        """The tensor's numbers as weights, which are floating-point.

        Raises:
            CheckpointError: they are of another kind.
        """
        if self.dtype not in FLOATING:
            raise CheckpointError(
                f'{self.path}: tensor "{printable(self.name, 100)}" holds numbers of the kind {self.dtype}, but weights '
                f"are floating-point numbers ({', '.join(FLOATING)})."
            )
        return self.read()

    def release(self, tensor: Tensor) -> None:
        """Give back the memory of what `read` returned, a part of the mapped file, once it was copied."""
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            forget(tensor.data_ptr(), tensor.nbytes)


def checksum(tensor: Tensor) -> str:
    """CRC-32 of the sums (modulo 2^64) of every 4,096 words, then of the bytes that are left, as hexadecimal.

    One flipped bit changes one sum by a power of two, so it is always found.
    """
    data = _bytes_of(tensor)
    whole = len(data) // (8 * _ROW) * (8 * _ROW)
    sums = data[:whole].view(np.uint64).reshape(-1, _ROW).sum(1, dtype=np.uint64)
    return f"{zlib.crc32(data[whole:].data, zlib.crc32(sums.data)):08x}"


def _bytes_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights. A whole file counts more than an index, as in transformers.

    Raises:
        CheckpointError: there are none, only pickled ones, or an index names what is not in the folder.
    """
    if (folder / WEIGHTS).exists():
        return [_inside(folder, WEIGHTS, folder)]
    if (folder / INDEX).exists():
        weight_map = read_json_object(folder / INDEX, CheckpointError).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f'{folder / INDEX}: "weight_map" must map names of tensors to names of files.')
        names = sorted(set(weight_map.values()))
        if not names:
            raise CheckpointError(f'{folder / INDEX}: "weight_map" is empty.')
        return [_inside(folder, name, folder / INDEX) for name in names]
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder}: weights are pickled ({printable(pickles[0])}), which can run code when read. Convert them once, "
            "where you trust them: transformers' AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) writes "
            "safetensors."
        )
    raise CheckpointError(f"{folder}: has a config.json but no weights ({WEIGHTS}).")


def _inside(folder: Path, name: str, named_in: Path) -> Path:
    """A file of the folder. Links out of it are followed for the whole file, and in the hub's cache only."""
    shown = printable(name, 100)
    if not name.endswith(".safetensors") or "/" in name or "\\" in name or "\0" in name:
        raise CheckpointError(f"{named_in}: names a file outside the folder, or of another kind: {shown}.")
    if len(name.encode("utf-8", "surrogatepass")) > 255:
        raise CheckpointError(f"{named_in}: names a file that cannot be, its name is too long: {shown}.")
    path = folder / name
    with reading(path, CheckpointError):
        if not path.exists():
            raise CheckpointError(f"{path}: named in {INDEX} but not there.")
        if not path.is_file():
            raise CheckpointError(f"{path}: is not a file.")
        homes = [folder.resolve(), folder.resolve().parent.parent / "blobs"]
        if named_in != folder and path.resolve().parent not in homes:
            raise CheckpointError(f"{named_in}: names a link to a file outside the folder: {shown}.")
    return path


def stored_tensors(files: Iterable[Path], stack: ExitStack) -> dict[str, Stored]:
    """Every tensor by its name; nothing is read but the files' headers.

    Args:
        stack: closes the files.

    Raises:
        CheckpointError: a file is damaged or no safetensors, or two hold a tensor of one name.
    """
    found: dict[str, Stored] = {}
    for path in files:
        size = f"{path.stat().st_size:,} bytes" if path.exists() else "not there"
        with reading(path, CheckpointError, f"is damaged or cut short ({size}); copy or download it again"):
            file = stack.enter_context(safe_open(path, "pt"))
            metadata = file.metadata() or {}
            sums = _checksums(path, metadata)
            for name in file.keys():  # noqa: SIM118 - safe_open is not a dict
                part = file.get_slice(name)
                if name in found:
                    raise CheckpointError(
                        f'{path}: holds tensor "{printable(name, 100)}" again, which is in {found[name].path.name} too.'
                    )
                found[name] = Stored(
                    path, name, file, tuple(part.get_shape()), part.get_dtype(), sums.get(name), metadata
                )
    return found


def _checksums(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """Checksums that were written with the tensors, if the file is as Wenloom wrote it."""
    if _SUMS not in metadata:
        return {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + max(0, length - len(_BLANKS)))
        is_ours = file.read(len(_BLANKS)) == _BLANKS
    sums = json.loads(metadata[_SUMS]) if is_ours else {}
    if not isinstance(sums, dict):
        raise ValueError(f"{_SUMS} is not an object")
    return sums


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path | IO[bytes], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file with checksums.

    Args:
        path: a file, or one that is open already.
        metadata: texts by name to put beside them.

    Raises:
        OSError: the disk refused.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # wide numbers first: all aligned
    sums = {name: checksum(tensors[name]) for name in names}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {}), _SUMS: json.dumps(sums)}}
    start = 0
    for name in names:
        tensor = tensors[name]
        end = start + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode() + _BLANKS
    text += b" " * (-len(text) % 8)
    with path.open("wb") if isinstance(path, Path) else contextlib.nullcontext(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(_bytes_of(tensors[name]).data)


def write_weights(state: Iterable[tuple[str, Tensor]], folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write weights into an existing folder, in one file or in several with an index."""
    shards: list[dict[str, Tensor]] = [{}]
    room = shard_bytes
    for name, tensor in state:
        if tensor.nbytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) == 1:
        write_tensors(shards[0], folder / WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensors(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
