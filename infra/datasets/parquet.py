"""Rows of Parquet files: typed columns, brought to text so that one set of checks fits all formats.

A row's "line" is its number in the file, from 1.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.datasets.chunks import CHUNK_ROWS, Chunk, printable
from infra.datasets.report import BadRow
from protos.errors import InvalidInput


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the file's columns."""
    return list(_open(path).schema_arrow.names)


def parquet_chunks(path: Path, wanted: Sequence[str]) -> Iterator[Chunk]:
    """Yield the file's rows, of those columns in `wanted` that it has."""
    file = _open(path)
    names = [name for name in wanted if name in file.schema_arrow.names]
    size, n_rows = path.stat().st_size, max(1, file.metadata.num_rows)
    first_row = 1
    try:
        for batch in file.iter_batches(CHUNK_ROWS, columns=names):
            yield _chunk(path, batch, first_row, n_bytes=size * batch.num_rows // n_rows)
            first_row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{path} is not a readable Parquet file ({error}); write it again")


def _chunk(path: Path, batch: pa.RecordBatch, first_row: int, n_bytes: int) -> Chunk:
    lines: Sequence[int] = range(first_row, first_row + batch.num_rows)
    batch = _with_texts(batch)
    malformed: list[BadRow] = []
    if not _is_utf8(batch):
        is_readable = [_decodes(batch, place) for place in range(batch.num_rows)]
        bad_lines = [line for line, ok in zip(lines, is_readable, strict=True) if not ok]
        malformed = [BadRow(path.name, line, "not valid UTF-8", "") for line in bad_lines]
        lines = [line for line, ok in zip(lines, is_readable, strict=True) if ok]
        batch = batch.filter(pa.array(is_readable))
    columns = {
        name: _as_cells(path, name, column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return Chunk(path.name, lines, columns, lambda place: _show(batch, place), malformed, n_bytes)


def _show(batch: pa.RecordBatch, place: int) -> str:
    row = batch.slice(place, 1).to_pylist()[0]
    return printable(json.dumps(row, ensure_ascii=False, default=str))


def _with_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Take bytes for text, unchecked: older writers do not say which columns are text."""
    as_text = {pa.binary(): pa.string(), pa.large_binary(): pa.large_string()}
    columns = [
        column.view(as_text[column.type]) if column.type in as_text else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _is_utf8(batch: pa.RecordBatch) -> bool:
    """Tell whether all texts are UTF-8; reading Parquet does not check."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _decodes(batch: pa.RecordBatch, place: int) -> bool:
    try:
        batch.slice(place, 1).to_pylist()
    except UnicodeDecodeError:
        return False
    return True


def _as_cells(path: Path, name: str, column: pa.Array) -> pa.Array:
    kind = column.type
    try:
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return column.cast(pa.list_(pa.string()))
        if pa.types.is_floating(kind):
            if name in ("user_id", "item_id"):
                raise InvalidInput(
                    f"{path}: column {name} is {kind}; write it as text or whole numbers"
                )
            column = pc.if_else(pc.is_nan(column), None, column)  # pandas writes missing as NaN
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ms", "UTC" if kind.tz else None), safe=False)
            if name.endswith("_ms"):
                column = column.cast(pa.int64())
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(
            f"{path}: column {name} is {kind}, which cannot be read as text; write it as text"
        ) from error
