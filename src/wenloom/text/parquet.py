"""Rows of Parquet and Arrow files, a little at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError


def parquet_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and columns of every row.

    Raises:
        InputError: pyarrow is not installed, or this is not Parquet.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"{file}: reading .parquet needs one more package: pip install 'wenloom[data]'.") from None
    try:
        number = 0
        with ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except ArrowException as error:
        raise InputError(
            f"{file}: is not Parquet, or damaged ({(str(error).splitlines() or ['?'])[0][:200]})."
        ) from None


def arrow_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and columns of every row of an Arrow file, or of a stream as `datasets` keeps them.

    Raises:
        InputError: pyarrow is not installed, or this is no Arrow.
    """
    try:
        import pyarrow
    except ImportError:
        raise InputError(f"{file}: reading .arrow needs one more package: pip install 'wenloom[data]'.") from None
    try:
        number = 0
        for batch in _arrow_batches(file):
            batch.validate(full=True)  # offsets that lie would be read through otherwise
            for start in range(0, batch.num_rows, 1000):
                for row in batch.slice(start, 1000).to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise InputError(f"{file}: is not Arrow, or damaged ({(str(error).splitlines() or ['?'])[0][:200]}).") from None


def _arrow_batches(file: Path) -> Iterator[Any]:
    import pyarrow

    with file.open("rb") as head:
        is_file = head.read(6) == b"ARROW1"
    with pyarrow.memory_map(str(file)) as mapped:
        if is_file:
            reader = pyarrow.ipc.open_file(mapped)
            yield from (reader.get_batch(place) for place in range(reader.num_record_batches))
        else:
            yield from pyarrow.ipc.open_stream(mapped)
