"""Find a data set and recognise its form; read it to the end, or piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from infra.datasets.known import KNOWN
from infra.datasets.locate import locate
from infra.datasets.report import OnBytes, Tally, ignore_bytes
from infra.datasets.sources import Source, recognise
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA, Dataset, DatasetReport, gather
from protos.errors import InvalidInput


def load(spec: str, data_dir: Path | None = None) -> Dataset:
    """Read a whole data set into memory.

    Args:
        spec: A known name (ml-100k, ml-1m, online-retail), or the path of a folder or file.
        data_dir: Where known data sets are looked for first.

    Raises:
        NotReady: the data set is known but not here; the message says how to get it.
        InvalidInput: no such data, or a form that is not known. Single unreadable rows raise
            nothing; they are in the report.
    """
    path = locate(spec, data_dir)
    return read(recognise(path), name_of(spec, path))


def name_of(spec: str, path: Path) -> str:
    """Return what a data set is called: its known name, else that of its file or folder."""
    return spec if spec in KNOWN else path.resolve().stem


def read(source: Source, name: str, on_bytes: OnBytes = ignore_bytes) -> Dataset:
    """Read a source to its end; `on_bytes` hears of the progress."""
    with _readable(name):
        tally = Tally(on_bytes)
        events = gather(source.read_events(tally), EVENTS_SCHEMA, tally)
        tally = Tally(on_bytes)
        items = gather(source.read_items(tally), ITEMS_SCHEMA, tally)
    report = DatasetReport(events.report, items.report, source.notes)
    return Dataset(name, events.table, items.table, report)


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A data set that is read piece by piece, for those whose memory must not grow with it."""

    name: str
    _source: Source

    def events(self) -> Iterator[pa.RecordBatch]:
        """Yield all events in the order of the file."""
        with _readable(self.name):
            yield from self._source.read_events(Tally())

    def items(self) -> pa.Table:
        """Return the catalogue. Read all events first: it may come from them."""
        tally = Tally()
        with _readable(self.name):
            return gather(self._source.read_items(tally), ITEMS_SCHEMA, tally).table


def open_dataset(spec: str, data_dir: Path | None = None) -> OpenDataset:
    """Find a data set, without reading it. Takes and raises what `load` does."""
    path = locate(spec, data_dir)
    return OpenDataset(name_of(spec, path), recognise(path))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"{name} cannot be read: {error}; check the file and its rights"
        ) from error
