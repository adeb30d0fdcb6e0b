"""Rows of Parquet files, a little at a time."""

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
