"""Write a data set in the general form, so that `load` reads the same tables again."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from infra.datasets.chunks import CHUNK_ROWS
from infra.datasets.report import OnBytes, ignore_bytes
from infra.datasets.tables import Dataset
from protos.errors import InvalidInput

FORMATS = ("parquet", "csv", "jsonl")


def write(
    dataset: Dataset, folder: Path, file_format: str, on_rows: OnBytes = ignore_bytes
) -> list[Path]:
    """Write events.* and items.*; each appears complete or not at all.

    Args:
        on_rows: Told now and then how many more rows have been written.

    Raises:
        InvalidInput: the format is not known, or the folder holds a data set already.
    """
    if file_format not in FORMATS:
        raise InvalidInput(f"{file_format!r} is no format; choose one of {', '.join(FORMATS)}")
    _refuse_occupied(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"items": dataset.items, "events": dataset.events}
    return [
        _write_table(table, folder / f"{stem}.{file_format}", on_rows)
        for stem, table in tables.items()
    ]


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; name a folder")
    for stem in ("events", "items"):
        for taken in folder.glob(f"{stem}.*"):
            raise InvalidInput(f"{taken} is there already; name another folder or remove it first")


def _write_table(table: pa.Table, path: Path, on_rows: OnBytes) -> Path:
    write_rows = _WRITERS[path.suffix]
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        write_rows(table, Path(partial), on_rows)
        os.chmod(partial, 0o644)  # mkstemp leaves it to its owner alone
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path


def _write_parquet(table: pa.Table, path: Path, on_rows: OnBytes) -> None:
    with pq.ParquetWriter(path, table.schema) as writer:
        for batch in table.to_batches(CHUNK_ROWS):
            writer.write_batch(batch)
            on_rows(batch.num_rows)


def _write_csv(table: pa.Table, path: Path, on_rows: OnBytes) -> None:
    table = _flat(table)
    with pyarrow.csv.CSVWriter(path, table.schema) as writer:
        for batch in table.to_batches(CHUNK_ROWS):
            writer.write_batch(batch)
            on_rows(batch.num_rows)


def _flat(table: pa.Table) -> pa.Table:
    if "categories" not in table.schema.names:
        return table
    place = table.schema.get_field_index("categories")
    categories = table["categories"].combine_chunks()
    if pc.any(pc.match_substring(categories.flatten(), "|")).as_py():
        raise InvalidInput(
            "a category contains |, which separates them in CSV; choose jsonl or parquet"
        )
    return table.set_column(place, "categories", pc.binary_join(categories, "|"))


def _write_jsonl(table: pa.Table, path: Path, on_rows: OnBytes) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in table.to_batches(CHUNK_ROWS):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
            on_rows(batch.num_rows)


_WRITERS: dict[str, Callable[[pa.Table, Path, OnBytes], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
