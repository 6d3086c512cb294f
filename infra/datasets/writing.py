"""Write a data set in the general form, so that `load` reads the same tables again."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
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
    """Write a data set that is in memory; see `write_batches`."""
    tables = {"items": dataset.items, "events": dataset.events}
    batches = {stem: (table.schema, table.to_batches(CHUNK_ROWS)) for stem, table in tables.items()}
    return write_batches(batches, folder, file_format, on_rows)


def write_batches(
    tables: Mapping[str, tuple[pa.Schema, Iterable[pa.RecordBatch]]],
    folder: Path,
    file_format: str,
    on_rows: OnBytes = ignore_bytes,
) -> list[Path]:
    """Write a file a table, batch by batch; each appears complete or not at all.

    Args:
        tables: by the stem of their file, events and items.
        on_rows: Told now and then how many more rows have been written.

    Raises:
        InvalidInput: the format is not known, or the folder holds a data set already.
    """
    if file_format not in FORMATS:
        raise InvalidInput(f"{file_format!r} is no format; choose one of {', '.join(FORMATS)}")
    _refuse_occupied(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write_file(schema, batches, folder / f"{stem}.{file_format}", on_rows)
        for stem, (schema, batches) in tables.items()
    ]


def write_table(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> Path:
    """Write one file in the format of its suffix; it appears complete or not at all.

    Raises:
        InvalidInput: the suffix is not known, there is such a file, or no such folder.
    """
    if path.suffix not in _WRITERS:
        raise InvalidInput(f"{path} ends in none of {', '.join(_WRITERS)}; name it so")
    if path.exists():
        raise InvalidInput(f"{path} is there already; name another file or remove it first")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}; make it first")
    return _write_file(schema, batches, path, ignore_bytes)


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; name a folder")
    for stem in ("events", "items"):
        for taken in folder.glob(f"{stem}.*"):
            raise InvalidInput(f"{taken} is there already; name another folder or remove it first")


def _write_file(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path, on_rows: OnBytes
) -> Path:
    open_writer = _WRITERS[path.suffix]
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        with open_writer(schema, Path(partial)) as write_batch:
            for batch in batches:
                write_batch(batch)
                on_rows(batch.num_rows)
        os.chmod(partial, 0o644)  # mkstemp leaves it to its owner alone
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path


WriteBatch = Callable[[pa.RecordBatch], None]


@contextmanager
def _parquet(schema: pa.Schema, path: Path) -> Iterator[WriteBatch]:
    with pq.ParquetWriter(path, schema) as writer:
        yield writer.write_batch


@contextmanager
def _csv(schema: pa.Schema, path: Path) -> Iterator[WriteBatch]:
    empty = _flat(pa.RecordBatch.from_pylist([], schema))
    with pyarrow.csv.CSVWriter(path, empty.schema) as writer:
        yield lambda batch: writer.write_batch(_flat(batch))


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    if "categories" not in batch.schema.names:
        return batch
    place = batch.schema.get_field_index("categories")
    categories = batch["categories"]
    if pc.any(pc.match_substring(categories.flatten(), "|")).as_py():
        raise InvalidInput(
            "a category contains |, which separates them in CSV; choose jsonl or parquet"
        )
    return batch.set_column(place, "categories", pc.binary_join(categories, "|"))


@contextmanager
def _jsonl(schema: pa.Schema, path: Path) -> Iterator[WriteBatch]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write_batch(batch: pa.RecordBatch) -> None:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(batch))

        yield write_batch


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    for row in batch.to_pylist():
        if row.get("attributes"):
            row["attributes"] = json.loads(row["attributes"])  # an object, no text within a text
        yield row


_WRITERS: dict[str, Callable[[pa.Schema, Path], AbstractContextManager[WriteBatch]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
}
