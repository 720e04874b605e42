"""Read the tables that benchmarks come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_parquet(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read some columns of a Parquet file, row by row.

    Raises:
        ValueError: It lacks one of them.
    """
    import pyarrow.parquet as pq  # a second, for those who use it

    found = pq.read_schema(file).names
    lacking = [name for name in columns if name not in found]
    if lacking:
        msg = f"got {file} without {lacking}, expected the columns {list(columns)}; it has {found}: is it another file?"
        raise ValueError(msg)
    return pq.read_table(file, columns=list(columns)).to_pylist()
