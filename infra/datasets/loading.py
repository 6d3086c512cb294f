"""Find a data set and recognise its form; read it to the end, or piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from infra.datasets.known import KNOWN
from infra.datasets.locate import locate
from infra.datasets.report import OnBytes, Tally, ignore_bytes
from infra.datasets.sources import Source, recognise
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA, Dataset, DatasetReport
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
    dataset = OpenDataset(name, source, on_bytes)
    events = pa.Table.from_batches(dataset.events(), EVENTS_SCHEMA)
    return Dataset(name, events, dataset.items(), dataset.report)


class OpenDataset:
    """A data set that is read piece by piece, for those whose memory must not grow with it."""

    def __init__(self, name: str, source: Source, on_bytes: OnBytes = ignore_bytes) -> None:
        self.name = name
        self._source = source
        self._events, self._items = Tally(on_bytes), Tally(on_bytes)

    @property
    def n_bytes(self) -> int:
        """Of all its files."""
        with readable(self.name):
            return sum(file.stat().st_size for file in self._source.files)

    def hear(self, on_bytes: OnBytes) -> None:
        """Tell somebody of the progress from now on."""
        self._events.advance = self._items.advance = on_bytes

    def events(self) -> Iterator[pa.RecordBatch]:
        """Yield all events in the order of the file. Once."""
        with readable(self.name):
            yield from self._source.read_events(self._events)

    def items(self) -> pa.Table:
        """Return the catalogue. Once, and after all events: it may come from them."""
        with readable(self.name):
            return pa.Table.from_batches(self._source.read_items(self._items), ITEMS_SCHEMA)

    @property
    def report(self) -> DatasetReport:
        """What became of the rows that have been read."""
        return DatasetReport(self._events.report(), self._items.report(), self._source.notes)


def open_dataset(spec: str, data_dir: Path | None = None) -> OpenDataset:
    """Find a data set, without reading it. Takes and raises what `load` does."""
    path = locate(spec, data_dir)
    return OpenDataset(name_of(spec, path), recognise(path))


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Tell of files that the system does not give us as InvalidInput."""
    try:
        yield
    except OSError as error:
        raise InvalidInput(
            f"{name} cannot be read: {error}; check the file and its rights"
        ) from error
