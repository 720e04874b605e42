"""Read the tables that benchmarks come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import readable
from ppl.extras import missing


def read_parquet(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read some columns of a Parquet file, row by row.

    Raises:
        ValueError: It lacks one of them, or is no such file.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq  # a second, for those who use it
    except ModuleNotFoundError as error:
        raise missing("tables", "pyarrow", f"{file}, a table,") from error
    with readable(file, "a Parquet file"):
        found = pq.read_schema(file).names
    lacking = [name for name in columns if name not in found]
    if lacking:
        msg = f"got {file} without {lacking}, expected the columns {list(columns)}; it has {found}: is it another file?"
        raise ValueError(msg)
    return pq.read_table(file, columns=list(columns)).to_pylist()
