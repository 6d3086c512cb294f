"""Parsed rows become columns, a bounded number at a time, and each row keeps its line.

Every format ends here: cells are text (or null, or a list of texts), one array a column. What the
text means is decided in checks.py, for whole columns at once. So a reader needs memory for one
chunk and for the table that it builds, and for nothing else.

Text is read as UTF-8 with `surrogateescape`: bytes that are not UTF-8 cannot enter an Arrow array,
so the rare chunk that holds any is mended row by row: such a row is either read as Latin-1 (where
the format is known to be older than UTF-8) or set aside as unreadable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from infra.datasets.report import BadRow, shorten

CHUNK_ROWS = 65_536

Cell = str | list[str] | None
Row = Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Chunk:
    file: str
    lines: Sequence[int]
    columns: Mapping[str, pa.Array]
    text_of: Callable[[int], str]
    """Show the row at this place of the chunk as its file has it."""
    malformed: Sequence[BadRow]
    n_bytes: int
    """Bytes of the file that this chunk came from; for progress only."""


class ChunkBuilder:
    """Collects rows until they are a chunk.

    Args:
        file: The name that reports show.
        columns: The wanted columns, each with its place in a row.
        text_of_row: How a row looked in its file.
        is_latin1: Rows that are not UTF-8 are Latin-1, instead of unreadable.
    """

    def __init__(
        self,
        file: str,
        columns: Mapping[str, int],
        text_of_row: Callable[[Row], str],
        *,
        is_latin1: bool = False,
    ) -> None:
        self._file = file
        self._columns = columns
        self._text_of_row = text_of_row
        self._is_latin1 = is_latin1
        self._start_over()

    def _start_over(self) -> None:
        self._lines: list[int] = []
        self._rows: list[Row] = []
        self._malformed: list[BadRow] = []

    def add(self, line: int, row: Row) -> None:
        self._lines.append(line)
        self._rows.append(row)

    def reject(self, line: int, reason: str, text: str) -> None:
        self._malformed.append(BadRow(self._file, line, reason, printable(text)))

    def is_full(self) -> bool:
        return len(self._rows) + len(self._malformed) >= CHUNK_ROWS

    def is_empty(self) -> bool:
        return not self._rows and not self._malformed

    def build(self, n_bytes: int) -> Chunk:
        """Return the rows so far as a chunk, and start the next."""
        try:
            columns = self._arrays()
        except UnicodeEncodeError:
            self._mend()
            columns = self._arrays()
        rows, text_of_row = self._rows, self._text_of_row
        chunk = Chunk(
            self._file,
            self._lines,
            columns,
            lambda place: printable(text_of_row(rows[place])),
            sorted(self._malformed, key=lambda bad: bad.line),  # mending adds to the end
            n_bytes,
        )
        self._start_over()
        return chunk

    def _arrays(self) -> dict[str, pa.Array]:
        by_place = list(zip(*self._rows, strict=True))
        return {
            name: _array(by_place[place] if by_place else ())
            for name, place in self._columns.items()
        }

    def _mend(self) -> None:
        lines, rows = self._lines, self._rows
        self._lines, self._rows = [], []
        for line, row in zip(lines, rows, strict=True):
            if all(map(_is_utf8, row)):
                self.add(line, row)
            elif self._is_latin1:
                self.add(line, [_as_latin1(cell) for cell in row])
            else:
                self.reject(line, "not valid UTF-8", self._text_of_row(row))


def printable(text: str) -> str:
    """Shorten a row for a report, undecodable bytes as escapes."""
    return shorten(text).encode("utf-8", "backslashreplace").decode()


def _array(cells: Sequence[Cell]) -> pa.Array:
    has_lists = any(isinstance(cell, list) for cell in cells[:1])
    return pa.array(cells, pa.list_(pa.string()) if has_lists else pa.string())


def _is_utf8(cell: Cell) -> bool:
    try:
        "".join(cell or ()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_latin1(cell: Cell) -> Cell:
    assert cell is None or isinstance(cell, str), "formats with lists are UTF-8"
    return cell and cell.encode("utf-8", "surrogateescape").decode("latin-1")
