"""What a cell must be, decided for whole columns: the pure core of every reader.

A reader names the columns that it needs; each check returns the converted column and marks the rows
whose cell does not fit. `batch` then keeps the rows without a mark. The first reason found is the
one that counts, so a row is counted once.

Times are milliseconds since 1970 in UTC; a time written without a zone is taken as UTC.
"""

import heapq
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.chunks import Chunk
from infra.datasets.report import BadRow, Tally
from protos.actions import declared_actions

MAX_ID_BYTES = 256
END_OF_TIME_MS = 253_402_300_800_000
"""The year 10000, the first that datetime cannot show."""

_WHOLE = r"^[+-]?[0-9]{1,18}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Checks:
    """One chunk under examination."""

    def __init__(self, chunk: Chunk, tally: Tally) -> None:
        self._chunk = chunk
        self._tally = tally
        self._is_open = np.ones(len(chunk.lines), dtype=np.bool_)
        self._rejected: list[tuple[int, str]] = []

    def has(self, name: str) -> bool:
        return name in self._chunk.columns

    def text(self, name: str) -> pa.Array:
        """Return the cells as they are, null where empty or where the file has no such column."""
        if not self.has(name):
            return pa.nulls(len(self._chunk.lines), pa.string())
        return self._chunk.columns[name]

    def reject(self, is_bad: pa.BooleanArray, reason: str) -> None:
        """Mark the rows that are neither rejected nor filtered yet."""
        bad = _mask(is_bad) & self._is_open
        self._rejected += [(int(place), reason) for place in np.flatnonzero(bad)]
        self._is_open &= ~bad

    def filter(self, is_out: pa.BooleanArray, rule: str) -> None:
        """Leave out readable rows that a rule of the data set does not want, and count them."""
        out = _mask(is_out) & self._is_open
        self._tally.filter(rule, int(out.sum()))
        self._is_open &= ~out

    def filled(self, name: str) -> pa.Array:
        """Return a column of texts none of which is empty."""
        cells = self.text(name)
        self.reject(is_empty(cells), f"{name} is empty")
        return cells

    def ids(self, name: str) -> pa.Array:
        """Return a column of ids: 1 to 256 bytes of text."""
        cells = self.filled(name)
        is_long = pc.greater(pc.binary_length(cells), MAX_ID_BYTES)
        self.reject(is_long, f"{name} is longer than {MAX_ID_BYTES} bytes")
        return cells

    def new_ids(self, name: str, seen: set[str]) -> pa.Array:
        """Return ids of which each comes once; `seen` holds those of earlier chunks.

        Call it after the other checks: a row that one of them rejects has not been seen.
        """
        cells = self.ids(name)
        repeats = np.zeros(len(cells), dtype=np.bool_)
        for place, item_id in enumerate(cells.to_pylist()):
            if self._is_open[place]:
                repeats[place] = item_id in seen
                seen.add(item_id)
        self.reject(pa.array(repeats), f"{name} appears a second time")
        return cells

    def numbers(self, name: str) -> pa.Array:
        """Return a column of finite numbers, null where empty."""
        cells = self.text(name)
        fits = pc.match_substring_regex(cells, _NUMBER)
        numbers = pc.if_else(fits, cells, None).cast(pa.float64())
        fits = pc.and_kleene(fits, pc.is_finite(numbers))
        self.reject(pc.and_(pc.invert(is_empty(cells)), pc.invert(fits)), f"{name} is not a number")
        return numbers

    def flags(self, name: str) -> pa.Array:
        """Return a column of true and false (or 1 and 0), null where empty."""
        cells = self.text(name)
        lower = pc.utf8_lower(cells)
        is_true = pc.is_in(lower, pa.array(["true", "1"]))
        fits = pc.or_(is_true, pc.is_in(lower, pa.array(["false", "0"])))
        not_a_flag = pc.and_(pc.invert(is_empty(cells)), pc.invert(fits))
        self.reject(not_a_flag, f"{name} is neither true nor false")
        return pc.if_else(fits, is_true, None)

    def filled_numbers(self, name: str) -> pa.Array:
        """Return a column of finite numbers without a null."""
        self.filled(name)
        return self.numbers(name)

    def positions(self, name: str) -> pa.Array:
        """Return a column of places in an order: whole, not negative, below ten digits."""
        cells = self.filled(name)
        fits = pc.match_substring_regex(cells, "^[0-9]{1,9}$")
        self.reject(pc.invert(fits), f"{name} is not a whole number from 0")
        return pc.if_else(fits, cells, None).cast(pa.int64())

    def seconds(self, name: str) -> pa.Array:
        """Return times in milliseconds of a column in seconds since 1970, fractions allowed."""
        ms = pc.round(pc.multiply(self.filled_numbers(name), 1000.0))
        is_time = pc.and_(pc.greater_equal(ms, 0.0), pc.less(ms, float(END_OF_TIME_MS)))
        self.reject(pc.invert(is_time), f"{name} is not between 1970 and 9999")
        return pc.if_else(is_time, ms, None).cast(pa.int64())

    def times_ms(self, ms_name: str, iso_name: str, *, required: bool) -> pa.Array:
        """Return times in milliseconds of a column in milliseconds, or else one in ISO 8601."""
        whole, iso = self.text(ms_name), self.text(iso_name)
        if required:
            names = " and no ".join(name for name in (ms_name, iso_name) if self.has(name))
            self.reject(pc.and_(is_empty(whole), is_empty(iso)), f"no {names or ms_name}")
        fits = pc.match_substring_regex(whole, _WHOLE)
        not_whole = pc.and_(pc.invert(is_empty(whole)), pc.invert(fits))
        self.reject(not_whole, f"{ms_name} is not a whole number of milliseconds")
        ms = pc.if_else(fits, whole, None).cast(pa.int64())
        return self._within_time(pc.coalesce(ms, self._iso_ms(iso, iso_name)), ms_name)

    def iso_times(self, name: str) -> pa.Array:
        """Return times in milliseconds of a column in ISO 8601."""
        ms = self._iso_ms(self.filled(name), name)
        return self._within_time(ms, name)

    def _iso_ms(self, cells: pa.Array, name: str) -> pa.Array:
        encoded = cells.dictionary_encode()  # files repeat times; each is parsed once
        parsed = pa.array([_parse_iso(text) for text in encoded.dictionary.to_pylist()], pa.int64())
        ms = parsed.take(encoded.indices)
        self.reject(pc.and_(pc.invert(is_empty(cells)), pc.is_null(ms)), f"{name} is not ISO 8601")
        return ms

    def _within_time(self, ms: pa.Array, name: str) -> pa.Array:
        is_time = pc.and_(pc.greater_equal(ms, 0), pc.less(ms, END_OF_TIME_MS))
        self.reject(pc.invert(is_time), f"{name} is not between 1970 and 9999")
        return ms

    def actions(self, name: str, default: str) -> pa.Array:
        """Return a column of declared actions, the default where empty."""
        cells = self.text(name)
        cells = pc.if_else(is_empty(cells), default, cells)
        declared = pa.array(list(declared_actions()), pa.string())
        self.reject(
            pc.invert(pc.is_in(cells, declared)),
            f"{name} is none of {', '.join(declared.to_pylist())}",
        )
        return cells

    def batch(self, schema: pa.Schema, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
        """Return the rows without a mark, and tell the tally of all. Call it last, once."""
        rejected = heapq.merge(self._chunk.malformed, self._bad_rows(), key=lambda row: row.line)
        self._tally.reject(rejected)
        self._tally.keep(int(self._is_open.sum()))
        self._tally.advance(self._chunk.n_bytes)
        arrays = [columns[name].cast(schema.field(name).type) for name in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema).filter(pa.array(self._is_open))

    def _bad_rows(self) -> Iterator[BadRow]:
        chunk = self._chunk
        for place, reason in sorted(self._rejected):  # a chunk is in the order of its lines
            text = "" if self._tally.is_full() else chunk.text_of(place)
            yield BadRow(chunk.file, chunk.lines[place], reason, text)


def _mask(mask: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    filled: npt.NDArray[np.bool_] = mask.fill_null(False).to_numpy(zero_copy_only=False)
    return filled


def is_empty(cells: pa.Array) -> pa.BooleanArray:
    """Tell which cells have no text."""
    return pc.equal(pc.binary_length(cells), 0).fill_null(True)


def _parse_iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MS
