"""What an import did with each row: kept, filtered by a rule, or unreadable.

Nothing is dropped silently: n_read = n_kept + n_filtered + n_bad, always. Every unreadable row is
counted under its reason; the first `max_kept` of them are also kept whole (file, line, reason,
text), so that a file of a billion broken rows cannot fill the memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

MAX_KEPT = 100
"""Unreadable rows kept with their text; the others are only counted."""

MAX_TEXT_CHARS = 200


OnBytes = Callable[[int], None]
"""Told now and then how many more bytes of the input have been read."""


@dataclass(frozen=True, slots=True)
class BadRow:
    file: str
    line: int
    """One-based; the number of the row where the file has no lines (Parquet)."""
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    n_read: int = 0
    n_filtered: int = 0
    n_bad: int = 0
    filtered_by_rule: Mapping[str, int] = field(default_factory=dict)
    bad_by_reason: Mapping[str, int] = field(default_factory=dict)
    bad: tuple[BadRow, ...] = ()

    @property
    def n_kept(self) -> int:
        return self.n_read - self.n_filtered - self.n_bad


def ignore_bytes(n_bytes: int) -> None:
    pass


class Tally:
    """Counts rows while a reader runs, and ends as an ImportReport."""

    def __init__(self, on_bytes: OnBytes = ignore_bytes, max_kept: int = MAX_KEPT) -> None:
        self.advance = on_bytes
        self._max_kept = max_kept
        self._n_kept = 0
        self._filtered: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._rows: list[BadRow] = []

    def keep(self, n_rows: int) -> None:
        self._n_kept += n_rows

    def filter(self, rule: str, n_rows: int) -> None:
        if n_rows:
            self._filtered[rule] += n_rows

    def is_full(self) -> bool:
        """Tell whether further unreadable rows are only counted."""
        return len(self._rows) >= self._max_kept

    def reject(self, rows: Iterable[BadRow]) -> None:
        for row in rows:
            self._bad[row.reason] += 1
            if not self.is_full():
                self._rows.append(row)

    def report(self) -> ImportReport:
        n_filtered, n_bad = self._filtered.total(), self._bad.total()
        return ImportReport(
            n_read=self._n_kept + n_filtered + n_bad,
            n_filtered=n_filtered,
            n_bad=n_bad,
            filtered_by_rule=dict(self._filtered.most_common()),
            bad_by_reason=dict(self._bad.most_common()),
            bad=tuple(self._rows),
        )


def shorten(text: str) -> str:
    """Cut a row's text to what a report shows."""
    text = text.rstrip("\r\n")
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 3] + "..."
