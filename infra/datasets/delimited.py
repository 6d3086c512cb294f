"""Rows of delimited text: CSV with quotes, and the plain splits of MovieLens and RecBole.

Python's csv instead of pyarrow's: pyarrow hands over rows of the wrong width, but numbers them only
single-threaded, by row instead of by line, and stops the file at a cell that it cannot convert.

A quote that is never closed makes a CSV parser swallow the lines after it. So when a record that
spans several lines turns out unreadable, only its first line is given up, and the others are read
again. A line longer than MAX_LINE_CHARS is given up without being held.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from infra.datasets.chunks import Chunk, ChunkBuilder
from protos.errors import InvalidInput

MAX_LINE_CHARS = 1 << 20


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str
    is_quoted: bool = False
    is_latin1: bool = False
    """Lines that are not UTF-8 are Latin-1."""


CSV = Dialect(",", is_quoted=True)

Parsed = tuple[int, list[str], str]
"""Line, cells, and why they are unreadable ("" when they are not)."""


def open_text(path: Path, *, newline: str = "\n") -> TextIO:
    """Open a file as UTF-8, other bytes as surrogates; a byte-order mark is skipped."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def read_header(path: Path, dialect: Dialect) -> list[str]:
    """Return the cells of the first line; an empty list for an empty file."""
    with open_text(path) as file:
        line = file.readline(MAX_LINE_CHARS)
    if not dialect.is_quoted:
        return line.rstrip("\r\n").split(dialect.delimiter) if line else []
    return next(csv.reader([line], delimiter=dialect.delimiter), [])


def require(path: Path, header: Iterable[str], names: Sequence[str]) -> None:
    """Refuse a file that lacks one of these columns, or has it twice."""
    found = list(header)
    missing = [name for name in names if name not in found]
    if repeated := [name for name in names if found.count(name) > 1]:
        raise InvalidInput(f"{path} has column {', '.join(repeated)} twice; rename one of them.")
    if missing:
        raise InvalidInput(
            f"{path} has no column {', '.join(missing)}; it has: {', '.join(found) or 'nothing'}. "
            "Name the columns so in its header."
        )


def delimited_chunks(
    path: Path, dialect: Dialect, names: Sequence[str], wanted: Iterable[str], *, has_header: bool
) -> Iterator[Chunk]:
    """Yield the file's rows, of the columns in both `names` (the file's, in order) and `wanted`."""
    columns = {name: names.index(name) for name in wanted if name in names}
    builder = ChunkBuilder(
        path.name,
        columns,
        lambda row: dialect.delimiter.join(str(cell) for cell in row),
        is_latin1=dialect.is_latin1,
    )
    with open_text(path, newline="" if dialect.is_quoted else "\n") as file:
        parse = _quoted_rows if dialect.is_quoted else _split_rows
        rows = parse(file, dialect.delimiter, len(names))
        if has_header:
            next(rows, None)
        yield from _chunks(rows, builder, file)


def _chunks(rows: Iterator[Parsed], builder: ChunkBuilder, file: TextIO) -> Iterator[Chunk]:
    n_bytes = 0
    for line, cells, reason in rows:
        if reason:
            builder.reject(line, reason, cells[0])
        else:
            builder.add(line, cells)
        if builder.is_full():
            position = file.buffer.tell()
            yield builder.build(position - n_bytes)
            n_bytes = position
    if not builder.is_empty():
        yield builder.build(file.buffer.tell() - n_bytes)


def _split_rows(file: TextIO, delimiter: str, n_columns: int) -> Iterator[Parsed]:
    width_reason = _width_reason(n_columns)
    for number, line, reason in numbered(file):
        text = line.rstrip("\r\n")
        cells = text.split(delimiter)
        if not reason and len(cells) != n_columns:
            reason = width_reason
        if text:
            yield number, [text] if reason else cells, reason


def _quoted_rows(file: TextIO, delimiter: str, n_columns: int) -> Iterator[Parsed]:
    width_reason = _width_reason(n_columns)
    feed = _Feed(file)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.start_record()
        reason = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells, reason = [""], f"not valid CSV: {error}"
        if not cells:  # a blank line
            continue
        if feed.is_too_long:
            reason = _TOO_LONG
        elif not reason and len(cells) != n_columns:
            reason = width_reason
        yield feed.first_line, [feed.give_back()] if reason else cells, reason


class _Feed:
    """The lines that csv.reader asks for, of which those of a bad record can be given back."""

    def __init__(self, file: TextIO) -> None:
        self._lines = numbered(file)
        self._pending: deque[tuple[int, str, str]] = deque()
        self._record: list[tuple[int, str, str]] = []
        self.is_too_long = False
        """One of the record's lines was cut."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._pending.popleft() if self._pending else next(self._lines)
        self._record.append(line)
        if line[2]:
            self.is_too_long = True
        return line[1]

    def start_record(self) -> None:
        self._record.clear()
        self.is_too_long = False

    @property
    def first_line(self) -> int:
        return self._record[0][0]

    def give_back(self) -> str:
        """Return the record's first line; the others will be read again."""
        self._pending.extendleft(reversed(self._record[1:]))
        return self._record[0][1]


_TOO_LONG = f"line is longer than {MAX_LINE_CHARS} characters"


def _width_reason(n_columns: int) -> str:
    return f"wrong number of columns (expected {n_columns})"


def numbered(file: TextIO) -> Iterator[tuple[int, str, str]]:
    """Yield line number, line, and why it is unreadable; of a line too long only the start."""
    number = 0
    while line := file.readline(MAX_LINE_CHARS):
        number += 1
        if len(line) < MAX_LINE_CHARS or line.endswith("\n"):
            yield number, line, ""
            continue
        rest = line
        while rest and not rest.endswith("\n"):
            rest = file.readline(MAX_LINE_CHARS)
        yield number, line[:200], _TOO_LONG
