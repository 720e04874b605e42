"""Turn rows of Arrow tables into items whose media stay where they are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from ppl.datamodules.records import ByteRange, TableCell
from ppl.datamodules.storage.opening import Item
from ppl.extras import missing


def needed(module: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Of pyarrow or datasets.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing("tables", module.partition(".")[0], "a table") from error


def media_columns(schema: Any) -> set[str]:  # noqa: ANN401
    """Name the columns of an Arrow schema that hold media."""
    return {
        field.name for field in schema if _is_medium(field.type) or _is_medium(getattr(field.type, "value_type", 0))
    }


def _is_medium(kind: Any) -> bool:  # noqa: ANN401
    types = needed("pyarrow.types")
    if not isinstance(kind, needed("pyarrow").DataType):
        return False
    if types.is_struct(kind):
        return {field.name for field in kind} == {"bytes", "path"}
    return types.is_binary(kind) or types.is_large_binary(kind)


def row_items(table: Any, media: set[str], path: str, first_row: int, split: str | None = None) -> Iterator[Item]:  # noqa: ANN401
    """Give one item a row; empty cells are left out.

    Args:
        table: Of Arrow.
        media: Its columns of media.
        path: Of the file.
        first_row: Number of the table's first row in the file.
        split: Of the dataset.
    """
    rows = table.select([name for name in table.column_names if name not in media]).to_pylist()
    lengths = {name: _lengths(table[name]) for name in table.column_names if name in media}
    for index in range(len(table)):
        row, members = first_row + index, dict[str, ByteRange | TableCell]()
        value = {key: cell for key, cell in (rows[index] if rows else {}).items() if cell is not None}
        for column, counts in lengths.items():
            count = counts[index]
            if count is True:
                value[column] = column
                members[column] = TableCell(row, column, split=split)
            elif count:
                value[column] = [f"{column}[{item}]" for item in range(count)]
                cells = {f"{column}[{item}]": TableCell(row, column, item, split) for item in range(count)}
                members.update(cells)
        yield Item(value, f"{path}:{'' if split is None else f'{split}, '}row {row}", members)


def _lengths(column: Any) -> list[int | bool | None]:  # noqa: ANN401
    """Whether there is a medium, or how many, without looking at their bytes."""
    if hasattr(column.type, "value_type"):  # a list
        return needed("pyarrow.compute").list_value_length(column).to_pylist()
    return column.is_valid().to_pylist()


def cell_bytes(value: Any, item: int | None) -> bytes | str:  # noqa: ANN401
    """Give a medium out of a cell's value: its bytes, or the path of a file it names instead.

    Args:
        value: Bytes, ``{bytes, path}``, or a list of them.
        item: Which one of a list.
    """
    found = value if item is None else value[item]
    if isinstance(found, dict):
        return found["path"] if found["bytes"] is None else found["bytes"]
    return found
