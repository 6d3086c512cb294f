"""Rows of JSON Lines: one object a line, its values as text.

Python's json instead of pyarrow's: pyarrow guesses types from the first block and gives up the
whole file at the first line that does not fit.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from infra.datasets.chunks import Cell, Chunk, ChunkBuilder, Row
from infra.datasets.delimited import numbered, open_text


class _Unreadable(Exception):
    """This line is no row; the message says why."""


def jsonl_chunks(path: Path, wanted: Sequence[str]) -> Iterator[Chunk]:
    """Yield the file's rows; a key that an object lacks is null, an unknown key is ignored."""
    builder = ChunkBuilder(
        path.name,
        {name: place for place, name in enumerate(wanted)},
        lambda row: _show(row, wanted),
    )
    n_bytes = 0
    with open_text(path) as file:
        for number, line, reason in numbered(file):
            if line.isspace():
                continue
            try:
                builder.add(number, _parse(line, reason, wanted))
            except _Unreadable as error:
                builder.reject(number, str(error), line)
            if builder.is_full():
                position = file.buffer.tell()
                yield builder.build(position - n_bytes)
                n_bytes = position
        if not builder.is_empty():
            yield builder.build(file.buffer.tell() - n_bytes)


def _show(row: Row, wanted: Sequence[str]) -> str:
    shown = {name: cell for name, cell in zip(wanted, row, strict=True) if cell is not None}
    return json.dumps(shown, ensure_ascii=False)


def _parse(line: str, reason: str, wanted: Sequence[str]) -> list[Cell]:
    if reason:
        raise _Unreadable(reason)
    try:
        record = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise _Unreadable("not valid JSON") from error
    if not isinstance(record, dict):
        raise _Unreadable("not a JSON object")
    return [_cell(name, record.get(name)) for name in wanted]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
"""Made once: json.loads with an option makes one a line, which costs a quarter of the import."""


def _cell(name: str, value: object) -> Cell:
    if name == "categories":
        return _categories(value)
    if value is None or isinstance(value, str):
        return value
    if name == "attributes" and isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)  # as other formats have them
    if name == "available" and isinstance(value, bool):
        return repr(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number:
        raise _Unreadable(f"{name} is neither text nor a number")
    if isinstance(value, float) and name in ("user_id", "item_id"):
        raise _Unreadable(f"{name} is neither text nor a whole number")
    return repr(value)


def _categories(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.split("|")
    if isinstance(value, list) and all(isinstance(category, str) for category in value):
        return value
    raise _Unreadable("categories is neither a list of texts nor a text separated by |")
